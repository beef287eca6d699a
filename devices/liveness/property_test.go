package liveness

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"devicehub/devices"
)

// TestNeverWrong drives random interleavings of connects, disconnects,
// replacements, fights over identities, sleeps, data, unanswered commands,
// bridge losses, restarts and delays of everything through the tracker, in
// virtual time, and holds every status against what the events that were
// delivered imply (see oracle). A wrong state may not last for five seconds, and
// the final one is never wrong. One interleaving is one device's life of an hour.
//
// 10^5 of them, 10^4 under the race detector; DEVICEHUB_SOAK=1 makes it 10^6,
// DEVICEHUB_SEED names one world.
func TestNeverWrong(t *testing.T) {
	const perWorld = 200
	worlds := uint64(500)
	switch {
	case os.Getenv("DEVICEHUB_SOAK") != "":
		worlds = 5000
	case raceEnabled:
		worlds = 50
	}
	if s := os.Getenv("DEVICEHUB_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		play(t, seed, perWorld)
		return
	}
	seeds := make(chan uint64)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := range seeds {
				play(t, seed, perWorld)
			}
		})
	}
	for seed := range worlds {
		if t.Failed() {
			break
		}
		seeds <- seed
	}
	close(seeds)
	wg.Wait()
}

// sim is one world: a hub, its disk, devices, and a queue of what will happen.
type sim struct {
	t     *testing.T
	seed  uint64
	rnd   *rand.Rand
	now   time.Time
	queue happenings
	n     int

	reg    *devices.Registry
	store  *Memory
	hub    *Tracker
	life   int // of the hub
	began  time.Time
	failed bool

	devs   []*simDevice
	byID   map[devices.ID]*simDevice
	bridge simBridge
}

type simBridge struct {
	up     bool
	downAt time.Time
	lost   bool // and everybody behind it knows
}

type happening struct {
	at time.Time
	n  int
	f  func()
}

type happenings []happening

func (h *happenings) add(x happening) { heap.Push(h, x) }

func (h *happenings) next() happening { return heap.Pop(h).(happening) }

func (h happenings) Len() int { return len(h) }

func (h happenings) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].n < h[j].n
}

func (h happenings) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *happenings) Push(x any) { *h = append(*h, x.(happening)) }

func (h *happenings) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// simDevice is a device with all that was delivered of it to the hub, which is
// what the oracle judges by.
type simDevice struct {
	id      devices.ID
	bridged bool
	addrs   []string
	boot    int

	log       []delivered
	freshTill time.Time // by the readings; zero: none
	wrong     time.Time // since when its status has been wrong
	told      devices.Status
}

type what uint8

const (
	opened what = iota
	closed
	refusal  // of a duplicate
	linkless // data without a connection
	slept
	unanswered
	answered
	restarted // the hub, with what it knew of the device
	available // said its bridge's adapter
	unavailable
	heardBridged
	bridgeLost
	bridgeBack
)

var whats = []string{"opened", "closed", "refusal", "linkless", "slept", "unanswered", "answered", "restarted", "available", "unavailable", "heard", "bridge lost", "bridge back"}

type delivered struct {
	what   what
	at     time.Time
	epoch  int64
	reason string
	until  time.Time // of a refusal: the hold; of a sleep: its end
	known  Known
}

