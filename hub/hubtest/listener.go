package hubtest

import (
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"devicehub/hub"
	"devicehub/hub/pubsub"
)

// Listener hears the broadcasts of a topic, as a program inside the hub does.
type Listener struct {
	t     testing.TB
	topic string
	mu    sync.Mutex
	got   []*pubsub.Message
}

// Listen subscribes to a topic until the end of the test.
func Listen(t testing.TB, ps pubsub.PubSub, topic string) *Listener {
	t.Helper()
	wantBubble(t)
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
	m := l.take(func(*pubsub.Message) bool { return true })
	switch {
	case m == nil:
		l.t.Fatalf("%s: no broadcast, want %s", l.topic, event)
	case m.Event != event:
		l.t.Fatalf("%s: got broadcast %s, want %s", l.topic, m.Event, event)
	}
	if err := l.match(m, payload); err != nil {
		l.t.Fatalf("%s: broadcast %s: %v", l.topic, event, err)
	}
	return m
}

// WantSoon waits for a broadcast that matches, whatever else comes before it. The others stay to
// be wanted. The payload is as in Channel.Want.
func (l *Listener) WantSoon(event string, payload any) *pubsub.Message {
	l.t.Helper()
	var misfit error
	m := l.take(func(m *pubsub.Message) bool {
		if m.Event != event {
			return false
		}
		err := l.match(m, payload)
		if err != nil {
			misfit = err
		}
		return err == nil
	})
	switch {
	case m != nil:
		return m
	case misfit != nil:
		l.t.Fatalf("%s: broadcast %s: %v", l.topic, event, misfit)
	}
	l.t.Fatalf("%s: no broadcast of %s", l.topic, event)
	return nil
}

// take waits for a broadcast that fits, and takes it.
func (l *Listener) take(fits func(*pubsub.Message) bool) *pubsub.Message {
	l.t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		settle(l.t)
		l.mu.Lock()
		if i := slices.IndexFunc(l.got, fits); i >= 0 {
			m := l.got[i]
			l.got = slices.Delete(l.got, i, i+1)
			l.mu.Unlock()
			return m
		}
		l.mu.Unlock()
		if !time.Now().Before(deadline) {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
}

// match holds the payload of a broadcast against what is wanted.
func (l *Listener) match(m *pubsub.Message, payload any) error {
	switch p := m.Payload.(type) {
	case hub.Binary:
		return match(payload, hub.BinaryPayload(p))
	case hub.Payload:
		return match(payload, p)
	}
	text, err := json.Marshal(m.Payload)
	if err != nil {
		return err
	}
	return match(payload, hub.JSONPayload(text))
}

// WantNo fails the test if this event is among the broadcasts that the test has not wanted yet.
func (l *Listener) WantNo(event string) {
	l.t.Helper()
	settle(l.t)
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
	settle(l.t)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.got {
		l.t.Errorf("%s: got broadcast %s, want nothing more", l.topic, m.Event)
	}
}
