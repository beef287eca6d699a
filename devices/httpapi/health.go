package httpapi

import (
	"net/http"

	"devicehub/devices"
)

// Who may read /metrics besides loopback.
const (
	MetricsToken = "token" // whoever has an account that may read
	MetricsOpen  = "open"
	MetricsOff   = "off" // nobody
)

func (c *call) healthz() (answer, error) { return ok(map[string]string{"status": "ok"}) }

// readyz says whether the hub is ready; administrators and services hear what
// it waits for.
func (c *call) readyz() (answer, error) {
	var checks []Check
	if c.api.s.Ready != nil {
		checks = c.api.s.Ready(c.Context())
	}
	status, word := http.StatusOK, "ready"
	for _, k := range checks {
		if !k.OK {
			status, word = http.StatusServiceUnavailable, "not ready"
		}
	}
	body := map[string]any{"status": word}
	if c.actor.Admin() || c.actor.Kind == devices.ActorService {
		body["checks"] = orEmpty(checks)
		if c.api.s.Readings != nil {
			body["clock"] = c.api.s.Readings.Clock()
		}
	}
	return answer{status: status, body: body}, nil
}

func (c *call) metrics() (answer, error) {
	local := c.api.onMachine(c.Request)
	switch access := c.api.cfg.MetricsAccess; {
	case c.api.s.Metrics == nil, access == MetricsOff && !local:
		return answer{}, devices.NotFound("route")
	case local, access == MetricsOpen, c.actor.Rights&devices.RightRead != 0:
		c.w.Header().Add("Vary", "Accept-Encoding") // it compresses by itself
		c.api.s.Metrics.ServeHTTP(c.w, c.Request)
		return streamed()
	case c.actor.Kind == "":
		return answer{}, c.api.unauthorized("sign in first")
	}
	return answer{}, devices.Refuse(devices.CodeForbidden, "not allowed")
}
