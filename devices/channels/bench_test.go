package channels

import (
	"context"
	"testing"

	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/devices/quota"
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

// BenchmarkGuardedRequestReply is a message of a person that its channel answers: hub's
// BenchmarkRequestReply, with the person's limits held against it.
func BenchmarkGuardedRequestReply(b *testing.B) {
	var l quota.Limits
	l.Other.Rates[quota.Reads] = quota.Rate{PerSecond: 1e12, Burst: 1e12}
	q := quota.New(l)
	who := &caller{principal: identity.Principal{Kind: devices.ActorUser, Name: "ana"}, account: q.Hold(devices.ActorUser, "ana")}
	defer who.account.Release()
	ep := hub.New()
	r := hub.NewRouter(nil, hub.WithID(func(context.Context) string { return "user:ana" }),
		hub.WithOnOpen(func(ctx context.Context, c *hub.Conn) (context.Context, error) {
			c.Guard(who.guard(link{c}))
			return ctx, nil
		}))
	r.Channel("room:*", func() hub.Channel { return answering{} })
	ep.Socket("/socket", r)
	b.Cleanup(func() { ep.Drain(context.Background()) })
	answered := make(chan struct{}, 1)
	p, err := ep.Dial("/socket", &hub.ConnectInfo{Params: hub.Params{"vsn": "2.0.0"}}, func(hub.PipeFrame) { answered <- struct{}{} })
	if err != nil {
		b.Fatal(err)
	}
	p.Send([]byte(`["1","1","room:1","phx_join",{}]`), false)
	<-answered
	request := []byte(`["1","2","room:1","reading",{"metric":"temperature","v":21.5,"t":1790000000000}]`)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		p.Send(request, false)
		<-answered
	}
}
