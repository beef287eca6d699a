package hubclient_test

import (
	"context"
	"fmt"
	"net"
	"time"

	"devicehub/hub"
	"devicehub/hub/hubclient"
)

// Echo answers every event with what it carries.
type Echo struct{}

func (Echo) Join(context.Context, *hub.Socket, hub.Payload) (hub.Reply, error) {
	return hub.OK(nil), nil
}

func (Echo) HandleIn(_ context.Context, _ *hub.Socket, _ string, p hub.Payload) (hub.Reply, error) {
	return hub.OK(p), nil
}

// A client joins a topic and asks. It connects, and joins, again by itself when the hub restarts.
func Example() {
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.Channel("room:*", func() hub.Channel { return Echo{} })
	ep.Socket("/socket", r)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- ep.Serve(ctx, l) }()

	client, err := hubclient.New(hubclient.Config{URL: "ws://" + l.Addr().String() + "/socket"})
	if err != nil {
		fmt.Println(err)
		return
	}
	room := client.Channel("room:lobby", hubclient.ChannelConfig{
		OnJoin: func(hubclient.Reply) { fmt.Println("joined") },
	})
	room.Join()
	ran := make(chan error, 1)
	go func() { ran <- client.Run(ctx) }()
	reply, err := room.Call(ctx, "echo", map[string]int{"n": 1}) // waits for the join
	fmt.Println(reply.Status, string(reply.Payload), err)

	client.Close()
	fmt.Println(<-ran)
	stop()
	fmt.Println(<-served)
	// Output:
	// joined
	// ok {"n":1} <nil>
	// <nil>
	// <nil>
}
