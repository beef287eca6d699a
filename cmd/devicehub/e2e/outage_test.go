package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// foreignBroker is a Mosquitto that keeps what it has on disk.
type foreignBroker struct {
	t    testing.TB
	addr string
	conf string
	db   string
	cmd  *exec.Cmd
}

func startForeignBroker(t testing.TB) *foreignBroker {
	t.Helper()
	dir := t.TempDir()
	m := &foreignBroker{t: t, addr: freePort(t), db: filepath.Join(dir, "mosquitto.db")}
	_, port, _ := net.SplitHostPort(m.addr)
	conf := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\n"+
		"autosave_interval 60\nmax_inflight_messages 1000\nmax_queued_messages 0\n", port, dir)
	if os.Getuid() == 0 {
		conf += "user root\n"
	}
	m.conf = filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(m.conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(func() { m.end(os.Interrupt) })
	return m
}

func (m *foreignBroker) start() {
	m.t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
	}
	m.cmd = exec.Command(path, "-c", m.conf)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	for range 1000 {
		if c, err := net.Dial("tcp", m.addr); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatal("mosquitto does not listen")
}

func (m *foreignBroker) end(how os.Signal) {
	if m.cmd != nil {
		_ = m.cmd.Process.Signal(how)
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

// save has the broker write what it has to its disk.
func (m *foreignBroker) save() {
	m.t.Helper()
	before, _ := os.Stat(m.db)
	_ = m.cmd.Process.Signal(syscall.SIGUSR1)
	for range 1000 {
		if now, err := os.Stat(m.db); err == nil && (before == nil || !os.SameFile(before, now)) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatal("mosquitto did not save")
}

// link is the network between the hub and a broker.
type link struct {
	ln net.Listener
	to string

	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func startLink(t *testing.T, to string) *link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{ln: ln, to: to}
	t.Cleanup(func() { ln.Close(); l.set(false) })
	go func() {
		for {
			a, err := ln.Accept()
			if err != nil {
				return
			}
			l.mu.Lock()
			down := l.down
			l.mu.Unlock()
			b, err := net.Dial("tcp", to)
			if err != nil || down {
				a.Close()
				if b != nil {
					b.Close()
				}
				continue
			}
			l.mu.Lock()
			l.conns = append(l.conns, a, b)
			l.mu.Unlock()
			go func() { _, _ = io.Copy(a, b); a.Close(); b.Close() }()
			go func() { _, _ = io.Copy(b, a); a.Close(); b.Close() }()
		}
	}()
	return l
}

// set cuts what goes over the link, and has it take connections or not.
func (l *link) set(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = !up
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// sender is a device on a broker: it sends one number after the other at QoS 1,
// and after a broken connection again from the first that was not acknowledged.
type sender struct {
	t      *testing.T
	addr   string
	id     string
	format string // of a reading, with the number
	every  time.Duration

	mu    sync.Mutex
	moved *sync.Cond
	acked int // the broker has acknowledged up to
	over  bool
	done  chan struct{}
}

func startSender(t *testing.T, addr, id, format string, every time.Duration) *sender {
	s := &sender{t: t, addr: addr, id: id, format: format, every: every, done: make(chan struct{})}
	s.moved = sync.NewCond(&s.mu)
	go func() {
		defer close(s.done)
		sent := 0
		for !s.ended(sent) {
			sent = max(sent, s.session(sent))
			time.Sleep(50 * time.Millisecond)
		}
	}()
	t.Cleanup(func() { s.stop() })
	return s
}

// ended reports whether it has stopped and all that it sent is acknowledged.
func (s *sender) ended(sent int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over && s.acked >= sent
}

func (s *sender) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

// stop ends it when the broker has acknowledged everything, and returns how much
// that is.
func (s *sender) stop() int {
	s.mu.Lock()
	s.over = true
	s.moved.Broadcast()
	s.mu.Unlock()
	<-s.done
	return s.count()
}

// session is one connection; up to sent had been sent before.
func (s *sender) session(sent int) int {
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		return sent
	}
	defer c.Close()
	p := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion, p.CleanSession, p.ClientIdentifier, p.Keepalive = "MQTT", 4, true, s.id, 60
	if err := p.Write(c); err != nil {
		return sent
	}
	if _, err := packets.ReadPacket(c); err != nil {
		return sent
	}
	gone := false
	go func() {
		for {
			p, err := packets.ReadPacket(c)
			s.mu.Lock()
			if ack, ok := p.(*packets.PubackPacket); err == nil && ok {
				if want := uint16(s.acked%60_000 + 1); ack.MessageID != want {
					s.t.Errorf("PUBACK %d, want %d", ack.MessageID, want)
				}
				s.acked++
			}
			gone = err != nil
			s.moved.Broadcast()
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	for next := s.count(); ; next++ {
		if next >= sent {
			time.Sleep(s.every)
		}
		s.mu.Lock()
		for !gone && next-s.acked >= 500 {
			s.moved.Wait()
		}
		for !gone && s.over && next >= sent && s.acked < sent {
			s.moved.Wait()
		}
		stop := gone || s.over && next >= sent
		s.mu.Unlock()
		if stop {
			return max(sent, next)
		}
		p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		p.Qos, p.MessageID, p.TopicName = 1, uint16(next%60_000+1), "hub/v1/"+s.id+"/r"
		p.Payload = fmt.Appendf(nil, s.format, next+1)
		if err := p.Write(c); err != nil {
			return max(sent, next+1)
		}
		sent = max(sent, next+1)
	}
}

// TestBridgeThroughOutages has devices send to a Mosquitto, each faster than a
// device of the hub's own may, while the network to the hub is cut, the hub is
// stopped and killed, and Mosquitto is stopped and killed. Whatever Mosquitto
// acknowledged must be stored, in its order, and what waited must be in within
// seconds.
func TestBridgeThroughOutages(t *testing.T) {
	m := startForeignBroker(t)
	wire := startLink(t, m.addr)
	h := newHub(t, "  bridges:", "    - {name: house, url: mqtt://"+wire.ln.Addr().String()+", trust: topic}")
	admin := h.admin()
	var senders []*sender
	for i := range 4 {
		id, format := fmt.Sprint("numbered-", i), `{"m":"uptime","v":%[1]d,"s":%[1]d,"boot":"b"}`
		if i >= 2 {
			id, format = fmt.Sprint("bare-", i), `{"m":"uptime","v":%d}`
		}
		h.call("POST", "/api/v1/devices", admin, map[string]any{"id": id, "kinds": []string{"sensor"}, "via": "house"}, http.StatusCreated, nil)
		senders = append(senders, startSender(t, m.addr, id, format, 4*time.Millisecond))
	}
	last := func(s *sender) int {
		var l struct {
			Metrics map[string]struct{ V float64 }
		}
		if status, _ := h.try("GET", "/api/v1/devices/"+s.id+"/latest", admin, nil); status == http.StatusOK {
			h.call("GET", "/api/v1/devices/"+s.id+"/latest", admin, nil, http.StatusOK, &l)
		}
		return int(l.Metrics["uptime"].V)
	}
	// caught waits until the hub has what was acknowledged by now.
	caught := func(what string) {
		t.Helper()
		began := time.Now()
		for _, s := range senders {
			n := s.count()
			eventually(t, 20*time.Second, func() error {
				if got := last(s); got < n {
					return fmt.Errorf("%s: the hub has %d of %s, the broker acknowledged %d", what, got, s.id, n)
				}
				return nil
			})
		}
		t.Logf("%s: the backlog was in after %v", what, time.Since(began).Round(10*time.Millisecond))
	}
	caught("nothing")
	for range 3 {
		wire.set(true)
		time.Sleep(400 * time.Millisecond)
	}
	caught("a network that is cut again and again")
	wire.set(false)
	time.Sleep(3 * time.Second)
	wire.set(true)
	caught("a network that was away")
	if err := h.stop(); err != nil {
		t.Errorf("the hub ended with %v", err)
	}
	time.Sleep(2 * time.Second)
	h.start()
	caught("a hub that was stopped")
	h.kill()
	time.Sleep(2 * time.Second)
	h.start()
	caught("a hub that was killed")
	m.end(syscall.SIGTERM)
	time.Sleep(time.Second)
	m.start()
	time.Sleep(500 * time.Millisecond) // for the devices to be back as well
	caught("a broker that was started anew")

	// What a broker that is killed had not saved is lost with it: it has all
	// that it acknowledged on its disk, and none of it is with the hub.
	wire.set(false)
	before := senders[0].count()
	eventually(t, 20*time.Second, func() error {
		if senders[0].count() < before+500 {
			return fmt.Errorf("the broker takes nothing")
		}
		return nil
	})
	totals := map[string]int{}
	for _, s := range senders {
		totals[s.id] = s.stop()
	}
	m.save()
	m.end(syscall.SIGKILL)
	m.start()
	wire.set(true)
	caught("a broker that was killed")

	for _, s := range senders {
		n, twice := 0, 0 // up to n has come, in its order
		// The hub's stamps are a millisecond apart, and so ahead of the clock after a backlog.
		for _, line := range h.export(admin, s.id, fmt.Sprint("uptime&to=", time.Now().Add(time.Hour).UnixMilli())) {
			var v int
			if _, err := fmt.Sscan(strings.Split(line, ",")[3], &v); err != nil {
				t.Fatal(err)
			}
			switch {
			case v == n+1:
				n++
			case v <= n:
				twice++
			default:
				t.Fatalf("%s: %d came after %d", s.id, v, n)
			}
		}
		if n != totals[s.id] || strings.HasPrefix(s.id, "numbered") && twice > 0 {
			t.Errorf("%s: %d of %d are stored, %d twice", s.id, n, totals[s.id], twice)
		}
		t.Logf("%s: %d acknowledged by the broker, %d stored in their order, %d of them more than once", s.id, totals[s.id], n, twice)
	}
}
