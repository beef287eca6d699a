package httpapi_test

import (
	"devicehub/devices/commands"
	"devicehub/devices/httpapi"
	"devicehub/devices/liveness"
	"devicehub/devices/readings"
	"devicehub/devices/session"
	"devicehub/devices/shadow"
)

// The services that the API is made for fit it.
var (
	_ httpapi.Commands = (*commands.Dispatcher)(nil)
	_ httpapi.Liveness = (*liveness.Tracker)(nil)
	_ httpapi.Readings = (*readings.Ingest)(nil)
	_ httpapi.Shadows  = (*shadow.Shadows)(nil)
	_ httpapi.Door     = (*session.Door)(nil)
)
