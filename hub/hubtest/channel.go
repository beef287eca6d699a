package hubtest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub"
	"devicehub/hub/pubsub"
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
	synctest.Wait()
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

// Any stands for any value inside a wanted payload.
const Any = "\x00any"

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
		ch.c.t.Fatalf("got %s, want %s", f, event)
	}
	if err := match(payload, f.payload); err != nil {
		ch.c.t.Fatalf("%s %s: %v", ch.topic, event, err)
	}
	return f.payload
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
	synctest.Wait()
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
	synctest.Wait()
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

func (ch *Channel) next() (f *frame) {
	ch.c.wait(func() bool {
		for i := range ch.c.frames {
			if ch.mine(ch.c.frames[i]) {
				f = ch.c.frames[i]
				ch.c.frames = append(ch.c.frames[:i], ch.c.frames[i+1:]...)
				return true
			}
		}
		return false
	})
	return f
}

// Pushed is a message that a client has sent.
type Pushed struct {
	c    *Client
	what string
	ref  string
}

// WantReply waits for the reply. The payload is as in Want.
func (p *Pushed) WantReply(status string, payload any) hub.Payload {
	p.c.t.Helper()
	f := p.take()
	if f == nil {
		p.c.t.Fatalf("%s: got no reply, want %s", p.what, status)
	}
	if f.status != status {
		p.c.t.Fatalf("%s: got reply %s %s, want %s", p.what, f.status, f.payload.Bytes(), status)
	}
	if err := match(payload, f.payload); err != nil {
		p.c.t.Fatalf("%s: reply: %v", p.what, err)
	}
	return f.payload
}

func (p *Pushed) take() (f *frame) {
	p.c.wait(func() bool {
		f = p.c.replies[p.ref]
		delete(p.c.replies, p.ref)
		return f != nil
	})
	return f
}

// WantNoReply fails the test if there is a reply at this time.
func (p *Pushed) WantNoReply() {
	p.c.t.Helper()
	synctest.Wait()
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if f := p.c.replies[p.ref]; f != nil {
		p.c.t.Fatalf("%s: got reply %s %s, want none", p.what, f.status, f.payload.Bytes())
	}
}

// match holds a payload against what is wanted.
func match(want any, got hub.Payload) error {
	switch w := want.(type) {
	case nil:
		return nil
	case func(hub.Payload) error:
		return w(got)
	case hub.Binary:
		if !got.Binary() || string(got.Bytes()) != string(w) {
			return fmt.Errorf("got %q (binary %v), want binary %q", got.Bytes(), got.Binary(), []byte(w))
		}
		return nil
	}
	text, err := json.Marshal(want)
	if err != nil {
		return err
	}
	var w, g any
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	if err := got.Decode(&g); err != nil {
		return err
	}
	if !equal(w, g) {
		return fmt.Errorf("got %s, want %s", got.Bytes(), strings.ReplaceAll(string(text), `"\u0000any"`, "any"))
	}
	return nil
}

func equal(want, got any) bool {
	switch w := want.(type) {
	case string:
		return w == Any || want == got
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for name := range w {
			v, there := g[name]
			if !there || !equal(w[name], v) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return false
		}
		for i := range w {
			if !equal(w[i], g[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(want, got)
}

// Listener hears the broadcasts of a topic, as a program inside the hub does.
type Listener struct {
	t     testing.TB
	topic string
	mu    sync.Mutex
	got   []*pubsub.Message
}

// Listen subscribes to a topic until the end of the test.
func Listen(t testing.TB, ps pubsub.PubSub, topic string) *Listener {
	l := &Listener{t: t, topic: topic}
	t.Cleanup(ps.Subscribe(topic, l))
	return l
}

// Deliver implements pubsub.Subscriber.
func (l *Listener) Deliver(m *pubsub.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, m)
}

// Want waits for the next broadcast, which must be this one. The payload is as in Channel.Want.
func (l *Listener) Want(event string, payload any) *pubsub.Message {
	l.t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		synctest.Wait()
		l.mu.Lock()
		if len(l.got) > 0 {
			m := l.got[0]
			l.got = l.got[1:]
			l.mu.Unlock()
			l.check(m, event, payload)
			return m
		}
		l.mu.Unlock()
		if !time.Now().Before(deadline) {
			l.t.Fatalf("%s: no broadcast, want %s", l.topic, event)
		}
		time.Sleep(time.Millisecond)
	}
}

func (l *Listener) check(m *pubsub.Message, event string, payload any) {
	l.t.Helper()
	if m.Event != event {
		l.t.Fatalf("%s: got broadcast %s, want %s", l.topic, m.Event, event)
	}
	var got hub.Payload
	switch p := m.Payload.(type) {
	case hub.Binary:
		got = hub.BinaryPayload(p)
	case hub.Payload:
		got = p
	default:
		text, err := json.Marshal(p)
		if err != nil {
			l.t.Fatalf("%s %s: %v", l.topic, event, err)
		}
		got = hub.JSONPayload(text)
	}
	if err := match(payload, got); err != nil {
		l.t.Fatalf("%s: broadcast %s: %v", l.topic, event, err)
	}
}

// WantNo fails the test if this event is among the broadcasts that the test has not wanted yet.
func (l *Listener) WantNo(event string) {
	l.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.got {
		if m.Event == event {
			l.t.Errorf("%s: got broadcast %s, want none", l.topic, event)
		}
	}
}

// WantQuiet fails the test if there was a broadcast that the test has not wanted.
func (l *Listener) WantQuiet() {
	l.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.got {
		l.t.Errorf("%s: got broadcast %s, want nothing more", l.topic, m.Event)
	}
}
