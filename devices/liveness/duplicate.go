package liveness

import (
	"slices"
	"time"

	"devicehub/devices"
)

// Limits of fights over one identity.
const (
	maxReplacements = 3 // by another device, within replaceWindow
	replaceWindow   = time.Minute
	maxTakeovers    = 16 // remembered
	minHold         = 5 * time.Second
	maxHold         = 5 * time.Minute
)

// duplicate tells two devices of one identity from one that reconnects.
//
// A device that loses its network, its power or its mind comes back while its old
// connection still stands, as often as it likes: nobody is left at the other end
// of that. Two devices push each other out, and each is there when it happens. So
// a takeover counts as another device's only when that is proven: by its address;
// by a boot or a client id that was pushed out before, by another one; or by the
// replaced connection, whose peer answered that it was told to go. What may have
// been on its way before proves it only when it happens twice in a row.
type duplicate struct {
	takeovers []takeover    // the latest, as far as they are of use, the newest last
	retry     time.Duration // what the next newcomer is told to wait
	until     time.Time     // newcomers are refused while a connection stands
}

// takeover is one connection that a newer one replaced.
type takeover struct {
	old      Conn
	epoch    int64 // of the old one
	by       int64 // of the one that replaced it
	at       time.Time
	answered bool // its peer was still there
	same     bool // both are known to be one device's
	other    bool // they are known to be two devices'
}

func (k *takeover) counts(now time.Time) bool {
	return k.other && !k.same && now.Sub(k.at) <= replaceWindow
}

// replace notes that by takes the place of old.
func (u *duplicate) replace(old, by *conn, now time.Time) {
	u.takeovers = slices.DeleteFunc(u.takeovers, func(k takeover) bool { return now.Sub(k.at) > replaceWindow })
	if len(u.takeovers) == maxTakeovers {
		u.takeovers = slices.Delete(u.takeovers, 0, 1)
	}
	u.takeovers = append(u.takeovers, takeover{old: old.Conn, epoch: old.epoch, by: by.epoch, at: now, other: old.Addr != by.Addr})
	u.compare(by, now)
}

// compare judges a connection by what it says of itself: whether it is the one
// that it replaced, or was itself replaced by that.
func (u *duplicate) compare(c *conn, now time.Time) {
	last := len(u.takeovers) - 1
	if last < 0 || u.takeovers[last].by != c.epoch {
		return
	}
	k := &u.takeovers[last]
	if c.Boot != "" && c.Boot == k.old.Boot && c.Addr == k.old.Addr {
		k.same = true
		return
	}
	back := func(of func(*Conn) string) {
		mark := of(&c.Conn)
		if mark == "" || of(&k.old) == "" || of(&k.old) == mark {
			return
		}
		for i := last - 1; i >= 0; i-- {
			earlier := &u.takeovers[i]
			if of(&earlier.old) == mark && now.Sub(earlier.at) <= replaceWindow {
				k.other, earlier.other = true, true
				return
			}
		}
	}
	back(func(c *Conn) string { return c.Boot })
	back(func(c *Conn) string { return c.Client })
}

// answered notes that the peer of a replaced connection was still there.
func (u *duplicate) answered(epoch int64, sure bool, now time.Time) {
	i := slices.IndexFunc(u.takeovers, func(k takeover) bool { return k.epoch == epoch })
	if i < 0 {
		return
	}
	k := &u.takeovers[i]
	k.answered = true
	if sure {
		k.other = true
	}
	// The connection before it, and the one after it: one that was pushed out is
	// back, and pushes out.
	for _, j := range [2]int{i - 1, i + 1} {
		if j < 0 || j >= len(u.takeovers) {
			continue
		}
		next := &u.takeovers[j]
		if next.answered && (next.by == k.epoch || next.epoch == k.by) && now.Sub(next.at) <= replaceWindow {
			k.other, next.other = true, true
		}
	}
}

// full reports whether one more takeover would be too many.
func (u *duplicate) full(now time.Time) bool {
	n := 0
	for i := range u.takeovers {
		if u.takeovers[i].counts(now) {
			n++
		}
	}
	return n >= maxReplacements
}

// newcomer reports whether a connection may be another's than the standing one:
// it is not known to be that of the same device, back before its old connection
// was missed.
func (d *device) newcomer(c Conn) bool {
	old := d.conn
	return old != nil && old.end != nil && (old.Addr != c.Addr || old.Boot == "" || old.Boot != c.Boot)
}

// contest decides whether a newcomer may replace the standing connection.
// first is true for the first refusal of a fight.
func (d *device) contest(c Conn, now time.Time) (refused *devices.Error, first bool) {
	held := d.dup.until.After(now)
	if !d.newcomer(c) || !held && !d.dup.full(now) {
		return nil, false
	}
	if !held {
		d.dup.retry = minHold
	}
	wait := d.dup.retry
	d.dup.retry = min(2*wait, maxHold)
	d.dup.until = now.Add(wait + replaceWindow)
	return devices.Refuse(devices.CodeRateLimited, "several devices use this identity; the one that is connected stays").
		After(wait).With("cause", DuplicateIdentity), !held
}
