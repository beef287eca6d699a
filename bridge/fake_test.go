package bridge

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"devicehub/devices"
)

// fakeDoor lets devices in whose password is "pw-" and their id, keeps what they
// say, and answers with decide.
type fakeDoor struct {
	mu       sync.Mutex
	refuse   map[devices.ID]error
	decide   func(e heard, reply func(any, error)) // nil: everything is stored
	heard    []heard
	closed   []string
	sessions map[devices.ID]*fakeSession
	changed  chan struct{}
}

type heard struct {
	Device  devices.ID
	Event   string
	Metric  string
	Payload string
	Binary  bool
}

type fakeSession struct {
	door     *fakeDoor
	arrival  Arrival
	link     Link
	listened chan struct{}
	once     sync.Once
	closed   chan string
	answered atomic.Int64
}

func newDoor() *fakeDoor {
	return &fakeDoor{refuse: map[devices.ID]error{}, sessions: map[devices.ID]*fakeSession{}, changed: make(chan struct{}, 1000)}
}

func (d *fakeDoor) Enter(_ context.Context, a Arrival, l Link) (Session, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.refuse[a.Device]; err != nil {
		return nil, err
	}
	if a.Password != "pw-"+string(a.Device) {
		return nil, devices.Refuse(devices.CodeUnauthorized, "wrong token")
	}
	if err := a.May(); err != nil {
		return nil, err
	}
	if old := d.sessions[a.Device]; old != nil {
		d.mu.Unlock()
		over := old.link.Settle(settlePatience, settleMost)
		d.mu.Lock()
		if !over {
			old.link.End(devices.CodeReplaced, "a newer connection took over", 2)
		}
	}
	s := &fakeSession{door: d, arrival: a, link: l, listened: make(chan struct{}), closed: make(chan string, 1)}
	d.sessions[a.Device] = s
	d.poke()
	return s, nil
}

func (d *fakeDoor) poke() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func (s *fakeSession) Handle(event string, payload []byte, binary bool, reply func(any, error)) {
	s.take(heard{s.arrival.Device, event, "", string(payload), binary}, reply)
}

func (s *fakeSession) HandleBare(metric string, payload []byte, reply func(any, error)) {
	s.take(heard{s.arrival.Device, "reading", metric, string(payload), false}, reply)
}

func (s *fakeSession) take(h heard, reply func(any, error)) {
	s.door.mu.Lock()
	s.door.heard = append(s.door.heard, h)
	decide := s.door.decide
	s.door.poke()
	s.door.mu.Unlock()
	if decide != nil {
		decide(h, reply)
		return
	}
	switch h.Event {
	case "time_req":
		reply(map[string]int64{"server_time": 1763682000000}, nil)
	case "token_refresh":
		reply(map[string]any{"token": "new", "gen": 1}, nil)
	default:
		reply(nil, nil)
	}
}

func (s *fakeSession) Answered(bool) { s.answered.Add(1) }

func (s *fakeSession) Attend() {}

func (s *fakeSession) Stale(string, any) bool { return false }

func (s *fakeSession) Listen() { s.once.Do(func() { close(s.listened) }) }

func (s *fakeSession) Close(reason string) {
	s.door.mu.Lock()
	s.door.closed = append(s.door.closed, string(s.arrival.Device)+" "+reason)
	if s.door.sessions[s.arrival.Device] == s {
		delete(s.door.sessions, s.arrival.Device)
	}
	s.door.poke()
	s.door.mu.Unlock()
	s.closed <- reason
}

// want waits until cond holds for the door.
func (d *fakeDoor) want(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	for {
		d.mu.Lock()
		ok := cond()
		d.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-d.changed:
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			d.mu.Lock()
			defer d.mu.Unlock()
			t.Fatalf("%s: not seen; heard %v, closed %v", what, d.heard, d.closed)
		}
	}
}

func (d *fakeDoor) wantHeard(t *testing.T, h heard) {
	t.Helper()
	d.want(t, "event", func() bool {
		for _, x := range d.heard {
			if x == h {
				return true
			}
		}
		return false
	})
}

func (d *fakeDoor) wantClosed(t *testing.T, s string) {
	t.Helper()
	d.want(t, "end "+s, func() bool {
		for _, x := range d.closed {
			if x == s {
				return true
			}
		}
		return false
	})
}

// session waits for a device's session.
func (d *fakeDoor) session(t *testing.T, id devices.ID) (s *fakeSession) {
	t.Helper()
	d.want(t, "session of "+string(id), func() bool { s = d.sessions[id]; return s != nil })
	return s
}

func command(id string, ttl time.Duration) Command {
	expires := time.Now().Add(ttl).UnixMilli()
	return Command{ID: id, ExpiresAt: expires, Payload: func(now time.Time) []byte {
		b, _ := json.Marshal(map[string]any{"cmd_id": id, "op": "set", "expires_at": expires, "ttl_ms": expires - now.UnixMilli()})
		return b
	}}
}

// fakeAccounts lets in the accounts of the map whose password is "pw".
type fakeAccounts map[string]Account

func (f fakeAccounts) SignIn(_, name, password string) (Account, error) {
	a, ok := f[name]
	if !ok || password != "pw" {
		return Account{}, devices.Refuse(devices.CodeUnauthorized, "wrong name or token")
	}
	a.Name = name
	return a, nil
}

func (f fakeAccounts) Lookup(name, identity string) (Account, bool) {
	a, ok := f[name]
	a.Name = name
	return a, ok && a.Identity == identity
}

// start serves on a loopback port for the length of the test.
func start(t testing.TB, change func(*Config), opts ...Option) (s *Server, addr string) {
	t.Helper()
	cfg := Default()
	cfg.Listen, cfg.WSListen = "127.0.0.1:0", "127.0.0.1:0"
	if change != nil {
		change(&cfg)
	}
	opts = append([]Option{WithLogger(slog.New(slog.NewTextHandler(testWriter{t}, nil)))}, opts...)
	s, err := New(cfg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, s.Addr("tcp").String()
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(b))
	return len(b), nil
}

var _ net.Listener = listener{}

// benchDoor lets everyone in and answers through the log.
type benchDoor struct{ log *commits }

type benchSession struct{ log *commits }

func (d *benchDoor) Enter(context.Context, Arrival, Link) (Session, error) {
	return benchSession{d.log}, nil
}
func (s benchSession) Handle(_ string, _ []byte, _ bool, reply func(any, error)) {
	if s.log == nil {
		reply(nil, nil)
		return
	}
	s.log.add(reply)
}
func (s benchSession) HandleBare(_ string, _ []byte, reply func(any, error)) { reply(nil, nil) }
func (benchSession) Answered(bool)                                           {}
func (benchSession) Attend()                                                 {}
func (benchSession) Stale(string, any) bool                                  { return false }
func (benchSession) Listen()                                                 {}
func (benchSession) Close(string)                                            {}
