package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub"
	"devicehub/hub/hubtest"
	"devicehub/hub/pubsub"
)

// script is a channel whose callbacks are set by the test.
type script struct {
	join      func(ctx context.Context, s *hub.Socket, p hub.Payload) (hub.Reply, error)
	after     func(ctx context.Context, s *hub.Socket) error
	in        func(ctx context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error)
	info      func(ctx context.Context, s *hub.Socket, msg any) error
	terminate func(s *hub.Socket, reason error)
	intercept []string
	out       func(ctx context.Context, s *hub.Socket, event string, p hub.Payload) error
}

func (c *script) Join(ctx context.Context, s *hub.Socket, p hub.Payload) (hub.Reply, error) {
	if c.join != nil {
		return c.join(ctx, s, p)
	}
	return hub.Reply{}, nil
}

func (c *script) AfterJoin(ctx context.Context, s *hub.Socket) error {
	if c.after != nil {
		return c.after(ctx, s)
	}
	return nil
}

func (c *script) HandleIn(ctx context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	if c.in != nil {
		return c.in(ctx, s, event, p)
	}
	return hub.OK(p), nil
}

func (c *script) HandleInfo(ctx context.Context, s *hub.Socket, msg any) error {
	if c.info != nil {
		return c.info(ctx, s, msg)
	}
	return nil
}

func (c *script) Intercepts() []string { return c.intercept }

func (c *script) HandleOut(ctx context.Context, s *hub.Socket, event string, p hub.Payload) error {
	return c.out(ctx, s, event, p)
}

func (c *script) Terminate(s *hub.Socket, reason error) {
	if c.terminate != nil {
		c.terminate(s, reason)
	}
}

// inBubble runs a test in virtual time against an endpoint that serves t:* with the script.
func inBubble(t *testing.T, c script, f func(t *testing.T, ep *hub.Endpoint), opts ...hub.SocketOption) {
	synctest.Test(t, func(t *testing.T) {
		ep := hub.New()
		r := hub.NewRouter(nil)
		r.Channel("t:*", func() hub.Channel { own := c; return &own })
		ep.Socket("/socket", r, opts...)
		f(t, ep)
		if err := ep.Drain(t.Context()); err != nil {
			t.Error("drain:", err)
		}
	})
}

func TestAsyncReply(t *testing.T) {
	var refs []hub.Ref
	inBubble(t, script{in: func(_ context.Context, s *hub.Socket, event string, _ hub.Payload) (hub.Reply, error) {
		refs = append(refs, s.Ref())
		return hub.Reply{}, nil
	}}, func(t *testing.T, ep *hub.Endpoint) {
		c := hubtest.Connect(t, ep, "/socket", nil)
		room := c.Join("t:a", nil)
		one, two := room.Push("one", nil), room.Push("two", nil)
		one.WantNoReply()
		refs[1].Reply(hub.OK(map[string]int{"n": 2}))
		refs[0].Reply(hub.Refuse("late"))
		two.WantReply("ok", map[string]int{"n": 2})
		one.WantReply("error", map[string]string{"reason": "late"})
		room.Leave()
		if err := refs[0].Reply(hub.OK(nil)); !errors.Is(err, hub.ErrNotJoined) {
			t.Errorf("reply after the end: got %v, want ErrNotJoined", err)
		}
		c.Send(`["9","9","t:a","phx_join",{}]`)
		c.Send(`["9",null,"t:a","three",{}]`)
		synctest.Wait()
		if refs[2].OK() {
			t.Error("a message without a ref has one")
		}
	})
}

