package sim_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	sim "devicehub/firmware-sim"
	"devicehub/firmware-sim/profile"
)

// besieged is a small fleet beside which each kind of harm is done, after a quiet while.
const besieged = `
seed: 9
fleet:
  - count: 6
    kind: sensor
    transport: {websocket: 0.5, mqtt: 0.25, mqtt5: 0.25}
    metrics: {temperature: {every: 100ms}}
  - {count: 2, kind: light, behaviour: {ack_ms: 2, exec_ms: 3}}
load: {hold: 80s, warmup: 1s, commands: {rate: 2/s}}
hostile:
  - {at: 20s, flood_readings: {count: 2, rate: 150/s, for: 12s}}
  - {at: 20s, flood_readings: {rate: 150/s, transport: mqtt5, for: 12s}}
  - {at: 20s, flood_tokens: {rate: 150/s, transport: mqtt, for: 12s}}
  - {at: 20s, flood_events: {rate: 150/s, transport: longpoll, for: 12s}}
  - {at: 20s, wrong_tokens: {rate: 10/s, for: 6s}, foreign_origins: {rate: 20/s, for: 6s}}
  - {at: 20s, junk_connects: {rate: 5/s, count: 3, for: 21s}, hoard_sessions: {rate: 10/s, for: 21s}}
  - {at: 20s, wrong_tokens: {rate: 10/s, for: 6s, transport: mqtt}, half_requests: {count: 2, for: 31s}}
  - {at: 20s, idle_connections: {pct: 50, for: 41s, within: 40s}, deaf_readers: {for: 51s}}
  - {at: 20s, flood_commands: {rate: 50/s, for: 12s}, hoard_longpolls: {rate: 10/s, for: 6s}}
  - {at: 20s, slow_watchers: {rate: 50/s, for: 45s}, hoard_retained: {rate: 20/s, for: 31s}}
`

const besiegedHolds = `assert: [lost_acked == 0, lost_sent == 0, dup_stored == 0, unacknowledged == 0, refused == 0,
  offline == 0, cmd_lost == 0, hostile_unchecked == 0, hostile_harm < 2, p99(ack_hostile_ms) < 50,
  p99(ack_quiet_ms) < 50]
`

// Those who mean harm are refused and cut off, and it shows; good devices lose nothing.
func TestBesieged(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		r := play(t, h, besieged+besiegedHolds, nil)
		for _, a := range r.Assertions {
			if !a.Holds {
				t.Errorf("%+v\n%s", a, table(r))
			}
		}
		kinds := profile.HostileKinds()
		for _, b := range r.Besieged {
			kinds = slices.DeleteFunc(kinds, func(k profile.HostileKind) bool { return string(k) == b.Kind })
			if b.Tried == 0 || b.Denied()+b.CutOff == 0 {
				t.Errorf("%+v", b)
			}
		}
		if v := r.Verdict("hostile_unchecked"); len(kinds) > 0 || v.Checked != int64(len(r.Besieged)) {
			t.Errorf("no harm by %v; of %d kinds %d were judged", kinds, len(r.Besieged), v.Checked)
		}
		h.mu.Lock()
		if left := len(h.devices) + len(h.guests.passwords) + len(h.guests.tokens); left > 0 {
			t.Errorf("%d devices, people and accounts are left behind", left)
		}
		h.mu.Unlock()
		var page bytes.Buffer
		if err := r.WriteHTML(&page); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Those who meant harm", "flood_readings", "rate_limited", "as long as in quiet"} {
			if !strings.Contains(page.String(), want) {
				t.Errorf("the page has no %q", want)
			}
		}
		out := table(r)
		if !strings.Contains(out, "hoard_retained ") || !strings.Contains(out, "times as long as in quiet") {
			t.Errorf("the table does not show it:\n%s", out)
		}
		t.Log(table(r))
	})
}

// Nobody is stopped by a hub that tolerates everything, which is found out for each kind that it
// could have stopped.
func TestToleratedHarm(t *testing.T) {
	for _, kind := range []string{
		"flood_readings: {rate: 150/s, for: 12s}", "flood_readings: {rate: 150/s, transport: mqtt, for: 12s}",
		"hoard_longpolls: {for: 6s}", "hoard_retained: {rate: 20/s, for: 31s}", "hoard_sessions: {rate: 2/s, for: 21s}",
	} {
		t.Run(kind, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T) {
				h := newFakeHub(t)
				h.lie.tolerant = true
				r := play(t, h, `
fleet: [{count: 1, kind: sensor, metrics: {temperature: {every: 1s}}}]
load: {hold: 40s}
hostile: [{at: 1s, `+kind+`}]
assert: [hostile_unchecked == 0]
`, nil)
				v := r.Verdict("hostile_unchecked")
				if v.Count != 1 || !strings.Contains(v.First[0].Text, "nobody was refused") || r.ExitCode() != 1 {
					t.Errorf("exit code %d, %+v\n%s", r.ExitCode(), v, table(r))
				}
			})
		})
	}
}

// Harm is not told from faults that come with it.
func TestHarmBesideFaults(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		r := play(t, newFakeHub(t), `
fleet: [{count: 5, kind: sensor, metrics: {temperature: {every: 50ms}}}]
load: {hold: 30s}
hostile: [{at: 10s, wrong_tokens: {for: 10s}}]
faults: [{at: 1s, slow_reader: {pct: 100, for: 28s}}]
assert: [hostile_harm < 2]
`, nil)
		if a := r.Assertions[0]; a.Known || a.Holds || !strings.Contains(a.Why, "too few to compare") {
			t.Errorf("%+v\n%s", a, table(r))
		}
	})
}

// The plan shows who comes, and when.
func TestPlanOfHarm(t *testing.T) {
	var b bytes.Buffer
	sim.WritePlan(&b, parse(t, besieged), 2, 0)
	for _, want := range []string{
		"hostile from 20s: 4, flood_readings by 2 stolen devices over websocket, 150/s each, 1000 bytes, for 12s",
		"hostile from 20s: 8, idle_connections by strangers, 50 % as many as the fleet has, for 41s",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, &b)
		}
	}
}
