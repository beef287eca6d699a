package perdevice

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

type counter struct{ n int }

// heard is a feed that remembers.
type heard struct {
	mu     sync.Mutex
	events []devices.Event
	then   func(devices.Event)
}

func (h *heard) Publish(e devices.Event) {
	h.mu.Lock()
	h.events = append(h.events, e)
	h.mu.Unlock()
	if h.then != nil {
		h.then(e)
	}
}

// run runs t until the test calls stop.
func run[K ~string, S any](t *Table[K, S]) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { t.Run(ctx) })
	return func() { cancel(); wg.Wait() }
}

// model is what a table has to be: a map of states and one of deadlines.
type model struct {
	states map[devices.ID]int
	due    map[devices.ID]time.Time
	told   []string
}

// fire takes out the keys whose time has come.
func (m *model) fire(now time.Time) map[devices.ID]time.Time {
	fired := map[devices.ID]time.Time{}
	for id, at := range m.due {
		if !at.After(now) {
			fired[id] = at
			delete(m.due, id)
		}
	}
	return fired
}

// TestTableAgainstModel holds random lives of devices against plain maps, in virtual time.
func TestTableAgainstModel(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			m := &model{states: map[devices.ID]int{}, due: map[devices.ID]time.Time{}}
			feed := &heard{}
			var mu sync.Mutex
			fired := map[devices.ID]time.Time{}
			var table *Table[devices.ID, counter]
			table = New(Rules[devices.ID, counter]{
				Make: func(e *Entry[devices.ID, counter]) bool {
					e.State.n = 100
					e.Sooner(time.Now().Add(time.Hour))
					return e.Key != "none"
				},
				Due: func(id devices.ID) {
					mu.Lock()
					fired[id] = time.Now()
					mu.Unlock()
					table.Find(id, func(e *Entry[devices.ID, counter]) { e.State.n++ })
				},
				Feed: feed, Now: time.Now,
			})
			stop := run(table)
			defer stop()
			for range 400 {
				id := devices.ID(fmt.Sprint(r.IntN(150)))
				switch r.IntN(5) {
				case 0, 1:
					at := time.Now().Add(time.Duration(r.IntN(20_000)) * time.Millisecond)
					if _, ok := m.states[id]; !ok {
						m.states[id], m.due[id] = 100, time.Now().Add(time.Hour)
					}
					m.states[id]++
					if old, ok := m.due[id]; !ok || at.Before(old) {
						m.due[id] = at
					}
					m.told = append(m.told, fmt.Sprint(id, m.states[id]))
					table.With(id, func(e *Entry[devices.ID, counter]) {
						e.State.n++
						e.Sooner(at)
						table.Publish(id, devices.Event{Device: id, Payload: e.State.n})
					})
				case 2:
					_, want := m.states[id]
					delete(m.states, id)
					delete(m.due, id)
					if got := table.Find(id, func(e *Entry[devices.ID, counter]) { e.Delete() }); got != want {
						t.Fatalf("%s is there: got %t, want %t", id, got, want)
					}
				case 3:
					if table.With("none", func(*Entry[devices.ID, counter]) { t.Error("made what is not to be made") }) {
						t.Error("with an entry that is not to be made: got true")
					}
				case 4:
					time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
				}
				synctest.Wait()
				mu.Lock()
				for id, at := range m.fire(time.Now()) {
					m.states[id]++
					if !fired[id].Equal(at) {
						t.Fatalf("%s: fired at %v, want %v", id, fired[id], at)
					}
					delete(fired, id)
				}
				if len(fired) != 0 {
					t.Fatalf("fired beside what was due: %v", fired)
				}
				mu.Unlock()
			}
			left := 0
			table.Each(func(e *Entry[devices.ID, counter]) {
				left++
				if e.State.n != m.states[e.Key] {
					t.Errorf("%s: got %d, want %d", e.Key, e.State.n, m.states[e.Key])
				}
			})
			if left != len(m.states) {
				t.Errorf("got %d entries, want %d", left, len(m.states))
			}
			var told []string
			for _, e := range feed.events {
				told = append(told, fmt.Sprint(e.Device, e.Payload))
			}
			if fmt.Sprint(told) != fmt.Sprint(m.told) {
				t.Errorf("told %v, want %v", told, m.told)
			}
		})
	}
}

