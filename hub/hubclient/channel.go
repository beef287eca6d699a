package hubclient

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"devicehub/hub/wire"
)

// ChannelConfig says what a channel tells its owner. Every field may be left out.
type ChannelConfig struct {
	// Params are asked for at each join; nil joins with {}.
	Params func() any
	// OnJoin gets the reply of each accepted join, before any push is sent that waited for it.
	OnJoin func(Reply)
	// OnRefused gets the reply of each refused join. The client tries again, with growing delays, until Leave.
	OnRefused func(Reply)
	// OnError hears that a joined or joining channel broke: ErrDisconnected, ErrTimeout, or a *CrashError. It is joined again.
	OnError func(error)
	// OnMessage gets the server's pushes and broadcasts.
	OnMessage func(Message)
	// OnClose hears once that the channel ended for good: nil after Leave or the server's phx_close, else ErrReplaced or
	// ErrClosed.
	OnClose func(error)
	// Timeout for joins and pushes, Config.Timeout by default.
	Timeout time.Duration
}

// A Message is a push or a broadcast of the server. Payload is JSON unless Binary is set, and is the receiver's to keep.
type Message struct {
	Event   string
	Payload []byte
	Binary  bool
}

// Decode unmarshals a JSON payload.
func (m Message) Decode(v any) error { return json.Unmarshal(m.Payload, v) }

// A Reply is the server's answer. Payload is JSON unless Binary is set, and is the receiver's to keep.
type Reply struct {
	Status  string // "ok" or "error"
	Payload []byte
	Binary  bool
}

// OK reports whether the status is "ok".
func (r Reply) OK() bool { return r.Status == "ok" }

// Decode unmarshals a JSON payload.
func (r Reply) Decode(v any) error { return json.Unmarshal(r.Payload, v) }

// A CrashError is a phx_error from the server: the channel crashed there.
type CrashError struct{ Reason string }

func (e *CrashError) Error() string { return "channel crashed: " + e.Reason }

// A State is where a channel stands.
type State uint8

// The states of a channel, as in phoenix.js.
const (
	Closed  State = iota // not joined, and not about to be
	Errored              // to be joined again
	Joining
	Joined
	Leaving
)

func (s State) String() string {
	return [...]string{"closed", "errored", "joining", "joined", "leaving"}[s]
}

// A Channel is one topic of a client. All its fields are guarded by the client's lock.
type Channel struct {
	client *Client
	topic  string
	cfg    ChannelConfig

	state    State
	ended    bool // for good
	joinRef  uint64
	leaveRef uint64
	sentAt   time.Time // of the join or leave that is unanswered
	tries    int
	rejoinAt time.Time
	waiting  []*push // until joined
	presence *Presence
}

// Channel adds a topic. It is not joined before Join. A channel that the client already has on the topic is left, and
// ends with ErrReplaced.
func (c *Client) Channel(topic string, cfg ChannelConfig) *Channel {
	ch := &Channel{client: c, topic: topic, cfg: cfg}
	if ch.cfg.Timeout <= 0 {
		ch.cfg.Timeout = c.cfg.Timeout
	}
	c.mu.Lock()
	if old := c.find(topic); old != nil {
		if old.state == Joined || old.state == Joining {
			c.sendLeave(old)
		}
		c.closeChannel(old, ErrReplaced)
	}
	if c.closed {
		ch.ended = true
	} else {
		c.channels = append(c.channels, ch)
	}
	c.unlock()
	return ch
}

// Topic returns the channel's topic.
func (ch *Channel) Topic() string { return ch.topic }

// State returns where the channel stands at this moment.
func (ch *Channel) State() State {
	ch.client.mu.Lock()
	defer ch.client.mu.Unlock()
	return ch.state
}

// Join asks for the topic now, or as soon as the client is connected, and keeps it joined until Leave.
func (ch *Channel) Join() {
	c := ch.client
	c.mu.Lock()
	if ch.state == Closed && !ch.ended {
		ch.state = Errored
		c.join(ch)
	}
	c.unlock()
}

// Leave gives the topic up. What waited for the join fails with ErrClosed.
func (ch *Channel) Leave() {
	c := ch.client
	c.mu.Lock()
	switch {
	case ch.ended || ch.state == Leaving:
	case c.conn != nil && (ch.state == Joined || ch.state == Joining):
		c.sendLeave(ch)
		ch.state = Leaving
		ch.failWaiting(ErrClosed)
	default:
		c.closeChannel(ch, nil)
	}
	c.unlock()
}

// join sends phx_join if it can, and leaves the channel to the next open if not. The lock is held; the parameters are
// asked for in a callback.
func (c *Client) join(ch *Channel) {
	if c.conn == nil || ch.state != Errored {
		return
	}
	t := c.conn
	ch.state, ch.rejoinAt = Joining, time.Time{}
	ch.joinRef, ch.sentAt = c.nextRef(), time.Now()
	ch.presence.joining()
	c.wakeBy(ch.sentAt.Add(ch.cfg.Timeout))
	ref := ch.joinRef
	c.calls = append(c.calls, func() {
		var params any
		if ch.cfg.Params != nil {
			params = ch.cfg.Params()
		}
		payload, err := encode(params)
		c.mu.Lock()
		defer c.unlock()
		if c.conn != t || ch.joinRef != ref || ch.state != Joining {
			return
		}
		if err == nil {
			err = c.send(&wire.Message{JoinRef: refValue(ref), Ref: refValue(ref), Topic: wire.Str(ch.topic),
				Event: wire.Str(wire.EventJoin), Payload: payload})
		}
		if err != nil {
			c.rejoin(ch, err)
		}
	})
}

