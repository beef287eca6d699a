package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"devicehub/firmware-sim/device"
	"devicehub/firmware-sim/profile"
)

// unit is one device of the fleet, with all that the simulator knows about it.
type unit struct {
	id      string
	n       int
	group   *profile.Group
	decl    NewDevice
	config  device.Config
	dev     *device.Device
	rand    *rand.Rand // of the schedule's goroutine alone
	sources []*profile.Source
	stamped bool // its clock was so wrong that the hub put its own times; of the schedule's goroutine, then of the judge
	ledger  ledger

	mu       sync.Mutex
	power    power
	unable   error // why its last attempt to connect failed
	up       bool
	since    time.Time // of up
	turns    []string  // the last of its comings and goings, for the time line of a finding
	half     bool      // half open: the hub cannot know yet
	heldTill time.Time // by a fault
	refused  bool      // since it was last up
	skew     time.Duration
	drift    float64
	clocked  time.Time // when the clock started
}

// plan lays out the fleet. Everything but the run's id follows from the seed.
func (s *Sim) plan() error {
	n := 0
	for gi := range s.profile.Fleet {
		g := &s.profile.Fleet[gi]
		count := g.Devices(s.cfg.Scale)
		for i := range count {
			if n++; n%s.cfg.Shards != s.cfg.Shard {
				continue
			}
			s.units = append(s.units, s.newUnit(g, n, i, count))
		}
	}
	if len(s.units) == 0 {
		return fmt.Errorf("sim: %d devices do not suffice for %d workers", n, s.cfg.Shards)
	}
	return nil
}

func (s *Sim) newUnit(g *profile.Group, n, i, count int) *unit {
	r := rand.New(rand.NewPCG(s.profile.Seed, uint64(n)))
	u := &unit{id: fmt.Sprintf("sim-%s-%d", s.run, n), n: n, group: g, rand: r}
	u.decl = NewDevice{ID: u.id, Name: fmt.Sprintf("Simulated device %d", n), Labels: map[string]string{"sim": s.run}}
	if g.Name != "" {
		u.decl.Name = g.Name
		if count > 1 {
			u.decl.Name = fmt.Sprintf("%s %d", g.Name, i+1)
		}
	}
	for k, v := range g.Labels {
		u.decl.Labels[k] = v
	}
	if g.Via != nil {
		u.decl.Via = g.Via.Bridge
	}
	if len(g.Area) > 0 {
		u.decl.Area = g.Area[i%len(g.Area)]
	}
	u.config = device.Config{ID: u.id, Sensor: g.Sensor, Transport: pick(g.Transport, i, count), Firmware: "sim-1.0",
		Batch: g.BatchMax, Seed: s.profile.Seed*1_000_003 + uint64(n), Clock: u.clock}
	if g.Sensor {
		u.decl.Kinds = append(u.decl.Kinds, "sensor")
		for i := range g.Metrics {
			u.sources = append(u.sources, profile.NewSource(g.Metrics[i].Gen, r))
		}
	}
	if g.Light {
		b := g.Behaviour
		u.decl.Kinds = append(u.decl.Kinds, "light")
		u.decl.Light = &LightDecl{Modes: b.Modes, MinKelvin: b.MinKelvin, MaxKelvin: b.MaxKelvin, Effects: b.Effects}
		if len(b.Modes) == 0 {
			u.decl.Light.Modes = []string{"brightness"}
		}
		u.config.Light = &device.LightConfig{Modes: b.Modes, FailPct: b.FailPct, Transition: b.Transition, Ack: sampler(b.Ack), Exec: sampler(b.Exec)}
	}
	c := g.Clock
	if c.Skew != nil {
		u.skew = time.Duration(c.Skew.Sample(r) * float64(time.Millisecond))
	}
	u.drift = c.DriftPPM * (2*r.Float64() - 1) / 1e6
	if c.UnsetPct > 0 && r.Float64()*100 < c.UnsetPct {
		u.skew = -time.Duration(time.Now().UnixNano()) // counts from 1970
	}
	u.stamped = astray(u.skew)
	return u
}

func sampler(d *profile.Dist) device.Dist {
	if d == nil {
		return nil
	}
	return d.Sample
}

