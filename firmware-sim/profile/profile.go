// Package profile reads the YAML that says what a simulated fleet is and does. Whatever is wrong with it is an error that
// names the line.
package profile

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Profile is one run: who takes part, how they are loaded, what goes wrong, and what must hold.
type Profile struct {
	Seed   uint64
	Fleet  []Group
	Load   Load
	Faults []Fault
	// Hostile are those who mean the hub harm. They are no part of the fleet, and nothing is
	// judged by what becomes of them.
	Hostile []Hostile
	Assert  []Assertion
}

// Devices is how many devices the fleet has at a scale.
func (p *Profile) Devices(scale float64) (n int) {
	for i := range p.Fleet {
		n += p.Fleet[i].Devices(scale)
	}
	return n
}

// A Group is a number of devices that are alike.
type Group struct {
	Count      int
	Name       string // shown on the dashboard, numbered
	Sensor     bool
	Light      bool
	Transport  []Share
	Via        *Via     // nil: straight to the hub
	Area       []string // devices take turns
	Labels     map[string]string
	Metrics    []Metric
	Forms      Forms
	BatchMax   int
	BatchEvery time.Duration // 0: a push as soon as the batch is full
	Clock      Clock
	Behaviour  Behaviour
	Reconnect  Reconnect
	Misbehave  Misbehaviour
}

// Devices is how many devices the group has at a scale: one at least.
func (g *Group) Devices(scale float64) int { return max(1, int(math.Round(float64(g.Count)*scale))) }

// Via puts devices behind a bridge: they speak MQTT to its broker.
type Via struct {
	Bridge string // its name in the hub's configuration
	Token  bool   // trust: token, so that every message carries a bridge token
}

// A Share is a part of a group that takes one transport: websocket, longpoll, mqtt (3.1.1) or mqtt5.
type Share struct {
	Transport string
	Weight    float64
}

// A Metric is what a sensor measures, and how often.
type Metric struct {
	Name   string
	Gen    Generator
	Every  time.Duration
	Jitter float64 // part of Every, 0 to 1
	Unit   string  // sent with each value; "" is the canonical one
}

// Clock is how wrong a device's clock is.
type Clock struct {
	Skew     *Dist // milliseconds
	DriftPPM float64
	UnsetPct float64 // of the devices have no clock: they count from 1970
}

// Reconnect is the habit of closing the connection in order, behind some last readings, and coming
// straight back.
type Reconnect struct {
	Every  time.Duration // mean time between; 0: never
	Reboot bool          // each time as another power-up, as a device does that sleeps deeply
}

// Reports are the ways in which a light shows what a command has made of it.
var Reports = []string{
	"after",  // it is done, and then reports its state, for that command
	"before", // it reports, and then says that it is done
	"early",  // it reports, for no command, before it has answered at all
	"plain",  // it is done, and then reports, for no command
	"asked",  // it reports when it is asked to
	"never",  // it does not report, whoever asks
}

// Behaviour is that of lights.
type Behaviour struct {
	Ack        *Dist // ms
	Exec       *Dist // ms
	Transition bool
	FailPct    float64
	HangPct    float64  // of the commands are acknowledged, and nothing comes of them
	Reports    []Weight // drawn for each command
	PressPerH  float64
	Modes      []string
	MinKelvin  int
	MaxKelvin  int
	Effects    []string
}

// Misbehaviour is what a bad device does, besides what a good one does. Zero is none.
type Misbehaviour struct {
	Flap       time.Duration // mean time between broken connections
	OutOfRange float64       // part of the values, 0 to 1
	BadUnit    float64
	Malformed  float64 // part of the moments at which something else than a reading is sent
	Restart    time.Duration
}

// Bad reports whether there is any.
func (m Misbehaviour) Bad() bool { return m != Misbehaviour{} }

// Load is what happens to the fleet while it runs.
type Load struct {
	Ramp     float64       // devices switched on per second, 0: all at once
	Stages   []Stage       // instead of a ramp
	Hold     time.Duration // from the first device to the end; 0: as long as the stages, without any until stopped
	Warmup   time.Duration // left out of the histograms; by default the ramp and 2 s
	Commands Commands
	Watchers int
}

// Commands is what people do to the lights.
type Commands struct {
	Rate float64 // per second
	Mix  []Weight
	Life time.Duration // expires_in_ms, 0: the hub's default
}

// A Weight is one of a mix.
type Weight struct {
	Name   string
	Weight float64
}

// Ops that a mix may hold.
var ops = []string{"set", "toggle", "step", "identify", "refresh", "restart"}

