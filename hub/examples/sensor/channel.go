package main

import (
	"context"
	"strings"

	"devicehub/hub"
)

// device has the id of a device that has connected, and is empty for who watches.
var device hub.Key[string]

// connect believes what it is told. A program that strangers reach would judge info.AuthToken.
func connect(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
	return device.Assign(ctx, info.Params.Get("device")), nil
}

// Reading is what a thermometer has measured.
type Reading struct {
	Celsius float64 `json:"celsius"`
	At      int64   `json:"at"` // Unix milliseconds
}

// Sensor serves "sensor:<id>": the device of that id pushes readings, and everybody on the topic
// sees them.
type Sensor struct {
	ep  *hub.Endpoint
	log *Log

	itself bool // the client is the device
}

// Join lets everybody watch.
func (c *Sensor) Join(ctx context.Context, s *hub.Socket, _ hub.Payload) (hub.Reply, error) {
	id := strings.TrimPrefix(s.Topic(), "sensor:")
	if id == "" {
		return hub.Refuse("which sensor?"), nil
	}
	c.itself = device.Get(ctx) == id
	return hub.OK(nil), nil
}

// HandleIn stores a reading. It is answered, and shown, when it is on the disk; the channel does
// not wait for that.
func (c *Sensor) HandleIn(_ context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	if event != "reading" {
		return hub.Reply{}, hub.Unhandled(event)
	}
	var r Reading
	if !c.itself {
		return hub.Refuse("forbidden"), nil
	}
	if err := p.Decode(&r); err != nil {
		return hub.Refuse("malformed"), nil
	}
	ref, topic := s.Ref(), s.Topic()
	stored := func(err error) {
		if err != nil {
			ref.Reply(hub.Refuse("platform_unavailable"))
			return
		}
		ref.Reply(hub.OK(nil))
		// The key lets a watcher that is behind have the newest in place of all (hub.Latest).
		_ = c.ep.BroadcastKeyed(topic, "reading", "celsius", r)
	}
	if !c.log.Append(topic, r, stored) {
		return hub.Refuse("busy"), nil
	}
	return hub.Reply{}, nil // not yet
}
