package hub_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub"
	"devicehub/hub/hubtest"
)

// stalling keeps every event until it is let go.
type stalling struct {
	answering
	gate    <-chan struct{}
	handled *atomic.Int64
}

func (s stalling) HandleIn(context.Context, *hub.Socket, string, hub.Payload) (hub.Reply, error) {
	<-s.gate
	s.handled.Add(1)
	return hub.OK(nil), nil
}

// A guard hears of everything that a client sends, and what it refuses is answered and not done.
func TestGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := hub.New()
		defer ep.Drain(context.Background())
		var mu sync.Mutex
		var asked []string
		r := hub.NewRouter(nil, hub.WithOnOpen(func(_ context.Context, c *hub.Conn) (context.Context, error) {
			c.Guard(func(now time.Time, topic, event []byte) any {
				mu.Lock()
				defer mu.Unlock()
				if !now.Equal(time.Now()) {
					t.Errorf("told %v, want now", now)
				}
				asked = append(asked, string(topic)+" "+string(event))
				switch {
				case string(event) == "no", string(topic) == "room:no":
					return map[string]any{"code": "rate_limited", "retry_after_ms": 50}
				case string(event) == "enough":
					c.Close(hub.ClosePolicy, "rate_limited")
					return struct{}{}
				}
				return nil
			})
			return nil, nil
		}))
		r.Channel("room:*", func() hub.Channel { return answering{} })
		ep.Socket("/socket", r)
		c := hubtest.Connect(t, ep, "/socket", nil)
		room := c.Join("room:a", nil)
		room.Push("yes", nil).WantReply("ok", map[string]any{})
		room.Push("no", nil).WantReply("error", map[string]any{"code": "rate_limited", "retry_after_ms": 50})
		c.TryJoin("room:no", nil)
		c.Heartbeat().WantReply("ok", map[string]any{})
		c.Send(`["1","9","nowhere","phx_join",{}]`)
		c.Send(`nonsense`)
		synctest.Wait()
		if n := ep.Stats(); n.Channels != 0 || n.Guarded != 2 { // the last frame has ended the connection
			t.Errorf("got %d channels and %d refused, want 0 and 2", n.Channels, n.Guarded)
		}
		want := "room:a phx_join,room:a yes,room:a no,room:no phx_join,phoenix heartbeat,nowhere phx_join, "
		if got := strings.Join(asked, ","); got != want {
			t.Errorf("asked for %q, want %q", got, want)
		}
		c = hubtest.Connect(t, ep, "/socket", nil)
		c.Join("room:a", nil).Push("enough", nil)
		c.WantClose(hub.ClosePolicy)
	})
}

// idKey is under which the name of a connection stands in its context.
var idKey hub.Key[string]

func sharedEndpoint(c func() hub.Channel, opts ...hub.SocketOption) *hub.Endpoint {
	ep := hub.New()
	r := hub.NewRouter(func(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
		return idKey.Assign(ctx, info.Params.Get("id")), nil
	}, hub.WithID(idKey.Get))
	r.Channel("room:*", c)
	ep.Socket("/socket", r, opts...)
	return ep
}

// What waits to be handled is bounded in bytes, for all connections of one id together. Nothing is
// lost for it, and others are not held up.
func TestSharedInbound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		var handled, sent atomic.Int64
		ep := sharedEndpoint(func() hub.Channel { return stalling{gate: gate, handled: &handled} }, hub.WithShared(1<<20, 1<<20))
		defer ep.Drain(context.Background())
		const conns, topics, each = 12, 12, 3
		var senders sync.WaitGroup
		for range conns {
			c := hubtest.Connect(t, ep, "/socket", map[string]string{"id": "user:ana"})
			for i := range topics {
				c.Join(fmt.Sprint("room:", i), nil)
			}
			senders.Go(func() {
				for n := range topics * each {
					c.Send(fmt.Sprintf(`[null,null,"room:%d","e",{"fill":%q}]`, n%topics, strings.Repeat("a", 60_000)))
					sent.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := sent.Load(); n > 1<<20/60_000 {
			t.Errorf("%d messages of 60 kB wait, want at most a megabyte of them", n)
		}
		other := hubtest.Connect(t, ep, "/socket", map[string]string{"id": "user:ben"})
		other.Join("room:0", nil)
		close(gate)
		senders.Wait()
		synctest.Wait()
		if n := handled.Load(); n != conns*topics*each {
			t.Errorf("got %d handled in the end, want %d", n, conns*topics*each)
		}
	})
}

// What waits for clients that do not read is bounded for all connections of one id together; who
// reads is not disturbed.
func TestSharedOutbound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := sharedEndpoint(func() hub.Channel { return answering{} }, hub.WithOutbound(256<<10, time.Hour), hub.WithShared(1<<20, 1<<20))
		defer ep.Drain(context.Background())
		var stuck []*hub.Pipe
		var got atomic.Int64
		for range 40 {
			p, err := ep.Dial("/socket", &hub.ConnectInfo{Params: hub.Params{"vsn": "2.0.0", "id": "user:ana"}}, func(f hub.PipeFrame) { got.Add(int64(len(f.Data))) })
			if err != nil {
				t.Fatal(err)
			}
			p.Send([]byte(`["1","1","room:1","phx_join",{}]`), false)
			synctest.Wait()
			p.Pause()
			stuck = append(stuck, p)
		}
		reads := hubtest.Connect(t, ep, "/socket", map[string]string{"id": "user:ana"})
		reads.Join("room:1", nil)
		other := hubtest.Connect(t, ep, "/socket", map[string]string{"id": "user:ben"})
		far := other.Join("room:1", nil)
		for range 20 {
			if err := ep.Broadcast("room:1", "e", map[string]string{"fill": strings.Repeat("a", 10_000)}); err != nil {
				t.Fatal(err)
			}
			far.Want("e", nil)
		}
		reads.Heartbeat().WantReply("ok", map[string]any{})
		got.Store(0)
		for _, p := range stuck {
			p.Resume()
		}
		if n := got.Load(); n > 1<<20+40*16<<10 {
			t.Errorf("%d bytes waited for 40 connections of one id, want at most a megabyte and 16 KiB each", n)
		}
		if n := ep.Stats().SlowConsumers; n == 0 || n > 40 {
			t.Errorf("%d connections were cut off, want some of the 40 that did not read", n)
		}
		for _, p := range stuck {
			p.Close()
		}
		// What they had is free again.
		late := hubtest.Connect(t, ep, "/socket", map[string]string{"id": "user:ana"})
		room := late.Join("room:1", nil)
		late.Pause()
		for range 15 {
			ep.Broadcast("room:1", "e", map[string]string{"fill": strings.Repeat("a", 10_000)})
		}
		late.Resume()
		for range 15 {
			room.Want("e", nil)
		}
	})
}

// A long-poll session has so many requests under way and no more.
func TestLongPollRequestsAtOnce(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		p := open(t, ep, "")
		statuses := make(chan int, 30)
		for range 30 {
			go func() { statuses <- p.do("GET", "", "").http }()
		}
		refused := 0
		for range 30 {
			if <-statuses == http.StatusTooManyRequests {
				refused++
			}
		}
		if refused != 22 {
			t.Errorf("%d of 30 polls at once were refused, want all but 8", refused)
		}
	})
}
