package sim_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sim "devicehub/firmware-sim"
	"devicehub/firmware-sim/profile"
)

const kept = `
seed: 3
fleet:
  - count: 5
    kind: sensor
    transport: {websocket: 0.6, longpoll: 0.4}
    metrics: {temperature: {every: 20ms}, mode: {gen: toggle, every: 50ms}}
    batch: {max: 3, every: 100ms}
  - count: 4
    kind: sensor
    transport: {mqtt: 0.5, mqtt5: 0.5}
    qos: {0: 0.3, 1: 0.6, 2: 0.1}
    untimed: 0.5
    metrics: {temperature: {every: 40ms}}
  - {count: 1, kind: sensor, clock: {unset_pct: 100}, metrics: {temperature: {every: 30ms}}}
  - {count: 3, kind: light, behaviour: {ack_ms: 2, exec_ms: 3}}
load: {hold: 2500ms, warmup: 200ms, commands: {rate: 40/s, mix: {set: 0.8, toggle: 0.2}}, watchers: 1}
faults: [{at: 300ms, duplicate: 0.05}, {at: 2s, drop: {pct: 100, for: 100ms}}]
assert: [
  lost_acked == 0, lost_sent == 0, dup_stored == 0, value_wrong == 0, order_wrong == 0,
  series_foreign == 0, latest_wrong == 0, cmd_run_twice == 0, cmd_false_done == 0,
  cmd_false_confirmed == 0, cmd_false_failed == 0, cmd_proof_ignored == 0, cmd_differs == 0,
  leaked == 0, unacknowledged == 0,
]
`

// killed plays the beginning of a run, and returns the folder of its journal as kill -9 would leave it at some moment: without
// the last lines, and with a part of one.
func killed(t *testing.T, h *fakeHub, kept string, after time.Duration, missing int64) string {
	t.Helper()
	dir := t.TempDir()
	cfg := sim.Config{
		Profile: parse(t, kept), Hub: h.url(), MQTT: h.mqttURL(), Dial: h.net.dial, Server: h,
		Username: "admin", Password: "secret",
		Settle: 10 * time.Millisecond, Scale: 1, Keep: true, NoJudge: true,
	}
	j, err := sim.CreateJournal(dir, &cfg, []byte(kept))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Journal = j
	s, err := sim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	copied := t.TempDir()
	s.AtEndOfLoad(func() { // what stands on the disk while the devices still play
		if err := j.Flush(); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"journal", "profile.yaml"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Error(err)
			}
			if name == "journal" {
				b = b[:int64(len(b))-min(missing, int64(len(b))/2)]
			}
			if err := os.WriteFile(filepath.Join(copied, name), b, 0o644); err != nil {
				t.Error(err)
			}
		}
	})
	if _, err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	return copied
}

func resume(t *testing.T, h *fakeHub, dir string) *sim.Report {
	t.Helper()
	cfg := sim.Config{
		Hub: h.url(), MQTT: h.mqttURL(), Dial: h.net.dial, Server: h, Username: "admin", Password: "secret",
	}
	j, err := sim.OpenJournal(dir, &cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Journal, cfg.Keep, cfg.Settle = j, false, 10*time.Second
	s, err := sim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Run(t.Context())
	if err := errors.Join(err, j.Close()); err != nil {
		t.Fatal(err)
	}
	return r
}

// A run goes on where its journal ends, wherever that is, and the whole is judged: what the journal lost is not held against
// the hub.
func TestResume(t *testing.T) {
	t.Parallel()
	for name, missing := range map[string]int64{"whole": 0, "torn line": 7, "lost lines": 9000, "lost half": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T) {
				h := newFakeHub(t)
				dir := killed(t, h, kept, 1500*time.Millisecond, missing)
				r := resume(t, h, dir)
				if r.ExitCode() == 1 || len(r.Unjudged) > 0 {
					t.Errorf("exit code %d, unjudged %v\n%s", r.ExitCode(), r.Unjudged, table(r))
				}
				if missing == 0 && (r.Readings.Sent < 700 || r.Seconds < 2.5 || r.Commands.Issued < 80) {
					t.Errorf("both halves: %.1f s, %+v, %+v", r.Seconds, r.Readings, r.Commands)
				}
				if last := r.Events[0].At; last.Before(r.Began.Add(-time.Second)) || !strings.Contains(eventText(r), "taken up after") {
					t.Errorf("began %v, events %s", r.Began, eventText(r))
				}
				h.mu.Lock()
				left := len(h.devices)
				h.mu.Unlock()
				if left > 0 {
					t.Errorf("%d devices left behind", left)
				}
				if _, err := sim.OpenJournal(dir, &sim.Config{}); !errors.Is(err, sim.ErrEnded) {
					t.Errorf("a second time: got %v, want ErrEnded", err)
				}
			})
		})
	}
}

