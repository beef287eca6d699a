package profile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Generator says how the values of a metric come about.
type Generator struct {
	Kind   string // constant, diurnal, ou, drain, counter, angle, random, toggle, choice
	Mean   float64
	Amp    float64
	Noise  float64
	Min    float64
	Max    float64
	PerDay float64
	Theta  float64  // ou: return to the mean, per second
	Digits int      // after the point, 1 by default
	Values []string // choice

	Resets time.Duration // counter: mean time between restarts from 0; 0: none
	Dips   float64       // counter: part of the values, 0 to 1, below the one before by one in the last digit
}

var (
	generators = []string{"constant", "diurnal", "ou", "drain", "counter", "angle", "random", "toggle", "choice"}
	metricName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

	// Where metrics of the default catalogue start from, when the profile does not say.
	means = map[string][2]float64{
		"temperature": {21, 3}, "humidity": {45, 10}, "pressure": {1013, 8}, "air_pressure": {1013, 8}, "illuminance": {300, 280},
		"co2": {650, 200}, "battery": {90, 5}, "voltage": {230, 3}, "power": {120, 80}, "energy": {10, 5}, "rssi": {-60, 10},
		"pm25": {8, 4}, "sound": {40, 8}, "moisture": {35, 10}, "wind_speed": {4, 3}, "wind_direction": {0, 60},
	}
)

func parseMetric(key, n *yaml.Node) (Metric, error) {
	m := Metric{Name: key.Value, Every: 10 * time.Second, Gen: Generator{Kind: "ou", Digits: 1, Theta: 0.02, PerDay: 1}}
	if !metricName.MatchString(m.Name) {
		return m, at(key, "metrics: %q is no name for a metric (a-z, 0-9 and _, at most 32)", m.Name)
	}
	g := &m.Gen
	g.Mean, g.Amp = 50, 10
	if d, ok := means[m.Name]; ok {
		g.Mean, g.Amp = d[0], d[1]
	}
	g.Noise = g.Amp / 20
	g.Min, g.Max = math.Inf(-1), math.Inf(1)
	finite := func(out *float64) func(*yaml.Node) error {
		return func(n *yaml.Node) error { return number(n, out, -1e12, 1e12) }
	}
	err := object(n, keys{
		"gen": func(n *yaml.Node) error {
			if g.Kind = n.Value; !slices.Contains(generators, g.Kind) {
				return at(n, "gen: %q is none of %s", n.Value, strings.Join(generators, ", "))
			}
			return nil
		},
		"mean": finite(&g.Mean), "amp": finite(&g.Amp), "noise": finite(&g.Noise), "min": finite(&g.Min), "max": finite(&g.Max),
		"per_day": finite(&g.PerDay), "theta": func(n *yaml.Node) error { return number(n, &g.Theta, 0, 1) },
		"digits": func(n *yaml.Node) error { return between(n, &g.Digits, 0, 9) },
		"resets": func(n *yaml.Node) error { return duration(n, &g.Resets) },
		"dips":   func(n *yaml.Node) error { return number(n, &g.Dips, 0, 1) },
		"values": func(n *yaml.Node) (err error) { g.Values, err = texts(n); return },
		"every":  func(n *yaml.Node) error { return duration(n, &m.Every) },
		"jitter": func(n *yaml.Node) error { return number(n, &m.Jitter, 0, 1) },
		"unit":   func(n *yaml.Node) error { return text(n, &m.Unit) },
	})
	if err == nil && g.Kind == "choice" && len(g.Values) == 0 {
		err = at(n, "gen: choice needs values")
	}
	if err == nil && g.Kind != "counter" && (g.Resets > 0 || g.Dips > 0) {
		err = at(n, "resets and dips are those of a counter")
	}
	if err == nil && g.Min > g.Max {
		err = at(n, "min is above max")
	}
	return m, err
}

// A Source draws the values of one metric of one device.
type Source struct {
	g     Generator
	r     *rand.Rand
	phase float64
	x     float64
	shown float64 // of a counter
	last  time.Time
	on    bool
}

// NewSource returns a source that is deterministic in r and the times it is asked for.
func NewSource(g Generator, r *rand.Rand) *Source {
	s := &Source{g: g, r: r, phase: r.Float64() * 0.1, x: g.Mean + g.Amp*(r.Float64()-0.5), shown: g.Mean}
	s.on = r.IntN(2) == 0
	return s
}

// Next returns the value at t: a float64, bool or string.
func (s *Source) Next(t time.Time) any {
	g := &s.g
	dt := 0.0
	if !s.last.IsZero() {
		dt = max(0, t.Sub(s.last).Seconds())
	}
	s.last = t
	day := float64(t.UnixMilli()%86_400_000) / 86_400_000
	var v float64
	switch g.Kind {
	case "constant":
		v = g.Mean
	case "diurnal":
		v = g.Mean + g.Amp*math.Sin(2*math.Pi*(day+s.phase-0.25)) + g.Noise*s.r.NormFloat64()
	case "ou": // Ornstein-Uhlenbeck: wanders, and returns to the mean
		s.x += g.Theta*(g.Mean-s.x)*min(dt, 1/max(g.Theta, 1e-9)) + g.Noise*math.Sqrt(min(dt, 60))*s.r.NormFloat64()
		v = s.x
	case "drain":
		s.x = max(s.x-g.PerDay*dt/86_400, 0)
		v = s.x
	case "counter":
		s.x += g.PerDay * dt / 86_400 * 2 * s.r.Float64()
		if g.Resets > 0 && s.r.Float64() < dt/g.Resets.Seconds() {
			s.x = 0
		}
		if v = s.x; g.Dips > 0 && v > 0 && s.r.Float64() < g.Dips {
			v = max(0, s.shown-math.Pow10(-g.Digits))
		}
		s.shown = v
	case "angle": // wanders about its mean, which may lie in the north
		s.x += g.Theta*(g.Mean-s.x)*min(dt, 1/max(g.Theta, 1e-9)) + g.Noise*math.Sqrt(min(dt, 60))*s.r.NormFloat64()
		p := math.Pow10(g.Digits)
		return math.Mod(math.Round(math.Mod(math.Mod(s.x, 360)+360, 360)*p)/p, 360)
	case "random":
		lo, hi := g.Mean-g.Amp, g.Mean+g.Amp
		v = lo + (hi-lo)*s.r.Float64()
	case "toggle":
		s.on = !s.on
		return s.on
	case "choice":
		return g.Values[s.r.IntN(len(g.Values))]
	}
	p := math.Pow10(g.Digits)
	return math.Round(min(max(v, g.Min), g.Max)*p) / p
}

// String describes the generator, for a dry run.
func (g Generator) String() string { return fmt.Sprintf("%s(%g±%g)", g.Kind, g.Mean, g.Amp) }
