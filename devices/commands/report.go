package commands

import (
	"maps"
	"reflect"
	"slices"
	"time"

	"devicehub/devices"
	"devicehub/devices/lights"
	"devicehub/devices/shadow"
)

// report is what a device said of its state, and when.
type report struct {
	lights.Report
	epoch   int64
	at      time.Time // when it arrived
	from    int64     // when it was so, in ms since epoch; 0: when it arrived
	refresh string    // the hub's own, which it answers
}

// Report takes what a device says of its state: event "state", which arrived
// over connection epoch at the time at. It is told to everybody, kept in the
// shadow, and confirms the commands that it shows. The error is invalid, range,
// too_large or overloaded.
func (d *Dispatcher) Report(id devices.ID, epoch int64, at time.Time, payload []byte) (ver int64, err error) {
	rec, ok := d.cfg.Registry.Get(id)
	if !ok {
		return 0, devices.NotFound("device")
	}
	said, err := shadow.ParseReport(rec, payload)
	if err != nil {
		return 0, err
	}
	r := report{Report: said, epoch: epoch, at: at}
	answers := false
	d.with(id, func(dev *device, now time.Time) {
		by := ""
		if c := dev.find(r.Cmd); c != nil {
			by, answers = c.rec.By, true
		} else if dev.refreshes(r.Cmd) {
			r.answersRefresh()
			answers = true
		}
		var o shadow.Outcome
		if o, err = d.cfg.Shadows.Report(rec, r.Report, by); err != nil {
			return
		}
		ver = o.Ver
		d.show(rec, r.Report, o)
		r.from = d.from(rec, r)
		for _, c := range slices.Backward(dev.open) { // what the newest has done is not an older one's doing
			if !c.final && d.seen(dev, rec, c, r, o.Fields, now) {
				answers = true
			}
		}
		if rec.ShadowPolicy == devices.DesiredWins && o.Changed && !r.Transitioning && dev.reconcileAt.IsZero() {
			dev.reconcileAt = later(now, dev.reconciled.Add(reconcileGap))
		}
	})
	if err != nil {
		return 0, err
	}
	if answers {
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

// show tells the state. What is only said again is no news (devices/README.md#shadows).
func (d *Dispatcher) show(rec *devices.Device, r lights.Report, o shadow.Outcome) {
	if !o.Changed && (r.Cause == lights.CauseSync || r.Cause == lights.CauseBoot) {
		return
	}
	e := devices.Event{Device: rec.ID, Kinds: rec.ControlTopicKinds(), Name: "state", Payload: o.State}
	if r.Transitioning {
		e.Key = "state"
	}
	d.table.Publish(rec.ID, e)
}

// answersRefresh makes it the answer to the hub's own refresh, which is nobody's
// command and changed nothing.
func (r *report) answersRefresh() {
	r.refresh, r.Cmd = r.Cmd, ""
	if r.Cause == "" || r.Cause == lights.CauseCommand {
		r.Cause = lights.CauseSync
	}
}

// from is when, by the hub's clock, that was so which a device says again, such
// as the state that it joins with; 0 when it does not say.
func (d *Dispatcher) from(rec *devices.Device, r report) int64 {
	if r.T == 0 || r.refresh != "" || r.Cause != lights.CauseSync && r.Cause != lights.CauseBoot {
		return 0
	}
	return d.cfg.Shadows.Happened(rec.ID, r.T, r.at)
}

// seen holds one command against a report, after which the device's state is as
// given. It reports whether the device has answered the command by it.
func (d *Dispatcher) seen(dev *device, rec *devices.Device, c *command, r report, state lights.Fields, now time.Time) bool {
	if r.Transitioning {
		c.onTheWay = now
	}
	if r.Cmd != "" && r.Cmd == c.rec.CmdID {
		d.named(dev, rec, c, r, state, now)
		return true
	}
	if r.Transitioning || c.waiting() || !r.after(c) {
		return false
	}
	scale := d.cfg.Shadows.Scale(rec)
	if c.replaced { // what is nearly the same is the newer one's
		scale = lights.MaxBrightness
	}
	switch {
	case c.op() == lights.Refresh:
		c.proof = true
	case !r.speaksOf(c.want) || !state.Fulfils(c.want, scale):
	case c.rec.Status == TimedOut && dev.overtaken(c): // it shows another's doing
	default:
		c.proof = true
	}
	return d.prove(dev, c, r.epoch, now)
}

// named takes a report that names the command as its cause.
func (d *Dispatcher) named(dev *device, rec *devices.Device, c *command, r report, state lights.Fields, now time.Time) {
	if !r.Transitioning && len(c.want) > 0 && state.Fulfils(c.want, d.cfg.Shadows.Scale(rec)) {
		d.confirm(dev, c, r.epoch, now)
		return
	}
	d.imply(dev, c, true, r.epoch, now)
	if !r.Transitioning && c.op() == lights.Refresh {
		d.refreshed(dev, c, now)
	}
}

// refreshed ends somebody's refresh: the device has said how it is.
func (d *Dispatcher) refreshed(dev *device, c *command, now time.Time) {
	switch c.rec.Status {
	case Acked:
		d.done(dev, c, Done, now)
	case TimedOut:
		d.done(dev, c, LateDone, now)
	}
}

// after reports whether it can tell of what the command did: it arrived after the
// command was last sent, not over an older connection, and is not older itself.
func (r *report) after(c *command) bool {
	return !c.leftAt.IsZero() && !r.at.Before(c.leftAt) && r.epoch >= c.sentEpoch &&
		(r.from == 0 || r.from >= c.leftAt.UnixMilli())
}

// speaksOf reports whether it says something of what is wanted, and not of other
// fields alone: those that it leaves out may have been so before.
func (r *report) speaksOf(want lights.Fields) bool {
	if on, asked := want[lights.On].(bool); asked && !on { // then the rest does not matter
		_, said := r.Fields[lights.On]
		return said
	}
	colour := r.Fields.Groups()&lights.Colour != 0
	for name := range want {
		if _, said := r.Fields[name]; said || colour && lights.GroupOf(name) == lights.Colour {
			return true
		}
	}
	return false
}

// overtaken reports whether a newer command for some of the same has gone to the
// device since: what the device is by now may be that one's doing.
func (dev *device) overtaken(c *command) bool {
	for _, o := range dev.open {
		if o.nth > c.nth && o.group&c.group != 0 && (o.sending || o.rec.Status == Sent || o.rec.Status == Acked) {
			return true
		}
	}
	return c.overtaken
}

// overtake notes of a command that is done what it left the device as, and of
// those before it that this is so no more. They are not sent again.
func (dev *device) overtake(c *command) {
	if !c.overtaken {
		c.stands = c.target()
	}
	for _, o := range dev.open {
		if o.leftAt.IsZero() || o.nth >= c.nth || len(c.want) == 0 {
			continue
		}
		delete(o.stands, lights.On) // every set says it
		if o.group&c.group != 0 {
			o.giveWay(c.want)
		}
	}
}

// giveWay notes that a newer command for some of the same is done.
func (c *command) giveWay(want lights.Fields) {
	c.overtaken, c.again = true, false
	newer := func(name string) bool {
		_, said := want[name]
		return said || want.Groups()&lights.Colour != 0 && lights.GroupOf(name) == lights.Colour
	}
	for name, v := range c.want {
		c.replaced = c.replaced || newer(name) && !reflect.DeepEqual(v, want[name])
	}
	maps.DeleteFunc(c.stands, func(name string, _ any) bool { return newer(name) })
}

// prove ends a command whose proof is there, unless it is not known yet to have
// left, or the device itself will answer it.
func (d *Dispatcher) prove(dev *device, c *command, epoch int64, now time.Time) bool {
	switch {
	case !c.proof || c.final || c.rec.Status == Pending || c.rec.Status == Queued:
		return false
	case len(c.want) > 0:
		d.confirm(dev, c, epoch, now)
	case c.op() == lights.Refresh && c.forwarded:
		d.refreshed(dev, c, now)
	}
	return c.final
}

// confirm says that the device was seen to have done it, in the order in which
// it must have come about.
func (d *Dispatcher) confirm(dev *device, c *command, epoch int64, now time.Time) {
	if c.rec.Status == TimedOut {
		d.done(dev, c, LateDone, now)
		return
	}
	d.imply(dev, c, true, epoch, now)
	if c.rec.Status == Acked {
		d.done(dev, c, Done, now)
	}
	if c.rec.Status != Done || c.final {
		return
	}
	c.rec.Hops.Confirm = ms(now.Sub(c.doneAt))
	d.move(c, Confirmed, now)
}
