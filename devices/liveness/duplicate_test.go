package liveness

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"devicehub/devices"
)

// worlds is how many of them are played.
func worlds() uint64 {
	if raceEnabled {
		return 300
	}
	return 1000
}

// fight is a hub in virtual time, with clients that connect to it under one
// identity.
type fight struct {
	*Tracker
	t     *testing.T
	rnd   *rand.Rand
	now   time.Time
	began time.Time
	queue happenings
	n     int
	log   []string
	audit int
}

const contested devices.ID = "d"

func newFight(t *testing.T, seed uint64) *fight {
	w := &fight{t: t, rnd: rand.New(rand.NewPCG(seed, 5)), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.began = w.now
	reg, err := devices.OpenRegistry(t.Context(), new(devices.MemoryRegistry))
	if err == nil {
		err = reg.Create(t.Context(), w.now, &devices.Device{ID: contested, Kinds: []devices.Kind{devices.KindSensor}, Enabled: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	if w.Tracker, err = New(t.Context(), Config{Store: new(Memory), Registry: reg, Audit: w, Now: func() time.Time { return w.now }}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *fight) Record(devices.Origin, devices.AuditEntry) { w.audit++ }

func (w *fight) span(d time.Duration) time.Duration { return time.Duration(w.rnd.Int64N(int64(d))) }

func (w *fight) in(d time.Duration, f func()) {
	w.n++
	w.queue.add(happening{w.now.Add(d), w.n, f})
}

// until plays on until d after the beginning, or stop says so.
func (w *fight) until(d time.Duration, stop func() bool) {
	for len(w.queue) > 0 && !stop() {
		h := w.queue.next()
		if h.at.Sub(w.began) > d {
			return
		}
		w.now = h.at
		for w.table.Fire() {
		}
		h.f()
	}
}

func (w *fight) note(format string, a ...any) {
	w.log = append(w.log, fmt.Sprintf("%v %s", w.now.Sub(w.began), fmt.Sprintf(format, a...)))
}

// habits are how a client speaks of itself, and how it goes.
type habits struct {
	boot   string // none, open, later: a power-up of its own, known when; each: another one for each connection
	client string // none, same, own, each
	addr   string // same, own
	sure   bool   // its transport tells an answer from a coincidence
}

func (w *fight) habits(addrs ...string) habits {
	pick := func(of ...string) string { return of[w.rnd.IntN(len(of))] }
	return habits{pick("none", "open", "later", "each"), pick("none", "same", "own", "each"), pick(addrs...), w.rnd.IntN(2) == 0}
}

// conn is what client n says of itself on its next connection; boot is what it
// says later.
func (w *fight) conn(h habits, n, life, connects int) (c Conn, boot string) {
	c = Conn{Transport: "mqtt", Addr: "10.0.0.1", OfflineAfter: 90 * time.Second}
	if h.addr == "own" {
		c.Addr = fmt.Sprint("10.0.0.", n+1)
	}
	c.Client = map[string]string{"same": "dev", "own": fmt.Sprint("dev", n), "each": fmt.Sprintf("dev%d-%d", n, connects)}[h.client]
	boot = map[string]string{"open": fmt.Sprintf("%d.%d", n, life), "later": fmt.Sprintf("%d.%d", n, life), "each": fmt.Sprintf("%d-%d", n, connects)}[h.boot]
	if h.boot != "later" {
		c.Boot, boot = boot, ""
	}
	return c, boot
}

// A lone device is never taken for two, whatever becomes of its connections: it
// closes them, or they are left half open for the hub to give up; it restarts, it
// sleeps; the end of a connection arrives when the next one is there already.
func TestALoneDeviceIsNeverTakenForTwo(t *testing.T) {
	for seed := range worlds() {
		w := newFight(t, seed)
		h := w.habits("same")
		life, connects, lateEnds := 0, 0, false
		pace := 200*time.Millisecond + w.span(20*time.Second)
		var connect func()
		connect = func() {
			connects++
			c, boot := w.conn(h, 0, life, connects)
			closed := false
			var epoch int64
			epoch, err := w.Open(contested, c, func(code devices.Code, _ string, _ int64) {
				if code != devices.CodeReplaced {
					t.Errorf("seed %d: ended for %s", seed, code)
				}
				w.note("%d is replaced", epoch)
			})
			if err != nil {
				t.Fatalf("seed %d, %+v: %v after %q", seed, h, err, w.log)
			}
			w.note("%d opens %+v", epoch, c)
			if boot != "" {
				w.in(w.span(time.Second), func() { w.SetBoot(contested, epoch, boot) })
			}
			w.in(w.span(pace), func() {
				switch w.rnd.IntN(4) {
				case 0: // it says goodbye
					closed = true
					w.Close(contested, epoch, ClientClose)
					w.in(w.span(pace), connect)
				case 1: // it has slept, or was restarted, without a word
					life++
					connect()
				case 2: // its link was lost, and its own end of the connection with it
					connect()
				case 3: // its goodbye was on its way for longer than the next connection took; by chance, so not each time
					connect()
					if lateEnds = !lateEnds; lateEnds {
						w.in(w.span(time.Second), func() { w.Answered(contested, epoch, false) })
					}
				}
				if !closed {
					w.in(w.span(2*time.Minute), func() { w.Close(contested, epoch, HeartbeatTimeout) })
				}
			})
		}
		connect()
		w.until(10*time.Minute, func() bool { return false })
		if st := w.Status(contested); st.Reason == DuplicateIdentity || w.Stats().Refused > 0 || w.audit > 0 {
			t.Fatalf("seed %d, %+v: shown %+v after %q", seed, h, st, w.log)
		}
	}
}

// Clones that push each other out are recognised within a minute, whatever they
// say of themselves, as long as they notice it and come back within ten seconds.
func TestClonesAreAlwaysRecognised(t *testing.T) {
	for seed := range worlds() {
		w := newFight(t, seed)
		h := w.habits("same", "same", "same", "own")
		var standing, refused int
		var held int64
		back, notice := w.span(10*time.Second), time.Millisecond+w.span(time.Second)
		var connect func(n, connects int)
		connect = func(n, connects int) {
			c, boot := w.conn(h, n, 0, connects)
			var epoch int64
			epoch, err := w.Open(contested, c, func(devices.Code, string, int64) {
				if refused > 0 {
					t.Errorf("seed %d, %+v: the one that stands was ended", seed, h)
				}
				w.in(notice, func() {
					w.note("%d answers", epoch)
					w.Answered(contested, epoch, h.sure)
					w.in(back+w.span(100*time.Millisecond), func() { connect(n, connects+1) })
				})
			})
			if err != nil {
				refused++
				held, _, _ = w.Current(contested)
				w.note("clone %d is refused", n)
				return
			}
			standing = n
			w.note("%d opens, clone %d, %+v", epoch, n, c)
			if boot != "" {
				w.in(w.span(500*time.Millisecond), func() { w.SetBoot(contested, epoch, boot) })
			}
		}
		clones := 2 + w.rnd.IntN(2)
		for n := range clones {
			w.in(time.Duration(n)*time.Second, func() { connect(n, 0) })
		}
		w.until(65*time.Second, func() bool { return refused > 0 })
		if refused == 0 {
			t.Fatalf("seed %d, %d clones of %+v: not recognised in %q", seed, clones, h, w.log)
		}
		if epoch, _, ok := w.Current(contested); !ok || epoch != held {
			t.Errorf("seed %d: clone %d does not stand", seed, standing)
		}
		if st := w.Status(contested); st.Reason != DuplicateIdentity || !st.Flapping || w.audit != 1 {
			t.Errorf("seed %d: shown %+v, %d audited", seed, st, w.audit)
		}
	}
}

// A device that says goodbye does not flap, however often it comes; one whose
// connections are lost does.
func TestGoodbyesAreNoFlapping(t *testing.T) {
	w := newFight(t, 1)
	play := func(reason string, times int) bool {
		for range times {
			epoch, err := w.Open(contested, ws, func(devices.Code, string, int64) {})
			if err != nil {
				t.Fatal(err)
			}
			w.now = w.now.Add(200 * time.Millisecond)
			w.Close(contested, epoch, reason)
			w.now = w.now.Add(time.Second)
		}
		return w.Status(contested).Flapping
	}
	for _, x := range []struct {
		reason string
		times  int
		want   bool
	}{{ClientClose, 30, false}, {ConnectionLost, 5, false}, {ClientClose, 8, false}, {ConnectionLost, 1, true}, {ClientClose, 1, true}} {
		if got := play(x.reason, x.times); got != x.want {
			t.Errorf("after %d times %s: flapping is %t, want %t", x.times, x.reason, got, x.want)
		}
	}
}
