package hubclient

import (
	"time"

	"devicehub/hub/wire"
)

// wakeBy arms the client's one timer to fire at t or before. The lock is held; zero is never.
func (c *Client) wakeBy(t time.Time) {
	if t.IsZero() || c.closed || !c.wakeAt.IsZero() && !t.Before(c.wakeAt) {
		return
	}
	d := time.Until(t)
	switch {
	case c.timer == nil:
		c.wg.Add(1)
		c.timer = time.AfterFunc(d, c.tick)
	case !c.timer.Reset(d):
		c.wg.Add(1) // it had fired; a timer that was still armed is counted already
	}
	c.wakeAt = t
}

// tick does what is due and arms the timer for what is next.
func (c *Client) tick() {
	defer c.wg.Done()
	c.mu.Lock()
	c.wakeAt = time.Time{}
	if c.closed {
		c.mu.Unlock()
		return
	}
	now := time.Now()
	c.timeouts(now)
	for _, ch := range c.channels {
		if !ch.rejoinAt.IsZero() && !ch.rejoinAt.After(now) {
			ch.rejoinAt = time.Time{}
			c.join(ch)
		}
		c.wakeBy(ch.rejoinAt)
	}
	dead := c.heartbeat(now)
	t := c.conn
	c.unlock()
	if dead {
		t.close(1000, "heartbeat timeout")
	}
}

// timeouts fails the pushes, joins and leaves that were not answered in time.
func (c *Client) timeouts(now time.Time) {
	for ref, p := range c.pending {
		if p.deadline.After(now) {
			c.wakeBy(p.deadline)
			continue
		}
		delete(c.pending, ref)
		c.answer(p, Reply{}, ErrTimeout)
	}
	for _, ch := range c.channels {
		// Pushes of one channel have one timeout, so they wait in the order of their deadlines.
		for len(ch.waiting) > 0 && !ch.waiting[0].deadline.After(now) {
			c.answer(ch.waiting[0], Reply{}, ErrTimeout)
			ch.waiting = ch.waiting[1:]
		}
		if len(ch.waiting) > 0 {
			c.wakeBy(ch.waiting[0].deadline)
		}
		if ch.state != Joining && ch.state != Leaving {
			continue
		}
		if by := ch.sentAt.Add(ch.cfg.Timeout); by.After(now) {
			c.wakeBy(by)
		} else if ch.state == Leaving {
			c.closeChannel(ch, nil)
		} else {
			c.sendLeave(ch) // in case the server is only slow
			c.rejoin(ch, ErrTimeout)
		}
	}
}

// heartbeat sends one when it is due. It reports whether the connection is dead: the last one was not answered.
func (c *Client) heartbeat(now time.Time) (dead bool) {
	if c.conn == nil || c.cause != nil {
		return false
	}
	if !c.provenBy.IsZero() && !c.provenBy.After(now) {
		c.cause = errFellBack
		return true
	}
	c.wakeBy(c.provenBy)
	if c.heartbeatAt.IsZero() {
		return false
	}
	if !c.heartbeatAt.After(now) {
		if c.heartbeatRef != 0 {
			c.cause = errHeartbeat
			return true
		}
		c.beat(now)
	}
	c.wakeBy(c.heartbeatAt)
	return false
}

func (c *Client) beat(now time.Time) {
	c.heartbeatRef = c.nextRef()
	c.heartbeatAt = now.Add(c.cfg.Heartbeat)
	c.send(&wire.Message{Ref: refValue(c.heartbeatRef), Topic: wire.Str(wire.TopicPhoenix),
		Event: wire.Str(wire.EventHeartbeat), Payload: []byte("{}")})
}

// beaten is a heartbeat answered.
func (c *Client) beaten(now time.Time) {
	c.heartbeatRef = 0
	c.heartbeatAt = now.Add(c.cfg.Heartbeat)
	if !c.provenBy.IsZero() {
		c.proven, c.provenBy = true, time.Time{}
	}
}
