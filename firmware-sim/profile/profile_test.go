package profile_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devicehub/firmware-sim/profile"
)

// A whole profile, with every section that there is.
const example = `seed: 42
fleet:
  - count: 8000
    kind: sensor
    transport: {websocket: 0.6, longpoll: 0.1, mqtt: 0.3}
    metrics: {temperature: {gen: diurnal, mean: 21, amp: 4, noise: 0.2, every: 10s, jitter: 0.3}, humidity: {gen: ou, every: 10s}, battery: {gen: drain, per_day: 0.4}}
    batch: {max: 20, every: 30s}
    clock: {skew: "normal(0,5s)", drift_ppm: 40, unset_pct: 2}
  - count: 2000
    kind: light
    behaviour: {ack_ms: "lognormal(25,0.6)", exec_ms: 40, transition: true, fail_pct: 0.5, local_press_per_h: 2}
load: {ramp: 200/s, hold: 10m, commands: {rate: 300/s, mix: {set: 0.8, toggle: 0.1, step: 0.1}}, watchers: 50}
faults: [{at: 3m, drop: {pct: 20, for: 30s}}, {at: 5m, flap: {pct: 5, every: 2s, for: 60s}}, {at: 6m, half_open: {pct: 2}}, {at: 7m, duplicate: 0.01, reorder: 0.01}, {at: 8m, kill_hub: {}}, {at: 9m, store_outage: {for: 3m}}, {revoke: {pct: 1}}]
assert: [lost_acked == 0, dup_stored == 0, cmd_run_twice == 0, presence_wrong_after(5s) == 0, p99(confirm_ms) < 250]
`

func TestExample(t *testing.T) {
	p, err := profile.Parse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	if p.Seed != 42 || p.Devices(1) != 10000 || len(p.Faults) != 7 || len(p.Assert) != 5 {
		t.Errorf("got %+v", p)
	}
	sensor, light := p.Fleet[0], p.Fleet[1]
	if len(sensor.Metrics) != 3 || sensor.Metrics[0].Every != 10*time.Second || sensor.BatchEvery != 30*time.Second || sensor.Clock.UnsetPct != 2 {
		t.Errorf("sensors: %+v", sensor)
	}
	if len(light.Transport) != 1 || light.Transport[0].Transport != "websocket" || !light.Behaviour.Transition {
		t.Errorf("lights: %+v", light)
	}
	if f := p.Faults[3]; len(f.Kinds) != 2 || f.Kinds[0].Part != 0.01 || f.At != 7*time.Minute {
		t.Errorf("fault: %+v", f)
	}
	if a := p.Assert[4]; a.Figure != "confirm_ms" || a.Pctl != 99 || a.Want != 250 || !a.Holds(249) || a.Holds(250) {
		t.Errorf("assertion: %+v", a)
	}
	if a := p.Assert[3]; a.After != 5*time.Second {
		t.Errorf("assertion: %+v", a)
	}
}

