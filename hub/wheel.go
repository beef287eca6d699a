package hub

import (
	"sync"
	"time"
)

// wheel looks after the deadlines of all connections with one goroutine, which exists while
// there are connections. A connection is looked at when its deadline may have passed, not
// when something is received.
type wheel struct {
	mu      sync.Mutex
	buckets [wheelSize][]timed
	tick    int64 // the last tick that was looked at
	live    int
	stop    chan struct{}
}

const (
	wheelTick = 50 * time.Millisecond
	wheelSize = 2048
)

// timed is something with a deadline.
type timed interface {
	// due is called when the deadline may have passed. It returns the next one, or the zero
	// time when there is none. It must not block.
	due(now time.Time) (next time.Time)
}

// add schedules x.due at deadline. start runs a goroutine that its owner waits for.
func (w *wheel) add(x timed, deadline time.Time, start func(func())) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live++
	if w.stop == nil {
		w.tick = time.Now().UnixNano() / int64(wheelTick)
		w.stop = make(chan struct{})
		stop := w.stop
		start(func() { w.run(stop) })
	}
	w.put(x, deadline)
}

// again schedules x.due, of an x that was added, at another time as well.
func (w *wheel) again(x timed, deadline time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		w.put(x, deadline)
	}
}

func (w *wheel) put(x timed, deadline time.Time) {
	tick := deadline.UnixNano()/int64(wheelTick) + 1
	tick = min(max(tick, w.tick+1), w.tick+wheelSize-1)
	i := tick % wheelSize
	w.buckets[i] = append(w.buckets[i], x)
}

// remove takes one of those that were added off the count. Its due may still be called.
func (w *wheel) remove() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.live--
	if w.live == 0 && w.stop != nil {
		close(w.stop)
		w.stop = nil
		clear(w.buckets[:])
	}
}

func (w *wheel) run(stop chan struct{}) {
	t := time.NewTicker(wheelTick)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			w.turn(stop, time.Now())
		}
	}
}

// turn looks at everything that is due at now.
func (w *wheel) turn(stop chan struct{}, now time.Time) {
	until := now.UnixNano() / int64(wheelTick)
	for {
		w.mu.Lock()
		if w.stop != stop || w.tick >= until {
			w.mu.Unlock()
			return
		}
		w.tick = max(w.tick+1, until-wheelSize+1)
		i := w.tick % wheelSize
		batch := w.buckets[i]
		w.buckets[i] = nil
		w.mu.Unlock()
		for _, x := range batch {
			if next := x.due(now); !next.IsZero() {
				w.mu.Lock()
				if w.stop == stop {
					w.put(x, next)
				}
				w.mu.Unlock()
			}
		}
	}
}
