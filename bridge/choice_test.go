package bridge

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"

	"devicehub/bridge/packet"
)

// commits answers everything that came in the last five milliseconds at once,
// as a log does that closes a group, syncs and acknowledges.
type commits struct {
	mu      sync.Mutex
	waiting []func(any, error)
}

func (c *commits) add(f func(any, error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting = append(c.waiting, f); len(c.waiting) == 1 {
		time.AfterFunc(5*time.Millisecond, func() {
			c.mu.Lock()
			group := c.waiting
			c.waiting = nil
			c.mu.Unlock()
			for _, f := range group {
				f(nil, nil)
			}
		})
	}
}

// waitingHook is the alternative: the embedded broker asks a hook before it
// acknowledges, and the hook waits for the commit.
type waitingHook struct {
	mochi.HookBase
	log *commits
}

func (h *waitingHook) Provides(b byte) bool {
	return bytes.Contains([]byte{mochi.OnConnectAuthenticate, mochi.OnACLCheck, mochi.OnPublish}, []byte{b})
}
func (h *waitingHook) OnConnectAuthenticate(*mochi.Client, packet.Packet) bool { return true }
func (h *waitingHook) OnACLCheck(*mochi.Client, string, bool) bool             { return true }
func (h *waitingHook) OnPublish(_ *mochi.Client, pk packet.Packet) (packet.Packet, error) {
	done := make(chan struct{})
	h.log.add(func(any, error) { close(done) })
	<-done
	return pk, nil
}

// BenchmarkOneConnection is the measurement behind the choice of a listener of
// our own: one connection, 400 publishes of QoS 1 in flight, commits of 5 ms.
func BenchmarkOneConnection(b *testing.B) {
	b.Run("listener", func(b *testing.B) {
		log := new(commits)
		door := &benchDoor{log: log}
		cfg := Default()
		cfg.Listen = "127.0.0.1:0"
		_, addr := start(b, nil, WithDoor(door))
		inFlight(b, addr, 400)
	})
	b.Run("hook", func(b *testing.B) {
		srv := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
		if err := srv.AddHook(&waitingHook{log: new(commits)}, nil); err != nil {
			b.Fatal(err)
		}
		l := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
		if err := srv.AddListener(l); err != nil {
			b.Fatal(err)
		}
		go func() { _ = srv.Serve() }()
		defer srv.Close()
		inFlight(b, l.Address(), 400)
	})
}

// inFlight publishes b.N readings with at most window unacknowledged.
func inFlight(b *testing.B, addr string, window int) {
	c := dial(b, addr, packet.V311)
	c.send(packet.Connect<<4, c.connectBody(connect{id: "d", user: "d", password: "pw-d", clean: true}))
	c.wantType(packet.Connack)
	slots := make(chan struct{}, window)
	done := make(chan struct{})
	n := b.N
	go func() {
		defer close(done)
		buf := make([]byte, 4*window)
		for got := 0; got < n; {
			_ = c.nc.SetReadDeadline(time.Now().Add(10 * time.Second))
			k, err := io.ReadAtLeast(c.nc, buf[:4], 4)
			if err != nil || k != 4 {
				b.Error(err)
				return
			}
			got++
			<-slots
		}
	}()
	body := c.publishBody("hub/v1/d/r", `{"m":"temperature","v":21.45,"s":123456}`, 1, 1)
	at := 2 + len("hub/v1/d/r")
	b.ResetTimer()
	for i := range n {
		slots <- struct{}{}
		id := uint16(i%65535 + 1)
		body[at], body[at+1] = byte(id>>8), byte(id)
		if _, err := c.nc.Write(frame(packet.Publish<<4|2, body)); err != nil {
			b.Fatal(err)
		}
	}
	<-done
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msg/s")
}

var _ net.Conn = (*wsConn)(nil)