// A feed may call back, and what it decides is told after what was decided before.
func TestFeedCallsBack(t *testing.T) {
	feed := &heard{}
	table := New(Rules[devices.ID, counter]{Feed: feed, Now: time.Now})
	feed.then = func(e devices.Event) {
		if e.Name == "first" {
			table.With(e.Device, func(*Entry[devices.ID, counter]) {
				table.Publish(e.Device, devices.Event{Device: e.Device, Name: "third"})
			})
		}
	}
	table.With("a", func(*Entry[devices.ID, counter]) {
		table.Publish("a", devices.Event{Device: "a", Name: "first"})
		table.Publish("a", devices.Event{Device: "a", Name: "second"})
	})
	if got := fmt.Sprint(feed.events[0].Name, feed.events[1].Name, feed.events[2].Name); got != "firstsecondthird" {
		t.Errorf("got %s, want firstsecondthird", got)
	}
}

// Outside, others may use and remove the entry; what was published before is told.
func TestOutside(t *testing.T) {
	feed := &heard{}
	table := New(Rules[devices.ID, counter]{Feed: feed, Now: time.Now})
	table.With("a", func(e *Entry[devices.ID, counter]) {
		table.Publish("a", devices.Event{Device: "a"})
		e.Outside(func() {
			if len(feed.events) != 1 {
				t.Errorf("got %d events told, want 1", len(feed.events))
			}
			table.Find("a", func(e *Entry[devices.ID, counter]) { e.State.n = 7 })
		})
		if e.State.n != 7 || e.Gone() {
			t.Errorf("got %d, gone %t", e.State.n, e.Gone())
		}
		e.Outside(func() { table.Find("a", func(e *Entry[devices.ID, counter]) { e.Delete() }) })
		e.Sooner(time.Now())
		if _, ok := table.Next(); ok || !e.Gone() {
			t.Error("an entry that is gone has a deadline")
		}
	})
}

// A panic leaves the shard usable.
func TestPanicLeavesTheLockFree(t *testing.T) {
	table := New(Rules[devices.ID, counter]{Now: time.Now})
	for _, f := range []func(*Entry[devices.ID, counter]){
		func(*Entry[devices.ID, counter]) { panic("a bug") },
		func(e *Entry[devices.ID, counter]) { e.Outside(func() { panic("a bug outside") }) },
	} {
		func() {
			defer func() { _ = recover() }()
			table.With("a", f)
		}()
	}
	table.With("a", func(e *Entry[devices.ID, counter]) { e.State.n++ })
}

// TestManyAtOnce is for the race detector. Events of one device come in order and none is lost.
func TestManyAtOnce(t *testing.T) {
	const each = 300
	feed := &heard{}
	var table *Table[devices.ID, counter]
	table = New(Rules[devices.ID, counter]{Feed: feed, Now: time.Now, Due: func(id devices.ID) {
		table.With(id, func(e *Entry[devices.ID, counter]) { e.Sooner(time.Now().Add(50 * time.Microsecond)) })
	}})
	stop := run(table)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range each {
				id := devices.ID(fmt.Sprint(i % 10))
				table.With(id, func(e *Entry[devices.ID, counter]) {
					e.State.n++
					table.Publish(id, devices.Event{Device: id, Payload: e.State.n})
					e.Sooner(time.Now().Add(time.Duration(i) * time.Microsecond))
				})
				gone := devices.ID(fmt.Sprint("gone", i%3))
				table.With(gone, func(e *Entry[devices.ID, counter]) { e.Sooner(time.Now()) })
				if g == 0 {
					table.Find(gone, func(e *Entry[devices.ID, counter]) { e.Delete() })
					table.Each(func(*Entry[devices.ID, counter]) {})
				}
			}
		})
	}
	wg.Wait()
	stop()
	feed.mu.Lock()
	defer feed.mu.Unlock()
	last := map[devices.ID]int{}
	for _, e := range feed.events {
		if n := e.Payload.(int); n != last[e.Device]+1 {
			t.Fatalf("%s: %d after %d", e.Device, n, last[e.Device])
		}
		last[e.Device]++
	}
	if len(feed.events) != 8*each {
		t.Errorf("got %d events, want %d", len(feed.events), 8*each)
	}
}

func BenchmarkWith(b *testing.B) {
	table := New(Rules[devices.ID, counter]{Now: time.Now})
	at := time.Now().Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		table.With("a", func(e *Entry[devices.ID, counter]) { e.State.n++; e.Sooner(at) })
	}
}
