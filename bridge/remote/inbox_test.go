package remote

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
)

// fakeBroker answers as it is told to, where Mosquitto cannot be made to.
type fakeBroker struct {
	t       *testing.T
	ln      net.Listener
	present bool // in the next CONNACK

	mu   sync.Mutex
	conn net.Conn
	acks []uint16 // on the present connection
	n    int      // connections so far
}

func startFakeBroker(t *testing.T) *fakeBroker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeBroker{t: t, ln: ln}
	t.Cleanup(func() { ln.Close(); f.cut() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return f
}

func (f *fakeBroker) serve(c net.Conn) {
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *packets.ConnectPacket:
			a := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
			f.mu.Lock()
			a.SessionPresent = f.present
			f.mu.Unlock()
			_ = a.Write(c)
		case *packets.SubscribePacket:
			a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			a.MessageID, a.ReturnCodes = p.MessageID, make([]byte, len(p.Topics))
			_ = a.Write(c)
		case *packets.PublishPacket:
			if p.Qos == 1 {
				a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				a.MessageID = p.MessageID
				_ = a.Write(c)
			}
			if strings.HasSuffix(p.TopicName, "_hub/online") { // the bridge is through
				f.mu.Lock()
				f.conn, f.acks, f.n = c, nil, f.n+1
				f.mu.Unlock()
			}
		case *packets.PubackPacket:
			f.mu.Lock()
			f.acks = append(f.acks, p.MessageID)
			f.mu.Unlock()
		}
	}
}

func (f *fakeBroker) send(id uint16, dup bool, topic, payload string) {
	f.t.Helper()
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.MessageID, p.Qos, p.Dup, p.TopicName, p.Payload = id, 1, dup, topic, []byte(payload)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := p.Write(f.conn); err != nil {
		f.t.Fatal(err)
	}
}

// flood sends a device's readings at QoS 0.
func (f *fakeBroker) flood(n int, topic, payload string) {
	f.t.Helper()
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload = topic, []byte(payload)
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		if err := p.Write(f.conn); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *fakeBroker) acked() []uint16 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.acks)
}

func (f *fakeBroker) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

func (f *fakeBroker) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.conn != nil {
		f.conn.Close()
	}
}

// again cuts the connection and waits for the next.
func (f *fakeBroker) again(h *adaptertest.Hub, present bool) {
	f.t.Helper()
	f.mu.Lock()
	f.present = present
	n := f.n
	f.mu.Unlock()
	f.cut()
	h.WantThat(f.t, "another connection", func() bool { return f.connections() == n+1 })
}

func bridgeTo(t *testing.T, f *fakeBroker, h *adaptertest.Hub) *Bridge {
	t.Helper()
	b, err := New(Config{Name: "house", URL: "mqtt://" + f.ln.Addr().String(), Trust: true}, h.Hub)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	h.WantThat(t, "bridge up", func() bool { return b.Status().Connected && f.connections() == 1 })
	return b
}

// Messages are acknowledged in the order in which they came, whatever the order
// in which they are decided [MQTT-4.6.0-2].
func TestAcknowledgementsInOrder(t *testing.T) {
	f := startFakeBroker(t)
	h := adaptertest.New(t, nil, device("k-1"), device("k-2"))
	bridgeTo(t, f, h)
	h.Refuse(devices.Refuse(devices.CodeOverloaded, "full").After(200 * time.Millisecond))
	f.send(11, false, "hub/v1/k-1/r", `{"m":"uptime","v":1}`)
	h.Want(t, "refused k-1")
	h.Refuse(nil)
	for i, topic := range []string{"k-2/r", "k-2/nothing", "k-1/r", "k-2/r", "nobody/r"} {
		f.send(uint16(5+i), false, "hub/v1/"+topic, `{"m":"uptime","v":2}`)
	}
	h.WantThat(t, "the second device's readings", func() bool { return len(h.Sequence(t, "k-2", "uptime")) == 2 })
	if got := f.acked(); len(got) > 0 && h.Values("k-1") == "{}" {
		t.Errorf("acknowledged %v before the first was decided", got)
	}
	h.WantThat(t, "six acknowledgements", func() bool { return len(f.acked()) == 6 })
	if got, want := fmt.Sprint(f.acked()), "[11 5 6 7 8 9]"; got != want {
		t.Errorf("acknowledged %s, want %s", got, want)
	}
}

