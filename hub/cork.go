package hub

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
