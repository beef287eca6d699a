package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFleetBehindABridge plays devices that speak to a Mosquitto, in both
// versions of MQTT and both kinds of trust, which is killed and started again
// under load: what it had acknowledged reaches the hub, once.
func TestFleetBehindABridge(t *testing.T) {
	broker := freePort(t)
	_, port, _ := net.SplitHostPort(broker)
	dir := t.TempDir()
	mosquitto := write(t, dir, "mosquitto.conf", fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nuser root\n"+
		"persistence true\npersistence_location %s/\nautosave_on_changes true\nautosave_interval 1\n", port, dir))
	fleet := write(t, dir, "fleet.yaml", `
fleet:
  - {count: 10, kind: sensor, via: house, transport: {mqtt: 0.5, mqtt5: 0.5}, metrics: {temperature: {gen: diurnal, every: 1s}}}
  - {count: 2, kind: light, via: {bridge: garden, trust: token}, behaviour: {exec_ms: 10}}
load: {hold: 10s, commands: {rate: 2/s, mix: {set: 1}}}
faults: [{at: 3s, broker_outage: {for: 1s}}]
assert: [
  lost_acked == 0, dup_stored == 0, value_wrong == 0, series_foreign == 0,
  cmd_run_twice == 0, cmd_lost == 0, cmd_false_done == 0, cmd_false_confirmed == 0,
  cmd_false_failed == 0, cmd_proof_ignored == 0, max(backlog_ms) < 20000,
]
`)
	h := newHub(t, "  bridges:",
		"    - {name: house, url: mqtt://"+broker+", trust: topic}",
		"    - {name: garden, url: mqtt://"+broker+", trust: token}")
	run := exec.Command(filepath.Join(bin, "firmware-sim"), "run", fleet, "--hub", "http://"+h.http, "--mqtt", "mqtt://"+h.mqtt,
		"--bridge", "mqtt://"+broker, "--start-broker", "mosquitto -c "+mosquitto, "--username", "admin", "--password-stdin")
	run.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin")
	run.Stdin = strings.NewReader(adminPassword + "\n")
	out, err := run.CombinedOutput()
	for _, want := range []string{
		"lost_acked == 0", "dup_stored == 0", "series_foreign == 0", "cmd_run_twice == 0",
		"cmd_false_done == 0", "cmd_false_confirmed == 0", "cmd_proof_ignored == 0", "max(backlog_ms) < 20000",
	} {
		if !strings.Contains(string(out), "ok      "+want) {
			t.Errorf("%v: want %q in\n%s", err, want, tail(string(out), 4000))
			break
		}
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
