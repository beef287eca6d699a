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
	type key struct{}
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.ID(func(context.Context) string { return "someone" })
	r.OnOpen(func(ctx context.Context, _ *hub.Conn) (context.Context, error) {
		time.Sleep(5 * time.Millisecond) // so that the disconnect comes meanwhile
		return context.WithValue(ctx, key{}, 1), nil
	})
	r.OnClosing(func(c *hub.Conn, _ error) { _ = c.Context().Value(key{}) })
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