func TestTerminateReasons(t *testing.T) {
	var reasons []error
	boom := errors.New("boom")
	s := script{
		terminate: func(s *hub.Socket, reason error) { reasons = append(reasons, reason) },
		in: func(_ context.Context, s *hub.Socket, event string, _ hub.Payload) (hub.Reply, error) {
			switch event {
			case "stop":
				return hub.Reply{}, hub.ErrStop
			case "fail":
				return hub.Reply{}, boom
			case "panic":
				panic("at the disco")
			case "close":
				s.Conn().Close(4409, "replaced")
			}
			return hub.Reply{}, nil
		},
	}
	for _, c := range []struct {
		name string
		do   func(c *hubtest.Client, room *hubtest.Channel)
		want func(error) bool
	}{
		{"leave", func(_ *hubtest.Client, room *hubtest.Channel) { room.Leave() }, is(hub.ErrLeft)},
		{"stop", func(_ *hubtest.Client, room *hubtest.Channel) { room.Push("stop", nil); room.WantClose() }, is(hub.ErrStop)},
		{"fail", func(_ *hubtest.Client, room *hubtest.Channel) { room.Push("fail", nil); room.WantError() }, is(boom)},
		{"panic", func(_ *hubtest.Client, room *hubtest.Channel) { room.Push("panic", nil); room.WantError() },
			func(err error) bool { var p *hub.PanicError; return errors.As(err, &p) }},
		{"join again", func(c *hubtest.Client, room *hubtest.Channel) { c.Join("t:a", nil); room.WantClose() }, is(hub.ErrReplaced)},
		{"client closes", func(c *hubtest.Client, _ *hubtest.Channel) { c.Close() }, is(hub.ErrClientClosed)},
		{"connection lost", func(c *hubtest.Client, _ *hubtest.Channel) { c.Break() }, is(hub.ErrConnectionLost)},
		{"program closes", func(c *hubtest.Client, room *hubtest.Channel) { room.Push("close", nil); c.WantClose(4409) },
			func(err error) bool { var ce *hub.CloseError; return errors.As(err, &ce) && ce.Reason == "replaced" }},
		{"socket closed", func(c *hubtest.Client, room *hubtest.Channel) { room.Socket().Close(); room.WantClose() }, is(hub.ErrStop)},
	} {
		t.Run(c.name, func(t *testing.T) {
			reasons = nil
			inBubble(t, s, func(t *testing.T, ep *hub.Endpoint) {
				client := hubtest.Connect(t, ep, "/socket", nil)
				room := client.Join("t:a", nil)
				done := room.Socket().Done()
				c.do(client, room)
				synctest.Wait()
				if len(reasons) != 1 || !c.want(reasons[0]) {
					t.Errorf("got reasons %v", reasons)
				}
				select {
				case <-done:
				default:
					t.Error("Done is not closed")
				}
			})
		})
	}
}

func is(want error) func(error) bool {
	return func(err error) bool { return errors.Is(err, want) }
}

func TestSlowHandlersHoldUpTheirTopicAlone(t *testing.T) {
	slow := func() { time.Sleep(time.Hour) }
	inBubble(t, script{
		join: func(_ context.Context, s *hub.Socket, _ hub.Payload) (hub.Reply, error) {
			if s.Topic() == "t:slow" {
				slow()
			}
			return hub.Reply{}, nil
		},
		in: func(_ context.Context, _ *hub.Socket, event string, _ hub.Payload) (hub.Reply, error) {
			if event == "slow" {
				slow()
			}
			return hub.OK(nil), nil
		},
	}, func(t *testing.T, ep *hub.Endpoint) {
		c := hubtest.Connect(t, ep, "/socket", nil)
		start := time.Now()
		late := c.TryJoin("t:slow", nil)
		behind := late.Push("quick", nil)
		a, b := c.Join("t:a", nil), c.Join("t:b", nil)
		slow := a.Push("slow", nil)
		b.Push("quick", nil).WantReply("ok", nil)
		c.Heartbeat().WantReply("ok", nil)
		if took := time.Since(start); took > 0 {
			t.Errorf("others waited %v", took)
		}
		time.Sleep(2 * time.Hour)
		late.Joined.WantReply("ok", nil)
		behind.WantReply("ok", nil)
		slow.WantReply("ok", nil)
	})
}

func TestInterceptAndBroadcast(t *testing.T) {
	var n atomic.Int32
	inBubble(t, script{
		intercept: []string{"secret"},
		join: func(_ context.Context, s *hub.Socket, _ hub.Payload) (hub.Reply, error) {
			n.Add(1)
			return hub.Reply{}, nil
		},
		out: func(_ context.Context, s *hub.Socket, event string, p hub.Payload) error {
			var m map[string]any
			if err := p.Decode(&m); err != nil {
				return err
			}
			m["for"] = s.Conn().ID()
			return s.Push(event, m)
		},
		in: func(_ context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
			if event == "from" {
				return hub.Reply{}, s.BroadcastFrom("open", p)
			}
			return hub.Reply{}, s.Broadcast(event, p)
		},
	}, func(t *testing.T, ep *hub.Endpoint) {
		a, b := hubtest.Connect(t, ep, "/socket", nil), hubtest.Connect(t, ep, "/socket", nil)
		ra, rb := a.Join("t:a", nil), b.Join("t:a", nil)
		inside := hubtest.Listen(t, ep.PubSub(), "t:a")
		ra.Push("secret", map[string]int{"n": 1})
		ra.Want("secret", map[string]any{"n": 1, "for": ""})
		rb.Want("secret", map[string]any{"n": 1, "for": ""})
		ra.Push("from", map[string]int{"n": 2})
		rb.Want("open", map[string]any{"n": 2})
		ra.WantQuiet()
		inside.Want("secret", map[string]int{"n": 1})
		inside.Want("open", map[string]int{"n": 2})
		if err := ep.Broadcast("t:a", "bin", hub.Binary("\x00\xff")); err != nil {
			t.Fatal(err)
		}
		ra.Want("bin", hub.Binary("\x00\xff"))
		rb.Want("bin", hub.Binary("\x00\xff"))
		if err := ep.Broadcast("t:a", "list", []int{1}); !errors.Is(err, hub.ErrPayload) {
			t.Errorf("broadcast of a list: got %v, want ErrPayload", err)
		}
		ra.Push("secret", []int{1}).WantNoReply() // what intercepts it would find out too late
		ra.WantError()
		a.Join("t:a", nil)
		if err := ep.Broadcast("t:a", "junk", map[string]any{"c": make(chan int)}); err == nil {
			t.Error("broadcast of a channel: got no error")
		}
		a.WantQuiet()
		b.WantQuiet()
	})
}

