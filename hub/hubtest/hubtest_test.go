package hubtest_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub"
	"devicehub/hub/hubtest"
	"devicehub/hub/presence"
)

// Sensor is a channel as programs have them: a device on it is present, and what it
// reads is broadcast to the others.
type sensor struct {
	presence *presence.Tracker
	readings int
}

var device hub.Key[string]

func (c *sensor) Join(ctx context.Context, s *hub.Socket, _ hub.Payload) (hub.Reply, error) {
	if device.Get(ctx) == "stranger" {
		return hub.Refuse("unauthorized"), nil
	}
	return hub.OK(nil), nil
}

func (c *sensor) AfterJoin(ctx context.Context, s *hub.Socket) error {
	if id := device.Get(ctx); id != "" {
		if _, err := c.presence.Track(s, s.Topic(), id, presence.Meta{"kind": "sensor"}); err != nil {
			return err
		}
	}
	return s.Push("presence_state", c.presence.List(s.Topic()))
}

func (c *sensor) HandleIn(_ context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	switch event {
	case "reading":
		c.readings++
		return hub.OK(map[string]int{"seq": c.readings}), s.BroadcastFrom("reading", p)
	case "crash":
		return hub.Reply{}, errors.New("asked to")
	}
	return hub.Reply{}, hub.Unhandled(event)
}

func newEndpoint() *hub.Endpoint {
	ep := hub.New()
	tracker := presence.New(ep.PubSub())
	r := hub.NewRouter(func(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
		if info.AuthToken == "bad" {
			return nil, hub.ErrRefused
		}
		return device.Assign(ctx, info.Params.Get("device")), nil
	})
	r.Channel("sensor:*", func() hub.Channel { return &sensor{presence: tracker} })
	ep.Socket("/socket", r)
	return ep
}

func TestReadingReachesViewers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := newEndpoint()
		viewer := hubtest.Connect(t, ep, "/socket", nil)
		watch := viewer.Join("sensor:t-1", nil)
		watch.Want("presence_state", map[string]any{})

		device := hubtest.Connect(t, ep, "/socket", map[string]string{"device": "t-1"})
		stay := device.Join("sensor:t-1", nil)
		watch.Want("presence_diff", map[string]any{
			"joins":  map[string]any{"t-1": map[string]any{"metas": []any{map[string]any{"kind": "sensor", "phx_ref": hubtest.Any}}}},
			"leaves": map[string]any{},
		})
		stay.Want("presence_diff", nil)
		stay.Want("presence_state", nil)

		listener := hubtest.Listen(t, ep.PubSub(), "sensor:t-1")
		reading := map[string]any{"celsius": 21.5, "at": 1}
		stay.Push("reading", reading).WantReply("ok", map[string]int{"seq": 1})
		device.WantQuiet() // BroadcastFrom: no echo
		stay.WantNo("reading")
		watch.Want("reading", reading)
		listener.WantNo("presence_diff")
		listener.Want("reading", reading)
		ep.BroadcastFrom(listener, "sensor:t-1", "news", map[string]int{"n": 1})
		listener.WantNo("news")
		watch.Want("news", map[string]int{"n": 1})
		stay.Want("news", nil)
		if got := stay.Socket().Channel().(*sensor).readings; got != 1 {
			t.Errorf("got %d readings, want 1", got)
		}

		start := time.Now()
		device.Break()
		watch.Want("presence_diff", nil)
		if took := time.Since(start); took > 100*time.Millisecond {
			t.Errorf("the others heard after %v", took)
		}
		viewer.WantQuiet()
		listener.Want("presence_diff", nil)
		listener.WantQuiet()
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := newEndpoint()
		if err := hubtest.Refused(t, ep, "/socket", nil, hubtest.WithToken("bad")); !errors.Is(err, hub.ErrRefused) {
			t.Errorf("got %v, want ErrRefused", err)
		}
		c := hubtest.Connect(t, ep, "/socket", map[string]string{"device": "stranger"})
		c.TryJoin("sensor:t-1", nil).Joined.WantReply("error", map[string]string{"reason": "unauthorized"})
		c.TryJoin("nowhere", json.RawMessage(`[1]`)).Joined.WantReply("error", map[string]string{"reason": "unmatched topic"})

		d := hubtest.Connect(t, ep, "/socket", map[string]string{"device": "t-1"})
		room := d.Join("sensor:t-1", nil)
		room.Want("presence_diff", nil)
		room.Want("presence_state", nil)
		room.Push("dance", nil).WantReply("error", map[string]string{"reason": "unknown event", "code": "invalid"})
		room.Push("crash", nil).WantNoReply()
		room.WantError()
		d.Heartbeat().WantReply("ok", map[string]any{})
		d.WantQuiet()
	})
}
