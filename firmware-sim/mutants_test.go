package sim_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	sim "devicehub/firmware-sim"
	"devicehub/firmware-sim/profile"
)

// everything is a fleet that uses every form, transport and way to report, and whose devices leave
// and come back.
const everything = `
seed: 4
fleet:
  - count: 6
    kind: sensor
    transport: {websocket: 0.34, longpoll: 0.16, mqtt: 0.25, mqtt5: 0.25}
    metrics: {temperature: {every: 40ms}, humidity: {every: 50ms}}
  - count: 3
    kind: sensor
    transport: {websocket: 0.4, mqtt5: 0.6}
    batch: {max: 3, every: 100ms}
    metrics:
      motion: {gen: toggle, every: 30ms}
      mode: {gen: choice, values: [heat, cool], every: 60ms}
  - count: 4
    kind: sensor
    transport: {mqtt: 0.5, mqtt5: 0.5}
    untimed: 1
    forms: {bare: 1, json: 1}
    qos: {0: 0.3, 1: 0.6, 2: 0.1}
    metrics: {temperature: {every: 30ms}}
    reconnect: {every: 600ms}
  - count: 2
    kind: sensor
    transport: {mqtt: 0.5, websocket: 0.5}
    metrics: {temperature: {every: 60ms}}
    reconnect: {every: 600ms, reboot: true}
  - count: 2
    kind: sensor
    metrics:
      energy:
        {gen: counter, mean: 1000, per_day: 900000, digits: 3, every: 25ms, resets: 900ms, dips: 0.1}
      wind_direction: {gen: angle, amp: 4, noise: 10, every: 25ms}
  - count: 4
    kind: light
    transport: {websocket: 0.4, longpoll: 0.1, mqtt: 0.25, mqtt5: 0.25}
    behaviour:
      {ack_ms: 2, exec_ms: 3, fail_pct: 10, reports: {after: 3, before: 1, early: 1, plain: 1, asked: 1}}
load:
  hold: 2s
  warmup: 200ms
  commands: {rate: 30/s, mix: {set: 0.6, toggle: 0.1, step: 0.1, identify: 0.2}}
  watchers: 2
faults:
  - {at: 400ms, blip: {pct: 100}}
  - {at: 900ms, reconnect: {pct: 30, every: 200ms, for: 400ms}}
  - {at: 1s, drop: {pct: 15, for: 100ms}}
`

// holds asserts that every figure is as it should be. What takes time has a bound that a busy
// machine keeps.
func holds() string {
	asserts := []string{}
	for _, name := range profile.Counts {
		switch name {
		case "clone_missed", "errors", "presence_wrong_after":
		case "commands_failed",
			"commands_unconfirmed": // some lights fail, and some report too late, when they are otherwise again
		default:
			asserts = append(asserts, name+" == 0")
		}
	}
	asserts = append(asserts, "presence_wrong_after(500ms) == 0")
	return "assert: [" + strings.Join(asserts, ", ") + "]\n"
}

// A good hub passes whatever devices do: in every form, over every transport, leaving and coming
// back, with blips.
func TestAGoodHubPassesEverything(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		r := play(t, h, strings.Replace(everything, "hold: 2s", "hold: 4s", 1)+holds(), nil)
		if r.ExitCode() == 1 {
			t.Errorf("exit code %d\n%s", r.ExitCode(), table(r))
		}
		for _, v := range r.Verdicts {
			if !v.Seen() && v.Idle == "" {
				t.Errorf("%s: nothing was checked", v.Name)
			}
		}
		c := r.Commands
		if sum := c.Done + c.Confirmed + c.Unconfirmed + c.Failed + c.Superseded + c.Refused + c.Open; sum != c.Issued ||
			c.Done == 0 ||
			c.Confirmed == 0 {
			t.Errorf("%d commands, of which %+v", c.Issued, c)
		}
		if r.Readings.Unheard == 0 {
			t.Error("nothing was sent at QoS 0")
		}
		t.Log(table(r))
	})
}

// mutant is a hub with one lie, and how it is to be found out.
type mutant struct {
	lie     func(l *lies)
	profile string // everything, unless it says otherwise
	assert  string // FIGURE == 0, unless it says otherwise
	with    func(s *sim.Sim)
	text    string // in the first finding
}

