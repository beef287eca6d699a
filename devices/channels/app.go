package channels

import (
	"log/slog"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/connects"
	"devicehub/devices/fleet"
	"devicehub/devices/identity"
	"devicehub/devices/liveness"
	"devicehub/devices/quota"
	"devicehub/devices/readings"
	"devicehub/devices/session"
	"devicehub/devices/shadow"
	"devicehub/hub"
	"devicehub/hub/presence"
)

// App holds the services that the channels translate for.
type App struct {
	Endpoint *hub.Endpoint
	Presence *presence.Tracker
	Registry *devices.Registry
	Identity *identity.Service
	Door     *session.Door
	Readings *readings.Ingest
	Commands *commands.Dispatcher
	Shadows  *shadow.Shadows
	Liveness *liveness.Tracker
	Fleet    *fleet.Fleet
	Log      *slog.Logger

	// AllowQueryToken takes a token from the connect parameters too, for
	// clients that know no other way.
	AllowQueryToken bool
	// OfflineAfter is how long a silent WebSocket is waited for; LongPollAfter
	// how long a long-poll session may go without a poll.
	OfflineAfter, LongPollAfter time.Duration
	// Refusals logs who was not let in; it may be nil.
	Refusals *connects.Log
	// Quota bounds what each principal may ask for; nil bounds nothing.
	Quota *quota.Quota

	visitors visitors
}

// Router returns the routes of /socket.
func (a *App) Router() *hub.Router {
	r := hub.NewRouter(a.connect, hub.WithID(socketID), hub.WithOnOpen(a.opened), hub.WithOnClosing(closing))
	// Who watches and cannot keep up gets the newest value of each metric.
	newest := hub.WithPolicy(hub.Latest)
	r.Channel("sensor:*", func() hub.Channel { return &Device{app: a, kind: devices.KindSensor} }, newest)
	r.Channel("light:*", func() hub.Channel { return &Device{app: a, kind: devices.KindLight} }, newest)
	r.Channel("fleet:*", func() hub.Channel { return &Fleet{app: a} })
	return r
}

// answer is a service's answer as a channel reply: a refusal is the client's to
// read, a fault is logged and told as platform_unavailable.
func (a *App) answer(v any, err error, event, topic string) hub.Reply {
	if err == nil {
		return hub.OK(v)
	}
	if body, ok := refusal(err); ok {
		return hub.Error(body)
	}
	a.Log.Error("event failed", "event", event, "topic", topic, "err", err)
	return hub.Error(devices.Refuse(devices.CodePlatformUnavailable, "the hub could not do this; it is not your fault"))
}
