package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"devicehub/firmware-sim/device"
)

// Links counts devices by where their connection stands.
type Links struct {
	Off        int `json:"off,omitzero"` // not switched on yet, or switched off
	Connecting int `json:"connecting,omitzero"`
	Joining    int `json:"joining,omitzero"` // connected; not every topic is joined
	Up         int `json:"up,omitzero"`
	Waiting    int `json:"waiting,omitzero"`   // backs off before the next attempt
	Dropped    int `json:"dropped,omitzero"`   // kept away by a fault
	HalfOpen   int `json:"half_open,omitzero"` // kept away by a fault, and the hub cannot know yet
	Refused    int `json:"refused,omitzero"`   // the hub will not have it
	Gone       int `json:"gone,omitzero"`      // has given up for good
}

// A LinkCount is one state of Links by its name.
type LinkCount struct {
	State string
	Count int
}

// All returns every state in the order of a connection's life, and then of its troubles.
func (l Links) All() []LinkCount {
	return []LinkCount{{"off", l.Off}, {"connecting", l.Connecting}, {"joining", l.Joining}, {"up", l.Up}, {"waiting", l.Waiting},
		{"dropped", l.Dropped}, {"half open", l.HalfOpen}, {"refused", l.Refused}, {"gone", l.Gone}}
}

// Devices is the sum of all states.
func (l Links) Devices() (n int) {
	for _, c := range l.All() {
		n += c.Count
	}
	return n
}

// Add returns the sum of two.
func (l Links) Add(o Links) Links {
	return Links{Off: l.Off + o.Off, Connecting: l.Connecting + o.Connecting, Joining: l.Joining + o.Joining, Up: l.Up + o.Up,
		Waiting: l.Waiting + o.Waiting, Dropped: l.Dropped + o.Dropped, HalfOpen: l.HalfOpen + o.HalfOpen, Refused: l.Refused + o.Refused,
		Gone: l.Gone + o.Gone}
}

// String lists the states that are not up, as in "3 connecting, 1 dropped".
func (l Links) String() string {
	var out []string
	for _, c := range l.All() {
		if c.Count > 0 && c.State != "up" {
			out = append(out, fmt.Sprintf("%d %s", c.Count, c.State))
		}
	}
	return strings.Join(out, ", ")
}

func (l *Links) count(u *unit, now time.Time) {
	u.mu.Lock()
	power, up, refused, held, half := u.power, u.up, u.refused, now.Before(u.heldTill), u.half
	u.mu.Unlock()
	switch {
	case power == failed:
		l.Gone++
	case power == off:
		l.Off++
	case up:
		l.Up++
	case held && half:
		l.HalfOpen++
	case held:
		l.Dropped++
	case refused:
		l.Refused++
	default:
		switch u.dev.Stage() {
		case device.Connecting:
			l.Connecting++
		case device.Waiting:
			l.Waiting++
		default:
			l.Joining++
		}
	}
}

// links counts the fleet by transport; those behind a broker that is not the hub's are "bridged".
func (s *Sim) links() map[string]Links {
	now := time.Now()
	out := make(map[string]Links, 5)
	for _, u := range s.units {
		l := out[u.path()]
		l.count(u, now)
		out[u.path()] = l
	}
	return out
}

// path is how the device reaches the hub.
func (u *unit) path() string {
	if u.group.Via != nil {
		return "bridged"
	}
	return string(u.config.Transport)
}

// power is whether a device is switched on.
type power uint8

const (
	off power = iota
	on
	failed // ended by itself
)

func (u *unit) turn(p power) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.power = p
}

// drop breaks the connection and keeps the device away for a while.
func (u *unit) drop(stay time.Duration) {
	u.mu.Lock()
	u.heldTill = time.Now().Add(stay)
	u.breaking()
	u.mu.Unlock()
	u.dev.Drop(stay)
}

// restart cuts the device's power for a moment.
func (u *unit) restart() {
	u.mu.Lock()
	u.breaking()
	u.mu.Unlock()
	u.dev.Restart()
}

// breaking notes that the connection breaks, or is about to: a goodbye that the device is saying
// may not come through. The lock is held.
func (u *unit) breaking() { u.breaks = noted(u.breaks) }

// halfOpen leaves the connection standing; the hub cannot know until its liveness time has passed.
func (u *unit) halfOpen(stay time.Duration) {
	u.mu.Lock()
	u.half, u.heldTill = true, time.Now().Add(stay)
	u.breaking()
	u.mu.Unlock()
	u.dev.Abandon(stay)
}

// reconnect ends a stay.
func (u *unit) reconnect() {
	u.mu.Lock()
	u.heldTill, u.refused = time.Time{}, false
	u.mu.Unlock()
	u.dev.Reconnect()
}

// denied are the codes with which a hub says to a device that asking again changes nothing (devices/README.md#errors).
var denied = []string{"unauthorized", "token_expired", "token_revoked", "forbidden", "device_disabled", "not_found"}

// heard notes a code that the hub answered with.
func (u *unit) heard(code string) {
	if !slices.Contains(denied, code) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refused = u.refused || !u.up
}
