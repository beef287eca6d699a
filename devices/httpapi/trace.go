package httpapi

import (
	"encoding/json"
	"net/http"
	"time"

	"devicehub/devices"
)

// trace streams NDJSON until the client leaves or may no longer see it.
func (c *call) trace() (answer, error) {
	d, err := c.device(devices.RightAdmin)
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Trace == nil {
		return unavailable("trace")
	}
	w := &stream{ResponseWriter: c.w, set: func(h http.Header) { h.Set("Content-Type", "application/x-ndjson") }}
	if c.Method == http.MethodHead {
		w.begin()
		return streamed()
	}
	f, err := c.api.s.Trace.Follow(d.ID)
	if err != nil {
		return answer{}, err
	}
	defer f.Stop()
	c.record("device.trace", "device:"+string(d.ID), nil, nil)
	_ = w.flush()
	check := time.NewTicker(time.Second)
	defer check.Stop()
	enc := json.NewEncoder(w)
	for {
		select {
		case <-c.Context().Done():
			return streamed()
		case <-c.api.leaving.Done():
			return streamed()
		case <-check.C:
			if !c.stillAdministers(d.ID) {
				return streamed()
			}
		case l := <-f.Lines():
			if enc.Encode(l) != nil || len(f.Lines()) == 0 && w.flush() != nil {
				return streamed()
			}
		}
	}
}

// stillAdministers asks again for the rights of a caller whose answer goes on.
func (c *call) stillAdministers(id devices.ID) bool {
	if c.who.Kind != "" {
		a, err := c.api.s.Identity.Actor(c.who)
		if err != nil {
			return false
		}
		c.actor = a
	}
	d, found := c.api.s.Registry.Get(id)
	return found && c.actor.May(devices.RightAdmin, d)
}
