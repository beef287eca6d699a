package hub_test

import (
	"context"
	"testing"

	"devicehub/hub"
)

// answering answers every event.
type answering struct{}

func (answering) Join(context.Context, *hub.Socket, hub.Payload) (hub.Reply, error) {
	return hub.Reply{}, nil
}

func (answering) HandleIn(context.Context, *hub.Socket, string, hub.Payload) (hub.Reply, error) {
	return hub.OK(nil), nil
}

// benchPipes joins n clients in memory to one topic; answered gets the frames of all.
func benchPipes(b *testing.B, n int, receive func(hub.PipeFrame)) (*hub.Endpoint, []*hub.Pipe) {
	b.Helper()
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.Channel("room:*", func() hub.Channel { return answering{} })
	ep.Socket("/socket", r)
	b.Cleanup(func() { ep.Drain(context.Background()) })
	joined := make(chan struct{}, n)
	pipes := make([]*hub.Pipe, n)
	for i := range pipes {
		first := true
		p, err := ep.Dial("/socket", &hub.ConnectInfo{Params: hub.Params{"vsn": "2.0.0"}}, func(f hub.PipeFrame) {
			if first {
				first = false
				joined <- struct{}{}
				return
			}
			receive(f)
		})
		if err != nil {
			b.Fatal(err)
		}
		pipes[i] = p
		p.Send([]byte(`["1","1","room:1","phx_join",{}]`), false)
	}
	for range pipes {
		<-joined
	}
	return ep, pipes
}

// BenchmarkDelivery is one delivery of a broadcast to 1000: an iteration is a receiver.
func BenchmarkDelivery(b *testing.B) {
	const receivers = 1000
	got := 0
	ep, _ := benchPipes(b, receivers, func(hub.PipeFrame) { got++ })
	payload := map[string]int{"n": 1}
	b.ReportAllocs()
	b.ResetTimer()
	for range (b.N + receivers - 1) / receivers {
		if err := ep.Broadcast("room:1", "e", payload); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if got < b.N {
		b.Fatalf("got %d deliveries, want %d", got, b.N)
	}
}

// BenchmarkRequestReply is a message of a client that its channel answers.
func BenchmarkRequestReply(b *testing.B) {
	answered := make(chan struct{}, 1)
	_, pipes := benchPipes(b, 1, func(hub.PipeFrame) { answered <- struct{}{} })
	request := []byte(`["1","2","room:1","reading",{"metric":"temperature","v":21.5,"t":1790000000000}]`)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		pipes[0].Send(request, false)
		<-answered
	}
}
