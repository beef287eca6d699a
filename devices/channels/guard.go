package channels

import (
	"strings"
	"time"

	"devicehub/devices"
	"devicehub/devices/quota"
	"devicehub/hub"
)

// viewCost is what a look at the whole fleet costs in other questions.
const viewCost = 5

// cost is by which class a person's or an account's message counts, and for how many.
func cost(topic, event []byte) (quota.Class, float64) {
	switch string(event) {
	case "command", "cancel", "shadow_update":
		return quota.Events, 1
	case "view", "phx_join":
		if strings.HasPrefix(string(topic), "fleet:") {
			return quota.Reads, viewCost
		}
	}
	return quota.Reads, 1
}

// guard holds the caller to its rates, over all its connections, and ends the connection of one
// that goes on beyond them. All that a device sends counts here; what of it is an event, its session
// counts beside.
func (c *caller) guard(l link) hub.Guard {
	end := func() { l.End(devices.CodeRateLimited, "too many messages", 0) }
	if c.session != nil {
		end = func() { c.session.End(devices.CodeRateLimited, "too many messages") }
	}
	return func(now time.Time, topic, event []byte) any {
		class, n := quota.Reads, 1.0
		if c.session == nil {
			class, n = cost(topic, event)
		}
		cut, err := c.account.AllowAt(now, class, n)
		if cut {
			end()
		}
		if err == nil {
			return nil
		}
		if !cut {
			switch string(event) { // to refuse them would keep the channel or lose the connection
			case "phx_leave", "heartbeat":
				return nil
			}
		}
		return err
	}
}
