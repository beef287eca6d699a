package bridge

import (
	"net"
	"sync"
	"time"

	"devicehub/bridge/packet"
	"devicehub/devices"
)

const stallMax = 10 * time.Second // how long a client of 3.1.1 is left unread before it has to come again

// inflight counts the publishes of one client that wait for their decision.
type inflight struct {
	mu      sync.Mutex
	changed *sync.Cond
	n       int
	acks    int           // of them, of QoS 1 and 2
	held    int           // QoS 2, decided and not released, where the client's quota counts them
	stall   time.Duration // a retryable refusal over MQTT 3.1.1: read no more
	cause   devices.Code
}

// wake lets a reader that waits for a place see that the connection is over.
func (f *inflight) wake() {
	f.mu.Lock()
	f.changed.Broadcast()
	f.mu.Unlock()
}

// admit takes a place among the publishes that wait for their decision. Without
// one the client is not read from until there is; but a client of MQTT 5 was
// told how many of QoS 1 and 2 there may be.
func (c *conn) admit(qos byte) error {
	f, most := &c.in, c.srv.cfg.InFlight
	f.mu.Lock()
	defer f.mu.Unlock()
	if qos > 0 && f.acks+f.held >= most && c.quota {
		return &packet.Error{Code: packet.ReceiveMaxExceeded, What: "more in flight than Receive Maximum"} // [MQTT-3.3.4-7]
	}
	if f.n >= most {
		f.mu.Unlock()
		c.settle()
		f.mu.Lock()
		c.intake.Hold(true)
		for f.n >= most && !c.isOver() {
			f.changed.Wait()
		}
		c.intake.Hold(false)
		c.working()
		c.heard = time.Now()
		if c.isOver() {
			return net.ErrClosed
		}
	}
	f.n++
	if qos > 0 {
		f.acks++
	}
	return nil
}

// leave gives back a publish's place. A client of 3.1.1 whose publish was refused
// for now is read from no more, and sent away within the time.
func (c *conn) leave(qos byte, e *devices.Error, within time.Duration) {
	f := &c.in
	f.mu.Lock()
	f.n--
	f.changed.Signal()
	if qos > 0 {
		f.acks--
	}
	if e != nil && e.Retryable() && qos > 0 && c.version != packet.V5 && f.stall == 0 {
		f.stall, f.cause = max(time.Second, min(e.RetryAfter, within)), e.Code
	}
	stalled := f.stall > 0
	f.mu.Unlock()
	if stalled {
		c.pause()
	}
}

// sendAway is what the reader does in the place of reading, once a client of
// 3.1.1 was refused for now: it waits, and then ends the connection, so that the
// client comes back and sends again.
func (c *conn) sendAway() {
	c.in.mu.Lock()
	stall, cause := c.in.stall, c.in.cause
	c.in.mu.Unlock()
	if c.broken.Load() { // it has gone by itself
		stall = 0
	}
	c.intake.Close() // nothing more is read
	t := time.NewTimer(stall)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.over:
	}
	reason := "kicked"
	if cause == devices.CodeRateLimited {
		reason = "rate_limited"
	}
	c.end(ending{reason: reason})
}
