package sim

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"devicehub/firmware-sim/profile"
)

// faultLog remembers when the hub itself was away, when its word about presence is not judged.
type faultLog struct {
	mu    sync.Mutex
	away  bool
	back  time.Time
	times []time.Time // it went, it came, it went …
	full  []fullTime  // its disk took nothing; the last may not have its end yet
}

// fullTime is a time in which the disk took nothing; one that goes on has no end.
type fullTime struct{ from, to time.Time }

// stalled is for how long a hub whose disk is full may read nothing from a client of MQTT 3.1.1,
// which cannot be told: neither what it sends at QoS 0 nor its goodbye.
const stalled = 10 * time.Second

func (f *faultLog) setFull(yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch n := len(f.full); {
	case yes:
		f.full = append(f.full, fullTime{from: time.Now()})
	case n > 0 && f.full[n-1].to.IsZero():
		f.full[n-1].to = time.Now()
	}
}

// takes reports whether the hub can take what it does not acknowledge.
func (f *faultLog) takes() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.fullAt(time.Now())
}

// fullAt reports whether the hub's disk took nothing at a moment, or a little before. The lock is
// held.
func (f *faultLog) fullAt(t time.Time) bool {
	return slices.ContainsFunc(f.full, func(s fullTime) bool {
		return !t.Before(s.from) && (s.to.IsZero() || t.Before(s.to.Add(stalled)))
	})
}

// calmAt reports whether the hub was there and well at a moment, and had been and was to be there
// for a while.
func (f *faultLog) calmAt(t time.Time) bool {
	const settled = 10 * time.Second
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.fullAt(t) &&
		!slices.ContainsFunc(f.times, func(x time.Time) bool { return t.Sub(x).Abs() < settled })
}

func (f *faultLog) quietSince(t time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.away && f.back.Before(t)
}

// cameBack is when the hub last went or came; zero: it was there all the time.
func (f *faultLog) cameBack() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.back
}

func (f *faultLog) isAway() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.away
}

func (f *faultLog) set(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away, f.back = away, time.Now()
	f.times = append(f.times, f.back)
}

// calmFor reports whether the hub did not go away within a while after a moment.
func (f *faultLog) calmFor(t time.Time, d time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !slices.ContainsFunc(f.times, func(x time.Time) bool { return x.After(t) && x.Before(t.Add(d)) })
}

// storeFull notes that the hub's disk takes nothing, or does so again. What is sent at QoS 0
// meanwhile may be lost.
func (s *Sim) storeFull(yes bool) {
	s.faults.setFull(yes)
	if !yes {
		return
	}
	for _, u := range s.units {
		u.ledger.closed(false)
	}
}

// hubAway notes that the hub was killed, or is back.
func (s *Sim) hubAway(away bool) {
	s.faults.set(away)
	if away {
		for _, u := range s.units {
			u.ledger.unsure(time.Now().Add(-lateBy))
		}
	}
	s.note("the hub is %s", map[bool]string{true: "away", false: "back"}[away])
}

// breakThings makes the profile's faults happen, each at its moment. after outlives the load, so that what was broken is mended.
func (s *Sim) breakThings(ctx, after context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, f := range s.profile.Faults {
		wg.Go(func() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(s.began.Add(f.At))):
			}
			over := s.began.Add(f.At).Before(s.resumed)
			of := rand.New(rand.NewPCG(s.profile.Seed, 0xfa0+uint64(i)))
			for _, p := range f.Kinds {
				units := s.some(of, p)
				r := rand.New(rand.NewPCG(of.Uint64(), 0xfa1))
				if over && !p.Lasts() {
					continue
				}
				s.note(faultEvent+"%v", p)
				wg.Go(func() {
					defer s.force(p)()
					s.fault(ctx, after, p, units, r)
					sleep(ctx, lasting(p))
				})
			}
		})
	}
}

// inForce is a fault from its moment to its end.
type inForce struct {
	text string
	till time.Time // zero: it ends when it does
}

// force notes that a fault is in force until the function that it returns is called.
func (s *Sim) force(p profile.FaultPart) (end func()) {
	var till time.Time
	if p.For > 0 {
		till = time.Now().Add(p.For)
	}
	hide := s.inForceTill(p.String(), till)
	if p.Lasts() {
		return hide
	}
	over := s.weather.fault()
	return func() { hide(); over() }
}

// inForceTill shows something as in force until a moment, or until end is called.
func (s *Sim) inForceTill(text string, till time.Time) (end func()) {
	f := &inForce{text, till}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inForce = append(s.inForce, f)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inForce = slices.DeleteFunc(s.inForce, func(x *inForce) bool { return x == f })
	}
}

// lasting is how long a fault works on after the devices have been told.
func lasting(p profile.FaultPart) time.Duration {
	switch p.Kind {
	case profile.Drop, profile.HalfOpen, profile.SlowReader:
		return max(p.For, time.Second)
	case profile.Duplicate, profile.Reorder:
		return math.MaxInt64 // to the end
	case profile.Reboot, profile.Malformed:
		return 3 * time.Second // so that it is seen
	}
	return 0
}

