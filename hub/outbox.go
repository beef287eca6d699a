package hub

import (
	"slices"
	"sync"
	"time"

	"devicehub/hub/poison"
	"devicehub/hub/wire"
)

// transport is how the frames of one connection reach its client: the "stream" of a
// WebSocket, a long-poll session, memory. Another one, such as an event loop, plugs in here.
//
// The hub calls tryWrite and wake with the connection's outbox locked; they must not block
// and must not call back. The transport calls Conn.receive for each frame from the client, one
// at a time, Conn.take and Conn.taken to empty the outbox, and Conn.lost when its side ends.
type transport interface {
	name() string
	remoteAddr() string

	// tryWrite writes as much of the entry as it can at once and returns how many bytes
	// of e.data that was; less than all of it leaves the rest to the queue.
	tryWrite(e entry) (n int, err error)

	// gathers says that frames written together cost about as much as one: what has waited is
	// handed to tryWrite as one entry. Others get frame by frame.
	gathers() bool

	// wake says that there is something in the queue which tryWrite did not take.
	wake()

	// settle waits until everything that has arrived by now was given to Conn.receive, or the
	// connection has ended. The bounds are those of Conn.Settle.
	settle(patience, most time.Duration)

	// hold says that Conn.receive waits for room in an inbox, or no longer does.
	hold(held bool)

	// end says that the close frame is written or queued, or, when abrupt, that the
	// connection is to be dropped at once.
	end(abrupt bool)
}

// entry is one frame on its way to one client.
type entry struct {
	data   []byte // header and body, or the rest of them
	f      *frame // nil: data is not shared, and copied before it is kept
	key    string // conflation key; "" is never dropped
	topic  string // "" is none's: a reply of the transport, a control frame, the rest of a frame
	policy Policy
	head   uint8
	op     uint8
	told   bool // data says how many
	skip   int  // how many messages of the key this one replaces
}

func (f *frame) entry(topic string) entry {
	return entry{data: f.data, f: f, topic: topic, head: f.head, op: f.op}
}

// outbox is the queue of one connection. While it is empty, frames go straight to the
// transport; a client that keeps up costs no memory here.
type outbox struct {
	mu      sync.Mutex
	queue   []entry
	room    *[]entry // where queue came from
	bytes   int      // in queue and in flight
	flying  bool     // the transport has taken entries and is writing them
	corked  bool     // somebody is filling the queue and will uncork it
	partial bool     // the first entry is the rest of a frame
	closing bool     // the close frame is queued; nothing follows it
	dead    bool     // nothing can be written any more
}

// send queues or writes one entry. It reports false when the connection is closing.
func (c *Conn) send(e entry) bool {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	return c.sendLocked(e)
}

func (c *Conn) sendLocked(e entry) bool {
	o := &c.out
	if o.closing || o.dead {
		return false
	}
	if c.mount.opts.compress && c.deflates {
		e = compress(e)
	}
	if len(o.queue) == 0 && !o.flying && !o.corked {
		n, err := c.tr.tryWrite(e)
		if err != nil {
			c.breakLocked()
			return false
		}
		if n == len(e.data) {
			c.countOut(1, n)
			return true
		}
		o.partial = n > 0
		e.data = e.data[n:]
		if n > 0 {
			e.key, e.topic = "", ""
		}
		c.push(e)
		c.tr.wake()
		return true
	}
	if e.key != "" && e.policy == Latest && c.conflate(e) {
		return true
	}
	if c.excess(len(e.data)) > 0 && !c.makeRoom(e) {
		c.ep.counters.slowConsumers.Add(1)
		c.closeLocked(CloseTryAgainLater, "", ErrSlowConsumer)
		return false
	}
	c.push(e)
	if !o.corked {
		c.tr.wake()
	}
	return true
}

func (c *Conn) countOut(messages, bytes int) {
	c.ep.counters.messagesOut.add(c.stripe, int64(messages))
	c.ep.counters.bytesOut.add(c.stripe, int64(bytes))
}

// push appends e to the queue; memory that is not shared is copied.
func (c *Conn) push(e entry) {
	if e.f == nil {
		e.data = append(make([]byte, 0, len(e.data)), e.data...)
	}
	o := &c.out
	if o.queue == nil {
		o.room = queuePool.Get().(*[]entry)
		o.queue = (*o.room)[:0]
	}
	o.queue = append(o.queue, e)
	c.waits(len(e.data))
}

var queuePool = sync.Pool{New: func() any { q := make([]entry, 0, 16); return &q }}

// emptied gives the memory of a queue back that has become empty.
func (o *outbox) emptied() {
	if o.room != nil && cap(o.queue) <= 64 {
		*o.room = o.queue[:0]
		if poison.On {
			poison.Fill(*o.room, entry{data: []byte(poison.Text), op: opText})
		}
		queuePool.Put(o.room)
	}
	o.queue, o.room = nil, nil
}