// Load reads and checks a profile file.
func Read(path string) (*Profile, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

// Parse reads and checks a profile.
func Parse(b []byte) (*Profile, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err // yaml's own error names the line
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 {
		return nil, errors.New("the profile is empty")
	}
	p := &Profile{Seed: 1}
	root := doc.Content[0]
	err := object(root, keys{
		"seed":  func(n *yaml.Node) error { return whole(n, &p.Seed) },
		"fleet": func(n *yaml.Node) error { return list(n, func(n *yaml.Node) error { return p.addGroup(n) }) },
		"load":  func(n *yaml.Node) error { return p.Load.parse(n) },
		"faults": func(n *yaml.Node) error {
			return list(n, func(n *yaml.Node) error {
				f, err := parseFault(n)
				p.Faults = append(p.Faults, f)
				return err
			})
		},
		"hostile": func(n *yaml.Node) error {
			return list(n, func(n *yaml.Node) error {
				h, err := parseHostile(n)
				p.Hostile = append(p.Hostile, h...)
				return err
			})
		},
		"assert": func(n *yaml.Node) error {
			return list(n, func(n *yaml.Node) error {
				a, err := ParseAssertion(n.Value)
				if err != nil {
					return at(n, "%v", err)
				}
				p.Assert = append(p.Assert, a)
				return nil
			})
		},
	})
	if err != nil {
		return nil, err
	}
	if len(p.Fleet) == 0 {
		return nil, at(root, "fleet: at least one group")
	}
	if p.Load.Ramp > 0 && len(p.Load.Stages) > 0 {
		return nil, at(inside(root, "load", "stages"), "load: a ramp or stages, not both")
	}
	if p.Load.Commands.Rate > 0 && !slices.ContainsFunc(p.Fleet, func(g Group) bool { return g.Light }) {
		return nil, at(inside(root, "load", "commands"), "load.commands: the fleet has no lights")
	}
	return p, p.checkFaults(inside(root, "faults"))
}

// checkFaults reports faults of groups that there are not.
func (p *Profile) checkFaults(n *yaml.Node) error {
	for i, f := range p.Faults {
		for _, k := range f.Kinds {
			if k.Of != "" && !slices.ContainsFunc(p.Fleet, func(g Group) bool { return g.Name == k.Of }) {
				return at(n.Content[i], "faults: no group of the fleet has the name %q", k.Of)
			}
		}
	}
	return nil
}

func (p *Profile) addGroup(n *yaml.Node) error {
	g := Group{Count: 1, BatchMax: 1, Forms: everyForm()}
	g.Behaviour.Reports = []Weight{{"after", 0.6}, {"before", 0.15}, {"early", 0.1}, {"plain", 0.15}}
	known := keys{
		"count": func(n *yaml.Node) error { return between(n, &g.Count, 1, 1_000_000) },
		"name":  func(n *yaml.Node) error { return text(n, &g.Name) },
		"kind": func(n *yaml.Node) error {
			kinds, err := texts(n)
			for _, k := range kinds {
				switch k {
				case "sensor":
					g.Sensor = true
				case "light":
					g.Light = true
				default:
					return at(n, "kind: %q is neither sensor nor light", k)
				}
			}
			return err
		},
		"transport": func(n *yaml.Node) (err error) { g.Transport, err = parseTransport(n); return },
		"via":       func(n *yaml.Node) (err error) { g.Via, err = parseVia(n); return },
		"area":      func(n *yaml.Node) (err error) { g.Area, err = texts(n); return },
		"labels": func(n *yaml.Node) error {
			g.Labels = map[string]string{}
			return each(n, func(key, v *yaml.Node) error {
				var s string
				err := text(v, &s)
				g.Labels[key.Value] = s
				return err
			})
		},
		"metrics": func(n *yaml.Node) error {
			return each(n, func(key, v *yaml.Node) error {
				m, err := parseMetric(key, v)
				g.Metrics = append(g.Metrics, m)
				return err
			})
		},
		"batch": func(n *yaml.Node) error {
			return object(n, keys{
				"max":   func(n *yaml.Node) error { return between(n, &g.BatchMax, 1, 500) },
				"every": func(n *yaml.Node) error { return duration(n, &g.BatchEvery) },
			})
		},
		"clock": func(n *yaml.Node) error {
			return object(n, keys{
				"skew":      func(n *yaml.Node) error { return distribution(n, &g.Clock.Skew) },
				"drift_ppm": func(n *yaml.Node) error { return number(n, &g.Clock.DriftPPM, -1e5, 1e5) },
				"unset_pct": func(n *yaml.Node) error { return number(n, &g.Clock.UnsetPct, 0, 100) },
			})
		},
		"behaviour": func(n *yaml.Node) error { return g.Behaviour.parse(n) },
		"misbehave": func(n *yaml.Node) error {
			m := &g.Misbehave
			return object(n, keys{
				"flap":         func(n *yaml.Node) error { return duration(n, &m.Flap) },
				"restart":      func(n *yaml.Node) error { return duration(n, &m.Restart) },
				"out_of_range": func(n *yaml.Node) error { return number(n, &m.OutOfRange, 0, 1) },
				"bad_unit":     func(n *yaml.Node) error { return number(n, &m.BadUnit, 0, 1) },
				"malformed":    func(n *yaml.Node) error { return number(n, &m.Malformed, 0, 1) },
			})
		},
		"reconnect": func(n *yaml.Node) error {
			return object(n, keys{
				"every":  func(n *yaml.Node) error { return duration(n, &g.Reconnect.Every) },
				"reboot": func(n *yaml.Node) error { return boolean(n, &g.Reconnect.Reboot) },
			})
		},
	}
	maps.Copy(known, g.Forms.keys())
	if err := object(n, known); err != nil {
		return err
	}
	if !g.Sensor && !g.Light {
		return at(n, "kind: sensor, light or both")
	}
	if g.Sensor != (len(g.Metrics) > 0) {
		return at(n, "metrics: a sensor has some, and nothing else has any")
	}
	if len(g.Transport) == 0 {
		g.Transport = []Share{{"websocket", 1}}
		if g.Via != nil {
			g.Transport[0].Transport = "mqtt"
		}
	}
	if g.Via != nil && slices.ContainsFunc(g.Transport, func(s Share) bool { return !strings.HasPrefix(s.Transport, "mqtt") }) {
		return at(n, "via: devices behind a bridge speak mqtt or mqtt5")
	}
	if g.BatchEvery == 0 && g.BatchMax > 1 {
		g.BatchEvery = 30 * time.Second
	}
	if err := g.Forms.check(n, &g); err != nil {
		return err
	}
	p.Fleet = append(p.Fleet, g)
	return nil
}

// parseVia reads the name of a bridge, or {bridge: NAME, trust: token|topic}.
func parseVia(n *yaml.Node) (*Via, error) {
	v := new(Via)
	if n.Kind == yaml.ScalarNode {
		return v, text(n, &v.Bridge)
	}
	err := object(n, keys{
		"bridge": func(n *yaml.Node) error { return text(n, &v.Bridge) },
		"trust": func(n *yaml.Node) error {
			if v.Token = n.Value == "token"; !v.Token && n.Value != "topic" {
				return at(n, "trust: %q is neither token nor topic", n.Value)
			}
			return nil
		},
	})
	if err == nil && v.Bridge == "" {
		err = at(n, "via: the name of a bridge is missing")
	}
	return v, err
}

func parseTransport(n *yaml.Node) ([]Share, error) {
	known := func(n *yaml.Node) error {
		if !slices.Contains([]string{"websocket", "longpoll", "mqtt", "mqtt5"}, n.Value) {
			return at(n, "transport: %q is none of websocket, longpoll, mqtt, mqtt5", n.Value)
		}
		return nil
	}
	if n.Kind == yaml.ScalarNode {
		return []Share{{n.Value, 1}}, known(n)
	}
	var out []Share
	sum := 0.0
	err := each(n, func(key, v *yaml.Node) error {
		s := Share{Transport: key.Value}
		if err := errors.Join(known(key), number(v, &s.Weight, 0, 1e9)); err != nil {
			return err
		}
		out, sum = append(out, s), sum+s.Weight
		return nil
	})
	if err == nil && sum <= 0 {
		err = at(n, "transport: the weights add up to nothing")
	}
	return out, err
}

func (b *Behaviour) parse(n *yaml.Node) error {
	return object(n, keys{
		"ack_ms":            func(n *yaml.Node) error { return distribution(n, &b.Ack) },
		"exec_ms":           func(n *yaml.Node) error { return distribution(n, &b.Exec) },
		"transition":        func(n *yaml.Node) error { return boolean(n, &b.Transition) },
		"fail_pct":          func(n *yaml.Node) error { return number(n, &b.FailPct, 0, 100) },
		"hang_pct":          func(n *yaml.Node) error { return number(n, &b.HangPct, 0, 100) },
		"reports":           func(n *yaml.Node) (err error) { b.Reports, err = weights(n, "reports", Reports); return },
		"local_press_per_h": func(n *yaml.Node) error { return number(n, &b.PressPerH, 0, 1e6) },
		"modes":             func(n *yaml.Node) (err error) { b.Modes, err = texts(n); return },
		"min_kelvin":        func(n *yaml.Node) error { return between(n, &b.MinKelvin, 1000, 20000) },
		"max_kelvin":        func(n *yaml.Node) error { return between(n, &b.MaxKelvin, 1000, 20000) },
		"effects":           func(n *yaml.Node) (err error) { b.Effects, err = texts(n); return },
	})
}

func (l *Load) parse(n *yaml.Node) error {
	return object(n, keys{
		"ramp":   func(n *yaml.Node) error { return rate(n, &l.Ramp) },
		"stages": func(n *yaml.Node) error { return list(n, l.addStage) },
		"hold":   func(n *yaml.Node) error { return duration(n, &l.Hold) },
		"warmup": func(n *yaml.Node) error { return duration(n, &l.Warmup) },
		"commands": func(n *yaml.Node) error {
			return object(n, keys{
				"rate": func(n *yaml.Node) error { return rate(n, &l.Commands.Rate) },
				"life": func(n *yaml.Node) error { return duration(n, &l.Commands.Life) },
				"mix":  func(n *yaml.Node) (err error) { l.Commands.Mix, err = weights(n, "mix", ops); return },
			})
		},
		"watchers": func(n *yaml.Node) error { return between(n, &l.Watchers, 0, 100_000) },
	})
}
