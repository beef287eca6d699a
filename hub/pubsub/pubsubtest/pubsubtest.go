// Package pubsubtest is the contract that every pubsub.PubSub keeps, as a test suite.
package pubsubtest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"devicehub/hub/pubsub"
)

// Subscriber keeps what it is sent.
type Subscriber struct {
	mu  sync.Mutex
	got []*pubsub.Message
}

// Deliver implements pubsub.Subscriber.
func (s *Subscriber) Deliver(m *pubsub.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, m)
}

// Events returns the events delivered so far.
func (s *Subscriber) Events() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := make([]string, 0, len(s.got))
	for _, m := range s.got {
		events = append(events, m.Event)
	}
	return events
}

// want waits until s has the events, for implementations that deliver through a network.
func (s *Subscriber) want(t *testing.T, events ...string) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		got := s.Events()
		if len(got) >= len(events) || time.Now().After(deadline) {
			if fmt.Sprint(got) != fmt.Sprint(events) {
				t.Fatalf("got events %v, want %v", got, events)
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Test runs the suite. Each test gets a PubSub of its own from open.
func Test(t *testing.T, open func(t *testing.T) pubsub.PubSub) {
	send := func(t *testing.T, ps pubsub.PubSub, topic, event string) {
		t.Helper()
		if err := ps.Broadcast(&pubsub.Message{Topic: topic, Event: event, Payload: map[string]any{}}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a message reaches the subscribers of its topic alone", func(t *testing.T) {
		ps := open(t)
		var a, b, other Subscriber
		defer ps.Subscribe("t", &a)()
		defer ps.Subscribe("t", &b)()
		defer ps.Subscribe("u", &other)()
		send(t, ps, "t", "one")
		send(t, ps, "u", "two")
		a.want(t, "one")
		b.want(t, "one")
		other.want(t, "two")
	})
	t.Run("cancelled is cancelled, and twice does no harm", func(t *testing.T) {
		ps := open(t)
		var a, b, c Subscriber
		cancelA := ps.Subscribe("t", &a)
		cancelB := ps.Subscribe("t", &b)
		defer ps.Subscribe("t", &c)()
		cancelA()
		cancelA()
		send(t, ps, "t", "one")
		cancelB()
		send(t, ps, "t", "two")
		c.want(t, "one", "two")
		a.want(t)
		b.want(t, "one")
	})
	t.Run("who subscribes twice hears twice", func(t *testing.T) {
		ps := open(t)
		var a Subscriber
		defer ps.Subscribe("t", &a)()
		cancel := ps.Subscribe("t", &a)
		send(t, ps, "t", "one")
		a.want(t, "one", "one")
		cancel()
		send(t, ps, "t", "two")
		a.want(t, "one", "one", "two")
	})
	t.Run("the origin is left out", func(t *testing.T) {
		ps := open(t)
		var a, b Subscriber
		defer ps.Subscribe("t", &a)()
		defer ps.Subscribe("t", &b)()
		if err := ps.BroadcastFrom(&a, &pubsub.Message{Topic: "t", Event: "one"}); err != nil {
			t.Fatal(err)
		}
		send(t, ps, "t", "two")
		b.want(t, "one", "two")
		a.want(t, "two")
	})
	t.Run("a local broadcast reaches this node", func(t *testing.T) {
		ps := open(t)
		var a Subscriber
		defer ps.Subscribe("t", &a)()
		if err := ps.LocalBroadcast(&pubsub.Message{Topic: "t", Event: "one"}); err != nil {
			t.Fatal(err)
		}
		a.want(t, "one")
	})
	t.Run("one publisher's order is kept", func(t *testing.T) {
		ps := open(t)
		var a Subscriber
		defer ps.Subscribe("t", &a)()
		var want []string
		for i := range 500 {
			want = append(want, fmt.Sprint(i))
			send(t, ps, "t", fmt.Sprint(i))
		}
		a.want(t, want...)
	})
	t.Run("all at once", func(t *testing.T) {
		ps := open(t)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				var own Subscriber
				for i := range 200 {
					topic := fmt.Sprint("t", (g+i)%5)
					cancel := ps.Subscribe(topic, &own)
					send(t, ps, topic, "e")
					cancel()
				}
			})
		}
		wg.Wait()
		var a Subscriber
		defer ps.Subscribe("t0", &a)()
		send(t, ps, "t0", "after")
		a.want(t, "after")
	})
}
