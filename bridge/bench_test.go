package bridge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"devicehub/bridge/broker"
	"devicehub/bridge/packet"
	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/devices/tsdb"
)

// TestServerProcess is not a test: it is the listener in a process of its own,
// for benchmarks that count its CPU and memory.
func TestServerProcess(t *testing.T) {
	switch os.Getenv("BRIDGE_SERVER") {
	case "":
		return
	case "hub":
		serveHub(t)
		return
	}
	cfg := Default()
	cfg.Listen = "127.0.0.1:0"
	door := WithDoor(&benchDoor{log: new(commits)})
	if os.Getenv("BRIDGE_SERVER") == "broker" {
		cfg.Sessions.MaxQueued, cfg.Sessions.MaxQueuedBytes = 1<<30, 1<<30 // as Mosquitto is told: none is to be dropped
		cfg.Sessions.Limits = broker.Limits{Bytes: 1 << 40, AccountBytes: 1 << 40, AccountSessions: 1000, AccountRetained: 1}
		door = func(*Server) {}
	}
	srv, err := New(cfg, door, WithAccounts(fakeAccounts{"all": {Filters: []string{"#"}}}))
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Listen(); err != nil {
		t.Fatal(err)
	}
	fmt.Println("listening", srv.Addr("tcp"))
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		answerGC()
		cancel()
	}()
	if err := srv.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// serveHub is the listener with the hub's real services behind it, readings on
// the disk.
func serveHub(t *testing.T) {
	store, err := tsdb.Open(filepath.Join(t.TempDir(), "readings"), tsdb.Options{Fsync: tsdb.SyncBatch, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	h := startHubOn(t, store, nil)
	var list []*devices.Device
	for i := range idleConns {
		list = append(list, &devices.Device{ID: devices.ID(fmt.Sprint("d-", i)), Kinds: []devices.Kind{devices.KindSensor}, Enabled: true, Via: devices.ViaDirect})
	}
	made, err := h.identity.CreateDevices(t.Context(), devices.CLI(), devices.Origin{Via: "cli"}, list, identity.TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range made {
		fmt.Println("token", m.Device.ID, m.Token.Token)
	}
	fmt.Println("listening", h.addr)
	answerGC()
}

// answerGC gives back what can be given back for every line on the standard
// input, until that ends.
func answerGC() {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		runtime.GC()
		debug.FreeOSMemory()
		fmt.Println("done")
	}
}

// process is a broker in a process of its own.
type process struct {
	b    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	addr string
	pw   map[string]string // tokens by device
}

func listenerProcess(b testing.TB) *process { return ownProcess(b, "listener") }
func hubProcess(b testing.TB) *process      { return ownProcess(b, "hub") }

func ownProcess(b testing.TB, kind string) *process {
	p := &process{b: b, cmd: exec.Command(os.Args[0], "-test.run=^TestServerProcess$"), pw: map[string]string{}}
	p.cmd.Env = append(os.Environ(), "BRIDGE_SERVER="+kind, "GOMAXPROCS=1")
	p.in, _ = p.cmd.StdinPipe()
	out, _ := p.cmd.StdoutPipe()
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { p.in.Close(); _ = p.cmd.Wait() })
	p.out = bufio.NewScanner(out)
	for p.out.Scan() {
		if f := strings.Fields(p.out.Text()); len(f) == 3 && f[0] == "token" {
			p.pw[f[1]] = f[2]
		}
		if addr, ok := strings.CutPrefix(p.out.Text(), "listening "); ok {
			p.addr = addr
			return p
		}
	}
	b.Fatal("the server did not start")
	return nil
}

func mosquittoProcess(b testing.TB) *process {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(b.TempDir(), "m.conf")
	if err := os.WriteFile(conf, []byte("listener "+port+" 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 1000\nmax_queued_messages 0\n"), 0o644); err != nil {
		b.Fatal(err)
	}
	p := &process{b: b, cmd: exec.Command("mosquitto", "-c", conf), addr: addr}
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = p.cmd.Process.Signal(os.Interrupt); _ = p.cmd.Wait() })
	for range 200 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return p
		}
		time.Sleep(10 * time.Millisecond)
	}
	b.Fatal("mosquitto does not listen")
	return nil
}

