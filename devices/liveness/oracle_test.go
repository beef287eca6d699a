package liveness

import (
	"fmt"
	"time"

	"devicehub/devices"
)

// Publish holds the events of a device to their order.
func (s *sim) Publish(e devices.Event) {
	d, st := s.byID[e.Device], e.Payload.(Event).Status
	if st.Epoch < d.told.Epoch || st.Epoch == d.told.Epoch && st.Seq <= d.told.Seq {
		s.fail(d, fmt.Sprintf("told (%d,%d) after (%d,%d)", st.Epoch, st.Seq, d.told.Epoch, d.told.Seq))
	}
	d.told = st
}

func (s *sim) fail(d *simDevice, msg string) {
	if s.failed {
		return // one is enough
	}
	s.failed = true
	log := ""
	for _, e := range d.log {
		log += fmt.Sprintf("\n%v %s %d %s %v", e.at.Sub(s.began), whats[e.what], e.epoch, e.reason, e.known)
	}
	s.t.Errorf("world %d, %s at %v: %s%s", s.seed, d.id, s.now.Sub(s.began), msg, log)
}

func (s *sim) look(d *simDevice) {
	want, reason, got := s.oracle(d)
	if flaps := s.flaps(d); !d.bridged && flaps != got.Flapping {
		s.fail(d, fmt.Sprintf("flapping is %t, want %t", got.Flapping, flaps))
	}
	if want == got.State && (reason == "" || reason == got.Reason) {
		d.wrong = time.Time{}
		return
	}
	if d.wrong.IsZero() {
		d.wrong = s.now
	}
	if s.now.Sub(d.wrong) >= 5*time.Second || d.wrong.Equal(s.now) && s.settled(d) {
		s.fail(d, fmt.Sprintf("shown %+v, want %s %s", got, want, reason))
	}
}

// settled reports whether five seconds have passed since anything happened to
// the device, so that it may not be wrong at all.
func (s *sim) settled(d *simDevice) bool {
	return len(d.log) > 0 && s.now.Sub(d.log[len(d.log)-1].at) >= 5*time.Second && (d.freshTill.IsZero() || s.now.Sub(d.freshTill).Abs() >= 5*time.Second)
}

// judge looks at every device when nothing happens any more.
func (s *sim) judge() {
	for _, d := range s.devs {
		want, reason, got := s.oracle(d)
		if want != got.State || reason != "" && reason != got.Reason {
			s.fail(d, fmt.Sprintf("at last shown %+v, want %s %s", got, want, reason))
		}
		if d.told.Epoch >= s.hub.boot && d.told.State != got.State {
			s.fail(d, fmt.Sprintf("last told %s, shown %s", d.told.State, got.State))
		}
	}
}

