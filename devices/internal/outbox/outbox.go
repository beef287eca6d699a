// Package outbox publishes events in the order in which they were decided,
// without holding the lock under which they were.
package outbox

import (
	"sync"

	"devicehub/devices"
)

// Outbox is a queue in front of a Feed. Put is called under the lock that
// orders the events, Flush after it is released; a Feed may then call back into
// the service. It holds what one burst of decisions makes and is empty
// otherwise, so it has no bound of its own.
type Outbox struct {
	mu   sync.Mutex
	q    []devices.Event
	busy bool
}

// Put adds an event.
func (o *Outbox) Put(e devices.Event) {
	o.mu.Lock()
	o.q = append(o.q, e)
	o.mu.Unlock()
}

// Flush hands what was put to feed. While one goroutine does so, others return
// at once and leave theirs to it.
func (o *Outbox) Flush(feed devices.Feed) {
	o.mu.Lock()
	if o.busy {
		o.mu.Unlock()
		return
	}
	o.busy = true
	for len(o.q) > 0 {
		batch := o.q
		o.q = nil
		o.mu.Unlock()
		for _, e := range batch {
			feed.Publish(e)
		}
		o.mu.Lock()
	}
	o.busy = false
	o.mu.Unlock()
}