// cpu is the process's user and system time so far.
func (p *process) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.b.Skip("needs /proc")
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

func (p *process) rss() int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, _ := strconv.Atoi(strings.Fields(v)[0])
			return n << 10
		}
	}
	return 0
}

// settle asks a Go process to give back what it does not need.
func (p *process) settle() {
	if p.in == nil {
		return
	}
	fmt.Fprintln(p.in, "gc")
	for p.out.Scan() {
		if p.out.Text() == "done" {
			return
		}
	}
}

// BenchmarkIngest publishes over 50 connections, with 20 messages of each
// unacknowledged at QoS 1, and reports the CPU of the server process. The
// listener alone acknowledges after commits of 5 ms; hub is the listener with
// the whole path behind it (token, rate, rules, commit and fsync, liveness);
// Mosquitto has no subscriber.
func BenchmarkIngest(b *testing.B) {
	for _, qos := range []byte{0, 1} {
		for name, start := range map[string]func(testing.TB) *process{"listener": listenerProcess, "hub": hubProcess, "mosquitto": mosquittoProcess} {
			b.Run(fmt.Sprintf("qos%d/%s", qos, name), func(b *testing.B) {
				p := start(b)
				before := p.cpu()
				b.ResetTimer()
				load(b, p, 50, 20, qos)
				b.StopTimer()
				b.ReportMetric(float64((p.cpu()-before).Microseconds())/float64(b.N), "server-µs/msg")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}

func load(b *testing.B, p *process, conns, window int, qos byte) {
	var wg sync.WaitGroup
	for k := range conns {
		n := b.N / conns
		if k < b.N%conns {
			n++
		}
		c := dial(b, p.addr, packet.V311)
		id := fmt.Sprint("d-", k)
		pw := p.pw[id]
		if pw == "" {
			pw = "pw"
		}
		c.send(packet.Connect<<4, c.connectBody(connect{id: id, user: id, password: pw, clean: true}))
		c.wantType(packet.Connack)
		body := c.publishBody("hub/v1/"+id+"/r", `{"m":"temperature","v":21.45}`, qos, 1)
		at := 2 + len("hub/v1/"+id+"/r")
		wg.Go(func() {
			acks := bufio.NewReader(c.nc)
			ack := make([]byte, 4)
			_ = c.nc.SetDeadline(time.Now().Add(2 * time.Minute))
			for i := range n {
				if qos > 0 {
					body[at], body[at+1] = byte((i+1)>>8), byte(i%255+1)
					if i >= window {
						if _, err := io.ReadFull(acks, ack); err != nil {
							b.Error(err)
							return
						}
					}
				}
				if _, err := c.nc.Write(frame(packet.Publish<<4|qos<<1, body)); err != nil {
					b.Error(err)
					return
				}
			}
			if qos == 0 { // all is read when the ping is answered
				_, _ = c.nc.Write([]byte{packet.Pingreq << 4, 0})
				_, _ = io.ReadFull(acks, ack[:2])
				return
			}
			for range min(n, window) {
				_, _ = io.ReadFull(acks, ack)
			}
		})
	}
	wg.Wait()
}

const idleConns = 2000

// BenchmarkIdle reports the server's memory for each of 2000 idle connections.
func BenchmarkIdle(b *testing.B) {
	const n = idleConns
	for name, start := range map[string]func(testing.TB) *process{"listener": listenerProcess, "hub": hubProcess, "mosquitto": mosquittoProcess} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				p := start(b)
				p.settle()
				before := p.rss()
				for k := range n {
					c := dial(b, p.addr, packet.V311)
					id := fmt.Sprint("d-", k)
					pw := p.pw[id]
					if pw == "" {
						pw = "pw"
					}
					c.send(packet.Connect<<4, c.connectBody(connect{id: id, user: id, password: pw, clean: true}))
					c.wantType(packet.Connack)
					c.subscribe(1, "hub/v1/"+id+"/cmd")
				}
				time.Sleep(100 * time.Millisecond)
				p.settle()
				p.settle()
				b.ReportMetric(float64(p.rss()-before)/n, "B/conn")
			}
		})
	}
}

