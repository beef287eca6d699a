package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	sim "devicehub/firmware-sim"
	"devicehub/firmware-sim/profile"
)

const killProfile = `
seed: 3
fleet:
  - {name: Sensor, count: 24, kind: sensor, transport: {websocket: 0.4, longpoll: 0.2, mqtt: 0.4}, metrics: {temperature: {gen: ou, every: 100ms}, humidity: {gen: ou, every: 200ms}}}
  - {name: Logger, count: 6, kind: sensor, transport: {websocket: 0.5, mqtt: 0.5}, batch: {max: 50, every: 500ms}, metrics: {power: {gen: ou, every: 20ms}}}
  - {name: Lamp, count: 10, kind: light, transport: {websocket: 0.4, longpoll: 0.2, mqtt: 0.4}, behaviour: {ack_ms: 20, exec_ms: 30, transition: true}}
load: {hold: 14s, commands: {rate: 20/s, mix: {set: 0.6, toggle: 0.2, step: 0.1, identify: 0.1}}, watchers: 1}
faults: [{at: 3s, kill_hub: {}}, {at: 8s, kill_hub: {for: 1s}}]
assert: [
  lost_acked == 0, lost_sent == 0, dup_stored == 0, value_wrong == 0, order_wrong == 0,
  series_foreign == 0, series_differs == 0, latest_wrong == 0, leaked == 0,
  cmd_run_twice == 0, cmd_lost == 0, cmd_false_done == 0, cmd_false_confirmed == 0,
  cmd_false_failed == 0, cmd_proof_ignored == 0, cmd_differs == 0,
]
`

// process lets the simulator kill the hub with SIGKILL and start it again.
type process struct{ h *hub }

func (p process) Kill() error { p.h.kill(); return nil }

func (p process) Start(context.Context) error { p.h.start(); return nil }

// TestKilledUnderLoad kills the hub twice while a fleet over all transports
// sends readings and obeys commands, and starts it again on the same folder.
// Every acknowledged reading must then be found, once, by the export route, as
// many by the series route; the devices must be back by themselves, and no
// command may have run twice.
func TestKilledUnderLoad(t *testing.T) {
	h := newHub(t)
	p, err := profile.Parse([]byte(killProfile))
	if err != nil {
		t.Fatal(err)
	}
	hubURL, mqttURL := &url.URL{Scheme: "http", Host: h.http}, &url.URL{Scheme: "mqtt", Host: h.mqtt}
	run, err := sim.New(sim.Config{Profile: p, Hub: hubURL, MQTT: mqttURL, Username: "admin", Password: adminPassword, Server: process{h}, Keep: true})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	report, err := run.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	report.WriteTable(&table)
	t.Log(table.String())
	if code := report.ExitCode(); code == 1 {
		t.Errorf("the verdict is exit code %d", code)
	}
	kills := 0
	for _, e := range report.Events {
		if strings.Contains(e.Text, "kill") {
			kills++
		}
	}
	if kills < 2 || !report.Judged || len(report.Unjudged) > 0 {
		t.Errorf("%d kills, judged %v, unjudged %v", kills, report.Judged, report.Unjudged)
	}
	if r := report.Readings; r.Acknowledged < 3000 || r.Unacknowledged > 0 || r.Lost > 0 || r.Duplicates > 0 {
		t.Errorf("readings: got %+v, want thousands, all acknowledged, none lost or stored twice", r)
	}
	if c := report.Commands; c.Executed < 50 || c.Twice > 0 {
		t.Errorf("commands: got %+v, want dozens executed, none twice", c)
	}

	// The two routes agree with each other and with what was acknowledged.
	admin := h.admin()
	stored := 0
	for _, id := range run.IDs() {
		metrics := map[string]int{}
		status, body := h.try("GET", fmt.Sprintf("/api/v1/devices/%s/export?from=%d&format=csv", id, began.UnixMilli()), admin, nil)
		if status != http.StatusOK {
			t.Fatalf("export %s: got %d %s", id, status, body)
		}
		for _, line := range strings.Split(string(body), "\n")[1:] {
			if cells := strings.Split(line, ","); len(cells) > 2 {
				metrics[cells[1]]++
			}
		}
		for metric, n := range metrics {
			stored += n
			var s series
			h.call("GET", fmt.Sprintf("/api/v1/devices/%s/series?metric=%s&from=%d&points=500", id, metric, began.UnixMilli()), admin, nil, http.StatusOK, &s)
			got := 0
			for _, b := range s.Buckets {
				got += b.Count
			}
			if got != n {
				t.Errorf("%s %s: series counts %d readings, export lists %d", id, metric, got, n)
			}
		}
	}
	if want := int(report.Readings.Acknowledged); stored < want {
		t.Errorf("%d readings are stored, %d were acknowledged", stored, want)
	}
}
