package hub

import (
	"time"

	"devicehub/hub/wire"
)

// patience is how long a callback may keep a new join or the leave of its topic, or the end of
// its connection, waiting. Then its channel is abandoned: it is over for everybody else, and
// whatever it still sends is dropped. Phoenix kills the process after as long.
// Source: phoenix lib/phoenix/socket.ex, shutdown_duplicate_channel.
const patience = 5 * time.Second

// waiting is a join or a leave that came while a callback ran.
type waiting struct {
	item  *item
	timer *time.Timer
}

// endsChannel reports whether a message ends the channel that is there. The caller holds mu.
func (t *slot) endsChannel(m *wire.Message) bool {
	if m.Event.Is(wire.EventLeave) {
		return t.cur != nil && t.cur.accepts(m.JoinRef)
	}
	return m.Event.Is(wire.EventJoin)
}

// expect begins to lose patience with the callback that runs. The caller holds mu.
func (t *slot) expect(it *item) {
	w := &waiting{item: it}
	t.waits = w
	w.timer = time.AfterFunc(patience, func() { t.conn.replace(t, w) })
}

// replace puts a fresh slot in the place of one whose callback still runs. The join or leave
// that waits, and what follows it, go there; what came before it was meant for the old channel.
func (c *Conn) replace(t *slot, w *waiting) {
	old, fresh := c.swap(t, w)
	if old != nil {
		old.finish() // it calls the program, which may call the connection
	}
	if fresh != nil {
		go fresh.runTask()
	}
}

// swap does what replace says, and returns the channel whose end is still to be told and the slot
// whose runner is to be started; the runner's task is counted.
func (c *Conn) swap(t *slot, w *waiting) (old *Socket, fresh *slot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.mu.Lock()
	if c.gone || t.waits != w || t.dead || t.ending != nil {
		t.mu.Unlock()
		return nil, nil
	}
	fresh = &slot{conn: c, topic: t.topic, route: t.route, parting: t.parting, running: true}
	for len(t.items) > 0 && t.items[0] != w.item {
		t.shift().free()
	}
	fresh.items, fresh.fromClient = t.items, t.fromClient
	t.items, t.fromClient, t.waits = nil, 0, nil
	t.dead, t.ending = true, ErrReplaced
	old = t.cur
	t.wakeReader()
	t.mu.Unlock()

	if old != nil {
		var closes []*frame
		if old.joined() {
			closes = old.replaced()
		}
		old.abandon()
		if w.item.msg.Event.Is(wire.EventLeave) {
			c.left(fresh, old, closes)
		} else {
			w.item.info = closes
		}
	}
	for i := range c.slots {
		if c.slots[i] == t {
			c.slots[i] = fresh
		}
	}
	if c.index != nil {
		c.index[t.topic] = fresh
	}
	c.ep.tasks.Add(1)
	return old, fresh
}

// left answers the leave of an abandoned channel, which is the first item of the fresh slot. What
// follows it, up to a join, was meant for that channel, too.
func (c *Conn) left(fresh *slot, old *Socket, closes []*frame) {
	m := &fresh.items[0].msg
	c.reply(old.jr, m.Ref, old.topic(), "ok", emptyPayload)
	for _, f := range closes {
		c.send(f.entry(old.slot.topic))
	}
	for len(fresh.items) > 0 && !fresh.items[0].msg.Event.Is(wire.EventJoin) {
		fresh.shift().free()
	}
}

// await waits until the runners of a connection that has ended are done with what was in their
// inboxes. The channel of one that takes too long is over before its callback returns.
func (c *Conn) await(slots []*slot) {
	if len(slots) == 0 {
		return
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for i, t := range slots {
		select {
		case <-t.over:
			continue
		case <-timer.C:
		}
		for _, t := range slots[i:] {
			if s := t.current(); s != nil {
				s.abandon()
				s.finish()
			}
		}
		return
	}
}

// abandon ends a channel whose callback still runs; finish is to follow. Terminate is called when
// the callback returns.
func (s *Socket) abandon() {
	s.conn.ep.counters.abandoned.Add(1)
	s.conn.ep.log.Error("a callback does not return; its channel is abandoned", "topic", s.slot.topic, "id", s.conn.id)
	s.mute()
	s.unsubscribe()
}
