package commands

import (
	"time"

	"devicehub/devices"
	"devicehub/devices/lights"
)

const (
	retrySend     = 250 * time.Millisecond // a link that took nothing is tried again after
	sleepLook     = time.Second            // a device that sleeps on an open link is looked at again after
	reconcileJoin = 3 * time.Second        // a device that joined has this long to do what its join reply said
	reconcileMQTT = 500 * time.Millisecond // one that has no join reply
	reconcileGap  = 10 * time.Second       // between two commands for the desired state
)

// Connected says that the device hears commands over connection epoch from now
// on: what waits is sent, what is unanswered is asked again. window bounds how
// many commands may be unacknowledged there, 0 does not. send must not block
// and reports whether the link took the command.
func (d *Dispatcher) Connected(id devices.ID, epoch int64, transport devices.Transport, window int, send func(Envelope) bool) {
	d.with(id, func(dev *device, now time.Time) {
		if dev.link != nil && dev.link.epoch > epoch {
			return
		}
		dev.link = &link{epoch: epoch, transport: transport, window: window, send: send, since: now}
		for _, c := range dev.open {
			if c.op().Momentary() || c.sentEpoch == epoch || c.overtaken {
				continue
			}
			if c.rec.Status == Sent || c.rec.Status == Acked {
				c.again = c.tries < maxAttempts || c.ask
			}
		}
		wait := reconcileJoin
		if transport == devices.OverMQTT {
			wait = reconcileMQTT
		}
		dev.reconcileAt = now.Add(wait)
	})
	d.pump(id)
}

// Disconnected says that connection epoch is gone. It changes nothing when a
// newer one has taken over.
func (d *Dispatcher) Disconnected(id devices.ID, epoch int64) {
	d.with(id, func(dev *device, _ time.Time) {
		if dev.link != nil && dev.link.epoch == epoch {
			dev.link = nil
		}
	})
}

// Booted says that the device runs since power-up boot, heard over connection
// epoch. It confirms a restart that was asked of an earlier boot.
func (d *Dispatcher) Booted(id devices.ID, epoch int64, boot string) {
	d.with(id, func(dev *device, now time.Time) {
		for _, c := range dev.open {
			if c.op() != lights.Restart || c.sentAt.IsZero() || epoch <= c.sentEpoch || c.sentBoot == "" || c.sentBoot == boot {
				continue
			}
			d.confirm(dev, c, epoch, now)
		}
		dev.boot = boot
	})
}

// pump sends what may be sent. One goroutine at a time does so for a device,
// without its lock while the link is handed a command.
func (d *Dispatcher) pump(id devices.ID) {
	var answered int64 // the epoch of an answer that was back before the link returned
	d.table.Find(id, func(e *held) {
		dev := &e.State
		if dev.pumping {
			dev.pumpAgain = true
			return
		}
		dev.pumping = true
		for {
			dev.pumpAgain = false
			now := d.now()
			if c := d.next(dev, now); c != nil {
				if d.send(e, c, now) {
					answered = c.sentEpoch
				}
			} else if !d.refresh(e, now) && !dev.pumpAgain {
				break
			}
		}
		dev.pumping = false
		d.settle(e)
	})
	if answered != 0 {
		d.cfg.Liveness.CommandAnswered(id, answered)
	}
}

// send hands a command to the link. It reports whether the answer was back before the link
// returned.
func (d *Dispatcher) send(e *held, c *command, now time.Time) (answered bool) {
	dev := &e.State
	l, env := dev.link, c.envelope(now)
	before, attempt, hub := c.trip, c.rec.Attempt, c.rec.Hops.Hub
	resent := c.rec.Status == Sent
	c.depart(dev, l, now)
	took := false
	e.Outside(func() { took = l.send(env) })
	c.sending = false
	if !took {
		c.trip = before
		c.rec.Attempt, c.rec.Hops.Hub = attempt, hub
		l.stuck = d.now().Add(retrySend)
		c.again = c.rec.Status == Sent || c.rec.Status == Acked
		c.proof = c.proof && !c.waiting() // it never left
		return false
	}
	now = d.now()
	d.left(dev, c, resent, now)
	return d.prove(dev, c, l.epoch, now)
}

// next is the command to send now, nil if there is none. Commands of a group go
// in order; those of others may pass.
func (d *Dispatcher) next(dev *device, now time.Time) *command {
	if !d.reachable(dev, now) {
		return nil
	}
	var held lights.Group
	for _, c := range dev.open {
		if c.holds(now) {
			held |= c.group
		}
	}
	room := dev.window()
	for _, c := range dev.open {
		switch {
		case c.sending || !c.stored || c.expires.Sub(now) < time.Millisecond:
		case c.again:
			if room {
				return c
			}
		case c.waiting():
			if !room || c.group&held != 0 || c.op() == lights.Set && !dev.mayset(now).IsZero() {
				break
			}
			if c.op().Momentary() && !c.leaving {
				// The disk must know before it leaves, or it might leave again
				// after a restart.
				c.leaving, c.stored = true, false
				d.writes.create(c)
				break
			}
			return c
		}
		if c.waiting() {
			held |= c.group
		}
	}
	return nil
}