var mutants = map[string]mutant{
	"lost_acked":  {lie: func(l *lies) { l.lose = func(n int) bool { return n%50 == 0 } }},
	"lost_sent":   {lie: func(l *lies) { l.loseUnheard = true }},
	"dup_stored":  {lie: func(l *lies) { l.twice = func(n int) bool { return n%50 == 0 } }},
	"value_wrong": {lie: func(l *lies) { l.alter = func(n int) bool { return n%50 == 0 } }},
	"order_wrong": {lie: func(l *lies) { l.swap = true }},
	"series_foreign": {
		lie:  func(l *lies) { l.rename = func(n int) bool { return n%50 == 0 } },
		text: `"{\"m\":\"temp"`,
	},
	"series_differs":   {lie: func(l *lies) { l.miscount = true }, text: "series counts"},
	"series_wrong":     {lie: func(l *lies) { l.straight = true }, text: "the mean direction"},
	"window_wrong":     {lie: func(l *lies) { l.shortSum = true }},
	"latest_wrong":     {lie: func(l *lies) { l.stale = true }},
	"latest_backwards": {lie: func(l *lies) { l.backwards = true }},
	"leaked":           {lie: func(l *lies) { l.leak = true }},
	"unacknowledged":   {lie: func(l *lies) { l.ignore = true }},
	"refused":          {lie: func(l *lies) { l.refuse = func(n int) bool { return n%50 == 0 } }},
	"errors":           {lie: func(l *lies) { l.refuse = func(n int) bool { return n%50 == 0 } }},

	"cmd_run_twice": {lie: func(l *lies) { l.resend = true }, profile: `
fleet: [{kind: light, behaviour: {ack_ms: 1, exec_ms: 1}}]
load: {hold: 1s, commands: {rate: 100/s}}
`},
	"cmd_lost":             {lie: func(l *lies) { l.forget = true }},
	"cmd_false_done":       {lie: func(l *lies) { l.falseDone = true }, profile: hanging},
	"cmd_false_confirmed":  {lie: func(l *lies) { l.falseConfirm = true }, profile: silent},
	"cmd_false_failed":     {lie: func(l *lies) { l.falseFailed = true }},
	"cmd_proof_ignored":    {lie: func(l *lies) { l.blindToProof = true }, profile: longer},
	"cmd_differs":          {lie: func(l *lies) { l.record = "done" }},
	"commands_unconfirmed": {lie: func(l *lies) { l.blindToProof = true }, profile: longer},
	"commands_failed":      {lie: func(l *lies) { l.falseFailed = true }, profile: longer},

	"presence_wrong_after": {
		lie:    func(l *lies) { l.wrongPresence = true },
		assert: "presence_wrong_after(500ms) == 0",
		profile: `
fleet: [{count: 3, kind: sensor, metrics: {temperature: {every: 50ms}}}]
load: {hold: 4s}
faults: [{at: 500ms, drop: {pct: 100, for: 4s}}]
`,
	},
	"close_wrong":  {lie: func(l *lies) { l.lost = true }},
	"clone_missed": {lie: func(l *lies) { l.oneOfTwo = true }, profile: cloned},
	"clone_false": {
		lie:     func(l *lies) { l.twoOfOne = true },
		profile: strings.Replace(everything, "hold: 2s", "hold: 4s", 1),
	},
	"offline": {lie: func(l *lies) { l.denyAgain = true }, profile: `
fleet: [{count: 3, kind: sensor, transport: {websocket: 0.4, mqtt: 0.6}, metrics: {temperature: {every: 50ms}}}]
load: {hold: 1s}
faults: [{at: 500ms, drop: {pct: 100, for: 100ms}}]
`},

	"ack_ms":     {lie: func(l *lies) { l.slow = 50 * time.Millisecond }, assert: "p50(ack_ms) < 40"},
	"replay_ms":  {lie: func(l *lies) { l.slow = 50 * time.Millisecond }, assert: "p50(replay_ms) < 40"},
	"watch_ms":   {lie: func(l *lies) { l.slowFeed = 200 * time.Millisecond }, assert: "p50(watch_ms) < 150"},
	"done_ms":    {lie: func(l *lies) { l.slow = 100 * time.Millisecond }, assert: "p50(done_ms) < 90"},
	"confirm_ms": {lie: func(l *lies) { l.slow = 100 * time.Millisecond }, assert: "p50(confirm_ms) < 90"},
	"reach_ms":   {lie: func(l *lies) { l.hold = 300 * time.Millisecond }, assert: "p50(reach_ms) < 250"},
	"blip_ms":    {lie: func(l *lies) { l.hold = 300 * time.Millisecond }, assert: "max(blip_ms) < 250"},
	"connect_ms": {lie: func(l *lies) { l.slowConnect = 150 * time.Millisecond }, assert: "p50(connect_ms) < 100"},
	"join_ms":    {lie: func(l *lies) { l.slowJoin = 150 * time.Millisecond }, assert: "p90(join_ms) < 100"},
	"hostile_unchecked": {
		lie:     func(l *lies) { l.tolerant = true },
		profile: flooded,
		text:    "nobody was refused or cut off",
	},
	"hostile_harm": {
		lie:     func(l *lies) { l.suffer = 100 * time.Millisecond },
		profile: flooded,
		assert:  "hostile_harm < 3",
	},
	"ack_quiet_ms": {
		lie:     func(l *lies) { l.slow = 50 * time.Millisecond },
		profile: flooded,
		assert:  "p50(ack_quiet_ms) < 40",
	},
	"ack_hostile_ms": {
		lie:     func(l *lies) { l.suffer = 50 * time.Millisecond },
		profile: flooded,
		assert:  "p50(ack_hostile_ms) < 40",
	},
	"hostile_answer_ms": {
		lie:     func(l *lies) { l.slow = 50 * time.Millisecond },
		profile: flooded,
		assert:  "p50(hostile_answer_ms) < 40",
	},
	"clone_ms": {lie: func(l *lies) { l.oneOfTwo = true }, profile: cloned, assert: "max(clone_ms) < 3000"},
	"backlog_ms": {
		lie:    func(l *lies) { l.slowBridge = 2500 * time.Millisecond },
		assert: "max(backlog_ms) < 2000",
		profile: `
fleet: [{count: 4, kind: sensor, via: house, untimed: 0, metrics: {temperature: {every: 50ms}}}]
load: {hold: 4s}
faults: [{at: 1s, kill_hub: {for: 300ms}}]
`,
	},
	// Of the simulator's own lag no hub is to blame: it is kept from its work.
	"lag_ms": {lie: func(*lies) {}, assert: "max(lag_ms) < 300", with: func(s *sim.Sim) {
		time.AfterFunc(time.Second, func() { s.Wish(func() { time.Sleep(400 * time.Millisecond) }) })
	}},
}

