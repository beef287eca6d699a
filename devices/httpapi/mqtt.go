package httpapi

import (
	"strings"

	"devicehub/devices"
)

// MQTTSession is a client of the hub's MQTT listener that is connected, or whose
// session is kept.
type MQTTSession struct {
	ID            string `json:"id"`                // names it here: device:<id> or service:<name>:<number>
	Account       string `json:"account,omitempty"` // a service account,
	Device        string `json:"device,omitempty"`  // or a device
	ClientID      string `json:"client_id"`
	Connected     bool   `json:"connected"`
	Transport     string `json:"transport,omitempty"` // of a connection: tcp, tls or ws
	Address       string `json:"address,omitempty"`
	Since         int64  `json:"since,omitempty"` // connected, or absent: ms since epoch
	Subscriptions int    `json:"subscriptions"`
	Queued        int    `json:"queued"`               // messages that wait or are unacknowledged
	Bytes         int    `json:"bytes"`                // that the session takes with them
	ExpiresAt     int64  `json:"expires_at,omitempty"` // of an absent session
}

// MQTTSessions are the sessions of the hub's MQTT listener.
type MQTTSessions interface {
	// List is every session by its ID.
	List() []MQTTSession
	// End ends one, and its connection; false: there is none.
	End(id string) (MQTTSession, bool)
}

func (c *call) mqttSessions() (answer, error) {
	if err := c.administrator(); err != nil {
		return answer{}, err
	}
	limit, at, err := c.page("mqtt_sessions")
	if err != nil {
		return answer{}, err
	}
	list, next := []MQTTSession{}, ""
	if c.api.s.MQTT != nil {
		for _, s := range c.api.s.MQTT.List() {
			if s.ID <= at {
				continue
			}
			if len(list) == limit {
				next = list[limit-1].ID
				break
			}
			list = append(list, s)
		}
	}
	return ok(map[string]any{"sessions": list, "next_cursor": cursor("mqtt_sessions", next)})
}

func (c *call) endMQTTSession() (answer, error) {
	id := c.PathValue("id")
	err := c.administrator()
	var was any
	if err == nil {
		var s MQTTSession
		found := false
		if c.api.s.MQTT != nil {
			s, found = c.api.s.MQTT.End(id)
		}
		if was = s; !found {
			was, err = nil, devices.NotFound("session")
		}
	}
	target := id
	if name, number, ok := strings.Cut(strings.TrimPrefix(id, "service:"), ":"); ok && number != "" {
		target = "service:" + name
	}
	c.record("mqtt_session.end", printable(target), was, err)
	if err != nil {
		return answer{}, err
	}
	return none()
}