func (c *Client) sendLeave(ch *Channel) {
	ch.leaveRef = c.nextRef()
	c.send(&wire.Message{JoinRef: refValue(ch.joinRef), Ref: refValue(ch.leaveRef), Topic: wire.Str(ch.topic),
		Event: wire.Str(wire.EventLeave), Payload: []byte("{}")})
	ch.sentAt = time.Now()
	c.wakeBy(ch.sentAt.Add(ch.cfg.Timeout))
}

// broken takes a channel out of joined or joining. The lock is held.
func (c *Client) broken(ch *Channel, err error) {
	switch ch.state {
	case Joined, Joining:
		ch.state = Errored
		c.drain(ch, ErrDisconnected)
		if ch.cfg.OnError != nil {
			c.calls = append(c.calls, func() { ch.cfg.OnError(err) })
		}
	case Leaving:
		c.closeChannel(ch, nil)
	}
}

// rejoin is broken, with another try after a delay.
func (c *Client) rejoin(ch *Channel, err error) {
	if c.broken(ch, err); ch.state == Errored && !ch.ended {
		c.retry(ch, 0)
	}
}

func (c *Client) retry(ch *Channel, atLeast time.Duration) {
	ch.state = Errored
	ch.tries++
	ch.rejoinAt = time.Now().Add(max(c.cfg.RejoinAfter(ch.tries), atLeast))
	c.wakeBy(ch.rejoinAt)
}

// closeChannel ends a channel for good. The lock is held.
func (c *Client) closeChannel(ch *Channel, err error) {
	if ch.ended {
		return
	}
	ch.ended, ch.state = true, Closed
	c.channels = slices.DeleteFunc(slices.Clone(c.channels), func(o *Channel) bool { return o == ch })
	c.drain(ch, ErrClosed)
	ch.failWaiting(ErrClosed)
	if ch.cfg.OnClose != nil {
		c.calls = append(c.calls, func() { ch.cfg.OnClose(err) })
	}
}

// drain fails what the channel has sent and not heard of.
func (c *Client) drain(ch *Channel, err error) {
	for ref, p := range c.pending {
		if p.ch == ch {
			delete(c.pending, ref)
			c.answer(p, Reply{}, err)
		}
	}
}

func (ch *Channel) failWaiting(err error) {
	for _, p := range ch.waiting {
		ch.client.answer(p, Reply{}, err)
	}
	ch.waiting = nil
}

// A push is an event on its way, or waiting for its answer.
type push struct {
	ch       *Channel
	event    string
	payload  []byte
	binary   bool
	deadline time.Time
	then     func(Reply, error)
}

// Push sends an event with a JSON payload, nil being {}. then, if not nil, is called exactly once: with the reply, or with
// ErrTimeout, ErrDisconnected, ErrBufferFull, ErrClosed, or what cannot be encoded. Events that the server never answers
// are pushed with a nil then; nothing is kept of them.
func (ch *Channel) Push(event string, payload any, then func(Reply, error)) {
	b, err := encode(payload)
	ch.push(&push{ch: ch, event: event, payload: b, then: then}, err)
}

// PushBinary is Push with an opaque payload, which must not be changed until then is called. It needs version 2.
func (ch *Channel) PushBinary(event string, payload []byte, then func(Reply, error)) {
	ch.push(&push{ch: ch, event: event, payload: payload, binary: true, then: then}, nil)
}

// Call is Push that waits. It must not be used in a callback.
func (ch *Channel) Call(ctx context.Context, event string, payload any) (Reply, error) {
	type result struct {
		reply Reply
		err   error
	}
	done := make(chan result, 1)
	ch.Push(event, payload, func(r Reply, err error) { done <- result{r, err} })
	select {
	case r := <-done:
		return r.reply, r.err
	case <-ctx.Done():
		return Reply{}, context.Cause(ctx)
	}
}

func (ch *Channel) push(p *push, err error) {
	c := ch.client
	c.mu.Lock()
	defer c.unlock()
	p.deadline = time.Now().Add(ch.cfg.Timeout)
	switch {
	case err != nil:
	case ch.ended, ch.state == Leaving, ch.state == Closed:
		err = ErrClosed
	case ch.state == Joined:
		err = c.sendPush(p)
	case len(ch.waiting) >= c.cfg.Buffer:
		err = ErrBufferFull
	default:
		ch.waiting = append(ch.waiting, p)
		c.wakeBy(p.deadline)
	}
	if err != nil {
		c.answer(p, Reply{}, err)
	}
}

// sendPush gives a push its ref and queues its frame. The lock is held.
func (c *Client) sendPush(p *push) error {
	ref := c.nextRef()
	err := c.send(&wire.Message{JoinRef: refValue(p.ch.joinRef), Ref: refValue(ref), Topic: wire.Str(p.ch.topic),
		Event: wire.Str(p.event), Payload: p.payload, Binary: p.binary})
	if err != nil || p.then == nil {
		return err
	}
	p.payload = nil
	if c.pending == nil {
		c.pending = make(map[uint64]*push)
	}
	c.pending[ref] = p
	c.wakeBy(p.deadline)
	return nil
}

// answer calls a push's then, in a callback. The lock is held.
func (c *Client) answer(p *push, r Reply, err error) {
	if p.then != nil {
		c.calls = append(c.calls, func() { p.then(r, err) })
	}
}

func encode(payload any) ([]byte, error) {
	if payload == nil {
		return []byte("{}"), nil
	}
	b, err := json.Marshal(payload) // also compacts a RawMessage: a frame has no line breaks on long polling
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	return b, nil
}

func (c *Client) nextRef() uint64 {
	c.ref++
	return c.ref
}

func refValue(ref uint64) wire.Value {
	return wire.Value{Kind: wire.String, Text: strconv.AppendUint(nil, ref, 10)}
}
