package presence_test

import (
	"encoding/json"
	"fmt"

	"devicehub/hub/presence"
	"devicehub/hub/pubsub"
)

// visit is anything that ends.
type visit struct{ done chan struct{} }

func (v visit) Done() <-chan struct{} { return v.done }

func Example() {
	ps := pubsub.NewLocal()
	cancel := ps.Subscribe("room:lobby", pubsub.SubscriberFunc(func(m *pubsub.Message) { fmt.Println(m.Event) }))
	tracker := presence.New(ps)

	ann := visit{make(chan struct{})}
	if _, err := tracker.Track(ann, "room:lobby", "ann", presence.Meta{"mood": "good"}); err != nil {
		fmt.Println(err)
	}
	_, err := tracker.Track(ann, "room:lobby", "ann", nil)
	fmt.Println(err)

	text, _ := json.Marshal(tracker.GetByKey("room:lobby", "ann")[0]["mood"])
	fmt.Println(string(text), tracker.Count("room:lobby"))
	cancel() // what follows within 50 ms would come in one diff
	tracker.Untrack(ann, "room:lobby", "ann")
	fmt.Println(tracker.Count("room:lobby"))
	// Output:
	// presence_diff
	// already tracked
	// "good" 1
	// 0
}

// What somebody is doing is their meta. An update tells it as one diff.
func ExampleTracker_Update() {
	ps := pubsub.NewLocal()
	tracker := presence.New(ps)
	ann := visit{make(chan struct{})}
	defer close(ann.done)
	tracker.Track(ann, "room:lobby", "ann", presence.Meta{"mood": "good"})
	tracker.Update(ann, "room:lobby", "ann", presence.Meta{"mood": "better"})
	fmt.Println(tracker.GetByKey("room:lobby", "ann")[0]["mood"])
	_, err := tracker.Update(ann, "room:lobby", "bob", nil)
	fmt.Println(err)
	// Output:
	// better
	// not tracked
}

// Two tabs of one person are two metas under one key. What is the same for all of them, such as a
// name from a database, is fetched when it is to be shown.
func ExampleWithFetch() {
	names := map[string]string{"7": "Ann"}
	tracker := presence.New(pubsub.NewLocal(), presence.WithFetch(func(_ string, entries map[string]presence.Entry) map[string]presence.Entry {
		for id, e := range entries {
			e.Extra = map[string]any{"name": names[id]}
			entries[id] = e
		}
		return entries
	}))
	ann := visit{make(chan struct{})}
	defer close(ann.done)
	tracker.Track(ann, "room:lobby", "7", presence.Meta{"tab": "mail"})
	chat := visit{make(chan struct{})}
	defer close(chat.done)
	tracker.Track(chat, "room:lobby", "7", presence.Meta{"tab": "chat"})
	e := tracker.List("room:lobby").Entries()["7"]
	fmt.Println(e.Extra["name"], len(e.Metas), e.Metas[1]["tab"])
	// Output:
	// Ann 2 chat
}

// A program follows who comes and goes without a socket.
func ExampleWithOnDiff() {
	tracker := presence.New(pubsub.NewLocal(), presence.WithOnDiff(func(topic string, d presence.Diff) {
		for key := range d.Joins {
			fmt.Println(key, "comes to", topic)
		}
	}))
	ann := visit{make(chan struct{})}
	defer close(ann.done)
	tracker.Track(ann, "room:lobby", "ann", nil)
	// Output:
	// ann comes to room:lobby
}
