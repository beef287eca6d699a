package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"devicehub/bridge"
	"devicehub/devices/httpapi"

	"github.com/spf13/cobra"
)

// mqttSessions are the listener's sessions as the API shows them; there are none
// while it is off.
type mqttSessions struct{ a *assembly }

func (m mqttSessions) List() []httpapi.MQTTSession {
	if m.a.mqttSessions == nil {
		return nil
	}
	list := m.a.mqttSessions.Sessions()
	out := make([]httpapi.MQTTSession, len(list))
	for i, s := range list {
		out[i] = mqttSession(s)
	}
	return out
}

func (m mqttSessions) End(id string) (httpapi.MQTTSession, bool) {
	if m.a.mqttSessions == nil {
		return httpapi.MQTTSession{}, false
	}
	s, ok := m.a.mqttSessions.EndSession(id)
	return mqttSession(s), ok
}

func mqttSession(s bridge.SessionInfo) httpapi.MQTTSession {
	return httpapi.MQTTSession{
		ID: s.ID, Account: s.Account, Device: string(s.Device), ClientID: s.ClientID, Connected: s.Connected, Transport: s.Transport,
		Address: s.Addr, Since: millis(s.Since), Subscriptions: s.Subscriptions, Queued: s.Queued, Bytes: s.Bytes, ExpiresAt: millis(s.Expires),
	}
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func (a *app) sessionCommand() *cobra.Command {
	return group("session", "Clients of the MQTT listener",
		a.listCommand("mqtt/sessions", "sessions", []string{"ID", "CLIENT ID", "STATE", "SINCE", "FROM", "SUBSCRIPTIONS", "QUEUED", "BYTES", "UNTIL"}, func(raw json.RawMessage) ([]string, error) {
			var s httpapi.MQTTSession
			err := json.Unmarshal(raw, &s)
			state, from := "absent", ""
			if s.Connected {
				state, from = "connected", s.Transport+" "+s.Address
			}
			return []string{s.ID, strconv.QuoteToASCII(s.ClientID), state, when(s.Since), from, strconv.Itoa(s.Subscriptions), strconv.Itoa(s.Queued),
				strconv.Itoa(s.Bytes), when(s.ExpiresAt)}, err
		}),
		a.command("end ID...", "End sessions and their connections; wills are not published", cobra.MinimumNArgs(1), false,
			func(ctx context.Context, c *api, args []string) error {
				for _, id := range args {
					if err := c.call(ctx, "DELETE", apiPath("mqtt", "sessions", id), nil, nil, nil); err != nil {
						return fmt.Errorf("%s: %w", id, err)
					}
					fmt.Fprintf(a.err, "session %s is ended\n", id)
				}
				return nil
			}))
}