// faultSigns returns what is in force, and the next fault of the profile.
func (s *Sim) faultSigns(elapsed time.Duration) (now []FaultSign, next *FaultSign) {
	s.mu.Lock()
	for _, f := range s.inForce {
		sign := FaultSign{Text: f.text}
		if !f.till.IsZero() {
			sign.Left = max(0, time.Until(f.till).Seconds())
		}
		now = append(now, sign)
	}
	s.mu.Unlock()
	if s.faults.isAway() {
		now = append(now, FaultSign{Text: "the hub is away"})
	}
	for _, f := range s.profile.Faults {
		if left := (f.At - elapsed).Seconds(); left > 0 && (next == nil || left < next.Left) {
			text := make([]string, len(f.Kinds))
			for i, p := range f.Kinds {
				text[i] = p.String()
			}
			next = &FaultSign{Text: strings.Join(text, ", "), Left: left}
		}
	}
	return now, next
}

// some picks the part of the fleet that a fault is about.
func (s *Sim) some(r *rand.Rand, p profile.FaultPart) []*unit {
	var out []*unit
	for _, u := range s.units {
		if r.Float64()*100 < p.Pct && (p.Of == "" || p.Of == u.group.Name) {
			out = append(out, u)
		}
	}
	return out
}

func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (s *Sim) fault(ctx, after context.Context, p profile.FaultPart, units []*unit, r *rand.Rand) {
	switch p.Kind {
	case profile.Drop:
		for _, u := range units {
			u.drop(p.For)
		}
	case profile.HalfOpen:
		for _, u := range units {
			u.halfOpen(p.For)
		}
	case profile.Flap:
		again(ctx, p, func() {
			for _, u := range units {
				u.drop(0)
			}
		})
	case profile.Comeback:
		again(ctx, p, func() {
			for _, u := range units {
				s.wish(ctx, func(due time.Time) { s.comeback(u, due, p.Reboot) })
			}
		})
	case profile.Blip:
		s.blip(ctx, r, units)
	case profile.Clone:
		s.clone(ctx, p, units)
	case profile.Reboot:
		for _, u := range units {
			u.restart()
		}
	case profile.SlowReader:
		for _, u := range units {
			u.dev.Stall(max(p.For, time.Second))
		}
	case profile.Malformed:
		for _, u := range units {
			u.dev.Garbage()
		}
	case profile.Skew:
		for _, u := range units {
			u.mu.Lock()
			u.skew += p.By
			u.mu.Unlock()
		}
		if p.For > 0 {
			sleep(ctx, p.For)
			for _, u := range units {
				u.mu.Lock()
				u.skew -= p.By
				u.mu.Unlock()
			}
		}
	case profile.Duplicate, profile.Reorder:
		for _, u := range s.units {
			if p.Kind == profile.Duplicate {
				u.dev.Disturb(p.Part, -1)
			} else {
				u.dev.Disturb(-1, p.Part)
			}
		}
	case profile.Revoke:
		s.revoke(ctx, after, p, units)
	case profile.KillHub:
		s.killHub(after, p)
	case profile.StoreOutage:
		s.storeOutage(ctx, p)
	case profile.BrokerOutage:
		if err := killFor(after, s.cfg.Broker, max(p.For, time.Second)); err != nil {
			s.judge.unable("broker outage: %v", err)
		}
		s.note("broker outage over")
		s.awaitBacklog(ctx, time.Now())
	}
}

// again does something again and again, for as long as a fault is in force.
func again(ctx context.Context, p profile.FaultPart, do func()) {
	ctx, cancel := context.WithTimeout(ctx, max(p.For, p.Every))
	defer cancel()
	for ctx.Err() == nil {
		do()
		sleep(ctx, p.Every)
	}
}

// revoke ends the tokens of some devices, and gives them new ones after a while.
func (s *Sim) revoke(ctx, after context.Context, p profile.FaultPart, units []*unit) {
	for _, u := range units {
		if err := s.api.Revoke(after, u.id); err != nil {
			s.judge.unable("revoke %s: %v", u.id, err)
		}
	}
	sleep(ctx, max(p.For, 5*time.Second))
	for _, u := range units {
		tok, err := s.api.Issue(after, u.id)
		if err != nil {
			s.judge.unable("new token for %s: %v", u.id, err)
			continue
		}
		u.dev.SetToken(tok)
		u.reconnect()
	}
}

func (s *Sim) killHub(after context.Context, p profile.FaultPart) {
	s.hubAway(true)
	if err := killFor(after, s.cfg.Server, p.For); err != nil {
		s.judge.unable("kill the hub: %v", err)
	}
	s.hubAway(false)
	s.awaitBacklog(after, time.Now())
}

// killFor kills a server and starts it again after a while.
func killFor(ctx context.Context, server Server, d time.Duration) error {
	err := server.Kill()
	sleep(ctx, d)
	return errors.Join(err, server.Start(ctx))
}

// storeOutage takes the hub's disk away for a while. It is given back whatever happens.
func (s *Sim) storeOutage(ctx context.Context, p profile.FaultPart) {
	server, ok := s.cfg.Server.(Outage)
	if !ok {
		s.judge.unable("store outage: the hub does not belong to the simulator")
		return
	}
	s.storeFull(true)
	defer s.storeFull(false)
	if err := server.StoreOutage(true); err != nil {
		s.judge.unable("store outage: %v", err)
		return
	}
	sleep(ctx, max(p.For, time.Second))
	if err := server.StoreOutage(false); err != nil {
		s.judge.unable("end of the store outage: %v", err)
	}
	sleep(ctx, time.Second) // until it has noticed
	s.note("store outage over")
}
