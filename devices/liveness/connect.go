package liveness

import (
	"context"
	"time"

	"devicehub/devices"
)

// Open claims an epoch for a new connection of a device; an older one is told
// to end as replaced. end is called at most once by the tracker, from any
// goroutine, and must not block. It is rate_limited, with the time to wait,
// when devices fight over one identity, not_found for a device that is not
// registered, and platform_unavailable when no epoch can be reserved.
func (t *Tracker) Open(id devices.ID, c Conn, end func(code devices.Code, reason string, byEpoch int64)) (epoch int64, err error) {
	if _, ok := t.cfg.Registry.Get(id); !ok {
		return 0, devices.NotFound("device")
	}
	c.Addr = devices.Host(c.Addr)
	var o opening
	for {
		// The epoch is drawn under the device's lock, so that the later of two
		// connections has the higher one; it is reserved without.
		t.table.With(id, func(e *entry) { o = t.open(e, c, end) })
		if !o.dry {
			break
		}
		if err := t.epochs.reserve(context.Background(), false); err != nil {
			t.log.Error("no epoch for a connection", "device", id, "err", err)
			return 0, devices.Refuse(devices.CodePlatformUnavailable, "the hub cannot number the connection now").After(time.Second)
		}
	}
	switch {
	case o.refused != nil:
		t.turnedAway(id, c, o.first)
		return 0, o.refused
	case o.epoch == 0:
		return 0, devices.NotFound("device") // deleted meanwhile
	}
	if o.tell != nil {
		o.tell()
	}
	if c.Boot != "" {
		t.booted(id, o.epoch, c.Boot)
	}
	return o.epoch, nil
}

// opening is what became of a newcomer.
type opening struct {
	epoch   int64
	dry     bool           // there is no epoch at the moment
	refused *devices.Error // a duplicate
	first   bool           // the first refusal of a fight
	tell    func()         // tells the connection that it replaced; may be nil
}

// open makes c the connection of the device, unless it is a duplicate.
func (t *Tracker) open(e *entry, c Conn, end func(code devices.Code, reason string, byEpoch int64)) (o opening) {
	d, now := &e.State, t.now()
	if o.refused, o.first = d.contest(c, now); o.refused != nil {
		t.settle(e, now, "")
		return o
	}
	epoch, ok := t.epochs.take()
	if !ok {
		return opening{dry: true}
	}
	o.epoch = epoch
	cn := &conn{Conn: c, epoch: epoch, end: end}
	event := ""
	if old := d.conn; old != nil {
		event = Replaced
		if old.end != nil {
			d.dup.replace(old, cn, now)
		}
		o.tell = d.ender(devices.CodeReplaced, "a newer connection of the device took over", epoch)
		t.stats.replaced.Add(1)
	}
	t.stats.opened.Add(1)
	d.avail, d.bridge = availUnknown, nil
	d.open(cn, now)
	t.settle(e, now, event)
	return o
}

// Admit is rate_limited where Open would be, so that a newcomer can be told how
// long to wait before there is a connection. Open may still decide otherwise.
func (t *Tracker) Admit(id devices.ID, c Conn) error {
	c.Addr = devices.Host(c.Addr)
	var refused *devices.Error
	var first bool
	t.with(id, func(d *device, now time.Time) bool {
		refused, first = d.contest(c, now)
		return refused != nil
	})
	if refused == nil {
		return nil
	}
	t.turnedAway(id, c, first)
	return refused
}

// turnedAway counts a newcomer that was refused, and audits the first of a fight.
func (t *Tracker) turnedAway(id devices.ID, c Conn, first bool) {
	t.stats.refused.Add(1)
	if first && t.cfg.Audit != nil {
		t.cfg.Audit.Record(devices.Origin{Via: c.Transport.Via(), Addr: c.Addr}, devices.AuditEntry{
			Actor: "device:" + string(id), Action: "device.duplicate_identity", Target: "device:" + string(id),
			Outcome: "refused", Code: devices.CodeRateLimited})
	}
}

// SetBoot records the device's power-up where it is learned after Open.
func (t *Tracker) SetBoot(id devices.ID, epoch int64, boot string) {
	known := false
	t.with(id, func(d *device, now time.Time) bool {
		if d.conn == nil || d.conn.epoch != epoch || boot == "" || d.conn.Boot == boot {
			return false
		}
		known = true
		d.conn.Boot = boot
		d.dup.compare(d.conn, now)
		return false
	})
	if known {
		t.booted(id, epoch, boot)
	}
}

// Answered says that the peer of a connection which a newer one replaced was
// still there: it took its leave after it was told to go. sure says that this was
// an answer, and cannot have been on its way before. It is of no consequence for
// any other connection.
func (t *Tracker) Answered(id devices.ID, epoch int64, sure bool) {
	t.with(id, func(d *device, now time.Time) bool {
		d.dup.answered(epoch, sure, now)
		return false
	})
}

func (t *Tracker) booted(id devices.ID, epoch int64, boot string) {
	for _, f := range t.onBoot {
		f(id, epoch, boot)
	}
}

// Close says that connection epoch of the device is gone, and why. It changes
// nothing when a newer one has taken over.
func (t *Tracker) Close(id devices.ID, epoch int64, reason string) {
	t.with(id, func(d *device, _ time.Time) bool {
		if d.conn == nil || d.conn.epoch != epoch {
			return false
		}
		d.close(reason)
		return true
	})
}

// End tells the device's connection to end, for a code that Close will be told
// the reason of by the transport. It reports whether there was one.
func (t *Tracker) End(id devices.ID, code devices.Code, reason string) bool {
	var tell func()
	t.table.Find(id, func(e *entry) { tell = e.State.ender(code, reason, 0) })
	if tell == nil {
		return false
	}
	tell()
	return true
}
