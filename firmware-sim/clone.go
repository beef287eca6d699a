package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"devicehub/firmware-sim/device"
	"devicehub/firmware-sim/profile"
)

// A clone is a second device with the identity of another: its token was copied, or its image. Both
// come back whenever the other has pushed them out; the hub has to see that they are two.

// cloneMetric is what clones measure, so that it can be told whose a reading is.
const cloneMetric = "uptime"

// clone gives each of the units a double for a while.
func (s *Sim) clone(ctx context.Context, p profile.FaultPart, units []*unit) {
	var wg sync.WaitGroup
	for _, u := range units {
		if !u.cloneable() {
			continue
		}
		wg.Go(func() { s.cloneOne(ctx, p, u) })
	}
	wg.Wait()
}

// cloneable reports whether a double of the device is one that the hub can see: it speaks MQTT to
// the hub itself. What a light does twice would be its double's doing, and not the hub's.
func (u *unit) cloneable() bool {
	return u.overMQTT() && u.group.Via == nil && !u.group.Light && u.generator(cloneMetric) == nil &&
		!u.group.Misbehave.Bad()
}

func (s *Sim) cloneOne(ctx context.Context, p profile.FaultPart, u *unit) {
	cfg := u.twinConfig(s)
	cfg.Token = u.dev.Token()
	dev, err := device.New(cfg)
	if err != nil {
		s.judge.unable("a double of %s: %v", u.id, err)
		return
	}
	u.mu.Lock()
	u.cloned = true
	u.mu.Unlock()
	began := time.Now()
	run, switchOff := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = dev.Run(run) }) // what ends it by itself is the hub's answer to a double
	wg.Go(func() {
		for n := 0; run.Err() == nil; n++ {
			if r, ok := dev.Measure(cloneMetric, float64(n), "", time.Now()); ok {
				u.twin.measured(r, unanswered)
			}
			sleep(run, time.Second)
		}
	})
	told := s.awaitRecognition(ctx, u, began, p)
	sleep(ctx, time.Until(began.Add(max(p.For, time.Second))))
	switchOff()
	wg.Wait()
	u.twin.closed(false)
	if ctx.Err() == nil || told {
		s.judge.checked("clone_missed", 1)
	}
	// The one that is left has to find back by itself; the hub may hold it off for a while yet.
	u.mu.Lock()
	u.cloned, u.alone = false, time.Now()
	u.mu.Unlock()
	u.reconnect()
}

// awaitRecognition looks until the hub says that two devices share the identity, and notes when it
// did not in time.
func (s *Sim) awaitRecognition(ctx context.Context, u *unit, began time.Time, p profile.FaultPart) bool {
	var lines []string
	said := ""
	for time.Since(began) < p.Within && ctx.Err() == nil {
		sleep(ctx, min(time.Second, p.Within/10))
		r, err := s.api.Device(ctx, u.id)
		if err != nil {
			continue
		}
		if r.Status.Reason == duplicateIdentity {
			s.stats.record("clone_ms", time.Since(began))
			return true
		}
		st := r.Status
		line := fmt.Sprintf("the hub: %s, link %s, reason %q, flapping %v", st.State, st.Link, st.Reason, st.Flapping)
		if said != line {
			lines, said = append(lines, stamp(time.Now())+"  "+line), line
		}
		lines = lines[max(0, len(lines)-8):]
	}
	if ctx.Err() != nil {
		return false // the load ended before it had its time
	}
	u.mu.Lock()
	lines = append(append([]string{stamp(began) + "  its double was switched on"}, u.turns...), lines...)
	u.mu.Unlock()
	s.stats.record("clone_ms", p.Within)
	s.judge.found("clone_missed", Finding{
		Device: u.id,
		Text:   fmt.Sprintf("two devices have had its identity for %v, and the hub takes them for one", p.Within),
		Line:   lines,
	})
	return false
}

const duplicateIdentity = "duplicate_identity"

// twinConfig is a device that is the same to the hub; half of them have a client id of their own.
func (u *unit) twinConfig(s *Sim) device.Config {
	cfg := u.config
	cfg.Hub, cfg.MQTT, cfg.HTTP, cfg.WriteBuffers, cfg.Log = s.cfg.Hub, s.cfg.MQTT, s.pollFor(u.n), &s.buffers, s.cfg.Log
	cfg.Light, cfg.Sensor, cfg.NoBoot, cfg.Clock, cfg.Batch = nil, true, true, nil, 1
	cfg.Style = device.Style{}
	cfg.Seed++
	if u.n%2 == 0 {
		cfg.ClientID = u.id + "-2"
	}
	cfg.Dial = s.dialFor(u.n)
	u.ledger.mu.Lock()
	if u.twin == nil {
		u.twin = new(ledger)
	}
	twin := u.twin
	u.ledger.mu.Unlock()
	cfg.Hooks = device.Hooks{
		Sent: func(rs []device.Reading) { twin.sent(rs, false) },
		Acked: func(a device.Ack) {
			for _, r := range a.Readings {
				twin.answered(r, acknowledged, a.Replayed)
			}
		},
		Refused: func(r device.Reading, _ string) { twin.answered(r, refused, false) },
		Error:   s.stats.failed,
	}
	return cfg
}
