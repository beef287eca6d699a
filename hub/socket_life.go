package hub

import (
	"time"

	"devicehub/hub/wire"
)

// prepare asks an accepted channel what it intercepts and subscribes it to its topic. What is
// broadcast from now on is held until admit.
func (s *Socket) prepare() error {
	if i, ok := s.channel.(Interceptor); ok {
		events, err := protect(func() ([]string, error) { return i.Intercepts(), nil })
		if err != nil {
			return err
		}
		s.intercepts = events
	}
	if !s.skip {
		cancel := s.conn.ep.ps.Subscribe(s.slot.topic, s)
		s.slot.mu.Lock()
		s.cancel = cancel
		s.slot.mu.Unlock()
	}
	return nil
}

// admit sends the reply to the join, then what was held. closes are those of replaced channels.
// It reports false when the connection is closing or the slot was abandoned meanwhile.
func (s *Socket) admit(reply *frame, closes []*frame) bool {
	c := s.conn
	c.out.mu.Lock()
	if s.state == ended {
		c.out.mu.Unlock()
		return false
	}
	c.ep.counters.joins.Add(1)
	c.ep.counters.channels.Add(1)
	ok := c.sendLocked(reply.entry(s.slot.topic))
	s.state, s.closes = joined, closes
	if len(s.held) > 0 {
		s.flushCloses()
	}
	for _, e := range s.held {
		c.sendLocked(e)
	}
	s.held = nil
	grace := len(s.closes) > 0
	c.out.mu.Unlock()
	if grace {
		time.AfterFunc(closeGrace, func() {
			c.out.mu.Lock()
			defer c.out.mu.Unlock()
			s.flushCloses()
		})
	}
	return ok
}

// refused sends the reply to a join that was not accepted, then the phx_close of those that it
// would have replaced.
func (s *Socket) refused(reply *frame, closes []*frame) {
	c := s.conn
	c.out.mu.Lock()
	if s.state != ended {
		c.sendLocked(reply.entry(s.slot.topic))
		for _, f := range closes {
			c.sendLocked(f.entry(s.slot.topic))
		}
	}
	s.state, s.held = ended, nil
	c.out.mu.Unlock()
	s.unsubscribe()
	s.finish()
}

// replaced ends sending because the topic is joined anew, and returns the phx_close frames
// that are still owed.
func (s *Socket) replaced() []*frame {
	s.conn.out.mu.Lock()
	defer s.conn.out.mu.Unlock()
	s.mark(ended)
	closes := append(s.closes, s.farewell(wire.EventClose, "{}"))
	s.closes = nil
	return closes
}

// farewell returns phx_close or phx_error, whose ref is the join_ref.
func (s *Socket) farewell(event, payload string) *frame {
	b := newScratch()
	defer b.free()
	b.b = s.conn.version.AppendPush(b.b, s.joinRef, s.joinRef, s.topic(), value(event), []byte(payload))
	return b.shared(opText)
}

func (s *Socket) sendClose() { s.send(s.farewell(wire.EventClose, "{}").entry(s.slot.topic)) }

func (s *Socket) sendError() {
	s.send(s.farewell(wire.EventError, `{"reason":"channel_crash"}`).entry(s.slot.topic))
}

// mark sets the state and counts. The caller holds conn.out.mu.
func (s *Socket) mark(to state) {
	if s.state == joined && to == ended {
		s.conn.ep.counters.channels.Add(-1)
	}
	s.state = to
}

// mute drops what the channel sends from now on.
func (s *Socket) mute() {
	s.conn.out.mu.Lock()
	defer s.conn.out.mu.Unlock()
	s.mark(ended)
	s.held = nil
}

func (s *Socket) joined() bool {
	s.conn.out.mu.Lock()
	defer s.conn.out.mu.Unlock()
	return s.state == joined
}

func (s *Socket) infoHandler() (InfoHandler, bool) {
	if s == nil {
		return nil, false
	}
	h, ok := s.channel.(InfoHandler)
	return h, ok
}

// unsubscribe ends the subscriptions of the channel.
func (s *Socket) unsubscribe() {
	s.slot.mu.Lock()
	cancel, subs := s.cancel, s.subs
	s.cancel, s.subs = nil, nil
	s.slot.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	for _, cancel := range subs {
		cancel()
	}
}

func (s *Socket) runTerminate(reason error) {
	h, ok := s.channel.(Terminator)
	if !ok || s.terminated {
		s.terminated = true
		return
	}
	s.terminated = true
	if _, err := protect(func() (struct{}, error) { h.Terminate(s, reason); return struct{}{}, nil }); err != nil {
		s.conn.logCrash("Terminate crashed", s.slot.topic, err)
	}
}

// end marks the end of the channel and tells those who wait for it.
func (s *Socket) end() {
	s.conn.out.mu.Lock()
	if s.state == joined {
		s.flushCloses()
	}
	s.mark(ended)
	s.conn.out.mu.Unlock()
	s.unsubscribe() // what Terminate subscribed to
	s.finish()
}

// finish closes Done and calls the functions of OnDone.
func (s *Socket) finish() {
	s.slot.mu.Lock()
	if s.over {
		s.slot.mu.Unlock()
		return
	}
	s.over = true
	if s.done != nil {
		close(s.done)
	}
	funcs := s.onDone
	s.onDone = nil
	s.slot.mu.Unlock()
	for _, d := range funcs {
		d.f()
	}
}

// Done is closed when the channel has ended: left, stopped, crashed, replaced, or its
// connection gone.
func (s *Socket) Done() <-chan struct{} {
	s.slot.mu.Lock()
	defer s.slot.mu.Unlock()
	if s.done == nil {
		s.done = make(chan struct{})
		if s.over {
			close(s.done)
		}
	}
	return s.done
}

// OnDone has f called once the channel has ended. It is what Done is for those who would rather
// not keep a goroutine waiting; f must not block. Cancel reports whether it kept f from being
// called; it is nil, and f is not called, if the channel has ended already.
func (s *Socket) OnDone(f func()) (cancel func() bool) {
	d := &doneFunc{f}
	s.slot.mu.Lock()
	if s.over {
		s.slot.mu.Unlock()
		return nil
	}
	s.onDone = append(s.onDone, d)
	s.slot.mu.Unlock()
	return func() bool {
		s.slot.mu.Lock()
		defer s.slot.mu.Unlock()
		for i, other := range s.onDone {
			if other == d {
				s.onDone = append(s.onDone[:i], s.onDone[i+1:]...)
				return true
			}
		}
		return false
	}
}
