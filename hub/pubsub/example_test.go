package pubsub_test

import (
	"fmt"

	"devicehub/hub/pubsub"
)

func Example() {
	ps := pubsub.NewLocal()
	hear := func(name string) (pubsub.Subscriber, func()) { // a pointer, by which BroadcastFrom tells them apart
		s := pubsub.SubscriberFunc(func(m *pubsub.Message) { fmt.Println(name, "hears", m.Event, m.Payload) })
		return &s, ps.Subscribe("news", &s)
	}
	ann, annLeaves := hear("ann")
	_, bobLeaves := hear("bob")
	defer bobLeaves()

	ps.BroadcastFrom(ann, &pubsub.Message{Topic: "news", Event: "rain", Payload: "at noon"})
	annLeaves()
	ps.Broadcast(&pubsub.Message{Topic: "news", Event: "sun", Payload: "later"})
	// Output:
	// bob hears rain at noon
	// bob hears sun later
}