// conflate puts e in the place of a waiting entry with its topic and key. What else of the topic
// waits behind that entry moves up, so that a client hears of a topic in the order of events.
func (c *Conn) conflate(e entry) bool {
	q := c.out.queue
	i := slices.IndexFunc(q, func(w entry) bool { return w.key == e.key && w.topic == e.topic })
	if i < 0 {
		return false
	}
	e.skip = q[i].skip + 1
	c.waits(len(e.data) - len(q[i].data))
	for j := i + 1; j < len(q); j++ {
		if q[j].topic == e.topic {
			q[i] = q[j]
			i = j
		}
	}
	q[i] = e
	c.ep.counters.conflated.Add(1)
	return true
}

// makeRoom drops waiting entries with a key, the oldest of the key of e first, until e fits.
func (c *Conn) makeRoom(e entry) bool {
	o := &c.out
	need := c.excess(len(e.data))
	drop := func(match func(w *entry) bool) {
		kept := o.queue[:0]
		for i := range o.queue {
			w := o.queue[i]
			if need > 0 && w.key != "" && w.policy != Disconnect && match(&w) {
				need -= len(w.data)
				c.waits(-len(w.data))
				c.ep.counters.dropped.Add(1)
				continue
			}
			kept = append(kept, w)
		}
		clear(o.queue[len(kept):])
		o.queue = kept
	}
	if e.key != "" && e.policy != Disconnect {
		drop(func(w *entry) bool { return w.key == e.key && w.topic == e.topic })
	}
	if need > 0 {
		drop(func(*entry) bool { return true })
	}
	return need <= 0
}

// take moves up to max bytes of whole entries, at least one, into dst and marks them as being
// written. It returns dst without additions when there is nothing to write.
func (c *Conn) take(dst []entry, max int) []entry {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.flying || o.dead {
		return dst
	}
	o.corked = false
	n, size := 0, 0
	for n < len(o.queue) && (n == 0 || size+len(o.queue[n].data) <= max) {
		c.applySkip(&o.queue[n])
		e := o.queue[n]
		size += len(e.data)
		dst = append(dst, e)
		n++
	}
	if n == 0 {
		return dst
	}
	left := copy(o.queue, o.queue[n:])
	clear(o.queue[left:])
	o.queue = o.queue[:left]
	o.flying, o.partial = true, false
	return dst
}

// taken says that what take returned is written. It reports whether more is waiting, or,
// when nothing is, whether the connection is closing.
func (c *Conn) taken(entries []entry) (more, closing bool) {
	o := &c.out
	o.mu.Lock()
	defer o.mu.Unlock()
	size := 0
	for i := range entries {
		size += len(entries[i].data)
	}
	c.countOut(len(entries), size)
	if !o.dead { // else nothing is counted any more
		c.waits(-size)
	}
	o.flying = false
	if len(o.queue) == 0 {
		o.emptied()
	}
	return len(o.queue) > 0 && !o.dead, o.closing
}

// closeLocked ends the connection with a close frame behind what is queued; a slow consumer's
// queue is dropped first, but for the rest of a frame that the client has begun to receive.
func (c *Conn) closeLocked(code int, reason string, cause error) {
	o := &c.out
	if o.closing || o.dead {
		return
	}
	if cause == ErrSlowConsumer {
		keep := 0
		if o.partial {
			keep = 1
		}
		for i := keep; i < len(o.queue); i++ {
			c.waits(-len(o.queue[i].data))
			o.queue[i] = entry{}
		}
		o.queue = o.queue[:keep]
	}
	c.closeCode.Store(int32(code))
	e := closeFrame(code, reason).entry("")
	o.closing = true
	o.corked = false
	if len(o.queue) == 0 && !o.flying {
		n, err := c.tr.tryWrite(e)
		if err != nil {
			c.breakLocked()
			c.finish(cause)
			return
		}
		e.data = e.data[n:]
	}
	if len(e.data) > 0 {
		c.push(e)
		c.tr.wake()
	}
	c.tr.end(false)
	c.finish(cause)
}

// breakLocked drops the queue of a connection that cannot be written to any more.
func (c *Conn) breakLocked() {
	o := &c.out
	if o.dead {
		return
	}
	o.dead = true
	o.queue = nil
	c.waits(-o.bytes)
	c.tr.end(true)
}

// reply sends a reply of the transport itself.
func (c *Conn) reply(joinRef, ref, topic wire.Value, status, response string) {
	s := newScratch()
	s.b = c.version.AppendReply(s.b, joinRef, ref, topic, status, []byte(response))
	data, head := s.finish(opText)
	c.send(entry{data: data, head: head, op: opText})
	s.free()
}
