package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	sim "devicehub/firmware-sim"
	"devicehub/firmware-sim/profile"
)

const small = `
seed: 3
fleet:
  - {count: 6, kind: sensor, transport: {websocket: 0.5, longpoll: 0.5}, metrics: {temperature: {every: 40ms}, humidity: {every: 50ms}}, batch: {max: 3, every: 100ms}}
  - {count: 3, kind: sensor, metrics: {temperature: {every: 30ms}}}
  - {count: 3, kind: light, behaviour: {ack_ms: 2, exec_ms: 3}}
load: {hold: 1500ms, warmup: 200ms, commands: {rate: 40/s, mix: {set: 0.8, toggle: 0.2}}, watchers: 1}
assert: [lost_acked == 0, dup_stored == 0, value_wrong == 0, cmd_run_twice == 0, cmd_false_done == 0, leaked == 0, unacknowledged == 0, latest_backwards == 0, series_differs == 0]
`

func parse(t *testing.T, text string) *profile.Profile {
	t.Helper()
	p, err := profile.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func play(t *testing.T, h *fakeHub, text string, change func(*sim.Config)) *sim.Report {
	t.Helper()
	return playWith(t, h, text, change, nil)
}

// playWith plays a profile; with, if not nil, has the run before it begins.
func playWith(t *testing.T, h *fakeHub, text string, change func(*sim.Config), with func(*sim.Sim)) *sim.Report {
	t.Helper()
	cfg := sim.Config{
		Profile: parse(t, text), Hub: h.url(), MQTT: h.mqttURL(), Dial: h.net.dial, Server: h,
		Username: "admin", Password: "secret", Settle: 10 * time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	s, err := sim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if with != nil {
		with(s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	r, err := s.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func table(r *sim.Report) string {
	var b bytes.Buffer
	r.WriteTable(&b)
	return b.String()
}

func TestAGoodHubPasses(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		r := play(t, h, small, nil)
		if r.ExitCode() == 1 || r.Readings.Acknowledged < 100 || r.Readings.Acknowledged != r.Readings.Sent {
			t.Errorf("exit code %d\n%s", r.ExitCode(), table(r))
		}
		if r.Commands.Confirmed < 10 || r.Commands.Repeats < 10 || r.Commands.Executed < r.Commands.Confirmed {
			t.Errorf("commands: %+v\n%s", r.Commands, table(r))
		}
		names := map[string]bool{}
		for _, l := range r.Latency {
			names[l.Name] = l.Count > 0
		}
		for _, want := range []string{"ack_ms", "confirm_ms", "lag_ms", "watch_ms"} {
			if !names[want] {
				t.Errorf("no latencies %s", want)
			}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.devices) != 0 {
			t.Errorf("%d devices left behind", len(h.devices))
		}
	})
}

// Of what nobody looked at it is not known whether it holds; the run has failed to check it.
func TestNothingSeenDoesNotHold(t *testing.T) {
	t.Parallel()
	const asserts = "latest_backwards == 0, unacknowledged >= 0, presence_wrong_after(500ms) == 0"
	tests := []struct {
		name    string
		hub     func(h *fakeHub)
		unknown []string // the assertions that are not known to hold
	}{
		{"a hub that lists nobody", func(h *fakeHub) { h.lie.hidden = true }, []string{"presence_wrong_after(500ms) == 0"}},
		{"a hub that lets nobody in", func(h *fakeHub) { h.lie.deny = true }, []string{"lost_acked == 0", "dup_stored == 0", "value_wrong == 0",
			"cmd_run_twice == 0", "cmd_false_done == 0", "leaked == 0", "latest_backwards == 0", "presence_wrong_after(500ms) == 0", "series_differs == 0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T) {
				h := newFakeHub(t)
				tt.hub(h)
				r := play(t, h, strings.Replace(small, "latest_backwards == 0", asserts, 1), func(c *sim.Config) { c.Duration, c.Settle = 4*time.Second, time.Second })
				out := table(r)
				var page bytes.Buffer
				if err := r.WriteHTML(&page); err != nil {
					t.Fatal(err)
				}
				for _, a := range r.Assertions {
					unknown := slices.Contains(tt.unknown, a.Text)
					if a.Known == unknown || unknown && (a.Holds || !a.Failed() || a.Why == "") {
						t.Errorf("%+v, want known %v", a, !unknown)
					}
					if line := a.Text + "  (not checked"; strings.Contains(out, line) != unknown {
						t.Errorf("the table about %s:\n%s", a.Text, out)
					}
				}
				if r.ExitCode() != 1 {
					t.Errorf("exit code %d, want 1\n%s", r.ExitCode(), out)
				}
				if n := strings.Count(page.String(), ">not checked<"); n < len(tt.unknown) {
					t.Errorf("the page says %d times that something was not checked, want at least %d", n, len(tt.unknown))
				}
			})
		})
	}
}

// A profile that gives no commands has none to be checked: that is no failure, and no success either.
func TestNothingToSeeIsNoFailure(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		r := play(t, newFakeHub(t), `
fleet: [{kind: sensor, metrics: {temperature: {every: 20ms}}}]
load: {hold: 500ms, warmup: 100ms}
assert: [lost_acked == 0, cmd_run_twice == 0, cmd_false_done == 0, latest_backwards == 0, leaked == 0, p99(confirm_ms) < 100]
`, nil)
		for i, a := range r.Assertions {
			if idle := i != 0 && i != 4; a.Idle != idle || a.Holds == idle || a.Failed() {
				t.Errorf("%+v, want idle %v", a, idle)
			}
		}
		if out := table(r); r.ExitCode() == 1 || !strings.Contains(out, "-       cmd_run_twice == 0  (not checked: the profile gives no commands)") {
			t.Errorf("exit code %d\n%s", r.ExitCode(), out)
		}
		if v := r.Verdict("cmd_run_twice"); v.Seen() || v.Idle == "" {
			t.Errorf("got %+v", v)
		}
	})
}

