package hub

import (
	"context"
	"fmt"
	"sync/atomic"
	"unsafe"

	"devicehub/hub/pubsub"
	"devicehub/hub/wire"
)

// Socket is one channel's view of its connection: what it sends goes to its client on its
// topic. Its methods may be called from any goroutine, unless they say otherwise, and never block.
type Socket struct {
	slot    *slot
	conn    *Conn
	ctx     context.Context
	channel Channel

	joinRef wire.Value // as the client sent it with phx_join
	jr      wire.Value // joinRef, or the ref of a join without one: what replies and pushes carry

	// Of the runner alone.
	ref        wire.Value
	intercepts []string
	handling   bool // in HandleIn
	terminated bool
	skip       bool // SkipBroadcasts

	state state // guarded by conn.out.mu
	over  bool  // guarded by slot.mu

	// Guarded by conn.out.mu.
	closes []*frame // phx_close of replaced channels, which precede whatever this one sends
	held   []entry  // broadcasts that came before the reply to the join
	heldN  int      // bytes of held

	// Guarded by slot.mu.
	done   chan struct{}     // made when asked for
	cancel func()            // of the channel's own topic
	subs   map[string]func() // of others, by topic
	onDone []*doneFunc
}

type doneFunc struct{ f func() }

type state uint8

const (
	joining state = iota
	joined
	ended
)

func newSocket(t *slot, m *wire.Message) *Socket {
	s := &Socket{slot: t, conn: t.conn, ctx: t.route.context(t.conn.Context()), channel: t.route.make(), joinRef: m.JoinRef.Clone()}
	s.jr = s.joinRef
	if s.jr.IsNull() {
		s.jr = m.Ref.Clone()
	}
	return s
}

// view returns the bytes of s without copying them. They must not be changed.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func value(s string) wire.Value { return wire.Value{Kind: wire.String, Text: view(s)} }

func (s *Socket) topic() wire.Value { return value(s.slot.topic) }

// Topic returns the topic that was joined.
func (s *Socket) Topic() string { return s.slot.topic }

// Conn returns the connection.
func (s *Socket) Conn() *Conn { return s.conn }

// Channel returns the channel, for tests to look into. Its fields belong to its callbacks.
func (s *Socket) Channel() Channel { return s.channel }

// JoinRef returns the join_ref that tells this join from earlier and later ones of its topic
// on this connection, or "".
func (s *Socket) JoinRef() string { return s.jr.String() }

// accepts reports whether a message with this join_ref is meant for this join. A client that
// joined without one may use the ref of its join, which replies carry, or none.
func (s *Socket) accepts(joinRef wire.Value) bool {
	return joinRef.IsNull() || joinRef.Equal(s.jr)
}

// Context returns the context that the callbacks get.
func (s *Socket) Context() context.Context { return s.ctx }

// Push sends an event to the client. The payload is anything that encodes to a JSON object, or
// Binary. It returns ErrNotJoined in Join and after the end, and ErrPayload, wire.ErrBinary,
// wire.ErrFieldSize or the encoder's error for what cannot be sent.
func (s *Socket) Push(event string, payload any) error {
	b := newScratch()
	defer b.free()
	op := byte(opText)
	if data, ok := asBinary(payload); ok {
		if err := s.conn.canBinary(); err != nil {
			return err
		}
		var err error
		if b.b, err = wire.AppendBinaryPush(b.b, s.jr, s.topic(), value(event), data); err != nil {
			return err
		}
		op = opBinary
	} else {
		text, err := b.objectJSON(plain(payload))
		if err != nil {
			return fmt.Errorf("push %s: %w", event, err)
		}
		b.b = s.conn.version.AppendPush(b.b, s.jr, wire.Value{}, s.topic(), value(event), text)
	}
	data, head := b.finish(op)
	return s.send(entry{data: data, head: head, op: op})
}

// errNoBinary is the wire.ErrBinary of a long-poll client that has not asked for base64. A handler
// that returns it does not crash: its client hears of it.
var errNoBinary = fmt.Errorf("long polling without binary=base64: %w", wire.ErrBinary)

func (c *Conn) canBinary() error {
	switch {
	case c.version == wire.V1:
		return wire.ErrBinary
	case !c.binary:
		return errNoBinary
	}
	return nil
}

// send sends a frame of this channel, behind the phx_close of those it replaced.
func (s *Socket) send(e entry) error {
	s.conn.out.mu.Lock()
	defer s.conn.out.mu.Unlock()
	if s.state != joined {
		return ErrNotJoined
	}
	s.flushCloses()
	e.topic = s.slot.topic
	s.conn.sendLocked(e)
	return nil
}

func (s *Socket) flushCloses() {
	for _, f := range s.closes {
		s.conn.sendLocked(f.entry(s.slot.topic))
	}
	s.closes = nil
}

// Broadcast sends an event to all who have joined the topic, this client included. Payloads and
// errors are as in Push; that it cannot be encoded for one client does not fail it.
func (s *Socket) Broadcast(event string, payload any) error {
	return s.conn.ep.Broadcast(s.slot.topic, event, payload)
}

// BroadcastFrom is Broadcast to all but this channel.
func (s *Socket) BroadcastFrom(event string, payload any) error {
	return s.conn.ep.BroadcastFrom(s, s.slot.topic, event, payload)
}

