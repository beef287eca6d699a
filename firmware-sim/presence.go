package sim

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"devicehub/firmware-sim/device"
)

// The long-poll session of a device that vanished ends 1.5 windows of 10 s after its last poll (devices/README.md#presence).
const longPollGrace = 20 * time.Second

// A device behind a bridge is seen with its next message, once the bridge is back, and missed after 10 s without the bridge.
const bridgeGrace = 30 * time.Second

// checkPresence compares, again and again, who the hub says is there with who is.
func (s *Sim) checkPresence(ctx context.Context) {
	after := 5 * time.Second
	for _, a := range s.profile.Assert {
		if a.Figure == "presence_wrong_after" {
			after = a.After
		}
	}
	every := 3 * time.Second
	if len(s.units) > 2000 {
		every = 15 * time.Second
	}
	byID := make(map[string]*unit, len(s.units))
	for _, u := range s.units {
		byID[u.id] = u
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		asked := time.Now()
		n := 0
		err := s.api.Devices(ctx, "sim:"+s.run, func(r Row) {
			if u := byID[r.ID]; u != nil {
				if s.comparePresence(u, r, asked, after) {
					n++
				}
			}
		})
		if err == nil {
			s.judge.checked("presence_wrong", n)
		}
	}
}

// comparePresence judges one row against what the device has known for longer than after, before the hub was asked. It
// reports whether it could: whoever came or went a moment ago is not judged.
func (s *Sim) comparePresence(u *unit, r Row, asked time.Time, after time.Duration) bool {
	back := s.faults.cameBack()
	u.mu.Lock()
	up, since, half, cloned, alone := u.up, u.since, u.half, u.cloned, u.alone
	if up && u.group.Via != nil { // before it speaks, the hub cannot know
		if since = u.spoke; !u.hasSpoken(back) {
			since = time.Time{}
		}
	}
	u.mu.Unlock()
	if !cloned && alone.IsZero() && !since.IsZero() {
		s.compareIdentity(u, r, asked)
	}
	if since.IsZero() || half || cloned || r.Status.Unverified {
		return false
	}
	if !up && u.config.Transport == device.LongPoll {
		after += longPollGrace
	}
	if u.group.Via != nil {
		after += bridgeGrace
	}
	if asked.Sub(since) < after || !s.faults.quietSince(asked.Add(-after)) {
		return false
	}
	link := r.Status.Link == "up"
	if link == up {
		return true
	}
	// It may have changed while the pages were read.
	u.mu.Lock()
	changed := u.since.After(asked.Add(-after)) || u.leaving
	turns := append(slices.Clone(u.turns), stamp(asked)+"  the hub was asked")
	u.mu.Unlock()
	if changed {
		return false
	}
	s.judge.found("presence_wrong", Finding{Device: u.id, Text: fmt.Sprintf(
		"the device has been %s for %v, the hub says %s (link %s, reason %q)", map[bool]string{true: "up", false: "down"}[up],
		asked.Sub(since).Round(time.Millisecond), r.Status.State, r.Status.Link, r.Status.Reason), Line: turns})
	return true
}

// speaks notes that the hub hears of the device, by whatever it says.
func (u *unit) speaks(s *Sim) {
	if u.group.Via == nil {
		return
	}
	back := s.faults.cameBack()
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.hasSpoken(back) {
		u.spoke = time.Now()
	}
}

// hasSpoken reports whether a device behind a bridge has spoken since the hub came back and since
// it did itself. The lock is held.
func (u *unit) hasSpoken(back time.Time) bool { return u.spoke.After(back) && u.spoke.After(u.since) }

// compareIdentity looks whether a device that is alone is taken for two.
func (s *Sim) compareIdentity(u *unit, r Row, asked time.Time) {
	s.judge.checked("clone_false", 1)
	if r.Status.Reason != duplicateIdentity {
		return
	}
	u.mu.Lock()
	again := u.accused
	u.accused = true
	turns := append(slices.Clone(u.turns), stamp(asked)+"  the hub says that several devices use its identity")
	u.mu.Unlock()
	if !again {
		text := "the device is the only one of its identity, and is taken for two"
		s.judge.found("clone_false", Finding{Device: u.id, Text: text, Line: turns})
	}
}

func socketURL(hub *url.URL) string {
	u := *hub
	u.Path += "/socket"
	return u.String()
}
