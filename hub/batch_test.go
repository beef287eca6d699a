package hub_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"devicehub/hub"
	"devicehub/hub/hubtest"
)

func TestBatch(t *testing.T) {
	inBubble(t, script{}, func(t *testing.T, ep *hub.Endpoint) {
		c := hubtest.Connect(t, ep, "/socket", nil)
		a, b := c.Join("t:a", nil), c.Join("t:b", nil)
		for round := range 3 {
			err := ep.Batch(func(batch *hub.Batch) {
				for i := range 20 {
					batch.Broadcast([]string{"t:a", "t:b"}[i%2], "e", map[string]int{"n": i})
				}
				batch.Broadcast("t:a", "list", []int{round})
			})
			if !errors.Is(err, hub.ErrPayload) {
				t.Errorf("got %v, want ErrPayload", err)
			}
			for i := range 20 {
				[]*hubtest.Channel{a, b}[i%2].Want("e", map[string]int{"n": i})
			}
			c.WantQuiet()
		}
	})
}

// A batch is written in one go, whether the socket takes it or not.
func TestBatchOverTheNetwork(t *testing.T) {
	ep := newEndpoint(t, hub.WithOutbound(1<<20, time.Second))
	c := dial(t, ep)
	c.send(`["1","1","room:a","phx_join",{}]`)
	c.want(`["1","1","room:a","phx_reply",{"response":{},"status":"ok"}]`)
	for round := range 50 {
		if err := ep.Batch(func(b *hub.Batch) {
			for i := range 16 {
				b.Broadcast("room:a", "e", map[string]int{"n": round*16 + i})
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 800 {
		c.want(fmt.Sprintf(`[null,null,"room:a","e",{"n":%d}]`, n))
	}
	if got := ep.Stats().MessagesOut; got != 801 {
		t.Errorf("got %d messages out, want 801", got)
	}
}