func TestInfoAndSubscriptions(t *testing.T) {
	inBubble(t, script{
		after: func(_ context.Context, s *hub.Socket) error { s.Subscribe("feed"); s.Subscribe("feed"); return nil },
		info: func(_ context.Context, s *hub.Socket, msg any) error {
			switch msg := msg.(type) {
			case *pubsub.Message:
				return s.Push("fed", msg.Payload)
			case string:
				if msg == "unsubscribe" {
					s.Unsubscribe("feed")
					return nil
				}
				return s.Push("told", map[string]string{"what": msg})
			}
			return errors.New("unexpected")
		},
	}, func(t *testing.T, ep *hub.Endpoint) {
		c := hubtest.Connect(t, ep, "/socket", nil)
		room := c.Join("t:a", nil)
		synctest.Wait()
		ep.Broadcast("feed", "e", map[string]int{"n": 1})
		room.Want("fed", map[string]int{"n": 1})
		socket := room.Socket()
		socket.Send("hello")
		room.Want("told", map[string]string{"what": "hello"})
		socket.Send("unsubscribe")
		synctest.Wait()
		ep.Broadcast("feed", "e", map[string]int{"n": 2})
		c.WantQuiet()
		socket.Send(1)
		room.WantError()
		if socket.Send("late") {
			t.Error("Send after the end: got true")
		}
		if err := socket.Push("late", nil); !errors.Is(err, hub.ErrNotJoined) {
			t.Errorf("Push after the end: got %v, want ErrNotJoined", err)
		}
	})
}

func TestOverload(t *testing.T) {
	inBubble(t, script{
		after: func(_ context.Context, s *hub.Socket) error { s.Subscribe("feed"); return nil },
		info:  func(context.Context, *hub.Socket, any) error { time.Sleep(time.Second); return nil },
	}, func(t *testing.T, ep *hub.Endpoint) {
		c := hubtest.Connect(t, ep, "/socket", nil)
		room := c.Join("t:a", nil)
		synctest.Wait()
		for range 20 {
			ep.Broadcast("feed", "e", nil)
		}
		time.Sleep(time.Minute)
		room.WantError()
		if got := ep.Stats().Overloads; got == 0 {
			t.Error("no overload is counted")
		}
	}, hub.WithInbox(4, 8))
}

func TestFullInboxHoldsUpTheReader(t *testing.T) {
	var handled atomic.Int32
	release := make(chan struct{})
	inBubble(t, script{in: func(context.Context, *hub.Socket, string, hub.Payload) (hub.Reply, error) {
		if handled.Add(1) == 1 {
			<-release
		}
		return hub.OK(nil), nil
	}}, func(t *testing.T, ep *hub.Endpoint) {
		release = make(chan struct{})
		c := hubtest.Connect(t, ep, "/socket", nil)
		room := c.Join("t:a", nil)
		var sent atomic.Int32
		go func() {
			for range 20 {
				c.Send(fmt.Sprintf(`["1","x%d","t:a","e",{}]`, sent.Load()))
				sent.Add(1)
			}
		}()
		synctest.Wait()
		if got := sent.Load(); got != 5 { // one is handled, four wait
			t.Errorf("got %d messages read, want 5", got)
		}
		close(release)
		synctest.Wait()
		if got := handled.Load(); got != 20 {
			t.Errorf("got %d handled, want 20", got)
		}
		_ = room
	}, hub.WithInbox(4, 8))
}

func TestPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := hub.New()
		r := hub.NewRouter(nil)
		plain := func() hub.Channel { return &script{} }
		r.Channel("strict:*", plain)
		r.Channel("latest:*", plain, hub.WithPolicy(hub.Latest))
		r.Channel("oldest:*", plain, hub.WithPolicy(hub.DropOldest))
		ep.Socket("/socket", r, hub.WithOutbound(1000, time.Second))
		blob := strings.Repeat("x", 80)
		send := func(topic, key string, n int) {
			ep.BroadcastKeyed(topic, "e", key, map[string]any{"n": n, "k": key, "blob": blob})
		}
		numbers := func(room *hubtest.Channel, count int) string {
			var all []string
			for range count {
				var m struct {
					N       int
					K       string
					Skipped int
				}
				json.Unmarshal(room.Want("e", nil).Bytes(), &m)
				all = append(all, fmt.Sprint(m.K, m.N, "+", m.Skipped))
			}
			return strings.Join(all, " ")
		}

		c := hubtest.Connect(t, ep, "/socket", nil)
		latest := c.Join("latest:a", nil)
		c.Pause()
		for n := range 50 {
			send("latest:a", "a", n)
			if n%10 == 0 {
				send("latest:a", "b", n)
			}
		}
		c.Resume()
		if got, want := numbers(latest, 2), "b40+4 a49+49"; got != want {
			t.Errorf("latest: got %s, want %s", got, want)
		}
		oldest := c.Join("oldest:a", nil)
		c.Pause()
		for n := range 50 {
			send("oldest:a", fmt.Sprint("k", n%2, "-"), n)
		}
		c.Resume()
		if got := numbers(oldest, 7); !strings.HasSuffix(got, "k0-48+0 k1-49+0") {
			t.Errorf("drop-oldest: got %s, want the newest", got)
		}
		c.WantQuiet()

		strict := c.Join("strict:a", nil)
		done := c.Conn().Context()
		c.Pause()
		for n := range 50 {
			send("strict:a", "k", n)
		}
		synctest.Wait()
		if got := context.Cause(done); got != hub.ErrSlowConsumer {
			t.Errorf("disconnect: got cause %v, want ErrSlowConsumer", got)
		}
		_ = strict
		s := ep.Stats()
		if s.Conflated != 53 || s.Dropped != 43 || s.SlowConsumers != 1 {
			t.Errorf("got %d conflated, %d dropped, %d slow, want 53, 43, 1", s.Conflated, s.Dropped, s.SlowConsumers)
		}
		ep.Drain(t.Context())
	})
}

var (
	routeKey hub.Key[string]
	userKey  hub.Key[string]
)

func TestRoutesAndConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := hub.New()
		opened := 0
		r := hub.NewRouter(func(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
			if info.Params.Get("user") == "" {
				return nil, errors.New("who?")
			}
			return userKey.Assign(ctx, info.Params.Get("user")), nil
		},
			hub.WithID(func(ctx context.Context) string { return "user:" + userKey.Get(ctx) }),
			hub.WithOnOpen(func(ctx context.Context, c *hub.Conn) (context.Context, error) {
				opened++
				if userKey.Get(ctx) == "late" {
					return nil, &hub.CloseError{Code: 4409, Reason: "replaced"}
				}
				return routeKey.Assign(ctx, "from OnOpen"), nil
			}))
		named := func() hub.Channel {
			return &script{join: func(ctx context.Context, s *hub.Socket, _ hub.Payload) (hub.Reply, error) {
				return hub.OK(map[string]any{"route": routeKey.Get(ctx), "user": userKey.Get(ctx)}), nil
			}}
		}
		r.Channel("a*", named, hub.WithAssign(&routeKey, "a*"))
		r.Channel("a:*", named, hub.WithAssign(&routeKey, "a:*"))
		r.Channel("a:b", named, hub.WithAssign(&routeKey, "a:b"))
		r.Channel("z", named)
		ep.Socket("/at/:where", r, hub.WithMaxChannels(3))

		if err := hubtest.Refused(t, ep, "/at/x", nil); err.Error() != "who?" {
			t.Errorf("got %v, want who?", err)
		}
		hubtest.Refused(t, ep, "/at/x", map[string]string{"user": "u", "vsn": "3.0.0"})
		c := hubtest.Connect(t, ep, "/at/home", map[string]string{"user": "u"})
		for topic, route := range map[string]string{"a:b": "a:b", "a:c": "a:*", "abc": "a*"} {
			room := c.TryJoin(topic, nil)
			room.Joined.WantReply("ok", map[string]string{"route": route, "user": "u"})
		}
		c.TryJoin("z", nil).Joined.WantReply("error", map[string]string{"reason": "too many channels joined"})
		c.Join("abc", nil) // a second join of the same topic is not one more
		synctest.Wait()
		time.Sleep(time.Second)
		hubtest.Connect(t, ep, "/at/x", map[string]string{"user": "late"}).WantClose(4409)

		if !c.Conn().Push("a:b", "hello", map[string]int{"n": 1}) || c.Conn().Push("a:x", "hello", nil) {
			t.Error("Conn.Push does not tell joined from not joined")
		}
		if got := len(c.Conn().Topics()); got != 3 {
			t.Errorf("got %d topics, want 3", got)
		}
		other := hubtest.Connect(t, ep, "/at/home", map[string]string{"user": "u2"})
		ep.Disconnect("user:u")
		c.WantClose(1001)
		if got := context.Cause(c.Conn().Context()); got != hub.ErrDisconnected {
			t.Errorf("got cause %v, want ErrDisconnected", got)
		}
		other.WantQuiet()
		ep.Drain(t.Context())
		other.WantClose(1012)
		if s := ep.Stats(); s.InMemory != 0 || s.Channels != 0 || s.Connects != 3 || s.ConnectsRefused != 2 {
			t.Errorf("got %+v", s)
		}
	})
}

