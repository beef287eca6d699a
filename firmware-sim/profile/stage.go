package profile

import (
	"math"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Stage is a stretch of a run, over which the part of the fleet that is switched on and the rate of commands move, in a
// straight line, to what it names. What it does not name stays as it was.
type Stage struct {
	For      time.Duration
	Devices  float64 // part of the fleet, 0 to 1; negative: as before
	Commands float64 // per second; negative: as before
}

func (l *Load) addStage(n *yaml.Node) error {
	s := Stage{Devices: -1, Commands: -1}
	pct := -1.0
	err := object(n, keys{
		"for": func(n *yaml.Node) error { return duration(n, &s.For) },
		"pct": func(n *yaml.Node) error { return number(n, &pct, 0, 100) },
		"commands": func(n *yaml.Node) error {
			if s.Commands = 0; n.Value == "0" || n.Value == "0/s" {
				return nil
			}
			return rate(n, &s.Commands)
		},
	})
	if err != nil {
		return err
	}
	if s.For <= 0 {
		return at(n, "stages: how long a stage takes is missing (for: 30s)")
	}
	if pct >= 0 {
		s.Devices = pct / 100
	}
	for _, before := range l.Stages {
		if s.Devices >= 0 && before.Devices > s.Devices {
			return at(n, "stages: devices are switched on, not off: pct is below that of an earlier stage")
		}
	}
	l.Stages = append(l.Stages, s)
	return nil
}

// Length is how long the stages take together.
func (l *Load) Length() (d time.Duration) {
	for _, s := range l.Stages {
		d += s.For
	}
	return d
}

// SwitchOn is when device i of n is switched on; never if no stage reaches it. perSecond is the rate of a ramp.
func (l *Load) SwitchOn(i, n int, perSecond float64) (at time.Duration, ever bool) {
	if len(l.Stages) == 0 {
		if perSecond > 0 {
			at = time.Duration(float64(i) / perSecond * float64(time.Second))
		}
		return at, true
	}
	part := (float64(i) + 1) / float64(n)
	on := 0.0
	for _, s := range l.Stages {
		if s.Devices >= part-1e-9 {
			if s.Devices == on {
				return at, true
			}
			return at + time.Duration(float64(s.For)*max(0, (part-on)/(s.Devices-on))), true
		}
		on = max(on, s.Devices)
		at += s.For
	}
	return 0, false
}

// CommandRate is the rate of commands at a moment, per second.
func (l *Load) CommandRate(at time.Duration) float64 {
	rate := l.Commands.Rate
	for _, s := range l.Stages {
		if at < s.For {
			if s.Commands < 0 {
				return rate
			}
			return rate + (s.Commands-rate)*float64(at)/float64(s.For)
		}
		at -= s.For
		if s.Commands >= 0 {
			rate = s.Commands
		}
	}
	return rate
}

// CommandMoments returns a function that gives the moment of one command after the other, at scale times the rate; the
// greatest duration when there are no more.
func (l *Load) CommandMoments(scale float64) func() time.Duration {
	const step = 10 * time.Millisecond
	at, part := time.Duration(0), 0.0 // of a command
	return func() time.Duration {
		for {
			rate := l.CommandRate(at) * scale
			if rate <= 0 && at >= l.Length() {
				return math.MaxInt64
			}
			if need := (1 - part) / rate * float64(time.Second); rate > 0 && need <= float64(step) {
				at, part = at+time.Duration(need), 0
				return at
			}
			at += step
			part += rate * step.Seconds()
		}
	}
}