func eventText(r *sim.Report) string {
	var all []string
	for _, e := range r.Events {
		all = append(all, e.Text)
	}
	return strings.Join(all, "; ")
}

// What a hub did wrong before the kill is still found after it.
func TestResumeStillJudges(t *testing.T) {
	t.Parallel()
	tests := map[string]func(h *fakeHub){
		"lost_acked": func(h *fakeHub) { h.lie.lose = func(n int) bool { return n%40 == 0 } },
		"dup_stored": func(h *fakeHub) { h.lie.twice = func(n int) bool { return n%40 == 0 } },
	}
	for verdict, bad := range tests {
		t.Run(verdict, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T) {
				h := newFakeHub(t)
				bad(h)
				r := resume(t, h, killed(t, h, kept, 1500*time.Millisecond, 0))
				if r.Verdict(verdict).Count == 0 || r.ExitCode() != 1 {
					t.Errorf("exit code %d\n%s", r.ExitCode(), table(r))
				}
			})
		})
	}
}

// Those who mean harm go on in a run that is taken up, with what the hub still has of them.
func TestResumeBesieged(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		dir := killed(t, h, kept+`
hostile:
  - {at: 100ms, flood_readings: {rate: 100/s, for: 2s}, flood_commands: {rate: 100/s, for: 2s}}
  - {at: 100ms, hoard_retained: {rate: 100/s, for: 2s}, wrong_tokens: {rate: 100/s, for: 100ms}}
`, 1500*time.Millisecond, 0)
		cfg := sim.Config{}
		j, err := sim.OpenJournal(dir, &cfg)
		if err != nil {
			t.Fatal(err)
		}
		j.Abandon()
		guest, stolen := "sim-"+cfg.Run+"-0", "sim-"+cfg.Run+"-stolen-1-1"
		h.mu.Lock() // what a process that is killed leaves behind
		h.guests.passwords[guest], h.guests.tokens[guest] = "lost", "lost"
		h.devices[stolen] = &fakeDevice{
			id: stolen, kinds: []string{"sensor"}, stored: map[string][]fakeRow{}, seen: map[string]bool{},
			ack: map[string]uint64{},
		}
		h.mu.Unlock()
		r := resume(t, h, dir)
		if r.ExitCode() == 1 {
			t.Errorf("exit code %d\n%s", r.ExitCode(), table(r))
		}
		for i, least := range []int64{180, 180, 150, 9} {
			if b := r.Besieged[i]; b.Tried < least || b.Tried > 210 {
				t.Errorf("%+v, want about %d in both halves", b, least)
			}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if left := len(h.devices) + len(h.guests.passwords) + len(h.guests.tokens); left > 0 {
			t.Errorf("%d devices, people and accounts are left behind", left)
		}
	})
}

// A journal is not written over, and what is none is refused.
func TestJournalRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := sim.Config{Profile: parse(t, kept)}
	j, err := sim.CreateJournal(dir, &cfg, []byte(kept))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sim.CreateJournal(dir, &cfg, []byte(kept)); err == nil || !strings.Contains(err.Error(), "--resume") {
		t.Errorf("a second one: got %v", err)
	}
	if err := j.Abandon(); err != nil {
		t.Error(err)
	}
	if _, err := sim.OpenJournal(dir, &cfg); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("abandoned: got %v", err)
	}
	for _, text := range []string{"", "nonsense\n", "m\t1\n", "H\t{}\n"} {
		os.WriteFile(filepath.Join(dir, "profile.yaml"), []byte(kept), 0o600)
		os.WriteFile(filepath.Join(dir, "journal"), []byte(text), 0o600)
		if _, err := sim.OpenJournal(dir, &sim.Config{Profile: new(profile.Profile)}); err == nil {
			t.Errorf("%q was taken for a journal", text)
		}
	}
}