// oracle is the state that what was delivered implies, by the rules as they are
// written, found by reading the log from its end.
func (s *sim) oracle(d *simDevice) (want devices.State, reason string, got devices.Status) {
	got = s.hub.Status(d.id)
	var link, ever, asleep, down, said, silent bool
	var held time.Time
	var newest int64
	var assumed, lastLinkless, believed time.Time
	for _, e := range d.log {
		switch e.what {
		case restarted:
			k := e.known
			ever = k.State != "" && k.State != devices.NeverSeen
			reason = k.Reason
			switch k.State {
			case devices.Online, devices.Quiet, devices.Unresponsive:
				assumed = e.at.Add(max(90*time.Second, k.OfflineAfter))
				silent, reason = k.Control == ControlUnanswered, ""
				if k.State == devices.Online && d.freshTill.Before(e.at) {
					believed = assumed // nothing could arrive while the hub was away
				}
			case devices.Sleeping:
				asleep = true
				held = time.UnixMilli(k.AwakeAt)
				total := held.Sub(time.UnixMilli(k.LastSeen))
				held = held.Add(min(max(total/20, 5*time.Second), 5*time.Minute))
			case devices.DataOnly:
				seen := time.UnixMilli(k.LastSeen)
				lastLinkless = e.at.Add(max(3*time.Minute-e.at.Sub(seen), 90*time.Second)).Add(-3 * time.Minute)
			}
		case opened:
			link, ever, asleep, silent, reason, newest = true, true, false, false, "", e.epoch
			assumed, lastLinkless = time.Time{}, time.Time{}
		case closed:
			// It matters only for the connection that is the newest.
			if link && e.epoch == newest {
				link, reason = false, e.reason
			}
		case linkless:
			ever, lastLinkless = true, e.at
			if !link && e.at.Sub(lastSlept(d.log, e.at)) > 2*time.Second {
				asleep = false
			}
		case slept:
			asleep, held = true, e.until
		case unanswered:
			silent = true
		case answered:
			silent = false
		case available, heardBridged:
			ever = true
			if e.what == heardBridged && down {
				lastLinkless = e.at // a word, though it is said to be offline
				break
			}
			down, said = false, true
			if !link {
				assumed, lastLinkless, reason, silent = time.Time{}, time.Time{}, "", false
			}
			link = true
		case bridgeLost:
			if !assumed.IsZero() && !e.at.Before(assumed) && reason == "" {
				reason = HubRestart
			}
			if link || e.at.Before(assumed) || e.at.Before(lastLinkless.Add(3*time.Minute)) && !lastLinkless.IsZero() {
				reason = BridgeDown
			}
			link, lastLinkless, assumed = false, time.Time{}, time.Time{}
		case bridgeBack:
			if said && !down {
				link, silent, reason, assumed = true, false, "", time.Time{}
			}
		case unavailable:
			ever, down, link = true, true, false
			if reason == "" && !assumed.IsZero() && !e.at.Before(assumed) {
				reason = HubRestart
			} else if reason == "" {
				reason = ConnectionLost
			}
			assumed, lastLinkless = time.Time{}, time.Time{}
		}
	}
	now := s.now
	if asleep && !now.Before(held) {
		asleep = false
	}
	up := link || now.Before(assumed)
	if !up && !assumed.IsZero() && reason == "" {
		reason = HubRestart
	}
	data := !lastLinkless.IsZero() && now.Before(lastLinkless.Add(3*time.Minute))
	stale := !d.freshTill.IsZero() && !now.Before(d.freshTill) && !now.Before(believed)
	switch {
	case !ever:
		return devices.NeverSeen, "", got
	case asleep:
		return devices.Sleeping, "", got
	case !up && !data:
		if reason == "" {
			reason = got.Reason // why it has no link is not always in the log of this life
		}
		return devices.Offline, reason, got
	case !up:
		return devices.DataOnly, "", got
	case silent:
		return devices.Unresponsive, "", got
	case stale:
		return devices.Quiet, "", got
	}
	return devices.Online, "", got
}

// flaps is whether the device flaps: it is held to fight over its identity, or
// more than five of its connections began within the minute that did not end with
// a goodbye, in words or by the announcement of a sleep.
func (s *sim) flaps(d *simDevice) bool {
	var began []time.Time
	var newest int64
	var link bool
	var asleep, held time.Time // until
	for _, e := range d.log {
		switch e.what {
		case opened:
			began, newest, link, asleep = append(began, e.at), e.epoch, true, time.Time{}
		case slept:
			asleep = e.until
		case closed:
			if link && e.epoch == newest {
				link = false
				if e.reason == ClientClose || e.at.Before(asleep) {
					began = began[:len(began)-1]
				}
			}
		case refusal:
			held = e.until
		}
	}
	n := 0
	for _, at := range began {
		if at.Add(time.Minute).After(s.now) {
			n++
		}
	}
	return n > 5 || held.After(s.now)
}

func lastSlept(log []delivered, before time.Time) (at time.Time) {
	for _, e := range log {
		if e.what == slept && !e.at.After(before) {
			at = e.at
		}
	}
	return at
}
