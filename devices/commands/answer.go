package commands

import (
	"time"

	"devicehub/devices"
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
			d.prove(dev, c, epoch, now)
		}
		// Of the hub's own refresh the answer is the state. Not every device knows it.
		known = known || dev.refreshes(a.CmdID)
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
		c.answered, c.ackAt = true, now
		if !c.sentAt.IsZero() {
			c.rec.Hops.Wire = ms(now.Sub(c.sentAt))
		}
	}
	c.again, c.ask = false, false
	switch c.rec.Status {
	case Pending, Queued: // from its join reply, or faster than the link returned
		if c.sentAt.IsZero() {
			dev.left++
			c.sentAt, c.leftAt, c.nth, c.sentEpoch = now, now, dev.left, epoch
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
		d.done(dev, c, LateDone, now)
	case a.Status == Done:
		d.done(dev, c, Done, now)
	case late:
		d.move(c, Failed, now)
	default:
		d.move(c, a.Status, now)
	}
}

func (d *Dispatcher) done(dev *device, c *command, to Status, now time.Time) {
	c.doneAt = now
	dev.overtake(c)
	if c.rec.Hops.Device == nil && !c.ackAt.IsZero() {
		c.rec.Hops.Device = ms(now.Sub(c.ackAt))
	}
	d.move(c, to, now)
}