// What comes again after the connection broke is known by its identifier, though
// nothing in it tells it from another of the same value: it is stored once, and
// acknowledged on the new connection.
func TestRedeliveryIsKnown(t *testing.T) {
	f := startFakeBroker(t)
	h := adaptertest.New(t, nil, device("k-1"))
	b := bridgeTo(t, f, h)
	const r, one = "hub/v1/k-1/r", `{"m":"uptime","v":1}`
	stored := func(n int) func() bool { return func() bool { return len(h.Sequence(t, "k-1", "uptime")) == n } }
	acks := func(want string) {
		t.Helper()
		h.WantThat(t, "acknowledged "+want, func() bool { return fmt.Sprint(f.acked()) == want })
	}
	// Two are not decided when the connection breaks, a third never arrived.
	h.Refuse(devices.Refuse(devices.CodeOverloaded, "full").After(300 * time.Millisecond))
	f.send(1, false, r, one)
	f.send(2, false, r, one)
	h.WantThat(t, "two wait", func() bool { return b.Status().Waiting == 2 })
	f.again(h, true)
	h.Refuse(nil)
	f.send(1, true, r, one)
	f.send(2, true, r, one)
	f.send(3, true, r, one)
	f.send(4, false, r, one)
	acks("[1 2 3 4]")
	if got := h.Sequence(t, "k-1", "uptime"); len(got) != 4 || b.Status().Redelivered != 2 {
		t.Fatalf("stored %d, %d known", len(got), b.Status().Redelivered)
	}
	// What is decided while there is no connection is acknowledged on the next.
	h.Refuse(devices.Refuse(devices.CodeOverloaded, "full").After(100 * time.Millisecond))
	f.send(5, false, r, one)
	h.WantThat(t, "one waits", func() bool { return b.Status().Waiting == 1 })
	f.cut()
	h.Refuse(nil)
	h.WantThat(t, "stored", stored(5))
	h.WantThat(t, "another connection", func() bool { return f.connections() == 3 })
	f.send(5, true, r, one)
	acks("[5]")
	h.WantThat(t, "stored", stored(5))

	// An identifier is no proof by itself: not for another message, not for one
	// that is no duplicate, and not when the broker has forgotten the session.
	for name, x := range map[string]struct {
		present, dup bool
		payload      string
	}{
		"another message":     {true, true, `{"m":"uptime","v":1.5}`},
		"no duplicate":        {true, false, one},
		"a forgotten session": {false, true, one},
	} {
		n := len(h.Sequence(t, "k-1", "uptime"))
		h.Refuse(devices.Refuse(devices.CodeOverloaded, "full").After(100 * time.Millisecond))
		f.send(9, false, r, one)
		h.WantThat(t, "one waits", func() bool { return b.Status().Waiting == 1 })
		f.again(h, x.present)
		f.send(9, x.dup, r, x.payload)
		h.Refuse(nil)
		acks("[9]")
		h.WantThat(t, name+" is stored too", stored(n+2))
	}
}

// A burst at QoS 0 is bounded and counted, and nothing at QoS 1 suffers from it.
func TestBurstAtQoS0(t *testing.T) {
	f := startFakeBroker(t)
	h := adaptertest.New(t, nil, device("k-1"))
	b := bridgeTo(t, f, h)
	h.Refuse(devices.Refuse(devices.CodeOverloaded, "full").After(200 * time.Millisecond))
	const r = "hub/v1/k-1/r"
	f.flood(5000, r, `{"m":"uptime","v":0}`)
	f.send(1, false, r, `{"m":"uptime","v":1}`)
	h.WantThat(t, "all heard", func() bool { return b.Status().Received == 5001 })
	if s := b.Status(); s.Dropped != 5000-4096 || s.Waiting != 4097 {
		t.Errorf("%d dropped, %d wait", s.Dropped, s.Waiting)
	}
	h.Refuse(nil)
	h.WantThat(t, "acknowledged", func() bool { return fmt.Sprint(f.acked()) == "[1]" })
	if got := h.Sequence(t, "k-1", "uptime"); len(got) != 4097 || got[4096] != "1" {
		t.Errorf("%d stored", len(got))
	}
}

// A broker that sends more than the hub keeps: nothing is lost and nothing
// overtakes, whether the store is back soon or the connection is given up
// meanwhile.
func TestMoreThanThereIsRoomFor(t *testing.T) {
	for _, wait := range []time.Duration{time.Minute, 50 * time.Millisecond} {
		t.Run(wait.String(), func(t *testing.T) {
			m := startMosquitto(t)
			h := adaptertest.New(t, nil, device("k-1"), device("k-2"))
			b, err := New(Config{Name: "house", URL: "mqtt://" + m.addr(), Trust: true}, h.Hub)
			if err != nil {
				t.Fatal(err)
			}
			b.roomWait, b.in.room = wait, 1<<20
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); _ = b.Run(ctx) }()
			defer func() { cancel(); <-done }()
			h.WantThat(t, "bridge up", func() bool { return b.Status().Connected })
			h.Refuse(devices.Refuse(devices.CodeOverloaded, "full").After(100 * time.Millisecond))
			c := m.client(t, "p")
			defer c.Disconnect(10)
			const large, n = 76, 96
			var even, odd []string
			publish := func(i int, more string) {
				c.Publish(fmt.Sprintf("hub/v1/k-%d/r", 1+i%2), 1, false, fmt.Sprintf(`{"m":"uptime","v":%d}`, i)+more).Wait()
				if i%2 == 0 {
					even = append(even, fmt.Sprint(i))
				} else {
					odd = append(odd, fmt.Sprint(i))
				}
			}
			for i := range large {
				publish(i, strings.Repeat(" ", 16<<10))
			}
			time.Sleep(200 * time.Millisecond)
			if w := b.Status().Waiting; w < 50 || w > 64 {
				t.Errorf("%d messages of 16 KiB wait", w)
			}
			h.Refuse(nil)
			for i := large; i < n; i++ { // small ones, for which there is room
				publish(i, "")
			}
			h.WantThat(t, "everything arrived", func() bool {
				return len(h.Sequence(t, "k-1", "uptime")) >= n/2 && len(h.Sequence(t, "k-2", "uptime")) >= n/2
			})
			if got := h.Sequence(t, "k-1", "uptime"); !slices.Equal(got, even) {
				t.Errorf("stored %v", got)
			}
			if got := h.Sequence(t, "k-2", "uptime"); !slices.Equal(got, odd) {
				t.Errorf("stored %v", got)
			}
		})
	}
}
