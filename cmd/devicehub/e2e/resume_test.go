package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sim "devicehub/firmware-sim"
)

const resumeProfile = `
seed: 5
fleet:
  - {name: Sensor, count: 20, kind: sensor, transport: {websocket: 0.4, longpoll: 0.1, mqtt: 0.3, mqtt5: 0.2}, metrics: {temperature: {gen: ou, every: 100ms}, motion: {gen: toggle, every: 300ms}}}
  - {name: Logger, count: 4, kind: sensor, transport: {websocket: 0.5, mqtt: 0.5}, batch: {max: 50, every: 500ms}, metrics: {power: {gen: ou, every: 20ms}}}
  - {name: Clockless, count: 2, kind: sensor, clock: {unset_pct: 100}, metrics: {temperature: {gen: ou, every: 200ms}}}
  - {name: Lamp, count: 8, kind: light, transport: {websocket: 0.5, mqtt: 0.25, mqtt5: 0.25}, behaviour: {ack_ms: 20, exec_ms: 30, transition: true}}
load: {hold: 15s, commands: {rate: 15/s, mix: {set: 0.6, toggle: 0.2, step: 0.1, identify: 0.1}}, watchers: 1}
faults: [{at: 1s, duplicate: 0.02, reorder: 0.02}, {at: 11s, drop: {pct: 30, for: 500ms}}]
assert: [lost_acked == 0, dup_stored == 0, value_wrong == 0, series_differs == 0, cmd_run_twice == 0, cmd_false_done == 0, leaked == 0, unacknowledged == 0, latest_backwards == 0]
`

// TestKilledSimulator kills the simulator twice under load, at no moment in
// particular, and lets it take its run up: the hub is judged by all three parts,
// and nothing of what the simulator did not live to write down is held against it.
func TestKilledSimulator(t *testing.T) {
	h := newHub(t)
	dir := t.TempDir()
	fleet := write(t, dir, "fleet.yaml", resumeProfile)
	state, report := filepath.Join(dir, "state"), filepath.Join(dir, "report")
	start := func(args ...string) (*exec.Cmd, *logBuffer) {
		out := new(logBuffer)
		c := exec.Command(filepath.Join(bin, "firmware-sim"), append([]string{"run", "--hub", "http://" + h.http, "--mqtt", "mqtt://" + h.mqtt,
			"--username", "admin", "--password-stdin"}, args...)...)
		c.Stdin, c.Stdout, c.Stderr = strings.NewReader(adminPassword+"\n"), out, out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c, out
	}
	for _, args := range [][]string{{fleet, "--state", state}, {"--resume", state}} {
		c, out := start(args...)
		time.Sleep(5500 * time.Millisecond)
		if err := c.Process.Kill(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		c.Wait()
	}
	c, out := start("--resume", state, "--report", report)
	if err := c.Wait(); err != nil {
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != 3 {
			t.Errorf("%v\n%s", err, tail(out.String(), 5000))
		}
	}
	b, err := os.ReadFile(filepath.Join(report, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r sim.Report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Seconds < 14 || r.Readings.Sent < 3000 || r.Readings.Unacknowledged > 0 || r.Commands.Issued < 100 || len(r.Unjudged) > 0 {
		t.Errorf("%.1f s, %+v, %+v, unjudged %v", r.Seconds, r.Readings, r.Commands, r.Unjudged)
	}
	if stored := r.Verdict("dup_stored").Checked; stored < r.Readings.Acknowledged {
		t.Errorf("%d rows were judged, %d readings acknowledged", stored, r.Readings.Acknowledged)
	}
}
