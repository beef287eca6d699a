package hub

import (
	"time"

	"devicehub/hub/wire"
)

// Guard is asked for every message of a client before anything is done with it, joins, leaves
// and heartbeats included, with the time at which it came. event is "ping" for a WebSocket's ping or
// pong, and "" for a frame that cannot be read and for a long-poll request without one. topic and
// event are valid during the call only. What is not nil is the response of an error reply, and the
// message is dropped. A Guard that has enough closes the connection. It must not block, and may be
// called from several goroutines.
type Guard func(now time.Time, topic, event []byte) (refusal any)

// Guard sets the connection's guard. It is for WithOnOpen, before the first frame is read.
func (c *Conn) Guard(g Guard) { c.guard = g }

var eventPing = []byte("ping")

// unguarded reports whether something beside a message may be done, such as to answer a ping.
func (c *Conn) unguarded(now time.Time, event []byte) bool {
	if c.guard == nil || c.guard(now, nil, event) == nil {
		return true
	}
	c.ep.counters.guarded.Add(1)
	return false
}

// refuses asks the guard about a message, and answers it if it is refused.
func (c *Conn) refuses(now time.Time, m *wire.Message) bool {
	if c.guard == nil {
		return false
	}
	refusal := c.guard(now, m.Topic.Text, m.Event.Text)
	if refusal == nil {
		return false
	}
	c.ep.counters.guarded.Add(1)
	if m.Ref.IsNull() {
		return true
	}
	b := newScratch()
	defer b.free()
	text, err := b.payloadJSON(refusal)
	if err != nil {
		c.ep.log.Error("a guard's refusal does not encode", "err", err)
		return true
	}
	c.reply(m.JoinRef, m.Ref, m.Topic, "error", string(text))
	return true
}