// The hub is killed in the middle: devices come back by themselves and send again what was not acknowledged, nothing is
// lost, stored twice or run twice.
func TestKilledHub(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		text := strings.NewReplacer("hold: 1500ms", "hold: 4s", ", latest_backwards == 0", "").Replace(small) + "\nfaults: [{at: 800ms, kill_hub: {for: 300ms}}, {at: 200ms, duplicate: 0.05, reorder: 0.05}]\n"
		r := play(t, h, text, nil)
		if r.ExitCode() == 1 || r.Readings.Replayed == 0 {
			t.Errorf("exit code %d, %d replayed\n%s", r.ExitCode(), r.Readings.Replayed, table(r))
		}
		if r.Offline != 0 {
			t.Errorf("%d of %d devices did not come back", r.Offline, r.Devices)
		}
	})
}

// A hub that bounds the calls of one person is asked again when it says; but for commands, which
// have their moment.
func TestHubThatBoundsCalls(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		h.lie.busy = func(n int) bool { return n%2 == 0 }
		r := play(t, h, small, nil)
		if r.ExitCode() == 1 || len(r.Unjudged) > 0 {
			t.Errorf("exit code %d, unjudged %v\n%s", r.ExitCode(), r.Unjudged, table(r))
		}
		if c := r.Commands; c.Refused == 0 || c.Confirmed == 0 {
			t.Errorf("commands: %+v, want some refused", c)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.devices) != 0 {
			t.Errorf("%d devices left behind", len(h.devices))
		}
	})
}

func TestFaults(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		r := play(t, h, strings.Replace(small, "hold: 1500ms", "hold: 3s", 1)+`
faults:
  - {at: 300ms, drop: {pct: 50, for: 200ms}}
  - {at: 500ms, flap: {pct: 30, every: 100ms, for: 400ms}}
  - {at: 600ms, half_open: {pct: 30, for: 300ms}}
  - {at: 700ms, reboot: {pct: 40}}
  - {at: 900ms, slow_reader: {pct: 30, for: 300ms}}
  - {at: 1s, malformed: {pct: 30}}
  - {at: 1100ms, skew: {pct: 20, by: -10s, for: 200ms}}
`, nil)
		if r.Verdict("lost_acked").Count+r.Verdict("dup_stored").Count+r.Verdict("cmd_run_twice").Count > 0 {
			t.Error(table(r))
		}
		if r.History[len(r.History)-1].Drops == 0 {
			t.Errorf("no device was dropped\n%s", table(r))
		}
	})
}

func TestMisbehaviourIsNotTheHubsFault(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		r := play(t, h, `
fleet:
  - {kind: sensor, metrics: {temperature: {every: 10ms}}, misbehave: {flap: 300ms, out_of_range: 0.1, bad_unit: 0.1, malformed: 0.2, restart: 500ms}}
load: {hold: 1500ms}
assert: [lost_acked == 0, dup_stored == 0]
`, nil)
		if r.ExitCode() == 1 || r.Errors["invalid"] == 0 {
			t.Errorf("exit code %d\n%s", r.ExitCode(), table(r))
		}
	})
}

func TestRunRefuses(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		cfg := sim.Config{Profile: parse(t, small), Hub: h.url(), Username: "admin", Password: "wrong", Dial: h.net.dial}
		s, err := sim.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "unauthorized") {
			t.Errorf("wrong password: got %v", err)
		}
		cfg.Profile = parse(t, small+"\nfaults: [{at: 1s, kill_hub: {}}]\n")
		if _, err := sim.New(cfg); err == nil || !strings.Contains(err.Error(), "line ") {
			t.Errorf("kill_hub without a server: got %v", err)
		}
		if _, err := sim.New(sim.Config{}); err == nil {
			t.Error("no profile: no error")
		}
	})
}

