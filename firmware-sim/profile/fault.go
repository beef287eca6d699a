package profile

import (
	"fmt"
	"time"

	"go.yaml.in/yaml/v3"
)

// A FaultKind names what goes wrong.
type FaultKind string

// The faults.
const (
	Drop         FaultKind = "drop"          // a part of the fleet breaks its connections and stays away
	Flap         FaultKind = "flap"          // a part breaks and comes back, again and again
	HalfOpen     FaultKind = "half_open"     // a part goes silent without closing
	Duplicate    FaultKind = "duplicate"     // a part of the pushes is sent twice
	Reorder      FaultKind = "reorder"       // a part of the pushes overtakes the one before
	Skew         FaultKind = "skew"          // clocks jump
	SlowReader   FaultKind = "slow_reader"   // a part does not read for a while
	Malformed    FaultKind = "malformed"     // a part sends frames that are none
	Revoke       FaultKind = "revoke"        // the tokens of a part are revoked
	Reboot       FaultKind = "reboot"        // a part loses its power for a moment
	KillHub      FaultKind = "kill_hub"      // kill -9 and start again; needs a hub that the simulator runs
	StoreOutage  FaultKind = "store_outage"  // the hub's disk is full; needs such a hub
	Comeback     FaultKind = "reconnect"     // a part leaves in order and comes straight back, again and again
	Blip         FaultKind = "blip"          // the connections of a part break while a command is under way
	Clone        FaultKind = "clone"         // a part, over MQTT, has a double of the same identity and address
	BrokerOutage FaultKind = "broker_outage" // the broker behind which devices stand is killed; needs one that the simulator runs
)

// A Fault is one or more kinds at one moment.
type Fault struct {
	At    time.Duration
	Kinds []FaultPart
	Line  int
}

// A FaultPart is one kind with its measures; those that it does not know are zero.
type FaultPart struct {
	Kind  FaultKind
	Of    string        // only groups of this name; "": of all
	Pct   float64       // of the fleet, 0 to 100
	Part  float64       // of the pushes, 0 to 1
	For   time.Duration // 0: until the end, or for a moment
	Every time.Duration

	By     time.Duration // skew
	Within time.Duration // clone: for as long a double may go unnoticed
	Reboot bool          // reconnect: each time as another power-up
}

func (p FaultPart) String() string {
	s := string(p.Kind)
	if p.Of != "" {
		s += " of " + p.Of
	}
	if p.Pct > 0 {
		s += fmt.Sprintf(" %g %%", p.Pct)
	}
	if p.Part > 0 {
		s += fmt.Sprintf(" %g", p.Part)
	}
	if p.Every > 0 {
		s += fmt.Sprintf(" every %v", p.Every)
	}
	if p.By != 0 {
		s += fmt.Sprintf(" by %v", p.By)
	}
	if p.Reboot {
		s += " with another boot"
	}
	if p.For > 0 {
		s += fmt.Sprintf(" for %v", p.For)
	}
	return s
}

// Lasts reports whether the fault stays to the end of the run.
func (p FaultPart) Lasts() bool {
	return p.Kind == Duplicate || p.Kind == Reorder || p.Kind == Skew && p.For == 0
}

func parseFault(n *yaml.Node) (Fault, error) {
	f := Fault{Line: n.Line}
	known := keys{"at": func(n *yaml.Node) error { return duration(n, &f.At) }}
	add := func(p FaultPart, err error) error {
		f.Kinds = append(f.Kinds, p)
		return err
	}
	share := func(kind FaultKind, more func(p *FaultPart) keys) {
		known[string(kind)] = func(n *yaml.Node) error {
			p := FaultPart{Kind: kind, Pct: 100}
			k := keys{
				"of":  func(n *yaml.Node) error { return text(n, &p.Of) },
				"pct": func(n *yaml.Node) error { return number(n, &p.Pct, 0, 100) },
				"for": func(n *yaml.Node) error { return duration(n, &p.For) },
			}
			if more != nil {
				for name, read := range more(&p) {
					k[name] = read
				}
			}
			err := object(n, k)
			return add(p, err)
		}
	}
	part := func(kind FaultKind) {
		known[string(kind)] = func(n *yaml.Node) error {
			p := FaultPart{Kind: kind}
			err := number(n, &p.Part, 0, 1)
			return add(p, err)
		}
	}
	share(Drop, nil)
	share(Flap, func(p *FaultPart) keys {
		p.Every = 2 * time.Second
		return keys{"every": func(n *yaml.Node) error { return duration(n, &p.Every) }}
	})
	share(Comeback, func(p *FaultPart) keys {
		p.Every = 2 * time.Second
		return keys{
			"every":  func(n *yaml.Node) error { return duration(n, &p.Every) },
			"reboot": func(n *yaml.Node) error { return boolean(n, &p.Reboot) },
		}
	})
	share(Blip, nil)
	share(Clone, func(p *FaultPart) keys {
		p.Within = time.Minute
		return keys{"within": func(n *yaml.Node) error { return duration(n, &p.Within) }}
	})
	share(HalfOpen, nil)
	share(SlowReader, nil)
	share(Malformed, nil)
	share(Revoke, nil)
	share(Reboot, nil)
	share(Skew, func(p *FaultPart) keys {
		return keys{"by": func(n *yaml.Node) error {
			d, err := time.ParseDuration(n.Value)
			if err != nil {
				return at(n, "%q is not a duration such as 90s or -2h", n.Value)
			}
			p.By = d
			return nil
		}}
	})
	share(StoreOutage, nil)
	share(KillHub, nil)
	share(BrokerOutage, nil)
	part(Duplicate)
	part(Reorder)
	if err := object(n, known); err != nil {
		return f, err
	}
	if len(f.Kinds) == 0 {
		return f, at(n, "a fault without a kind")
	}
	return f, nil
}
