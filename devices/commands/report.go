package commands

import (
	"time"

	"devicehub/devices"
	"devicehub/devices/lights"
	"devicehub/devices/shadow"
)

// confirm says that the device was seen to have done it, in the order in which
// it must have come about.
func (d *Dispatcher) confirm(dev *device, c *command, epoch int64, now time.Time) {
	if c.rec.Status == TimedOut {
		d.done(c, LateDone, now)
		return
	}
	d.imply(dev, c, true, epoch, now)
	if c.rec.Status == Acked {
		d.done(c, Done, now)
	}
	if c.rec.Status != Done || c.final {
		return
	}
	c.rec.Hops.Confirm = ms(now.Sub(c.doneAt))
	d.move(c, Confirmed, now)
}

// Report takes what a device says of its state: event "state", heard over
// connection epoch. It is told to everybody, kept in the shadow, and confirms
// the commands that it shows. The error is invalid, range, too_large or
// overloaded.
func (d *Dispatcher) Report(id devices.ID, epoch int64, payload []byte) (ver int64, err error) {
	rec, ok := d.cfg.Registry.Get(id)
	if !ok {
		return 0, devices.NotFound("device")
	}
	r, err := shadow.ParseReport(rec, payload)
	if err != nil {
		return 0, err
	}
	named := false
	d.with(id, func(dev *device, now time.Time) {
		by := ""
		c := dev.find(r.Cmd)
		if named = r.Cmd != "" && c != nil; named {
			by = c.rec.By
		}
		var o shadow.Outcome
		if o, err = d.cfg.Shadows.Report(rec, r, by); err != nil {
			return
		}
		ver = o.Ver
		d.show(rec, r, o)
		for _, c := range dev.open {
			if !c.final {
				d.seen(dev, rec, c, r, o, epoch, now)
			}
		}
		if rec.ShadowPolicy == devices.DesiredWins && o.Changed && !r.Transitioning && dev.reconcileAt.IsZero() {
			dev.reconcileAt = later(now, dev.reconciled.Add(reconcileGap))
		}
	})
	if err != nil {
		return 0, err
	}
	if named {
		d.cfg.Liveness.CommandAnswered(id, epoch)
	}
	d.pump(id)
	return ver, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// show tells the state. What is only said again is no news (P27).
func (d *Dispatcher) show(rec *devices.Device, r lights.Report, o shadow.Outcome) {
	if d.cfg.Feed == nil || !o.Changed && (r.Cause == lights.CauseSync || r.Cause == lights.CauseBoot) {
		return
	}
	e := devices.Event{Device: rec.ID, Kinds: rec.ControlTopicKinds(), Name: "state", Payload: o.State}
	if r.Transitioning {
		e.Key = "state"
	}
	d.shard(rec.ID).out.Put(e)
}

// seen holds one command against a report.
func (d *Dispatcher) seen(dev *device, rec *devices.Device, c *command, r lights.Report, o shadow.Outcome, epoch int64, now time.Time) {
	if r.Cmd != "" && r.Cmd == c.rec.CmdID {
		switch {
		case r.Transitioning:
			d.imply(dev, c, true, epoch, now)
		case len(c.want) > 0:
			if o.Fields.Fulfils(c.want, d.cfg.Shadows.Scale(rec)) {
				d.confirm(dev, c, epoch, now)
			} else {
				d.imply(dev, c, true, epoch, now)
			}
		case c.op() == lights.Refresh:
			d.imply(dev, c, true, epoch, now)
			if c.rec.Status == Acked {
				d.done(c, Done, now)
			}
		}
		return
	}
	// A report that does not name the command shows it only when the device had
	// answered before, on this connection: else it may be older.
	if r.Transitioning || len(c.want) == 0 || !c.answered || c.ackEpoch != epoch {
		return
	}
	if (c.rec.Status == Acked || c.rec.Status == Done) && o.Fields.Fulfils(c.want, d.cfg.Shadows.Scale(rec)) {
		d.confirm(dev, c, epoch, now)
	}
}