// A hub that is gone at the end is given up soon, and nothing passes that was not judged.
func TestHubThatIsGone(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		s, err := sim.New(sim.Config{Profile: parse(t, small), Hub: h.url(), Username: "admin", Password: "secret", Dial: h.net.dial})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(500*time.Millisecond, func() { h.Kill(); cancel() })
		began := time.Now()
		r, err := s.Run(ctx)
		if err != nil || len(r.Unjudged) == 0 || r.ExitCode() != 1 {
			t.Errorf("got %v, unjudged %v", err, r.Unjudged)
		}
		if d := time.Since(began); d > 25*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// Everything but the run's id follows from the seed.
func TestPlanIsDeterministic(t *testing.T) {
	t.Parallel()
	plan := func() string {
		var b bytes.Buffer
		sim.WritePlan(&b, parse(t, small), 1, 0)
		return b.String()
	}
	if plan() != plan() {
		t.Error("two plans of one profile differ")
	}
	if !strings.Contains(plan(), "3 websocket, 3 longpoll") {
		t.Errorf("transports are not shared out by weight:\n%s", plan())
	}
}

func TestReportDir(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		dir := filepath.Join(t.TempDir(), "report")
		r := play(t, h, small+"\nfaults: [{at: 500ms, drop: {pct: 50, for: 500ms}}]\n", func(c *sim.Config) { c.Duration = 2 * time.Second })
		if err := r.WriteDir(dir); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, "report.json"))
		if err != nil {
			t.Fatal(err)
		}
		var back sim.Report
		if err := json.Unmarshal(b, &back); err != nil || back.Run != r.Run {
			t.Errorf("report.json: %v, run %q, want %q", err, back.Run, r.Run)
		}
		html, err := os.ReadFile(filepath.Join(dir, "report.html"))
		if err != nil || bytes.Contains(html, []byte("<script")) || bytes.Contains(html, []byte("http-equiv")) || bytes.Contains(html, []byte("NaN")) {
			t.Errorf("report.html: %v", err)
		}
		for _, want := range []string{
			r.Run, "Assertions", "Devices by state of their connection", "per second", ">0:02<", "99.9 %",
			"<th>issued<th>done<th>confirmed<th>unconfirmed<th>failed",
			"a command that is called confirmed, which the device never showed",
			"12 devices, for 2s", "assert lost_acked == 0",
			`title="fault: drop 50 % for 500ms"`, "cores",
		} {
			if !bytes.Contains(html, []byte(want)) {
				t.Errorf("report.html: no %q", want)
			}
		}
		fmt.Fprintln(t.Output(), table(r))
	})
}

// What a run may take after its load does not count from its beginning, or the devices of a long one would be switched off.
func TestLongRun(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		cfg := sim.Config{
			Profile: parse(t, small), Hub: h.url(), Dial: h.net.dial, Server: h,
			Username: "admin", Password: "secret", Settle: 500 * time.Millisecond, Duration: 4 * time.Second,
		}
		s, err := sim.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.SetGrace(2 * time.Second)
		r, err := s.Run(t.Context())
		if err != nil || r.ExitCode() == 1 || r.Offline > 0 {
			t.Errorf("got %v, %d devices offline\n%s", err, r.Offline, table(r))
		}
	})
}

// A fleet of which a part never got as far as the hub has shown nothing.
func TestDevicesThatNeverConnect(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		r := play(t, h, `
fleet:
  - {count: 2, kind: sensor, transport: {websocket: 0.5, mqtt: 0.5}, metrics: {temperature: {every: 50ms}}}
load: {hold: 500ms}
assert: [lost_acked == 0]
`, func(c *sim.Config) {
			c.MQTT, c.Settle = &url.URL{Scheme: "mqtt", Host: "127.0.0.1:1"}, time.Second
		})
		if r.ExitCode() != 1 || r.Offline != 1 || !strings.Contains(strings.Join(r.Unjudged, ""), "1 of 2 devices were never connected: dial tcp 127.0.0.1:1") {
			t.Errorf("exit code %d, %d offline, unjudged %q", r.ExitCode(), r.Offline, r.Unjudged)
		}
	})
}

// A device that no stage has switched on yet does not measure, and nobody misses it.
func TestStagesSwitchOn(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		r := play(t, newFakeHub(t), `
fleet:
  - {count: 4, kind: sensor, metrics: {temperature: {every: 40ms}}}
load: {stages: [{for: 800ms, pct: 50}]}
assert: [unacknowledged == 0, offline == 0]
`, func(c *sim.Config) { c.Settle = time.Second })
		if r.ExitCode() == 1 || r.Readings.Sent == 0 {
			t.Errorf("exit code %d\n%s", r.ExitCode(), table(r))
		}
	})
}
