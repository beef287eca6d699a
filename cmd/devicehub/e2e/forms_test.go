package e2e

import (
	"net/url"
	"strings"
	"testing"

	sim "devicehub/firmware-sim"
	"devicehub/firmware-sim/profile"
)

// judged are the promises that no run may break.
const judged = `lost_acked == 0, lost_sent == 0, dup_stored == 0, value_wrong == 0,
  order_wrong == 0, series_foreign == 0, series_differs == 0, latest_wrong == 0,
  latest_backwards == 0, leaked == 0, unacknowledged == 0, refused == 0, offline == 0`

// TestEveryForm plays every form of topic and payload at once, from many
// connections: bare values, objects, batches and SenML, with every quality of
// service, with and without times, boot, numbers and the hub's own units. What
// is stored is held against what was sent, under its name, in its order.
func TestEveryForm(t *testing.T) {
	h := newHub(t)
	report := h.judge(t, `
seed: 5
fleet:
  - count: 24
    kind: sensor
    transport: {mqtt: 0.5, mqtt5: 0.5}
    forms: {bare: 1}
    metrics:
      temperature: {every: 100ms}
      illuminance: {every: 130ms}
      motion: {gen: toggle, every: 170ms}
      mode: {gen: choice, values: [heat, cool, auto], every: 300ms}
  - count: 30
    kind: sensor
    transport: {websocket: 0.3, longpoll: 0.2, mqtt: 0.25, mqtt5: 0.25}
    metrics:
      temperature: {every: 200ms}
      humidity: {every: 300ms}
      motion: {gen: toggle, every: 400ms}
      mode: {gen: choice, values: [heat, cool, auto], every: 500ms}
  - count: 10
    kind: sensor
    transport: {websocket: 0.3, longpoll: 0.2, mqtt: 0.25, mqtt5: 0.25}
    batch: {max: 10, every: 1s}
    metrics: {power: {every: 100ms}, pressure: {every: 200ms}}
load: {hold: 8s, warmup: 1s, watchers: 2}
assert: [`+judged+`]
`)
	if r := report.Readings; r.Acknowledged < 3000 || r.Unheard < 50 {
		t.Errorf("readings: %+v", r)
	}
}

// TestComingStraightBack has devices say goodbye behind their last readings, over
// MQTT at QoS 0, and come straight back, some as another power-up each time: nothing is
// lost, no connection is taken for lost, and no device for two.
func TestComingStraightBack(t *testing.T) {
	h := newHub(t)
	report := h.judge(t, `
seed: 6
fleet:
  - count: 12
    kind: sensor
    transport: {mqtt: 0.5, mqtt5: 0.5}
    forms: {bare: 1, json: 1}
    untimed: 1
    metrics: {temperature: {every: 300ms}}
    reconnect: {every: 1s}
  - count: 12
    kind: sensor
    transport: {mqtt: 0.5, mqtt5: 0.5}
    metrics: {temperature: {every: 300ms}}
    reconnect: {every: 1s, reboot: true}
  - count: 8
    kind: sensor
    transport: {websocket: 0.75, longpoll: 0.25}
    metrics: {temperature: {every: 300ms}}
    reconnect: {every: 1s}
  - count: 8
    kind: sensor
    transport: {websocket: 0.75, longpoll: 0.25}
    metrics: {temperature: {every: 300ms}}
    reconnect: {every: 1s, reboot: true}
load: {hold: 12s, warmup: 1s}
assert: [`+judged+`, close_wrong == 0, clone_false == 0]
`)
	if v := report.Verdict("close_wrong"); v.Checked < 100 {
		t.Errorf("%d goodbyes, want more", v.Checked)
	}
}

// judge plays a profile against the hub, and fails the test when the verdict is
// not that every assertion holds.
func (h *hub) judge(t *testing.T, text string) *sim.Report {
	t.Helper()
	p, err := profile.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	run, err := sim.New(
		sim.Config{
			Profile:  p,
			Hub:      &url.URL{Scheme: "http", Host: h.http},
			MQTT:     &url.URL{Scheme: "mqtt", Host: h.mqtt},
			Username: "admin",
			Password: adminPassword,
			Server:   process{h},
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	report, err := run.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	report.WriteTable(&table)
	t.Log(table.String())
	if code := report.ExitCode(); code == 1 || !report.Judged {
		t.Errorf("the verdict is exit code %d", code)
	}
	return report
}