func TestChangedOptionsAreForNewConnections(t *testing.T) {
	inBubble(t, script{}, func(t *testing.T, ep *hub.Endpoint) {
		old := hubtest.Connect(t, ep, "/socket", nil)
		old.Join("t:a", nil)
		ep.Change("/socket", hub.WithMaxChannels(1))
		old.Join("t:b", nil)
		c := hubtest.Connect(t, ep, "/socket", nil)
		c.Join("t:a", nil)
		c.TryJoin("t:b", nil).Joined.WantReply("error", map[string]string{"reason": "too many channels joined"})
	})
}

func TestDrainLetsPromisesBeKept(t *testing.T) {
	inBubble(t, script{in: func(_ context.Context, s *hub.Socket, event string, _ hub.Payload) (hub.Reply, error) {
		ref := s.Ref()
		time.AfterFunc(300*time.Millisecond, func() { ref.Reply(hub.OK(nil)) })
		return hub.Reply{}, nil
	}}, func(t *testing.T, ep *hub.Endpoint) {
		c := hubtest.Connect(t, ep, "/socket", nil)
		later := c.Join("t:a", nil).Push("e", nil)
		synctest.Wait()
		ep.Drain(t.Context())
		later.WantReply("ok", nil)
		c.WantClose(1012)
	})
}

func TestSkipBroadcasts(t *testing.T) {
	inBubble(t, script{join: func(_ context.Context, s *hub.Socket, _ hub.Payload) (hub.Reply, error) {
		if err := s.Push("early", nil); !errors.Is(err, hub.ErrNotJoined) {
			return hub.Reply{}, fmt.Errorf("push in Join: got %v", err)
		}
		s.SkipBroadcasts()
		return hub.Reply{}, nil
	}}, func(t *testing.T, ep *hub.Endpoint) {
		c := hubtest.Connect(t, ep, "/socket", nil)
		room := c.Join("t:a", nil)
		ep.Broadcast("t:a", "e", nil)
		room.Socket().Push("own", nil)
		room.Want("own", nil)
		c.WantQuiet()
	})
}

// What is broadcast while a client joins reaches it behind the reply.
func TestJoinReplyComesFirst(t *testing.T) {
	inBubble(t, script{}, func(t *testing.T, ep *hub.Endpoint) {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					ep.Broadcast("t:a", "e", nil)
					time.Sleep(time.Microsecond)
				}
			}
		})
		for range 50 {
			var first atomic.Pointer[string]
			pipe, err := ep.Dial("/socket", &hub.ConnectInfo{Params: hub.Params{"vsn": "2.0.0"}}, func(f hub.PipeFrame) {
				text := string(f.Data)
				first.CompareAndSwap(nil, &text)
			})
			if err != nil {
				t.Fatal(err)
			}
			pipe.Send([]byte(`["1","1","t:a","phx_join",{}]`), false)
			time.Sleep(time.Millisecond)
			if got := *first.Load(); !strings.Contains(got, "phx_reply") {
				t.Fatalf("got %s first, want the reply", got)
			}
			pipe.Close()
		}
		close(stop)
		wg.Wait()
	})
}
