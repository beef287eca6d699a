package pubsub_test

import (
	"fmt"
	"testing"

	"devicehub/hub/pubsub"
	"devicehub/hub/pubsub/pubsubtest"
)

func TestLocal(t *testing.T) {
	pubsubtest.Test(t, func(*testing.T) pubsub.PubSub { return pubsub.NewLocal() })
}

func TestLocalForgetsEmptyTopics(t *testing.T) {
	l := pubsub.NewLocal()
	var cancels []func()
	for i := range 200 {
		cancels = append(cancels, l.Subscribe(fmt.Sprint(i%2), new(pubsubtest.Subscriber)))
	}
	if got := l.Subscribers("0"); got != 100 {
		t.Errorf("got %d subscribers, want 100", got)
	}
	for _, cancel := range cancels {
		cancel()
	}
	if got := l.Topics(); got != 0 {
		t.Errorf("got %d topics, want 0", got)
	}
}

type null struct{ _ byte }

func (*null) Deliver(*pubsub.Message) {}

func BenchmarkLocalBroadcast1000(b *testing.B) {
	l := pubsub.NewLocal()
	for range 1000 {
		l.Subscribe("t", new(null))
	}
	m := &pubsub.Message{Topic: "t", Event: "e"}
	b.ReportAllocs()
	for b.Loop() {
		l.Broadcast(m)
	}
}
