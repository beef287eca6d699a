package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"devicehub/hub"
	"devicehub/hub/token"
)

// Room is a channel in which everybody hears what anybody says.
type Room struct {
	said int // plain fields: callbacks run one at a time
}

var user hub.Key[string]

// connect lets in who says a name.
func connect(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
	name := info.Params.Get("name")
	if name == "" {
		return nil, hub.ErrRefused
	}
	return user.Assign(ctx, name), nil
}

// Join lets everybody into every room but one.
func (r *Room) Join(ctx context.Context, s *hub.Socket, _ hub.Payload) (hub.Reply, error) {
	if s.Topic() == "room:locked" {
		return hub.Refuse("unauthorized"), nil
	}
	return hub.OK(map[string]any{"welcome": user.Get(ctx)}), nil
}

// HandleIn tells the room what is said.
func (r *Room) HandleIn(ctx context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	switch event {
	case "say":
		var m struct{ Text string }
		if err := p.Decode(&m); err != nil {
			return hub.Refuse("malformed"), nil
		}
		r.said++
		return hub.OK(map[string]int{"said": r.said}), s.Broadcast("said", map[string]any{"by": user.Get(ctx), "text": m.Text})
	}
	return hub.Reply{}, hub.Unhandled(event)
}

// talk connects in memory, as a client would over the network, and prints what comes back.
func talk(ep *hub.Endpoint, frames ...string) {
	var mu sync.Mutex
	var got []string
	came := make(chan struct{}, 100)
	pipe, err := ep.Dial("/socket", &hub.ConnectInfo{Params: hub.Params{"vsn": "2.0.0", "name": "ann"}}, func(f hub.PipeFrame) {
		mu.Lock()
		got = append(got, string(f.Data))
		mu.Unlock()
		came <- struct{}{}
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, f := range frames {
		pipe.Send([]byte(f), false)
		<-came
	}
	pipe.Close()
	mu.Lock()
	defer mu.Unlock()
	fmt.Println(strings.Join(got, "\n"))
}

func Example() {
	ep := hub.New()
	r := hub.NewRouter(connect)
	r.Channel("room:*", func() hub.Channel { return new(Room) })
	ep.Socket("/socket", r)
	defer ep.Drain(context.Background())

	talk(ep,
		`["1","1","room:lobby","phx_join",{}]`,
		`["1","2","room:lobby","dance",{}]`,
		`["3","3","room:locked","phx_join",{}]`)
	// Output:
	// ["1","1","room:lobby","phx_reply",{"response":{"welcome":"ann"},"status":"ok"}]
	// ["1","2","room:lobby","phx_reply",{"response":{"reason":"unknown event","code":"invalid"},"status":"error"}]
	// ["3","3","room:locked","phx_reply",{"response":{"reason":"unauthorized"},"status":"error"}]
}

// Store answers when a write is durable, without blocking the channel meanwhile.
type Store struct {
	writes chan func(error)
}

func (st *Store) Join(context.Context, *hub.Socket, hub.Payload) (hub.Reply, error) {
	return hub.OK(nil), nil
}

func (st *Store) HandleIn(_ context.Context, s *hub.Socket, _ string, _ hub.Payload) (hub.Reply, error) {
	ref := s.Ref()
	st.writes <- func(err error) {
		if err != nil {
			ref.Reply(hub.Refuse("platform_unavailable"))
			return
		}
		ref.Reply(hub.OK(map[string]int{"stored": 1}))
	}
	return hub.Reply{}, nil // not yet
}

// An answer that has to wait for something is given later, through a reference.
func ExampleSocket_Ref() {
	writes := make(chan func(error), 10)
	var writer sync.WaitGroup
	writer.Go(func() {
		n := 0
		for done := range writes {
			if n++; n == 2 {
				done(errors.New("disk full"))
				continue
			}
			done(nil)
		}
	})
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.Channel("store", func() hub.Channel { return &Store{writes} })
	ep.Socket("/socket", r)

	talk(ep,
		`["1","1","store","phx_join",{}]`,
		`["1","2","store","put",{"v":1}]`,
		`["1","3","store","put",{"v":2}]`)
	ep.Drain(context.Background())
	close(writes)
	writer.Wait()
	// Output:
	// ["1","1","store","phx_reply",{"response":{},"status":"ok"}]
	// ["1","2","store","phx_reply",{"response":{"stored":1},"status":"ok"}]
	// ["1","3","store","phx_reply",{"response":{"reason":"platform_unavailable"},"status":"error"}]
}

// Scores shows each client its own score with what is broadcast.
type Scores struct{ own int }

func (c *Scores) Join(context.Context, *hub.Socket, hub.Payload) (hub.Reply, error) {
	return hub.OK(nil), nil
}

func (c *Scores) HandleIn(_ context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	c.own++
	return hub.Reply{}, s.Broadcast("score", p)
}

func (c *Scores) Intercepts() []string { return []string{"score"} }

func (c *Scores) HandleOut(_ context.Context, s *hub.Socket, event string, p hub.Payload) error {
	var m map[string]any
	if err := p.Decode(&m); err != nil {
		return err
	}
	m["own"] = c.own
	return s.Push(event, m)
}

// What every client is to see in its own way is intercepted.
func ExampleInterceptor() {
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.Channel("scores", func() hub.Channel { return new(Scores) })
	ep.Socket("/socket", r)
	defer ep.Drain(context.Background())

	talk(ep, `["1","1","scores","phx_join",{}]`, `["1","2","scores","hit",{"target":"a"}]`)
	// Output:
	// ["1","1","scores","phx_reply",{"response":{},"status":"ok"}]
	// ["1",null,"scores","score",{"own":1,"target":"a"}]
}

func ExampleParseParams() {
	p, _ := hub.ParseParams("vsn=2.0.0&filter[room]=kitchen&filter[kinds][]=light&filter[kinds][]=sensor")
	text, _ := json.Marshal(p)
	fmt.Println(string(text))
	fmt.Println(p.Map("filter").Get("room"))
	// Output:
	// {"filter":{"kinds":["light","sensor"],"room":"kitchen"},"vsn":"2.0.0"}
	// kitchen
}

// Serve returns when the program is to stop and every client was sent away.
func ExampleEndpoint_Serve() {
	ep := hub.New()
	r := hub.NewRouter(connect)
	r.Channel("room:*", func() hub.Channel { return new(Room) })
	ep.Socket("/socket", r)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background()) // of signal.NotifyContext, in a program
	time.AfterFunc(10*time.Millisecond, stop)
	err = ep.Serve(ctx, l, hub.WithBeforeDrain(func() { fmt.Println("about to stop") }))
	fmt.Println(err)
	// Output:
	// about to stop
	// <nil>
}

// A value that connect learns is typed in every channel.
func ExampleKey() {
	type account struct{ name string }
	var who hub.Key[account]
	ctx := who.Assign(context.Background(), account{"ann"})
	fmt.Println(who.Get(ctx).name)
	_, known := who.Lookup(context.Background())
	fmt.Println(known)
	// Output:
	// ann
	// false
}

// Prices tells everybody the prices of many shares.
type Prices struct{}

func (Prices) Join(context.Context, *hub.Socket, hub.Payload) (hub.Reply, error) {
	return hub.OK(nil), nil
}

func (Prices) HandleIn(_ context.Context, _ *hub.Socket, event string, _ hub.Payload) (hub.Reply, error) {
	return hub.Reply{}, hub.Unhandled(event)
}

// Many small broadcasts at once cost each client one write.
func ExampleEndpoint_Batch() {
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.Channel("prices", func() hub.Channel { return Prices{} }, hub.WithPolicy(hub.Latest))
	ep.Socket("/socket", r)
	defer ep.Drain(context.Background())
	came := make(chan string, 10)
	pipe, err := ep.Dial("/socket", &hub.ConnectInfo{Params: hub.Params{"vsn": "2.0.0"}}, func(f hub.PipeFrame) { came <- string(f.Data) })
	if err != nil {
		fmt.Println(err)
		return
	}
	pipe.Send([]byte(`["1","1","prices","phx_join",{}]`), false)
	<-came

	err = ep.Batch(func(b *hub.Batch) {
		for i, share := range []string{"ACME", "MOON", "RAIN"} {
			b.BroadcastKeyed("prices", "price", share, map[string]any{"share": share, "cents": 100 * i})
		}
	})
	fmt.Println(<-came, <-came, <-came, err)
	// Output:
	// [null,null,"prices","price",{"cents":0,"share":"ACME"}] [null,null,"prices","price",{"cents":100,"share":"MOON"}] [null,null,"prices","price",{"cents":200,"share":"RAIN"}] <nil>
}

// A program beside one written with Phoenix takes the tokens of Phoenix.Token.
func ExampleConnectFunc() {
	signer, err := token.New("the secret_key_base of both programs, 64 bytes or more of it, please", "user auth")
	if err != nil {
		fmt.Println(err)
		return
	}
	var user hub.Key[int64]
	connect := func(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
		data, err := signer.Verify(info.AuthToken, token.Within(24*time.Hour))
		id, ok := data.(int64)
		if err != nil || !ok {
			return nil, hub.ErrRefused
		}
		return user.Assign(ctx, id), nil
	}

	tok, err := signer.Sign(42) // in Elixir: Phoenix.Token.sign(MyApp.Endpoint, "user auth", 42)
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, err := connect(context.Background(), &hub.ConnectInfo{AuthToken: tok})
	fmt.Println(user.Get(ctx), err)
	_, err = connect(context.Background(), &hub.ConnectInfo{AuthToken: "a guess"})
	fmt.Println(err)
	// Output:
	// 42 <nil>
	// connect refused
}
