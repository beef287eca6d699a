package session

import (
	"slices"
	"sync"
	"time"

	"devicehub/devices"
)

// Arrival is a device on its way in. Those of one device come in one after the
// other, in the order of their arrivals: a client may be told that it is connected
// before Open is called, and be gone and back again before that returns.
type Arrival struct {
	door *Door
	id   devices.ID
	in   chan struct{} // closed by Done
	once sync.Once
}

func (d *Door) arrive(id devices.ID) *Arrival {
	a := &Arrival{door: d, id: id, in: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.arrivals == nil {
		d.arrivals = map[devices.ID][]*Arrival{}
	}
	d.arrivals[id] = append(d.arrivals[id], a)
	return a
}

// Done says that the device is in, or does not come. It may be called again.
func (a *Arrival) Done() {
	a.once.Do(func() {
		close(a.in)
		d := a.door
		d.mu.Lock()
		defer d.mu.Unlock()
		left := slices.DeleteFunc(d.arrivals[a.id], func(o *Arrival) bool { return o == a })
		if d.arrivals[a.id] = left; len(left) == 0 {
			delete(d.arrivals, a.id)
		}
	})
}

const (
	// How long a newcomer waits for what the connection that it replaces has received:
	// if that is held up, and if it is not, but the machine is too busy.
	settlePatience = 100 * time.Millisecond
	settleMost     = 2 * time.Second
	// turnTime is how long it waits for those that arrived before it.
	turnTime = settleMost + time.Second
)

// turn waits for the arrivals before this one.
func (a *Arrival) turn() {
	a.door.mu.Lock()
	all := a.door.arrivals[a.id]
	before := slices.Clone(all[:max(0, slices.Index(all, a))])
	a.door.mu.Unlock()
	if len(before) == 0 {
		return
	}
	timer := time.NewTimer(turnTime)
	defer timer.Stop()
	for _, o := range before {
		select {
		case <-o.in:
		case <-timer.C:
			return
		}
	}
}

// settleOlder has older connections of the device take in what they have received.
// One that came to its end by it is no longer there to be replaced.
func (s *Session) settleOlder() {
	deadline := time.Now().Add(settleMost)
	for _, o := range s.door.of(s.device) {
		l, ok := o.link.(Settler)
		if !ok || o == s || !l.Settle(settlePatience, time.Until(deadline)) {
			continue
		}
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-o.gone:
		case <-timer.C:
		}
		timer.Stop()
	}
}