// mayset is when the next set may be sent, zero for now.
func (dev *device) mayset(now time.Time) time.Time {
	recent := 0
	var last, oldest time.Time
	for _, at := range dev.sends {
		if now.Sub(at) >= time.Second {
			continue
		}
		recent++
		if at.After(last) {
			last = at
		}
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	switch {
	case recent >= maxSends:
		return oldest.Add(time.Second)
	case recent >= burst && now.Sub(last) < minSpacing:
		return last.Add(minSpacing)
	}
	return time.Time{}
}

// depart notes that the command is handed to the link: an answer may be back
// before the link returns.
func (c *command) depart(dev *device, l *link, now time.Time) {
	c.sending, c.again = true, false
	wait := ackTimeout(l.transport)
	if c.sentAt.IsZero() {
		c.silentAt = now.Add(3 * wait)
		c.rec.Hops.Hub = ms(now.Sub(c.issuedAt))
	}
	if !c.answered {
		c.sentAt = now // of the attempt that the answer will be to
	}
	dev.left++
	c.leftAt, c.nth = now, dev.left
	c.tries++
	c.rec.Attempt = min(c.rec.Attempt+1, maxAttempts)
	c.sentEpoch, c.sentBoot = l.epoch, dev.boot
	c.ackDue = now.Add(wait)
}

// left notes that the link took the command.
func (d *Dispatcher) left(dev *device, c *command, resent bool, now time.Time) {
	c.ask = false
	dev.last = c
	if c.op() == lights.Set {
		if dev.sends == nil {
			dev.sends = make([]time.Time, maxSends)
		}
		dev.sends[dev.sendN%maxSends] = now
		dev.sendN++
	}
	d.stats.sent.Add(1)
	if c.tries > 1 {
		d.stats.resent.Add(1)
	}
	if s := c.rec.Status; s == Pending || s == Queued || s == Sent && resent {
		d.move(c, Sent, now)
	}
}

// schedule sets when the device is to be looked at again.
func (d *Dispatcher) schedule(e *held) {
	dev := &e.State
	var next time.Time
	at := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	at(dev.reconcileAt)
	waits := false
	now := d.now()
	if dev.link != nil && !dev.pumping {
		due, first := dev.awaited(now)
		if waits = len(due) > 0; !waits {
			at(first)
		} else if d.reachable(dev, now) && dev.window() {
			at(now)
		}
	}
	for _, c := range dev.open {
		if c.final || c.sending {
			continue
		}
		switch c.rec.Status {
		case Pending, Queued:
			at(c.expires)
			waits = true
		case Sent:
			at(c.ackDue)
			at(c.expires)
		case Acked:
			if now.Before(c.expires) {
				at(c.expires) // then its groups are free
			}
			at(c.confirmBy)
		case Done:
			at(c.confirmBy)
		case TimedOut:
			at(c.lateUntil)
		}
		at(c.silentAt)
		waits = waits || c.again
	}
	if waits && dev.link != nil {
		if dev.link.stuck.After(now) {
			at(dev.link.stuck)
		}
		at(dev.mayset(now))
		if d.cfg.Liveness.Status(dev.id).State == devices.Sleeping {
			at(now.Add(sleepLook))
		}
	}
	if !next.IsZero() {
		if next.Before(now) {
			next = now
		}
		e.Sooner(next)
	}
}

// tick looks at a device whose time has come.
func (d *Dispatcher) tick(id devices.ID) {
	var silent int64
	reconcile := false
	d.with(id, func(dev *device, now time.Time) {
		reached := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
		for _, c := range dev.open {
			if reached(c.silentAt) {
				c.silentAt = time.Time{}
				if !c.answered && c == dev.last {
					silent = c.sentEpoch
				}
			}
			if !c.sending && !c.final {
				d.age(dev, c, now)
			}
		}
		if reached(dev.reconcileAt) {
			dev.reconcileAt, reconcile = time.Time{}, true
		}
	})
	if silent != 0 {
		d.cfg.Liveness.CommandUnanswered(id, silent)
	}
	if reconcile {
		d.reconcile(id)
	}
	d.pump(id)
}

// age moves a command on by the clock alone.
func (d *Dispatcher) age(dev *device, c *command, now time.Time) {
	switch c.rec.Status {
	case Pending, Queued:
		if !now.Before(c.expires) {
			d.move(c, Expired, now)
		}
	case Sent:
		switch {
		case !now.Before(c.expires):
			d.move(c, TimedOut, now)
		case c.ackDue.IsZero() || now.Before(c.ackDue):
		case c.op().Momentary() || c.tries >= maxAttempts || c.overtaken:
			d.move(c, TimedOut, now)
		default:
			c.ackDue = time.Time{}
			c.again = true
		}
	case Acked:
		if !now.Before(c.confirmBy) {
			d.move(c, TimedOut, now)
		}
	case Done:
		if !now.Before(c.confirmBy) {
			d.unconfirmed(c, now)
		}
	}
	if c.rec.Status == TimedOut && !c.final && !now.Before(c.lateUntil) {
		d.end(c, CodeOutcomeUnknown, now)
	}
}

// unconfirmed ends a command that was done and not shown. What it wanted is taken
// back.
func (d *Dispatcher) unconfirmed(c *command, now time.Time) {
	d.end(c, CodeUnconfirmed, now)
	if rec, ok := d.cfg.Registry.Get(c.rec.Device); ok && !c.system && rec.ShadowPolicy != devices.DesiredWins {
		d.cfg.Shadows.Unwant(rec, c.rec.CmdID)
	}
}
