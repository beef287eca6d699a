package sim

import (
	"errors"
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
	units   []string // in which it measures, one for each metric; "" is the metric's own
	// Its clock was so wrong that the hub may have put its own times. Of the schedule's goroutine, then
	// of the judge.
	stamped bool
	ledger  ledger
	twin    *ledger // of its double; nil: it has had none

	mu       sync.Mutex
	power    power
	unable   error // why its last attempt to connect failed
	up       bool
	since    time.Time   // of up
	turns    []string    // the last of its comings and goings, for the time line of a finding
	half     bool        // half open: the hub cannot know yet
	heldTill time.Time   // by a fault
	refused  bool        // since it was last up
	leaves   []time.Time // when it closed its connection in order
	breaks   []time.Time // when it lost one otherwise
	ends     []time.Time // when it lost one, however
	leaving  bool        // it has said goodbye, and is not back yet
	cloned   bool        // it has a double
	alone    time.Time   // since when it has none any more
	accused  bool        // of having one, when it had none
	spoke    time.Time   // behind a bridge: first, since the hub was last away or the device was down
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
		u.config.Style, u.config.NoBoot = style(&g.Forms, n), g.Forms.NoBoot
		another := share(n, 2) < g.Forms.Units && !u.sendsBare()
		for i := range g.Metrics {
			u.sources = append(u.sources, profile.NewSource(g.Metrics[i].Gen, r))
			u.units = append(u.units, u.unitOf(&g.Metrics[i], another))
		}
	}
	if g.Light {
		b := g.Behaviour
		u.decl.Kinds = append(u.decl.Kinds, "light")
		u.decl.Light = &LightDecl{Modes: b.Modes, MinKelvin: b.MinKelvin, MaxKelvin: b.MaxKelvin, Effects: b.Effects}
		if len(b.Modes) == 0 {
			u.decl.Light.Modes = []string{"brightness"}
		}
		u.config.Light = &device.LightConfig{
			Modes: b.Modes, FailPct: b.FailPct, HangPct: b.HangPct, Transition: b.Transition,
			Ack: sampler(b.Ack), Exec: sampler(b.Exec), Reports: reporting(b.Reports),
		}
	}
	c := g.Clock
	if c.Skew != nil {
		u.skew = time.Duration(c.Skew.Sample(r) * float64(time.Millisecond))
	}
	u.drift = c.DriftPPM * (2*r.Float64() - 1) / 1e6
	if c.UnsetPct > 0 && r.Float64()*100 < c.UnsetPct {
		u.skew = -time.Duration(time.Now().UnixNano()) // counts from 1970
		// SenML has no place for such times; and packs without any would not keep their order with
		// JSON that has them.
		u.config.Style.Kinds[device.SenML], u.config.Style.Kinds[device.CBOR] = 0, 0
	}
	u.stamped = astray(u.skew)
	return u
}

// share places a device in 0 to 1 by a trait: evenly, and each trait for itself (the additive
// recurrence R3).
func share(n, trait int) float64 {
	return math.Mod(0.5+float64(n)*[...]float64{0.8191725133961645, 0.6710436067037893, 0.5497004779019703}[trait], 1)
}

// style is how device n writes its readings.
func style(f *profile.Forms, n int) device.Style {
	s := device.Style{Untimed: share(n, 0) < f.Untimed, Plain: share(n, 1) < f.Plain}
	s.QoS[device.AtMostOnce], s.QoS[device.AtLeastOnce], s.QoS[device.ExactlyOnce] = f.QoS[0], f.QoS[1], f.QoS[2]
	for _, w := range f.Kinds {
		s.Kinds[formKinds[w.Name]] = w.Weight
	}
	return s
}

// sendsBare reports whether the device may send values alone, with which no unit can go.
func (u *unit) sendsBare() bool {
	return u.overMQTT() && u.config.Style.Untimed && u.config.Style.Kinds[device.Bare] > 0
}

func (u *unit) overMQTT() bool {
	return u.config.Transport == device.MQTT || u.config.Transport == device.MQTT5
}

var formKinds = map[string]device.Kind{
	"json": device.Object, "batch": device.Batch, "senml": device.SenML, "cbor": device.CBOR, "bare": device.Bare,
}

// unitOf is the unit in which the device measures a metric.
func (u *unit) unitOf(m *profile.Metric, another bool) string {
	if others := otherUnits[m.Name]; m.Unit == "" && another && len(others) > 0 {
		return others[u.n%len(others)].name
	}
	return m.Unit
}

