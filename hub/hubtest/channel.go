package hubtest

import (
	"slices"
	"strings"

	"devicehub/hub"
	"devicehub/hub/wire"
)

// Channel is a client's side of a topic.
type Channel struct {
	c       *Client
	topic   string
	joinRef string

	// Joined is the join, with its reply.
	Joined *Pushed
}

// Topic returns the topic.
func (ch *Channel) Topic() string { return ch.topic }

// Socket returns the server's side, whose Channel method leads to the hub.Channel; nil when it
// has ended.
func (ch *Channel) Socket() *hub.Socket {
	ch.c.t.Helper()
	settle(ch.c.t)
	return ch.c.Conn().Socket(ch.topic)
}

// Push sends an event. The payload is anything that encodes to JSON, or hub.Binary; nil is {}.
func (ch *Channel) Push(event string, payload any) *Pushed {
	ch.c.t.Helper()
	return &Pushed{c: ch.c, what: ch.topic + " " + event, ref: ch.c.send(ch.joinRef, ch.topic, event, payload)}
}

// Leave leaves the topic and waits for the reply and the phx_close.
func (ch *Channel) Leave() {
	ch.c.t.Helper()
	ch.Push(wire.EventLeave, nil).WantReply("ok", nil)
	ch.WantClose()
}

// Want waits for the next event on the topic, which must be this one. What is wanted of the
// payload is nil, for anything; a value whose JSON it must equal, in which Any stands for any
// value; hub.Binary; or a func(hub.Payload) error.
func (ch *Channel) Want(event string, payload any) hub.Payload {
	ch.c.t.Helper()
	f := ch.next()
	if f == nil {
		ch.c.t.Fatalf("%s: got nothing, want %s", ch.topic, event)
	}
	if f.event != event {
		ch.c.t.Fatalf("got %s, want %s%s", f, event, ch.hint(event))
	}
	if err := match(payload, f.payload); err != nil {
		ch.c.t.Fatalf("%s %s: %v", ch.topic, event, err)
	}
	return f.payload
}

// hint says that an event came, if it did, though not next.
func (ch *Channel) hint(event string) string {
	ch.c.mu.Lock()
	defer ch.c.mu.Unlock()
	if slices.ContainsFunc(ch.c.frames, func(f *frame) bool { return ch.mine(f) && f.event == event }) {
		return ", which came later: WantSoon takes it among others"
	}
	return ""
}

// WantSoon waits for an event on the topic that matches, whatever else comes before it. The
// others stay to be wanted. The payload is as in Want.
func (ch *Channel) WantSoon(event string, payload any) hub.Payload {
	ch.c.t.Helper()
	var misfit error
	f := ch.take(func(f *frame) bool {
		if f.event != event {
			return false
		}
		err := match(payload, f.payload)
		if err != nil {
			misfit = err
		}
		return err == nil
	})
	switch {
	case f != nil:
		return f.payload
	case misfit != nil:
		ch.c.t.Fatalf("%s %s: %v", ch.topic, event, misfit)
	}
	ch.c.t.Fatalf("%s: got %s, want %s among them", ch.topic, ch.waiting(), event)
	return hub.Payload{}
}

// All takes every such event that has come by now and was not wanted, and returns the payloads. It
// is for a test that does not know how many there are.
func (ch *Channel) All(event string) []hub.Payload {
	ch.c.t.Helper()
	settle(ch.c.t)
	ch.c.mu.Lock()
	defer ch.c.mu.Unlock()
	var all []hub.Payload
	ch.c.frames = slices.DeleteFunc(ch.c.frames, func(f *frame) bool {
		if !ch.mine(f) || f.event != event {
			return false
		}
		all = append(all, f.payload)
		return true
	})
	return all
}

// waiting names the events that were not wanted yet.
func (ch *Channel) waiting() string {
	ch.c.mu.Lock()
	defer ch.c.mu.Unlock()
	var names []string
	for _, f := range ch.c.frames {
		if ch.mine(f) {
			names = append(names, f.event)
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// Ignore leaves these events of the topic out from now on, those that wait to be wanted included.
func (ch *Channel) Ignore(events ...string) {
	ch.c.mu.Lock()
	defer ch.c.mu.Unlock()
	for _, event := range events {
		ch.c.ignored[[2]string{ch.topic, event}] = true
	}
	ch.c.frames = slices.DeleteFunc(ch.c.frames, ch.c.ignores)
}

// WantClose waits for phx_close: the channel has ended, and stock clients stay away.
func (ch *Channel) WantClose() { ch.c.t.Helper(); ch.Want(wire.EventClose, map[string]any{}) }

// WantError waits for phx_error: the channel has crashed, and stock clients join again.
func (ch *Channel) WantError() {
	ch.c.t.Helper()
	ch.Want(wire.EventError, map[string]string{"reason": "channel_crash"})
}

// WantNo fails the test if this event is among those on the topic that the test has not wanted
// yet. Others may be.
func (ch *Channel) WantNo(event string) {
	ch.c.t.Helper()
	settle(ch.c.t)
	ch.c.mu.Lock()
	defer ch.c.mu.Unlock()
	for _, f := range ch.c.frames {
		if ch.mine(f) && f.event == event {
			ch.c.t.Errorf("got %s, want no %s", f, event)
		}
	}
}

// WantQuiet fails the test if an event came on the topic that the test has not wanted.
func (ch *Channel) WantQuiet() {
	ch.c.t.Helper()
	settle(ch.c.t)
	ch.c.mu.Lock()
	defer ch.c.mu.Unlock()
	for _, f := range ch.c.frames {
		if ch.mine(f) {
			ch.c.t.Errorf("got %s, want nothing more", f)
		}
	}
}

// mine is the rule by which clients route: the topic, and no other join's join_ref.
func (ch *Channel) mine(f *frame) bool {
	return f.topic == ch.topic && (f.joinRef == "" || f.joinRef == ch.joinRef)
}

func (ch *Channel) next() *frame { return ch.take(func(*frame) bool { return true }) }

// take waits for a frame of the channel that fits, and takes it.
func (ch *Channel) take(fits func(*frame) bool) (f *frame) {
	ch.c.t.Helper()
	ch.c.wait(func() bool {
		i := slices.IndexFunc(ch.c.frames, func(f *frame) bool { return ch.mine(f) && fits(f) })
		if i < 0 {
			return false
		}
		f = ch.c.frames[i]
		ch.c.frames = slices.Delete(ch.c.frames, i, i+1)
		return true
	})
	return f
}