// BenchmarkRoute brings messages from one publisher to 100 subscribers at QoS 0,
// and from 20 publishers to one at QoS 1, through the small broker and Mosquitto.
func BenchmarkRoute(b *testing.B) {
	for _, x := range []struct {
		name       string
		pubs, subs int
		qos        byte
	}{{"1to100/qos0", 1, 100, 0}, {"20to1/qos1", 20, 1, 1}} {
		for name, start := range map[string]func(testing.TB) *process{"broker": brokerProcess, "mosquitto": mosquittoProcess} {
			b.Run(x.name+"/"+name, func(b *testing.B) {
				p := start(b)
				connect := func(id string) *raw {
					c := dial(b, p.addr, packet.V311)
					c.send(packet.Connect<<4, c.connectBody(connect{id: id, user: "service:all", password: "pw", clean: true}))
					c.wantType(packet.Connack)
					return c
				}
				var got sync.WaitGroup
				for k := range x.subs {
					c := connect(fmt.Sprint("s", k))
					c.subscribe(x.qos, "bench/#")
					got.Go(func() { drain(b, c, b.N, x.qos) })
				}
				before := p.cpu()
				b.ResetTimer()
				for k := range x.pubs {
					c := connect(fmt.Sprint("p", k))
					n := b.N / x.pubs
					if k < b.N%x.pubs {
						n++
					}
					got.Go(func() { pump(b, c, n, x.qos) })
				}
				got.Wait()
				b.StopTimer()
				n := float64(b.N * x.subs)
				b.ReportMetric(float64((p.cpu()-before).Microseconds())/n, "server-µs/delivery")
				b.ReportMetric(n/b.Elapsed().Seconds(), "deliveries/s")
			})
		}
	}
}

func brokerProcess(b testing.TB) *process { return ownProcess(b, "broker") }

// drain reads n messages.
func drain(b *testing.B, c *raw, n int, qos byte) {
	r := bufio.NewReaderSize(c.nc, 64<<10)
	_ = c.nc.SetDeadline(time.Now().Add(time.Minute))
	for range n {
		head, err := r.ReadByte()
		if err != nil {
			b.Error(err)
			return
		}
		l, _ := r.ReadByte()
		body := make([]byte, l)
		if _, err := io.ReadFull(r, body); err != nil || head>>4 != packet.Publish {
			b.Errorf("%02x %v", head, err)
			return
		}
		if qos > 0 {
			t := int(body[0])<<8 | int(body[1])
			_, _ = c.nc.Write([]byte{packet.Puback << 4, 2, body[2+t], body[3+t]})
		}
	}
}

// pump publishes n messages, at QoS 1 with 20 unacknowledged, at QoS 0 as fast as
// the last one is known to be read.
func pump(b *testing.B, c *raw, n int, qos byte) {
	acks := bufio.NewReader(c.nc)
	ack := make([]byte, 4)
	_ = c.nc.SetDeadline(time.Now().Add(time.Minute))
	for i := range n {
		if qos > 0 && i >= 20 {
			_, _ = io.ReadFull(acks, ack)
		}
		body := c.publishBody("bench/x", "0123456789012345678901234567890123456789012345678901234567890", qos, uint16(i%60000+1))
		_, _ = c.nc.Write(frame(packet.Publish<<4|qos<<1, body))
		if qos == 0 && i%20 == 19 {
			_, _ = c.nc.Write([]byte{packet.Pingreq << 4, 0})
			_, _ = io.ReadFull(acks, ack[:2])
		}
	}
}
