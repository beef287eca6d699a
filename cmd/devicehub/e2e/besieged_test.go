package e2e

import (
	"net/http"
	"strings"
	"testing"
)

// TestBesieged has stolen devices, strangers, a person and a service account mean
// the hub harm, in each way that it can put a stop to within half a minute, beside
// a fleet that loses nothing by it. What was made for them is gone afterwards.
func TestBesieged(t *testing.T) {
	h := newHub(t)
	report := h.judge(t, `
seed: 7
fleet:
  - count: 20
    kind: sensor
    transport: {websocket: 0.5, longpoll: 0.1, mqtt: 0.2, mqtt5: 0.2}
    metrics: {temperature: {every: 500ms}}
  - {count: 4, kind: light, transport: {websocket: 0.5, mqtt: 0.5}, behaviour: {ack_ms: 5, exec_ms: 5}}
load: {hold: 55s, warmup: 1s, commands: {rate: 2/s}, watchers: 1}
hostile:
  - {at: 14s, wrong_tokens: {for: 6s}, half_requests: {count: 3, for: 35s}}
  - {at: 15s, wrong_tokens: {for: 6s, transport: mqtt5}, idle_connections: {count: 6, for: 21s}}
  - {at: 16s, foreign_origins: {for: 6s}, junk_connects: {count: 2, rate: 5/s, for: 21s}}
  - {at: 18s, flood_readings: {for: 11s}, hoard_sessions: {for: 21s}}
  - {at: 20s, flood_readings: {for: 11s, transport: longpoll}, flood_tokens: {for: 11s, transport: mqtt5}}
  - {at: 24s, flood_events: {for: 11s}, flood_readings: {for: 11s, transport: mqtt}}
  - {at: 28s, flood_commands: {for: 11s}, hoard_longpolls: {for: 6s}}
  - {at: 34s, hoard_retained: {for: 12s, within: 10s}, flood_readings: {for: 11s, transport: mqtt5}}
assert: [`+judged+`, cmd_run_twice == 0, cmd_lost == 0, cmd_false_done == 0, cmd_false_confirmed == 0,
  cmd_false_failed == 0, hostile_unchecked == 0]
`)
	for _, b := range report.Besieged {
		if b.Tried == 0 || b.Checked() == 0 {
			t.Errorf("%+v", b)
		}
	}
	if factor, why := report.Harm(); why != "" {
		t.Error(why)
	} else {
		t.Logf("beside them acknowledgements took %.2f times as long", factor)
	}
	var left struct {
		Users     []struct{ Username string }
		APITokens []struct{ Name string }
		Devices   []struct{ ID string }
	}
	for _, path := range []string{"users", "apitokens", "devices"} {
		h.call("GET", "/api/v1/"+path, h.admin(), nil, http.StatusOK, &left)
	}
	if len(left.Users) != 1 || len(left.APITokens) != 0 || len(left.Devices) != 0 {
		t.Errorf("left behind: %+v", left)
	}
	if log := h.log.String(); strings.Contains(log, "level=ERROR") {
		t.Errorf("the hub's log has errors:\n%s", tail(log, 4000))
	}
}
