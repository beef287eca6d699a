package channels

import (
	"log/slog"

	"devicehub/devices"
	"devicehub/devices/session"
	"devicehub/hub"
	"devicehub/hub/presence"
)

// Feed carries events of the domain to everybody who joined the device's
// topics. It is a [devices.Feed].
type Feed struct {
	Endpoint *hub.Endpoint
	Log      *slog.Logger
}

// Publish broadcasts e on the topic of each of its kinds.
func (f *Feed) Publish(e devices.Event) {
	for _, k := range e.Kinds {
		if err := f.Endpoint.BroadcastKeyed(devices.Topic(k, e.Device), e.Name, e.Key, e.Payload); err != nil {
			f.Log.Error("event not told", "device", e.Device, "event", e.Name, "err", err)
		}
	}
}

// Presence shows devices on their topics; it is a [session.Presence].
type Presence struct{ Tracker *presence.Tracker }

// Track shows the device under its id.
func (p Presence) Track(owner session.Done, k devices.Kind, id devices.ID, meta map[string]any) error {
	_, err := p.Tracker.Track(owner, devices.Topic(k, id), string(id), presence.Meta(meta))
	return err
}