func TestErrorsNameTheLine(t *testing.T) {
	const ok = "fleet:\n  - count: 1\n    kind: sensor\n    metrics: {temperature: {}}\n"
	tests := []struct{ name, text, want string }{
		{"empty", "", "empty"},
		{"not YAML", "fleet: [", "line 1"},
		{"unknown key", ok + "lod: {}\n", `line 5: unknown key "lod"; there are assert, faults, fleet, hostile, load, seed`},
		{"unknown key deep", "fleet:\n  - kind: sensor\n    metrics:\n      temperature: {gen: ou, evry: 3s}\n", `line 4: unknown key "evry"`},
		{"twice", ok + "seed: 1\nseed: 2\n", "line "},
		{"no fleet", "seed: 1\n", "line 1: fleet"},
		{"kind", "fleet:\n  - kind: toaster\n", `line 2: kind: "toaster"`},
		{"no kind", "fleet:\n  - count: 1\n", "line 2: kind"},
		{"sensor without metrics", "fleet:\n  - kind: sensor\n", "line 2: metrics"},
		{"light with metrics", "fleet:\n  - kind: light\n    metrics: {temperature: {}}\n", "line 2: metrics"},
		{"count", "fleet:\n  - count: -1\n", `line 2: "-1"`},
		{"transport", "fleet:\n  - transport: {pigeon: 1}\n", `line 2: transport: "pigeon"`},
		{"weights", "fleet:\n  - transport: {mqtt: 0}\n", "line 2: transport: the weights"},
		{"metric name", "fleet:\n  - metrics: {Temp: {}}\n", `line 2: metrics: "Temp"`},
		{"generator", "fleet:\n  - metrics: {temperature: {gen: magic}}\n", `line 2: gen: "magic"`},
		{"choice", "fleet:\n  - metrics: {mode: {gen: choice}}\n", "line 2: gen: choice"},
		{"duration", ok + "load:\n  hold: 10\n", `line 6: "10" is not a duration`},
		{"rate", ok + "load:\n  ramp: 5\n", `line 6: "5" is not a rate`},
		{"distribution", "fleet:\n  - kind: light\n    behaviour: {ack_ms: gauss(1)}\n", `line 3: "gauss(1)" is not a distribution`},
		{"mix", ok + "load: {commands: {mix: {jump: 1}}}\n", `line 5: mix: "jump"`},
		{"commands without lights", ok + "load: {commands: {rate: 1/s}}\n", "no lights"},
		{"fault", ok + "faults:\n  - {at: 1s, earthquake: {}}\n", `line 6: unknown key "earthquake"`},
		{"fault without kind", ok + "faults:\n  - {at: 1s}\n", "line 6: a fault without a kind"},
		{"assertion", ok + "assert:\n  - lost_acked = 0\n", `line 6: "lost_acked = 0" is not an assertion`},
		{"figure", ok + "assert:\n  - happiness > 1\n", `line 6: assertion "happiness > 1"`},
		{"histogram", ok + "assert:\n  - p99(joy_ms) < 1\n", `"joy_ms" is none of`},
		{"forms", "fleet:\n  - kind: sensor\n    metrics: {temperature: {}}\n    forms: {xml: 1}\n", `line 4: forms: "xml" is none of bare, json, batch, senml, cbor`},
		{"forms of nothing", "fleet:\n  - kind: sensor\n    metrics: {temperature: {}}\n    forms: {json: 0}\n", "line 4: forms: the weights add up to nothing"},
		{"bare over channels", "fleet:\n  - kind: sensor\n    metrics: {temperature: {}}\n    forms: {bare: 1}\n", "line 4: forms: bare values travel over mqtt and mqtt5 alone, not over websocket"},
		{"no place for a bridge token", "fleet:\n  - kind: sensor\n    via: {bridge: b, trust: token}\n    metrics: {temperature: {}}\n    forms: {json: 1, senml: 1}\n", "line 5: forms: a bridge token"},
		{"qos", "fleet:\n  - kind: sensor\n    metrics: {temperature: {}}\n    qos: {3: 1}\n", `line 4: qos: "3" is none of 0, 1, 2`},
		{"untimed", "fleet:\n  - kind: sensor\n    metrics: {temperature: {}}\n    untimed: 30\n", `line 4: "30" is not a number from 0 to 1`},
		{"boot", "fleet:\n  - kind: sensor\n    metrics: {temperature: {}}\n    boot: never\n", `line 4: "never" is neither`},
		{"reconnect", "fleet:\n  - kind: light\n    reconnect: {often: 1s}\n", `line 3: unknown key "often"; there are every, reboot`},
		{"reports", "fleet:\n  - kind: light\n    behaviour: {reports: {loudly: 1}}\n", `line 3: reports: "loudly" is none of after, before, early, plain, asked, never`},
		{"dips of no counter", "fleet:\n  - kind: sensor\n    metrics: {temperature: {gen: ou, dips: 0.1}}\n", "line 3: resets and dips are those of a counter"},
		{"fault of nobody", ok + "faults:\n  - {at: 1s, drop: {of: Ghost}}\n", `line 6: faults: no group of the fleet has the name "Ghost"`},
		{"clone", ok + "faults:\n  - {at: 1s, clone: {within: soon}}\n", `line 6: "soon" is not a duration`},
		{"percentile", ok + "assert:\n  - p0(ack_ms) < 1\n", "not a percentile"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := profile.Parse([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	if _, err := profile.Read(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("no such file: no error")
	}
}

func TestPercentiles(t *testing.T) {
	for text, want := range map[string]float64{"p50": 50, "p99": 99, "p999": 99.9, "p99.9": 99.9, "p9999": 99.99, "max": 100} {
		a, err := profile.ParseAssertion(text + "(ack_ms) <= 5")
		if err != nil || a.Pctl < want-1e-9 || a.Pctl > want+1e-9 {
			t.Errorf("%s: got %v, %v, want %v", text, a.Pctl, err, want)
		}
	}
}

func TestDistributions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for text, want := range map[string][2]float64{ // bounds of the mean of many
		"40": {40, 40}, "1s": {1000, 1000}, "uniform(10,30)": {19, 21}, "normal(0,5s)": {-200, 200}, "exp(100ms)": {95, 105}, "lognormal(25,0.6)": {28, 32},
	} {
		d, err := profile.ParseDist(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		sum := 0.0
		const n = 20000
		for range n {
			sum += d.Sample(r)
		}
		if mean := sum / n; mean < want[0]-1e-9 || mean > want[1]+1e-9 {
			t.Errorf("%s: mean %g, want %v", text, mean, want)
		}
	}
	for _, bad := range []string{"", "x", "normal", "normal(1)", "normal(1,-1)", "uniform(2,1)", "exp(0)", "normal(1,2", "NaN"} {
		if _, err := profile.ParseDist(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// A group that says nothing writes in every form; one behind a bridge with tokens in those that
// have a place for one.
func TestForms(t *testing.T) {
	p, err := profile.Parse([]byte(`
fleet:
  - {kind: sensor, metrics: {temperature: {}}}
  - {kind: sensor, via: {bridge: b, trust: token}, metrics: {temperature: {}}}
  - {kind: sensor, transport: mqtt, forms: {bare: 1}, qos: {0: 1}, metrics: {temperature: {}}}
  - {kind: sensor, forms: {bare: 0.3, json: 0.4, batch: 0.2, senml: 0.1}, untimed: 0.5, plain: 0, units: 1, boot: false, metrics: {temperature: {}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	names := func(f profile.Forms) string {
		var out []string
		for _, k := range f.Kinds {
			out = append(out, k.Name)
		}
		return strings.Join(out, " ")
	}
	for i, want := range []string{strings.Join(profile.FormKinds, " "), "json batch", "bare", "bare json batch senml"} {
		if got := names(p.Fleet[i].Forms); got != want {
			t.Errorf("group %d: %s, want %s", i, got, want)
		}
	}
	if f := p.Fleet[0].Forms; f.Untimed <= 0 || f.Plain <= 0 || f.Units <= 0 || f.QoS[0] <= 0 || f.QoS[1] <= 0 || f.QoS[2] <= 0 || f.NoBoot {
		t.Errorf("what says nothing: %+v", f)
	}
	if f := p.Fleet[2].Forms; f.Untimed != 1 || f.QoS != [3]float64{1, 0, 0} {
		t.Errorf("bare alone: %+v; such devices have no times", f)
	}
	if f := p.Fleet[3].Forms; f.Untimed != 0.5 || f.Plain != 0 || f.Units != 1 || !f.NoBoot {
		t.Errorf("as it was said: %+v", f)
	}
}

// Counters rise but for resets and dips, angles stay in the circle and cross the north.
func TestCountersAndAngles(t *testing.T) {
	p, err := profile.Parse([]byte(`
fleet:
  - kind: sensor
    metrics:
      energy: {gen: counter, mean: 1000, per_day: 5000, digits: 3, resets: 10m, dips: 0.1}
      wind_direction: {gen: angle, noise: 20}
`))
	if err != nil {
		t.Fatal(err)
	}
	meter := profile.NewSource(p.Fleet[0].Metrics[0].Gen, rand.New(rand.NewPCG(1, 2)))
	vane := profile.NewSource(p.Fleet[0].Metrics[1].Gen, rand.New(rand.NewPCG(1, 2)))
	at := time.UnixMilli(1_700_000_000_000)
	resets, dips, crossed, before, was := 0, 0, 0, 0.0, 0.0
	for range 2000 {
		at = at.Add(5 * time.Second)
		v, d := meter.Next(at).(float64), vane.Next(at).(float64)
		switch {
		case v < before/2:
			resets++
		case v < before:
			dips++
			if before-v > 0.0011 {
				t.Fatalf("fell from %v to %v", before, v)
			}
		}
		if d < 0 || d >= 360 {
			t.Fatalf("an angle of %v", d)
		}
		if was-d > 180 || d-was > 180 {
			crossed++
		}
		before, was = v, d
	}
	if resets < 5 || dips < 50 || crossed < 10 {
		t.Errorf("%d resets, %d dips, crossed the north %d times", resets, dips, crossed)
	}
	if v := meter.Next(at.Add(-time.Hour)).(float64); v != v {
		t.Error("a time that goes back makes no number")
	}
}

// Values follow from the seed and the times alone, and stay in their bounds.
func TestSourcesAreDeterministic(t *testing.T) {
	for _, gen := range []string{"constant", "diurnal", "ou", "drain", "counter", "angle", "random", "toggle"} {
		p, err := profile.Parse([]byte("fleet:\n  - kind: sensor\n    metrics: {humidity: {gen: " + gen + ", min: 20, max: 70}}\n"))
		if err != nil {
			t.Fatal(err)
		}
		g := p.Fleet[0].Metrics[0].Gen
		a := profile.NewSource(g, rand.New(rand.NewPCG(1, 2)))
		b := profile.NewSource(g, rand.New(rand.NewPCG(1, 2)))
		at := time.UnixMilli(1_700_000_000_000)
		for range 500 {
			at = at.Add(7 * time.Second)
			x, y := a.Next(at), b.Next(at)
			if x != y {
				t.Fatalf("%s: %v and %v", gen, x, y)
			}
			if f, ok := x.(float64); ok && gen != "angle" && (f < 20 || f > 70) {
				t.Fatalf("%s: %v out of bounds", gen, f)
			}
		}
	}
}

// Those who mean harm have a kind, its knobs and their defaults.
func TestHostile(t *testing.T) {
	const fleet = "fleet: [{count: 200, kind: sensor, metrics: {temperature: {}}}]\n"
	p, err := profile.Parse([]byte(fleet + `
hostile:
  - {at: 30s, flood_readings: {count: 3, rate: 100/s, size: 500, transport: mqtt5, for: 20s, within: 3s}}
  - {flood_tokens: {pct: 2}, slow_watchers: {}}
`))
	if err != nil {
		t.Fatal(err)
	}
	h := p.Hostile
	want := profile.Hostile{Kind: profile.FloodReadings, Line: h[0].Line, At: 30 * time.Second, For: 20 * time.Second,
		Count: 3, Rate: 100, Size: 500, Transport: "mqtt5", Within: 3 * time.Second}
	if len(h) != 3 || h[0] != want || h[0].Parties(2, 400) != 6 || h[0].By() != profile.ByDevice {
		t.Errorf("got %+v", h)
	}
	if x := h[1]; x.Kind != profile.FloodTokens || x.At != 0 || x.For != 10*time.Second || x.Rate == 0 ||
		x.Transport != "websocket" || x.Within == 0 || x.Parties(1, 200) != 4 || x.Parties(1, 10) != 1 {
		t.Errorf("defaults: %+v", x)
	}
	if x := h[2]; x.By() != profile.ByPerson || !x.MustCut() || h[0].MustCut() {
		t.Errorf("got %+v", x)
	}
	for _, tt := range []struct{ text, want string }{
		{"{at: 3s}", "hostile: what they do is missing: one of deaf_readers, flood_commands, "},
		{"{mischief: {}}", `unknown key "mischief"`},
		{"{flood_tokens: {size: 3}}", `unknown key "size"; there are count, for, pct, rate, transport, within`},
		{"{flood_commands: {pct: 3}}", `unknown key "pct"`},
		{"{hoard_retained: {transport: websocket}}", `"websocket" is none of mqtt5, mqtt`},
		{"{wrong_tokens: {rate: 5}}", `"5" is not a rate`},
		{"{wrong_tokens: {count: 0}}", `"0" is not a whole number from 1`},
	} {
		if _, err := profile.Parse([]byte(fleet + "hostile:\n  - " + tt.text + "\n")); err == nil ||
			!strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "line 3: ") {
			t.Errorf("%s: got %v, want %q", tt.text, err, tt.want)
		}
	}
	for _, kind := range profile.HostileKinds() {
		if _, err := profile.Parse([]byte(fleet + "hostile: [{" + string(kind) + ": {}}]\n")); err != nil {
			t.Error(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	if b, err := os.ReadFile("../../configs/fleet/chaos.yaml"); err == nil {
		f.Add(b)
	}
	f.Add([]byte("fleet: &a\n  - *a\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := profile.Parse(b)
		if err == nil && p.Devices(1) < 1 {
			t.Error("a profile without devices passed")
		}
	})
}
