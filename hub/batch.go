package hub

import (
	"errors"

	"devicehub/hub/pubsub"
)

// Batch gathers broadcasts that are to be written together.
type Batch struct {
	ep       *Endpoint
	messages []*pubsub.Message
	corked   []*Conn
}

// Batch calls f and then sends what it broadcast on the Batch, in order. Each client on this
// node gets all of it that is for it in one write, which for many small messages costs not
// much more than one of them. It returns the errors of Broadcast, joined.
func (ep *Endpoint) Batch(f func(b *Batch)) error {
	b := &Batch{ep: ep}
	f(b)
	var errs []error
	for _, m := range b.messages {
		m.Memo(memoBatch, func(*pubsub.Message) any { return b })
		if err := ep.publish(nil, m); err != nil {
			errs = append(errs, err)
		}
	}
	for _, c := range b.corked {
		c.uncork()
	}
	return errors.Join(errs...)
}

// Broadcast adds what Endpoint.Broadcast would send.
func (b *Batch) Broadcast(topic, event string, payload any) {
	b.messages = append(b.messages, &pubsub.Message{Topic: topic, Event: event, Payload: payload})
}

// BroadcastKeyed adds what Endpoint.BroadcastKeyed would send.
func (b *Batch) BroadcastKeyed(topic, event, key string, payload any) {
	b.messages = append(b.messages, &pubsub.Message{Topic: topic, Event: event, Payload: payload, Key: key})
}

// cork holds back what is sent to c until the end of the batch. The caller holds c.out.mu, and
// calls from the goroutine of the batch: a PubSub delivers on this node before it returns.
func (b *Batch) cork(c *Conn) {
	if c.out.cork() {
		b.corked = append(b.corked, c)
	}
}

// cork has what is sent wait in the queue until uncork. It reports false when the queue is not
// empty, and will be written by somebody else. The caller holds mu.
func (o *outbox) cork() bool {
	if o.corked || len(o.queue) > 0 || o.flying {
		return false
	}
	o.corked = true
	return true
}

// cork is that of the outbox, for callers who do not hold its lock.
func (c *Conn) cork() bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.out.cork()
}

// uncork writes what waits since cork, at once as far as that goes.
func (c *Conn) uncork() {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if !c.out.corked {
		return
	}
	c.out.corked = false
	if c.out.flying || c.out.dead || len(c.out.queue) == 0 {
		return
	}
	written, err := c.writeQueued()
	if err != nil {
		c.breakLocked()
		return
	}
	c.written(written)
	if len(c.out.queue) > 0 {
		c.tr.wake()
	}
}

// writeQueued tries to write what is queued and returns how many bytes of it were taken.
func (c *Conn) writeQueued() (written int, err error) {
	q := c.out.queue
	if !c.tr.gathers() || len(q) == 1 {
		for i := range q {
			c.applySkip(&q[i])
			n, err := c.tr.tryWrite(q[i])
			if written += n; err != nil || n < len(q[i].data) {
				return written, err
			}
		}
		return written, nil
	}
	buf := chunkPool.Get().(*[]byte)
	defer putChunk(buf)
	chunk := (*buf)[:0]
	for i := range q {
		c.applySkip(&q[i])
		if len(chunk)+len(q[i].data) > writeChunk {
			break
		}
		chunk = append(chunk, q[i].data...)
	}
	if len(chunk) == 0 {
		return 0, nil
	}
	return c.tr.tryWrite(entry{data: chunk})
}

// written takes so many bytes off the front of the queue.
func (c *Conn) written(n int) {
	o := &c.out
	done := 0
	left := n
	for done < len(o.queue) && left >= len(o.queue[done].data) {
		left -= len(o.queue[done].data)
		done++
	}
	c.countOut(done, n-left)
	c.waits(-n)
	if done == len(o.queue) {
		clear(o.queue)
		o.emptied()
		return
	}
	kept := copy(o.queue, o.queue[done:])
	clear(o.queue[kept:])
	o.queue = o.queue[:kept]
	if left > 0 {
		first := &o.queue[0]
		first.data, first.key, first.topic = first.data[left:], "", ""
		o.partial = true
	}
}

// applySkip tells in an entry how many it replaces.
func (c *Conn) applySkip(e *entry) {
	if e.skip == 0 || e.told || e.f == nil {
		return
	}
	before := len(e.data)
	e.f = e.f.skipped(e.skip)
	e.data, e.head, e.told = e.f.data, e.f.head, true
	c.waits(len(e.data) - before)
}
