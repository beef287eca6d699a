package bridge

import (
	"sync"
	"time"

	"devicehub/hub/poison"
)

var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 1024); return &b }}

const (
	keepWriteBuffer = 32 << 10 // larger ones are not kept
	writeChunk      = 16 << 10 // each of which must go within the outbound age
)

// outbox is what waits to be written to one connection. Packets are appended
// encoded; whoever appends the first starts a writer, which takes all that has
// come together by then in one write. While the connection's reader is at work
// it is the writer, just before it waits for more. An idle outbox holds no
// buffer and no goroutine.
type outbox struct {
	max int // bytes

	mu      sync.Mutex
	buf     *[]byte
	held    int  // bytes that a writer has taken and not yet written
	writing bool // someone writes, and will take what is appended meanwhile
	reader  bool // the reader is at work, and will write before it waits
	closed  bool
	hungry  bool       // someone wants to know when all is written
	idle    *sync.Cond // writing became false
}

func (o *outbox) init(max int) {
	o.max = max
	o.idle = sync.NewCond(&o.mu)
}

// begin locks the outbox and returns the buffer to append to, or ok false when
// it takes nothing any more.
func (o *outbox) begin() (b []byte, ok bool) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return nil, false
	}
	if o.buf == nil {
		o.buf = writeBuffers.Get().(*[]byte)
	}
	return *o.buf, true
}

// commit puts back what begin gave, appended to. start says that the caller has
// to start a writer; full that there is more than the bound.
func (o *outbox) commit(b []byte) (start, full bool) {
	*o.buf = b
	full = len(b)+o.held > o.max
	if !o.writing && !o.reader {
		o.writing, start = true, true
	}
	o.mu.Unlock()
	return start, full
}

// shut makes the outbox take nothing more.
func (o *outbox) shut() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
}

// reopen undoes shut, for a last word.
func (o *outbox) reopen() {
	o.mu.Lock()
	o.closed = false
	o.mu.Unlock()
}

// size is the number of bytes not yet written.
func (o *outbox) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := o.held
	if o.buf != nil {
		n += len(*o.buf)
	}
	return n
}

// take gives the writer all there is, or ends its turn; hungry says that someone
// waits for that.
func (o *outbox) take() (b *[]byte, hungry bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = 0
	b = o.buf
	o.buf = nil
	if b == nil || len(*b) == 0 {
		hungry, o.hungry = o.hungry, false
		o.writing = false
		o.idle.Broadcast()
		recycle(b)
		return nil, hungry
	}
	o.held = len(*b)
	return b, false
}

// whenEmpty asks for the drained call of a writer that has written all. start
// says that the caller has to start one for it.
func (o *outbox) whenEmpty() (start bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hungry = true
	if o.writing || o.reader || o.closed {
		return false
	}
	o.writing = true
	return true
}

func recycle(b *[]byte) {
	if b == nil {
		return
	}
	poison.Bytes(*b)
	if cap(*b) <= keepWriteBuffer {
		*b = (*b)[:0]
		writeBuffers.Put(b)
	}
}

// flush writes until nothing is left. The caller has set writing.
func (c *conn) flush() {
	for {
		b, hungry := c.out.take()
		if b == nil {
			if hungry {
				c.drained()
			}
			return
		}
		err := c.write(*b)
		recycle(b)
		if err != nil {
			c.lost(err)
		}
	}
}

// write writes b in pieces, each of which must make its way in time.
func (c *conn) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeChunk)
		c.mu.Lock()
		if c.failed {
			c.mu.Unlock()
			return nil
		}
		if !c.ended { // an ended connection keeps the short deadline that it was given
			_ = c.nc.SetWriteDeadline(time.Now().Add(c.limits.OutboundAge))
		}
		c.mu.Unlock()
		if _, err := c.nc.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// put appends one packet.
func (c *conn) put(encode func([]byte) []byte) bool {
	b, ok := c.out.begin()
	if !ok {
		return false
	}
	c.sent(c.out.commit(encode(b)))
	return true
}

// sent follows every commit.
func (c *conn) sent(start, full bool) {
	if start {
		c.writers.Go(c.flush)
	}
	if full {
		c.srv.stats.slow.Add(1)
		c.end(ending{reason: "slow_consumer"})
	}
}

// working says that the reader is at work and will call settle.
func (c *conn) working() {
	c.out.mu.Lock()
	c.out.reader = true
	c.out.mu.Unlock()
}

// settle writes what there is, before the reader waits.
func (c *conn) settle() {
	o := &c.out
	o.mu.Lock()
	o.reader = false
	if o.writing || o.buf == nil && !o.hungry {
		o.mu.Unlock()
		return
	}
	o.writing = true
	o.mu.Unlock()
	c.flush()
}
