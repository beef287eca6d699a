package hub_test

import (
	"context"
	"testing"
	"time"

	"devicehub/hub"
)

// The context that OnOpen returns may be read by whoever has the connection already. The race
// detector watches.
func TestContextIsSafeWhileOpening(t *testing.T) {
	var key hub.Key[int]
	ep := hub.New()
	r := hub.NewRouter(nil,
		hub.WithID(func(context.Context) string { return "someone" }),
		hub.WithOnOpen(func(ctx context.Context, _ *hub.Conn) (context.Context, error) {
			time.Sleep(5 * time.Millisecond) // so that the disconnect comes meanwhile
			return key.Assign(ctx, 1), nil
		}),
		hub.WithOnClosing(func(c *hub.Conn, _ error) { key.Get(c.Context()) }))
	ep.Socket("/socket", r)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range 100 {
			ep.Disconnect("someone")
			time.Sleep(time.Millisecond)
		}
	}()
	for range 20 {
		if p, err := ep.Dial("/socket", &hub.ConnectInfo{}, func(hub.PipeFrame) {}); err == nil {
			p.Close()
		}
	}
	<-over
	ep.Drain(t.Context())
}