const (
	hanging = `
fleet: [{count: 2, kind: light, behaviour: {ack_ms: 1, exec_ms: 1, hang_pct: 100}}]
load: {hold: 1s, commands: {rate: 10/s}}
`
	silent = `
fleet: [{count: 2, kind: light, behaviour: {ack_ms: 1, exec_ms: 1, reports: {never: 1}}}]
load: {hold: 1s, commands: {rate: 10/s}}
`
	cloned = `
fleet: [{count: 2, kind: sensor, transport: {mqtt: 0.5, mqtt5: 0.5}, boot: false, metrics: {temperature: {every: 50ms}}}]
load: {hold: 6s, warmup: 100ms}
faults: [{at: 500ms, clone: {pct: 100, for: 4s, within: 4s}}]
`
	flooded = `
fleet: [{count: 6, kind: sensor, transport: {websocket: 0.5, mqtt5: 0.5}, metrics: {temperature: {every: 100ms}}}]
load: {hold: 30s, warmup: 1s}
hostile: [{at: 14s, flood_readings: {rate: 150/s, for: 12s}}]
`
	// Long enough that what a hub has heard is not of this very moment.
	longer = `
fleet: [{count: 2, kind: light, behaviour: {ack_ms: 1, exec_ms: 1}}]
load: {hold: 1s, commands: {rate: 10/s, life: 5s}}
`
)

// Each figure that can be asserted has a hub that lies about it, and the judge finds that out.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("plays for minutes")
	}
	t.Parallel()
	for _, figure := range slices.Concat(profile.Counts, profile.Histograms) {
		m, ok := mutants[figure]
		if !ok {
			t.Errorf("%s: no hub lies about it; give it one in mutants", figure)
			continue
		}
		t.Run(figure, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T) {
				text, assert := m.profile, m.assert
				if text == "" {
					text = everything
				}
				if assert == "" {
					assert = figure + " == 0"
				}
				h := newFakeHub(t)
				m.lie(&h.lie)
				r := playWith(t, h, text+"assert: ["+assert+"]\n", func(c *sim.Config) {
					c.Settle = 2 * time.Second
					if strings.Contains(text, "via: house") {
						c.Bridge = h.bridged(t)
					}
				}, m.with)
				a := r.Assertions[0]
				if a.Holds || !a.Known {
					t.Errorf("%+v: not found out\n%s", a, table(r))
				}
				if r.ExitCode() == 0 {
					t.Errorf("exit code 0\n%s", table(r))
				}
				v := r.Verdict(strings.TrimSuffix(figure, "_after"))
				if !slices.ContainsFunc(r.Verdicts, func(x sim.Verdict) bool { return x.Name == v.Name }) {
					return // it is a count
				}
				if v.Count == 0 || len(v.First) == 0 || len(v.First[0].Line) == 0 ||
					!strings.Contains(v.First[0].Text, m.text) {
					t.Errorf("%s: %+v; want it found, with its time line\n%s", figure, v, table(r))
				}
				if out := table(r); !strings.Contains(out, "BROKEN  "+v.Name) || !strings.Contains(out, "verdict: failed") {
					t.Errorf("the table does not say so:\n%s", out)
				}
			})
		})
	}
}

// A good hub is not accused by the profiles that are made for bad ones.
func TestMutantsProfilesPass(t *testing.T) {
	if testing.Short() {
		t.Skip("plays for a minute")
	}
	t.Parallel()
	for figure, m := range mutants {
		if m.profile == "" || figure == "lag_ms" || figure == "cmd_run_twice" {
			continue
		}
		t.Run(figure, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T) {
				assert := m.assert
				if assert == "" {
					assert = figure + " == 0"
				}
				h := newFakeHub(t)
				r := play(t, h, m.profile+"assert: ["+assert+"]\n", func(c *sim.Config) {
					c.Settle = 2 * time.Second
					if strings.Contains(m.profile, "via: house") {
						c.Bridge = h.bridged(t)
					}
				})
				if a := r.Assertions[0]; a.Known && !a.Holds {
					t.Errorf("%+v\n%s", a, table(r))
				}
			})
		})
	}
}
