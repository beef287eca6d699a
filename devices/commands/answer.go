package commands

import (
	"encoding/json"
	"errors"
	"time"

	"devicehub/devices"
	"devicehub/devices/lights"
	"devicehub/devices/shadow"
)

const (
	maxCode = 64  // bytes of a device's code
	maxMsg  = 255 // and of its message
)

// answer is a device's "ack".
type answer struct {
	CmdID  string   `json:"cmd_id"`
	Status Status   `json:"status"`
	Code   string   `json:"code"`
	Msg    string   `json:"msg"`
	ExecMS *float64 `json:"exec_ms"`
}

func parseAnswer(payload []byte) (answer, error) {
	var a answer
	if err := devices.Decode(payload, "payload", &a); err != nil {
		return a, err
	}
	switch {
	case !validID(a.CmdID):
		return a, devices.Invalid("cmd_id", "the id of a command")
	case len(a.Code) > maxCode || len(a.Msg) > maxMsg:
		return a, devices.Invalid("msg", "at most 255 bytes, and a code of at most 64")
	case a.ExecMS != nil && !(*a.ExecMS >= 0 && *a.ExecMS < 1e9):
		return a, devices.OutOfRange("exec_ms", 0, 1e9, "ms")
	}
	switch a.Status {
	case Acked, Done, Failed, Rejected:
		return a, nil
	}
	return a, devices.Invalid("status", "acked, done, failed or rejected")
}

// Answer takes a device's word on a command: event "ack", heard over connection
// epoch. Answers may come in any order and more than once. The error is
// invalid, range, or not_found for a command that is not known any more.
func (d *Dispatcher) Answer(id devices.ID, epoch int64, payload []byte) error {
	a, err := parseAnswer(payload)
	if err != nil {
		return err
	}
	known := false
	d.with(id, func(dev *device, now time.Time) {
		c := dev.find(a.CmdID)
		if known = c != nil; known && !c.final {
			d.answered(dev, c, a, epoch, now)
		}
	})
	if !known {
		return devices.NotFound("command").With("cmd_id", a.CmdID)
	}
	d.cfg.Liveness.CommandAnswered(id, epoch)
	d.pump(id)
	return nil
}

// imply brings a command of which the device has spoken to sent, and with
// acked to acked, whatever was missed in between.
func (d *Dispatcher) imply(dev *device, c *command, acked bool, epoch int64, now time.Time) {
	if !c.answered {
		c.answered, c.ackEpoch, c.ackAt = true, epoch, now
		if !c.sentAt.IsZero() {
			c.rec.Hops.Wire = ms(now.Sub(c.sentAt))
		}
	}
	c.again, c.ask = false, false
	switch c.rec.Status {
	case Pending, Queued: // from its join reply, or faster than the link returned
		if c.sentAt.IsZero() {
			c.sentAt, c.sentEpoch = now, epoch
			c.rec.Hops.Hub = ms(now.Sub(c.issuedAt))
			c.rec.Attempt = 1
		}
		dev.last = c
		d.move(c, Sent, now)
	}
	if acked && c.rec.Status == Sent {
		d.move(c, Acked, now)
	}
}

func (d *Dispatcher) answered(dev *device, c *command, a answer, epoch int64, now time.Time) {
	late := c.rec.Status == TimedOut
	d.imply(dev, c, a.Status == Acked || a.Status == Done, epoch, now)
	if a.Status == Acked || c.rec.Status == Done {
		return
	}
	c.rec.Code, c.rec.Msg = a.Code, a.Msg
	if a.ExecMS != nil {
		exec := int64(*a.ExecMS)
		c.rec.Hops.Device = &exec
		if w := c.rec.Hops.Wire; w != nil && c.ackAt.Equal(now) {
			*w = max(0, *w-exec) // one answer tells of both
		}
	}
	switch {
	case a.Status == Done && late:
		d.done(c, LateDone, now)
	case a.Status == Done:
		d.done(c, Done, now)
	case late:
		d.move(c, Failed, now)
	default:
		d.move(c, a.Status, now)
	}
}

func (d *Dispatcher) done(c *command, to Status, now time.Time) {
	c.doneAt = now
	if c.rec.Hops.Device == nil && !c.ackAt.IsZero() {
		c.rec.Hops.Device = ms(now.Sub(c.ackAt))
	}
	d.move(c, to, now)
}

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

// reconcile asks a device for what it shall be and is not, unless commands that
// say so are under way. A device that is no light learns its delta when it
// joins.
func (d *Dispatcher) reconcile(id devices.ID) {
	rec, ok := d.cfg.Registry.Get(id)
	if !ok || !rec.Is(devices.KindLight) || !rec.Enabled {
		return
	}
	open := map[string]bool{}
	var busy lights.Group
	linked := false
	d.with(id, func(dev *device, now time.Time) {
		linked = dev.link != nil
		for _, c := range dev.open {
			if c.waiting() || c.holds(now) {
				open[c.rec.CmdID] = true
				busy |= c.group
			}
		}
	})
	delta, by := d.cfg.Shadows.DeltaBeside(id, func(cmd string) bool { return open[cmd] })
	if !linked || len(delta) == 0 {
		return
	}
	if lights.Fields(delta).Groups()&busy != 0 {
		d.with(id, func(dev *device, now time.Time) { dev.reconcileAt = now.Add(time.Second) })
		return
	}
	var ask lights.Ask
	params, err := json.Marshal(delta)
	if err == nil {
		ask, err = lights.Parse(rec.Light, string(lights.Set), params)
	}
	if err == nil {
		err = d.system(rec, by, ask)
	}
	var refused *devices.Error
	if err != nil && !errors.As(err, &refused) {
		d.log.Error("desired state not asked for", "device", id, "err", err)
	}
}
