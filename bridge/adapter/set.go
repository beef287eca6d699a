package adapter

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"devicehub/bridge/broker"
	"devicehub/devices"
	"devicehub/devices/quota"
)

// Config names one adapter of a bus.
type Config struct {
	Kind string // of Kinds; empty is native
	Base string // the dialect's own prefix; empty is its usual one
}

// Set is the adapters of one bus, with the devices behind it.
type Set struct {
	*Behind
	adapters []Adapter
	routes   []route
	lanes    *lanes
	guard    guard
}

// route brings what a filter selects to an adapter.
type route struct {
	filter string
	to     Adapter
}

// NewSet makes the adapters of a bus. Without any it is the native one.
func NewSet(h Hub, bus Bus, trust bool, adapters []Config) (*Set, error) {
	s := &Set{lanes: newLanes(defaultBounds)}
	s.lanes.setRate(h.EventsPerS)
	faults := quota.NewLimiter(quota.Rate{PerSecond: 1. / 60, Burst: 1}) // lines in the log
	s.lanes.fault = func(j *job, err error) {
		if _, ok := faults.Take(time.Now()); ok {
			h.Log.Error("bridge message is tried again", "bridge", bus.Name(), "topic", j.m.Topic, "err", err)
		}
	}
	s.guard.init()
	s.Behind = NewBehind(h, guarded{bus, &s.guard}, trust)
	if len(adapters) == 0 {
		adapters = []Config{{Kind: "native"}}
	}
	for _, c := range adapters {
		a, err := New(c.Kind, c.Base, s.Behind)
		if err != nil {
			return nil, err
		}
		s.adapters = append(s.adapters, a)
		for _, f := range a.Filters() {
			s.routes = append(s.routes, route{f, a})
		}
	}
	return s, nil
}

// SetRate changes how many messages of the bus are read a second.
func (s *Set) SetRate(perSecond int) { s.lanes.setRate(perSecond) }

// Filters are what the bus has to subscribe to.
func (s *Set) Filters() (all []string) {
	for _, r := range s.routes {
		all = append(all, r.filter)
	}
	return all
}

// Take hands a message to the adapter that wants it. false means that there is no
// room for it now, and nothing is told to out.
func (s *Set) Take(m Message, out Outcome) bool {
	m.At = time.Now()
	if !m.Retained && s.guard.own(m.Topic, m.Payload) {
		out.Decided(nil)
		return true
	}
	for _, r := range s.routes {
		if match(r.filter, m.Topic) {
			return s.lanes.put(r.to, m, out)
		}
	}
	out.Decided(nil)
	return true
}

// Waiting is the number of messages that are not yet decided.
func (s *Set) Waiting() int { return s.lanes.len() }

// HasRoom reports whether what waits leaves room for more, by far.
func (s *Set) HasRoom() bool { return s.lanes.spacious() }

// Slowed is how many messages had to wait for the bus's rate.
func (s *Set) Slowed() int64 { return s.lanes.slowed() }

// Looped is how many of the hub's own messages came back.
func (s *Set) Looped() int64 { return s.guard.count() }

// Up says that the bus is connected.
func (s *Set) Up() {
	s.Behind.Up()
	for _, a := range s.adapters {
		a.Up()
	}
}

// Publish is the Feed's: adapters that show the hub's devices elsewhere tell of it.
func (s *Set) Publish(e devices.Event) {
	if e.Name == "device_changed" {
		s.changed(e.Device)
	}
	for _, a := range s.adapters {
		if f, ok := a.(devices.Feed); ok {
			f.Publish(e)
		}
	}
}

// Run does what adapters do in the background, until ctx is done.
func (s *Set) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, a := range s.adapters {
		if r, ok := a.(interface{ Run(context.Context) }); ok {
			wg.Go(func() { r.Run(ctx) })
		}
	}
	<-ctx.Done()
	wg.Wait()
	s.lanes.close()
}

// match reports whether a filter selects a topic (MQTT 3.1.1 §4.7).
func match(filter, topic string) bool {
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, trest, tmore := strings.Cut(topic, "/")
		if f != "+" && f != t || fmore != tmore {
			return fmore && !tmore && (f == "+" || f == t) && frest == "#"
		}
		if !fmore {
			return true
		}
		filter, topic = frest, trest
	}
}

// guard knows the messages that the hub itself published on a bus, so that none
// comes back as somebody else's.
type guard struct {
	seed maphash.Seed

	mu     sync.Mutex
	ring   [4096]uint64
	at     [4096]time.Time
	next   int
	places map[uint64]int // how often each stands in the ring
	looped int64
}

const guardFor = time.Minute

func (g *guard) init() {
	g.seed, g.places = maphash.MakeSeed(), map[uint64]int{}
}

func (g *guard) hash(topic string, payload []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(g.seed)
	_, _ = h.WriteString(topic)
	_ = h.WriteByte(0)
	_, _ = h.Write(payload)
	return h.Sum64()
}

func (g *guard) published(topic string, payload []byte) {
	k := g.hash(topic, payload)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop(g.next)
	g.ring[g.next], g.at[g.next] = k, time.Now()
	g.places[k]++
	g.next = (g.next + 1) % len(g.ring)
}

func (g *guard) drop(i int) {
	k := g.ring[i]
	if k == 0 {
		return
	}
	if g.places[k]--; g.places[k] <= 0 {
		delete(g.places, k)
	}
	g.ring[i] = 0
}

// own reports whether a message is one of the hub's own, coming back. Each is
// taken for that once.
func (g *guard) own(topic string, payload []byte) bool {
	k := g.hash(topic, payload)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.places[k] == 0 {
		return false
	}
	for i, x := range g.ring {
		if x == k {
			fresh := time.Since(g.at[i]) < guardFor
			g.drop(i)
			if fresh {
				g.looped++
				return true
			}
		}
	}
	return false
}

// unsent takes back what published said of the latest message.
func (g *guard) unsent(topic string, payload []byte) {
	k := g.hash(topic, payload)
	g.mu.Lock()
	defer g.mu.Unlock()
	for n := 1; n <= len(g.ring); n++ {
		if i := (g.next - n + len(g.ring)) % len(g.ring); g.ring[i] == k {
			g.drop(i)
			return
		}
	}
}

func (g *guard) count() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.looped
}

// guarded is a Bus whose messages the guard knows.
type guarded struct {
	Bus
	g *guard
}

func (b guarded) Publish(topic string, payload []byte, qos byte, retain bool) bool {
	if !broker.ValidTopic(topic) { // a foreign name with a wildcard in it [MQTT-3.3.2-2]
		return false
	}
	b.g.published(topic, payload) // before: it may come back at once
	if !b.Bus.Publish(topic, payload, qos, retain) {
		b.g.unsent(topic, payload)
		return false
	}
	return true
}
