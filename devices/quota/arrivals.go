package quota

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// arrivals are the connections of which nobody knows at the moment whose they are, those that came
// first in front.
type arrivals struct {
	mu    sync.Mutex
	all   list.List // of *Arrival
	addrs map[string]*arrivedFrom
}

// arrivedFrom are those of one address.
type arrivedFrom struct {
	n    int       // all of them
	mute list.List // of *Arrival: those that have never said whose they are
}

// Arrival is a connection that has yet to say whose it is. The nil Arrival is counted nowhere.
type Arrival struct {
	q    *Quota
	addr string
	free bool // not bounded by its address, and ended last
	shut func()

	// Guarded by arrivals.mu.
	at     time.Time
	seen   bool          // it was known before
	gone   bool          // it has ended
	all    *list.Element // nil while it is not counted
	silent *list.Element // nil unless it is mute
}

const (
	// arrivalGrace is how long a connection has to say whose it is before the bound of its
	// address concerns it: a fleet behind one address may come back at once.
	arrivalGrace = 2 * time.Second
	// arrivalBurst is how many times the bound of its address may be there during that time.
	arrivalBurst = 16
	// arrivalsSeen is how many of the oldest are looked at to find who has most.
	arrivalsSeen = 64
)

// Arrive counts a connection from an address until Known or Leave. free says that its address does
// not bound it, as when it is a proxy's. When there are too many, those that came first are ended
// with their shut: of the same address, or of the address that has most.
func (q *Quota) Arrive(addr string, free bool, shut func()) *Arrival {
	if q == nil {
		return nil
	}
	a := &Arrival{q: q, addr: Address(addr), free: free, shut: shut}
	a.count()
	return a
}

// count counts the connection from now on.
func (a *Arrival) count() {
	limits, now, s := a.q.limits.Load(), a.q.now(), &a.q.arrivals
	s.mu.Lock()
	if a.gone || a.all != nil {
		s.mu.Unlock()
		return
	}
	a.at = now
	from := s.addrs[a.addr]
	if from == nil {
		from = new(arrivedFrom)
		if s.addrs == nil {
			s.addrs = map[string]*arrivedFrom{}
		}
		s.addrs[a.addr] = from
	}
	from.n++
	a.all = s.all.PushBack(a)
	if !a.free && !a.seen {
		a.silent = from.mute.PushBack(a)
	}
	over := s.surplus(from, limits.ArrivalsPerAddress, now)
	for limits.Arrivals > 0 && s.all.Len() > limits.Arrivals {
		over = append(over, s.heaviest())
	}
	s.mu.Unlock()
	a.q.end(over)
}

// surplus takes out those of one address that are beyond its bound. The caller holds mu.
func (s *arrivals) surplus(from *arrivedFrom, bound int, now time.Time) (over []*Arrival) {
	for bound > 0 && from.mute.Len() > bound {
		oldest := from.mute.Front().Value.(*Arrival)
		if from.mute.Len() <= arrivalBurst*bound && now.Sub(oldest.at) < arrivalGrace {
			break
		}
		s.remove(oldest)
		over = append(over, oldest)
	}
	return over
}

// heaviest takes out the oldest of the address that has most, among the oldest of all; what is
// free goes last. There is at least one; the caller holds mu.
func (s *arrivals) heaviest() *Arrival {
	var found *Arrival
	weight := -1
	for e, n := s.all.Front(), 0; e != nil && n < arrivalsSeen; e, n = e.Next(), n+1 {
		a, w := e.Value.(*Arrival), 0
		if !a.free {
			w = s.addrs[a.addr].n
		}
		if w > weight {
			found, weight = a, w
		}
	}
	s.remove(found)
	return found
}

// remove no longer counts a. The caller holds mu.
func (s *arrivals) remove(a *Arrival) {
	if a.all == nil {
		return
	}
	s.all.Remove(a.all)
	from := s.addrs[a.addr]
	if a.silent != nil {
		from.mute.Remove(a.silent)
	}
	if from.n--; from.n == 0 {
		delete(s.addrs, a.addr)
	}
	a.all, a.silent = nil, nil
}

// end closes connections that were taken out.
func (q *Quota) end(over []*Arrival) {
	for _, a := range over {
		q.count(LimitArrivals)
		a.shut()
	}
}

// MakeRoom ends the connection that can best be done without, and reports whether there was one.
func (q *Quota) MakeRoom() bool {
	if q == nil {
		return false
	}
	s := &q.arrivals
	s.mu.Lock()
	if s.all.Len() == 0 {
		s.mu.Unlock()
		return false
	}
	a := s.heaviest()
	s.mu.Unlock()
	q.end([]*Arrival{a})
	return true
}

// Arrivals is how many connections have yet to say whose they are.
func (q *Quota) Arrivals() int {
	q.arrivals.mu.Lock()
	defer q.arrivals.mu.Unlock()
	return q.arrivals.all.Len()
}

// Known says that the hub has found out whose the connection is.
func (a *Arrival) Known() {
	if a == nil {
		return
	}
	s := &a.q.arrivals
	s.mu.Lock()
	a.seen = true
	s.remove(a)
	s.mu.Unlock()
}

// Anew says that the connection waits for somebody again, such as one of HTTP whose request was
// answered. It is not bounded by its address any more, but gives way when there are too many in all.
func (a *Arrival) Anew() {
	if a != nil {
		a.count()
	}
}

// Leave says that the connection has ended.
func (a *Arrival) Leave() {
	if a == nil {
		return
	}
	s := &a.q.arrivals
	s.mu.Lock()
	a.gone = true
	s.remove(a)
	s.mu.Unlock()
}

// WatchArrivals ends those that are beyond the bound of their address when their time to say whose
// they are is over, until ctx ends.
func (q *Quota) WatchArrivals(ctx context.Context) error {
	tick := time.NewTicker(arrivalGrace / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		bound, now := q.limits.Load().ArrivalsPerAddress, q.now()
		s := &q.arrivals
		var over []*Arrival
		s.mu.Lock()
		for _, from := range s.addrs {
			over = append(over, s.surplus(from, bound, now)...)
		}
		s.mu.Unlock()
		q.end(over)
	}
}
