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
