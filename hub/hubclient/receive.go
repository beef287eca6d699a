package hubclient

import (
	"encoding/json"
	"strconv"
	"time"

	"devicehub/hub/wire"
)

// Callbacks that may wait before the connection is read on, when another goroutine is busy running them.
const maxCalls = 256

// receive acts on a frame from the server.
func (c *Client) receive(m *wire.Message) {
	c.mu.Lock()
	defer c.unlock()
	for c.calling && len(c.calls) > maxCalls {
		c.quiet.Wait()
	}
	event := m.Event.String()
	ref := number(m.Ref)
	if m.Topic.Is(wire.TopicPhoenix) {
		if event == wire.EventReply && ref == c.heartbeatRef {
			c.beaten(time.Now())
		}
		return
	}
	ch := c.find(string(m.Topic.Text))
	if ch == nil {
		if event == wire.EventReply {
			c.replied(ref, m)
		}
		return
	}
	if !m.JoinRef.IsNull() && number(m.JoinRef) != ch.joinRef {
		return // of an earlier join
	}
	switch event {
	case wire.EventReply:
		switch {
		case ch.state == Joining && ref == ch.joinRef:
			c.joined(ch, reply(m))
		case ch.state == Leaving && ref == ch.leaveRef:
			c.closeChannel(ch, nil)
		default:
			c.replied(ref, m)
		}
	case wire.EventClose:
		c.closeChannel(ch, nil)
	case wire.EventError:
		var said struct{ Reason string }
		_ = json.Unmarshal(m.Payload, &said) // older servers give no reason
		c.rejoin(ch, &CrashError{Reason: said.Reason})
	default:
		if ch.presence != nil && ch.presence.message(c, event, m.Payload) {
			return
		}
		if ch.cfg.OnMessage != nil && ch.state != Leaving {
			msg := Message{Event: event, Payload: m.Payload, Binary: m.Binary}
			c.calls = append(c.calls, func() { ch.cfg.OnMessage(msg) })
		}
	}
}

// joined acts on the answer to a join.
func (c *Client) joined(ch *Channel, r Reply) {
	if !r.OK() {
		var said struct {
			RetryAfterMS int64 `json:"retry_after_ms"`
		}
		_ = json.Unmarshal(r.Payload, &said)
		c.retry(ch, time.Duration(min(max(said.RetryAfterMS, 0), 3_600_000))*time.Millisecond)
		if ch.cfg.OnRefused != nil {
			c.calls = append(c.calls, func() { ch.cfg.OnRefused(r) })
		}
		return
	}
	ch.state, ch.tries = Joined, 0
	joinRef := ch.joinRef
	if ch.cfg.OnJoin != nil {
		c.calls = append(c.calls, func() { ch.cfg.OnJoin(r) })
	}
	c.calls = append(c.calls, func() {
		c.mu.Lock()
		defer c.unlock()
		if ch.joinRef != joinRef || ch.state != Joined {
			return
		}
		waiting := ch.waiting
		ch.waiting = nil
		for _, p := range waiting {
			if err := c.sendPush(p); err != nil {
				c.answer(p, Reply{}, err)
			}
		}
	})
}

func (c *Client) replied(ref uint64, m *wire.Message) {
	if p := c.pending[ref]; p != nil {
		delete(c.pending, ref)
		c.answer(p, reply(m), nil)
	}
}

// reply reads a phx_reply: its status stands in the frame when binary, else in the payload.
func reply(m *wire.Message) Reply {
	if m.Binary {
		return Reply{Status: string(m.Status), Payload: m.Payload, Binary: true}
	}
	var said struct {
		Status   string          `json:"status"`
		Response json.RawMessage `json:"response"`
	}
	if json.Unmarshal(m.Payload, &said) != nil {
		return Reply{Status: "error", Payload: m.Payload}
	}
	return Reply{Status: said.Status, Payload: said.Response}
}

func (c *Client) find(topic string) *Channel {
	for _, ch := range c.channels {
		if ch.topic == topic {
			return ch
		}
	}
	return nil
}

// number reads a ref of ours; 0 is none of ours.
func number(v wire.Value) uint64 {
	n, err := strconv.ParseUint(string(v.Text), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