// pick shares the transports out by weight: exactly, not by chance, and spread over the group.
func pick(shares []profile.Share, i, count int) device.Transport {
	sum := 0.0
	for _, s := range shares {
		sum += s.Weight
	}
	// The golden ratio spreads the places evenly at any count.
	x := math.Mod(float64(i)*0.6180339887498949, 1)
	if count <= 64 {
		x = (float64(i) + 0.5) / float64(count)
	}
	for _, s := range shares {
		if x -= s.Weight / sum; x < 0 {
			return device.Transport(s.Transport)
		}
	}
	return device.Transport(shares[len(shares)-1].Transport)
}

// clock is the device's own.
func (u *unit) clock() time.Time {
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.clocked.IsZero() {
		u.clocked = now
	}
	return now.Add(u.skew + time.Duration(u.drift*float64(now.Sub(u.clocked))))
}

// astray reports whether a clock is so wrong that the hub puts its own times.
func astray(off time.Duration) bool { return off > 55*time.Second || off < -24*time.Hour }

func (u *unit) isUp() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.up
}

// hooks connect the device to the statistics and the ledger.
func (u *unit) hooks(s *Sim) device.Hooks {
	st := s.stats
	return device.Hooks{
		Up: func(up device.Up) {
			u.mu.Lock()
			u.up, u.half, u.refused, u.heldTill = true, false, false, time.Time{}
			u.turned("up")
			u.mu.Unlock()
			st.connects.Add(1)
			st.record("connect_ms", up.Connect)
			st.record("join_ms", up.Join)
		},
		Down: func(error) {
			u.mu.Lock()
			was := u.up
			u.up = false
			u.turned("down")
			u.mu.Unlock()
			if was {
				st.drops.Add(1)
			}
		},
		Unable: func(err error) {
			u.mu.Lock()
			u.unable = err
			u.mu.Unlock()
		},
		Acked: func(a device.Ack) {
			now := time.Now()
			for _, r := range a.Readings {
				s.cfg.Journal.acked(u.n, r, a.Replayed)
				u.ledger.answered(r, acknowledged, a.Replayed)
			}
			st.acked.Add(int64(len(a.Readings)))
			switch {
			case a.Due.IsZero():
			case a.Replayed:
				st.replayed.Add(int64(len(a.Readings)))
				st.record("replay_ms", now.Sub(a.Due))
			default:
				st.record("ack_ms", now.Sub(a.Due))
			}
		},
		Refused: func(r device.Reading, code string) {
			s.cfg.Journal.refused(u.n, r)
			u.ledger.answered(r, refused, false)
			st.refused.Add(1)
			st.failed("refused:" + code)
		},
		Error: func(code string) {
			u.heard(code)
			st.failed(code)
		},
		Command: func(c device.Command, repeated bool) {
			s.cfg.Journal.command(u.n, c.ID, false)
			u.ledger.command(c.ID, false)
			if repeated {
				st.repeats.Add(1)
			}
		},
		Ran: func(c device.Command) {
			st.executed.Add(1)
			s.cfg.Journal.command(u.n, c.ID, true)
			u.ledger.command(c.ID, true)
		},
		Leak: func(event string) {
			st.leaked.Add(1)
			s.judge.found("leaked", Finding{Device: u.id, Text: "a device was sent event " + event, Line: []string{stamp(time.Now()) + "  " + event + " arrived"}})
		},
	}
}

// turned notes that the device came or went. The lock is held.
func (u *unit) turned(what string) {
	const keep = 6
	u.since = time.Now()
	if len(u.turns) == keep {
		u.turns = u.turns[1:]
	}
	u.turns = append(u.turns, stamp(u.since)+"  "+what)
}

// missing reports whether the device should be connected and is not; with why, if it never was.
func (u *unit) missing() (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.power == off || u.up || u.group.Misbehave.Bad() {
		return false, nil
	}
	if u.since.IsZero() {
		return true, u.unable
	}
	return true, nil
}

// lights are the units that take commands.
func (s *Sim) lights() []*unit {
	return slices.DeleteFunc(slices.Clone(s.units), func(u *unit) bool { return !u.group.Light })
}