// reporting draws ways to report.
func reporting(ways []profile.Weight) func(*rand.Rand) device.Reporting {
	sum := 0.0
	for _, w := range ways {
		sum += w.Weight
	}
	return func(r *rand.Rand) device.Reporting {
		x := r.Float64() * sum
		for _, w := range ways {
			if x -= w.Weight; x < 0 {
				return device.Reporting(slices.Index(profile.Reports, w.Name))
			}
		}
		return device.ReportAfter
	}
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

// standing is since when the connection stands; zero: there is none, or nobody at its other end.
func (u *unit) standing() time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.up || u.half {
		return time.Time{}
	}
	return u.since
}

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
			u.up, u.half, u.refused, u.leaving, u.heldTill = true, false, false, false, time.Time{}
			u.turned("up")
			u.mu.Unlock()
			st.connects.Add(1)
			st.record("connect_ms", up.Connect)
			st.record("join_ms", up.Join)
		},
		Down: func(err error) {
			left := errors.Is(err, device.ErrLeft)
			u.mu.Lock()
			was := u.up
			u.up = false
			u.turned(map[bool]string{true: "left", false: "down"}[left])
			u.ends = noted(u.ends)
			if !left {
				u.breaking()
			}
			u.mu.Unlock()
			u.ledger.closed(left)
			if was && !left {
				st.drops.Add(1)
			}
		},
		Sent: func(rs []device.Reading) {
			u.speaks(s)
			// A connection may have ended before this is known of what was handed to it.
			sure := u.group.Via == nil && s.faults.takes() && u.isUp()
			st.unheard.Add(u.ledger.sent(rs, sure))
			if form := rs[0].Form; form.Untimed || form.Delivery == device.AtMostOnce {
				s.cfg.Journal.sent(u.n, rs)
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
				s.acknowledged(u, a.Due)
			}
		},
		Refused: func(r device.Reading, code string) {
			s.cfg.Journal.refused(u.n, r)
			u.ledger.answered(r, refused, false)
			st.refused.Add(1)
			st.failed("refused:" + code)
		},
		Error: func(code string) {
			if slices.Contains(later, code) { // what was sent at most once may be what could not be taken
				u.ledger.closed(false)
			}
			u.heard(code)
			st.failed(code)
		},
		Command: func(c device.Command, repeated bool) {
			s.cfg.Journal.command(u.n, c.ID, false)
			u.ledger.command(c.ID, arrived)
			if repeated {
				st.repeats.Add(1)
			}
			if first := s.judge.commands.arrives(c.ID); first != nil && first.arrivedAt.After(first.given) {
				st.record("reach_ms", first.arrivedAt.Sub(first.given))
				if first.blip {
					st.record("blip_ms", first.arrivedAt.Sub(first.given))
				}
			}
		},
		Ran: func(c device.Command) {
			st.executed.Add(1)
			s.cfg.Journal.command(u.n, c.ID, true)
			u.ledger.command(c.ID, ran)
		},
		Answered: func(id, status string) func() {
			u.speaks(s)
			return u.ledger.answering(id, status)
		},
		Reported: func(state device.LightState) func() {
			u.speaks(s)
			s.cfg.Journal.reported(u.n, state)
			return u.ledger.reporting(state)
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

// noted adds the present to a list of times, of which the last are kept.
func noted(times []time.Time) []time.Time {
	if times = append(times, time.Now()); len(times) > 200 {
		times = times[100:]
	}
	return times
}

// endedWithin reports whether the device's connection ended, or began to, in a stretch of time.
func (u *unit) endedWithin(from, to time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	within := func(t time.Time) bool { return !t.Before(from) && !t.After(to) }
	return slices.ContainsFunc(u.ends, within) || slices.ContainsFunc(u.breaks, within)
}

// missing reports whether the device should be connected and is not; with why, if it never was.
func (u *unit) missing() (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.power == off || u.up || u.cloned || u.group.Misbehave.Bad() {
		return false, nil
	}
	if u.since.IsZero() {
		return true, u.unable
	}
	return true, nil
}

// later are the codes with which a hub says that it cannot take something now.
var later = []string{"overloaded", "platform_unavailable", "rate_limited"}

// lights are the units that take commands.
func (s *Sim) lights() []*unit {
	return slices.DeleteFunc(slices.Clone(s.units), func(u *unit) bool { return !u.group.Light })
}