// Deliver implements pubsub.Subscriber: the broadcasts of the channel's topic.
func (s *Socket) Deliver(m *pubsub.Message) {
	for _, event := range s.intercepts {
		if event == m.Event {
			s.inside(intercepted, m)
			return
		}
	}
	f, err := broadcastFrame(m, s.conn.version)
	if err != nil || f.op == opBinary && !s.conn.binary {
		s.conn.ep.counters.unencodable.Add(1)
		return
	}
	e := f.entry(s.slot.topic)
	e.key, e.policy = m.Key, s.slot.route.policy
	c := s.conn
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	switch s.state {
	case joining:
		s.heldN += len(e.data)
		if s.heldN > c.mount.opts.outboundBytes {
			c.ep.counters.slowConsumers.Add(1)
			c.closeLocked(CloseTryAgainLater, "", ErrSlowConsumer)
			return
		}
		s.held = append(s.held, e)
	case joined:
		if b, ok := m.Peek(memoBatch).(*Batch); ok {
			b.cork(c)
		}
		s.flushCloses()
		c.sendLocked(e)
	}
}

// inside posts something from inside the program; a channel whose inbox overflows ends.
func (s *Socket) inside(k kind, v any) {
	it := newItem()
	it.kind, it.sock, it.info = k, s, v
	if s.slot.post(it) {
		return
	}
	it.free()
	if s.joined() {
		s.conn.ep.counters.inboxOverloads.Add(1)
		s.stop(ErrOverloaded)
	}
}

func (s *Socket) stop(reason error) bool {
	it := newItem()
	it.kind, it.sock, it.info = stop, s, reason
	if !s.slot.post(it) {
		it.free()
		return false
	}
	return true
}

// Close ends the channel with phx_close, after what is in its inbox. Stock clients do not join
// again by themselves after it.
func (s *Socket) Close() { s.stop(ErrStop) }

// Send has HandleInfo called with msg. It reports false when the inbox is full or the channel
// has ended.
func (s *Socket) Send(msg any) bool {
	it := newItem()
	it.kind, it.sock, it.info = info, s, msg
	if !s.slot.post(it) {
		it.free()
		return false
	}
	return true
}

type infoSubscriber struct{ s *Socket }

func (i *infoSubscriber) Deliver(m *pubsub.Message) { i.s.inside(info, m) }

// Subscribe has HandleInfo called with every *pubsub.Message of another topic, until the channel
// ends. When they come faster than the channel handles them, and its inbox is full, the
// channel ends with ErrOverloaded. It is called from callbacks only; a second
// subscription to the same topic does nothing.
func (s *Socket) Subscribe(topic string) {
	s.slot.mu.Lock()
	_, there := s.subs[topic]
	s.slot.mu.Unlock()
	if there {
		return
	}
	cancel := s.conn.ep.ps.Subscribe(topic, &infoSubscriber{s})
	s.slot.mu.Lock()
	if s.subs == nil {
		s.subs = make(map[string]func())
	}
	s.subs[topic] = cancel
	s.slot.mu.Unlock()
}

// Unsubscribe ends what Subscribe began. It is called from callbacks only.
func (s *Socket) Unsubscribe(topic string) {
	s.slot.mu.Lock()
	cancel := s.subs[topic]
	delete(s.subs, topic)
	s.slot.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// SkipBroadcasts, called in Join, keeps the broadcasts of the channel's own topic from the
// client; it gets what is pushed to it.
func (s *Socket) SkipBroadcasts() { s.skip = true }

// Ref returns the reference of the message that HandleIn is handling, to answer it later.
// Elsewhere, and for a message without a ref, it is one whose OK is false.
func (s *Socket) Ref() Ref {
	if !s.handling || s.ref.IsNull() {
		return Ref{}
	}
	s.conn.pending.Add(1)
	return Ref{s, s.ref, new(atomic.Bool)}
}

// Ref is a message of the client that can be answered, from any goroutine, also after the
// callback has returned. Stock clients take the first answer and ignore more. A draining
// endpoint waits a little for references that have not been answered.
type Ref struct {
	s        *Socket
	ref      wire.Value
	answered *atomic.Bool
}

// OK reports whether there is something to answer.
func (r Ref) OK() bool { return r.s != nil }

// Reply answers the message. It returns ErrNotJoined when there is nothing to answer or the
// channel has ended, and errors as Push does.
func (r Ref) Reply(reply Reply) error {
	if r.s == nil {
		return ErrNotJoined
	}
	err := r.s.reply(r.ref, reply)
	if !r.answered.Swap(true) {
		r.s.conn.pending.Add(-1)
	}
	return err
}

// replyFrame returns the reply to a join as a frame.
func (s *Socket) replyFrame(joinRef, ref wire.Value, r Reply) (*frame, error) {
	b := newScratch()
	defer b.free()
	op, err := s.appendReply(b, joinRef, ref, r)
	if err != nil {
		return nil, err
	}
	return b.shared(op), nil
}

const binaryRefused = `{"reason":"a binary reply needs a WebSocket, or binary=base64","code":"invalid"}`

func (s *Socket) appendReply(b *scratch, joinRef, ref wire.Value, r Reply) (op byte, err error) {
	if data, ok := asBinary(r.payload); ok {
		if s.conn.version == wire.V1 {
			return 0, wire.ErrBinary
		}
		if !s.conn.binary {
			b.b = s.conn.version.AppendReply(b.b, joinRef, ref, s.topic(), "error", []byte(binaryRefused))
			return opText, nil
		}
		b.b, err = wire.AppendBinaryReply(b.b, joinRef, ref, s.topic(), r.status, data)
		return opBinary, err
	}
	text, err := b.payloadJSON(plain(r.payload))
	if err != nil {
		return 0, fmt.Errorf("reply: %w", err)
	}
	b.b = s.conn.version.AppendReply(b.b, joinRef, ref, s.topic(), r.status, text)
	return opText, nil
}

func (s *Socket) reply(ref wire.Value, r Reply) error {
	b := newScratch()
	defer b.free()
	op, err := s.appendReply(b, s.jr, ref, r)
	if err != nil {
		return err
	}
	data, head := b.finish(op)
	return s.send(entry{data: data, head: head, op: op})
}
