package hub

import (
	"errors"
	"time"

	"devicehub/hub/wire"
)

// closeGrace is how long the phx_close of a replaced channel waits behind the reply to the
// join that replaced it, so that joins sent in one go are answered first. Whatever the
// new channel sends comes after the phx_close, and cuts the wait short.
const closeGrace = 5 * time.Millisecond

// corkFor is how long the reply to a join waits at most for what AfterJoin sends.
const corkFor = time.Millisecond

// join runs a phx_join. old is the channel that it replaces, or nil; closes are those of a
// channel that was abandoned for it.
func (t *slot) join(old *Socket, m *wire.Message, closes []*frame) {
	c := t.conn
	if old != nil {
		closes = old.replaced()
		t.endQuietly(old, ErrReplaced)
	}
	c.part(t, false)
	s := newSocket(t, m)
	t.set(s)
	r, err := protect(func() (Reply, error) {
		return s.channel.Join(s.ctx, s, Payload{m.Payload, m.Binary})
	})
	if err == nil && r.IsZero() {
		r = OK(nil)
	}
	var reply *frame
	if err == nil {
		reply, err = s.replyFrame(m.JoinRef, m.Ref, r)
	}
	if err == nil && r.status == "ok" {
		err = s.prepare()
	}
	if err != nil || r.status != "ok" {
		if err != nil {
			c.ep.counters.crashes.Add(1)
			c.logCrash("join crashed", t.topic, err)
			reply = transportReply(c.version, m, "error", joinCrashed)
		}
		c.ep.counters.joinsRefused.Add(1)
		c.part(t, true)
		s.refused(reply, closes)
		t.set(nil)
		return
	}
	h, ok := s.channel.(AfterJoiner)
	if !ok {
		s.admit(reply, closes)
		return
	}
	// The reply and what AfterJoin sends are one write, if AfterJoin is quick.
	if c.cork() {
		timer := time.AfterFunc(corkFor, c.uncork)
		defer func() {
			timer.Stop()
			c.uncork()
		}()
	}
	if s.admit(reply, closes) { // else the connection is closing, or the slot was abandoned; the end follows
		_, err := protect(func() (struct{}, error) { return struct{}{}, h.AfterJoin(s.ctx, s) })
		t.conclude(s, err)
	}
}

func transportReply(v wire.Version, m *wire.Message, status, response string) *frame {
	b := newScratch()
	defer b.free()
	b.b = v.AppendReply(b.b, m.JoinRef, m.Ref, m.Topic, status, []byte(response))
	return b.shared(opText)
}

func isStop(err error) bool { return errors.Is(err, ErrStop) }

var unknownEvent = struct {
	Reason string `json:"reason"`
	Code   string `json:"code"`
}{"unknown event", "invalid"}
