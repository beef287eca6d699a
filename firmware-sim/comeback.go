package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"devicehub/firmware-sim/device"
)

// A device that closes its connection in order and comes straight back is one device: what it sent
// last is handled, its will is not, and it is taken neither for lost nor for two.

// lastWords is how many readings a device sends with its goodbye.
const lastWords = 3

// comeback has a device say goodbye, behind some last readings, and come straight back.
func (s *Sim) comeback(u *unit, due time.Time, reboot bool) {
	u.mu.Lock()
	there := u.up && !u.half && !u.cloned && !u.leaving
	u.leaving = u.leaving || there
	if there && u.saysGoodbye() {
		u.leaves = noted(u.leaves)
	}
	u.mu.Unlock()
	if !there {
		return
	}
	u.dev.Leave(0, reboot, func() {
		for i := range lastWords * min(1, len(u.group.Metrics)) {
			s.measure(u, i%len(u.group.Metrics), due)
		}
	})
	s.stats.leaves.Add(1)
}

// saysGoodbye reports whether the hub can know that the device has left: the end of a long-poll
// session is silence.
func (u *unit) saysGoodbye() bool { return u.config.Transport != device.LongPoll && u.group.Via == nil }

// closeSlack is about how far a close and the hub's note of it are apart.
const closeSlack = 3 * time.Second

// judgeCloses holds the hub's history of a device's connections against the times at which it
// closed one in order.
func (s *Sim) judgeCloses(ctx context.Context, u *unit) {
	u.mu.Lock()
	leaves, breaks := u.leaves, u.breaks
	u.mu.Unlock()
	if len(leaves) == 0 {
		return
	}
	near := func(all []time.Time, t time.Time, slack time.Duration) bool {
		return slices.ContainsFunc(all, func(x time.Time) bool { return t.Sub(x).Abs() < slack })
	}
	var turns []Turn
	keep := func(t Turn) { turns = append(turns, t) }
	if err := s.api.Turns(ctx, u.id, leaves[0].Add(-closeSlack), keep); err != nil {
		s.judge.unable("events of %s: %v", u.id, err)
		return
	}
	s.judge.checked("close_wrong", len(leaves))
	for _, t := range turns {
		at := time.UnixMilli(t.At)
		wrong := t.Reason != "" && t.Reason != "client_close"
		// What breaks about the same time may be what the hub means; so may a hub that went away
		// itself.
		if !wrong || !near(leaves, at, closeSlack) || near(breaks, at, 2*closeSlack) || !s.faults.calmAt(at) {
			continue
		}
		s.judge.found("close_wrong", Finding{
			Device: u.id,
			Text:   fmt.Sprintf("the device closed its connection in order, the hub has it %s, %s", t.To, t.Reason),
			Line:   closeLines(leaves, turns, at),
		})
	}
}

// closeLines is what happened about a moment, as the device and as the hub have it.
func closeLines(leaves []time.Time, turns []Turn, at time.Time) (lines []string) {
	for _, l := range leaves {
		if at.Sub(l).Abs() < closeSlack {
			lines = append(lines, stamp(l)+"  said goodbye, and came back")
		}
	}
	for _, t := range turns {
		if d := time.UnixMilli(t.At).Sub(at).Abs(); d < closeSlack {
			line := t.String()
			if d == 0 {
				line += "  <--"
			}
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}