func play(t *testing.T, seed uint64, count int) {
	s := &sim{t: t, seed: seed, rnd: rand.New(rand.NewPCG(seed, 77)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		store: new(Memory), byID: map[devices.ID]*simDevice{}}
	var err error
	if s.reg, err = devices.OpenRegistry(t.Context(), new(devices.MemoryRegistry)); err != nil {
		t.Error(err)
		return
	}
	var records []*devices.Device
	for i := range count {
		d := &simDevice{id: devices.ID(fmt.Sprintf("d%d", i)), bridged: i%10 == 0, addrs: []string{"10.0.0.1"}}
		if i%7 == 1 {
			d.addrs = []string{"10.0.0.1", "10.0.0.2"} // somebody copied its card
		}
		via := "direct"
		if d.bridged {
			via = "b"
		}
		records = append(records, &devices.Device{ID: d.id, Kinds: []devices.Kind{devices.KindSensor}, Enabled: true, Via: via, ExpectedIntervalS: 60})
		s.devs = append(s.devs, d)
		s.byID[d.id] = d
	}
	if err := s.reg.Create(t.Context(), s.now, records...); err != nil {
		t.Error(err)
		return
	}
	s.start()
	end := s.now.Add(time.Hour)
	for _, d := range s.devs {
		s.live(d)
	}
	s.bridges()
	for range s.rnd.IntN(3) {
		s.in(s.span(time.Hour), s.restart)
	}
	for len(s.queue) > 0 && s.queue[0].at.Before(end) && !t.Failed() {
		h := s.queue.next()
		s.advance(h.at)
		h.f()
	}
	// Nothing more happens: what is shown after the longest wait is final.
	s.queue = nil
	s.advance(s.now.Add(10 * time.Second))
	if b := &s.bridge; !b.up && !b.lost && !b.downAt.IsZero() {
		s.behind(bridgeLost)
	}
	for _, d := range []time.Duration{0, 30 * time.Second, 2 * time.Minute, 40 * time.Minute} {
		s.advance(s.now.Add(d))
		s.judge()
	}
}

func (s *sim) span(d time.Duration) time.Duration { return time.Duration(s.rnd.Int64N(int64(d))) }

// delay is how late something reaches the hub: mostly at once.
func (s *sim) delay() time.Duration {
	switch s.rnd.IntN(4) {
	case 0:
		return s.span(20 * time.Second)
	case 1:
		return s.span(500 * time.Millisecond)
	}
	return 0
}

func (s *sim) in(d time.Duration, f func()) {
	s.n++
	s.queue.add(happening{s.now.Add(d), s.n, f})
}

// advance moves the clock, and has the tracker do what falls due on the way.
func (s *sim) advance(to time.Time) {
	for {
		next := to
		for _, q := range []interface{ Next() (time.Time, bool) }{s.hub.table, s.hub.bridges} {
			if at, ok := q.Next(); ok && at.Before(next) {
				next = at
			}
		}
		if next.After(s.now) {
			s.now = next
		}
		if s.hub.table.Fire() || s.hub.bridges.Fire() {
			continue
		}
		if !s.now.Before(to) {
			return
		}
	}
}

func (s *sim) start() {
	hub, err := New(s.t.Context(), Config{Store: s.store, Registry: s.reg, Freshness: s.freshness, Feed: s, Now: func() time.Time { return s.now }})
	if err != nil {
		s.t.Fatal(err)
	}
	s.hub, s.began = hub, s.now
	s.life++
}

func (s *sim) freshness(id devices.ID, now time.Time) (stale, any bool, next time.Time) {
	d := s.byID[id]
	switch {
	case d.freshTill.IsZero():
		return false, false, time.Time{}
	case now.Before(d.freshTill):
		return false, true, d.freshTill
	}
	return true, true, time.Time{}
}

func (d *simDevice) note(e delivered) { d.log = append(d.log, e) }

// restart ends the hub, as kill -9 or after its last write, and begins another.
func (s *sim) restart() {
	if s.rnd.IntN(2) == 0 {
		if err := s.hub.writes.flush(s.t.Context()); err != nil {
			s.t.Error(err)
		}
	}
	s.now = s.now.Add(s.span(2 * time.Minute))
	known := map[devices.ID]Known{}
	ks, _ := s.store.LoadPresence(s.t.Context())
	for _, k := range ks {
		known[k.Device] = k
	}
	s.reg, _ = devices.OpenRegistry(s.t.Context(), copyOf(s.reg)) // its watchers died with the hub
	s.start()
	for _, d := range s.devs {
		d.log = append(d.log[:0], delivered{what: restarted, at: s.now, known: known[d.id]})
		d.wrong = time.Time{}
	}
	s.bridge = simBridge{}
	s.in(s.span(30*time.Second), s.bridgeUp)
}

func copyOf(r *devices.Registry) *devices.MemoryRegistry {
	m := new(devices.MemoryRegistry)
	for d := range r.All() {
		m.PutDevices(nil, []*devices.Device{d})
	}
	return m
}

// live plans a device's hour.
func (s *sim) live(d *simDevice) {
	for range 2 + s.rnd.IntN(12) {
		at := s.span(time.Hour)
		if s.rnd.IntN(3) == 0 {
			at = s.span(time.Minute) // a busy first minute
		}
		s.in(at, func() {
			if d.bridged {
				s.actBridged(d)
			} else {
				s.act(d)
			}
		})
		// Looked at some time later, and once more after five seconds.
		s.in(at+s.span(30*time.Second), func() { s.look(d) })
		s.in(at+35*time.Second, func() { s.look(d) })
	}
}

func (s *sim) act(d *simDevice) {
	switch s.rnd.IntN(10) {
	case 0, 1, 2, 3:
		s.connect(d)
	case 4:
		for range 7 { // it flaps
			s.in(s.span(20*time.Second), func() { s.connect(d) })
		}
	case 5, 6:
		d.freshTill = s.now.Add(time.Minute)
		s.hub.DataChanged(d.id)
		if s.rnd.IntN(2) == 0 {
			s.hub.Heard(d.id, 0, Data)
			d.note(delivered{what: linkless, at: s.now})
		}
	case 7:
		if epoch, _, ok := s.hub.Current(d.id); ok {
			wake := s.now.Add(time.Second + s.span(10*time.Minute))
			s.hub.Sleep(d.id, epoch, wake.UnixMilli())
			grace := min(max(wake.Sub(s.now)/20, 5*time.Second), 5*time.Minute)
			d.note(delivered{what: slept, at: s.now, epoch: epoch, until: time.UnixMilli(wake.UnixMilli()).Add(grace)})
		}
	case 8:
		if epoch, _, ok := s.hub.Current(d.id); ok {
			s.hub.CommandUnanswered(d.id, epoch)
			d.note(delivered{what: unanswered, at: s.now, epoch: epoch})
		}
	case 9:
		if epoch, _, ok := s.hub.Current(d.id); ok {
			s.hub.CommandAnswered(d.id, epoch)
			d.note(delivered{what: answered, at: s.now, epoch: epoch})
		}
	}
}

// connect opens a connection, which ends some time, and is heard of later.
func (s *sim) connect(d *simDevice) {
	life := s.life
	late := s.delay()
	s.in(late, func() {
		if s.life != life {
			return
		}
		standing, _, stood := s.hub.Current(d.id)
		if s.rnd.IntN(3) == 0 {
			d.boot++
		}
		c := Conn{Transport: "websocket", Addr: d.addrs[s.rnd.IntN(len(d.addrs))], Client: []string{"", "a", "b"}[s.rnd.IntN(3)], OfflineAfter: time.Minute}
		boot := fmt.Sprint("boot", d.boot)
		if s.rnd.IntN(2) == 0 {
			c.Boot = boot
		}
		ended, over := false, false
		var epoch int64
		end := func(reason string) {
			s.in(s.delay(), func() {
				if s.life != life || over {
					return
				}
				over = true
				s.hub.Close(d.id, epoch, reason)
				if reason == Replaced && s.rnd.IntN(2) == 0 {
					s.hub.Answered(d.id, epoch, s.rnd.IntN(2) == 0)
				}
				d.note(delivered{what: closed, at: s.now, epoch: epoch, reason: reason})
			})
		}
		epoch, err := s.hub.Open(d.id, c, func(code devices.Code, _ string, by int64) {
			if ended || by <= epoch {
				s.fail(d, fmt.Sprintf("connection %d ended twice, or by %d", epoch, by))
			}
			ended = true
			end(string(code))
		})
		if err != nil {
			e, ok := err.(*devices.Error)
			if !ok || e.Code != devices.CodeRateLimited || !stood {
				s.fail(d, fmt.Sprintf("refused with %v", err))
				return
			}
			if now, _, _ := s.hub.Current(d.id); now != standing {
				s.fail(d, "a refused connection replaced the standing one")
			}
			d.note(delivered{what: refusal, at: s.now, until: s.now.Add(e.RetryAfter + time.Minute)})
			s.in(e.RetryAfter, func() { s.connect(d) })
			return
		}
		if stood && epoch <= standing {
			s.fail(d, fmt.Sprintf("epoch %d after %d", epoch, standing))
		}
		d.note(delivered{what: opened, at: s.now, epoch: epoch})
		if c.Boot == "" {
			s.in(s.span(time.Second), func() {
				if s.life == life {
					s.hub.SetBoot(d.id, epoch, boot)
				}
			})
		}
		if s.rnd.IntN(4) > 0 {
			reasons := []string{ClientClose, HeartbeatTimeout, ConnectionLost, ServerDrain, SlowConsumer}
			s.in(s.span(5*time.Minute), func() { end(reasons[s.rnd.IntN(len(reasons))]) })
		}
	})
}

func (s *sim) bridges() {
	s.in(s.span(time.Minute), s.bridgeUp)
	for range 4 + s.rnd.IntN(6) {
		s.in(s.span(time.Hour), func() {
			if s.bridge.up {
				s.bridge = simBridge{downAt: s.now}
				s.hub.BridgeDown("b")
				s.in(10*time.Second, func() {
					if !s.bridge.up && s.now.Sub(s.bridge.downAt) == 10*time.Second {
						s.bridge.lost = true
						s.behind(bridgeLost)
					}
				})
				s.in(s.span(25*time.Second), s.bridgeUp)
			}
		})
	}
}

func (s *sim) bridgeUp() {
	if s.bridge.up {
		return
	}
	lost := s.bridge.lost
	s.bridge = simBridge{up: true}
	s.hub.BridgeUp("b")
	if lost {
		s.behind(bridgeBack)
	}
}

func (s *sim) behind(w what) {
	for _, d := range s.devs {
		if d.bridged {
			d.note(delivered{what: w, at: s.now})
		}
	}
}

func (s *sim) actBridged(d *simDevice) {
	if !s.bridge.up {
		return // nothing comes through
	}
	switch s.rnd.IntN(4) {
	case 0:
		s.hub.BridgeAvailable(d.id, "b", false, ConnectionLost)
		d.note(delivered{what: unavailable, at: s.now})
	case 1:
		s.hub.BridgeAvailable(d.id, "b", true, "")
		d.note(delivered{what: available, at: s.now})
	default:
		d.freshTill = s.now.Add(time.Minute)
		s.hub.DataChanged(d.id)
		s.hub.BridgeHeard(d.id, "b", Announced)
		d.note(delivered{what: heardBridged, at: s.now})
	}
}
