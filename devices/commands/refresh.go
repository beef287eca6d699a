package commands

import (
	"time"

	"github.com/oklog/ulid/v2"

	"devicehub/devices"
	"devicehub/devices/lights"
)

// refreshAfter is how long the hub waits for a device to show what it has done,
// before it asks.
const refreshAfter = time.Second

// unproven reports whether all that can be heard of the command was heard, and
// the device has not shown it.
func (c *command) unproven() bool {
	return !c.final && len(c.want) > 0 && (c.rec.Status == Done || c.rec.Status == Acked && c.forwarded)
}

// refreshAt is when the device is to be asked over link l whether it is as the
// command asked, once nothing was heard of that.
func (c *command) refreshAt(l *link) time.Time {
	since := later(c.doneAt, l.since)
	if c.rec.Status == Acked {
		since = later(c.ackAt, l.since)
	}
	// It may have said that it has begun.
	return later(later(since, c.onTheWay), c.leftAt.Add(c.transition())).Add(refreshAfter)
}

// awaited are the commands for whose proof the device is asked: each once, and
// none that a newer one has overtaken, which it will not show any more. at is
// when the first of them is due.
func (dev *device) awaited(now time.Time) (due []*command, at time.Time) {
	for _, c := range dev.open {
		if !c.unproven() || c.refresh != "" || dev.overtaken(c) {
			continue
		}
		t := c.refreshAt(dev.link)
		if !t.After(now) {
			due = append(due, c)
		}
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	return due, at
}

// refreshes reports whether id is that of a refresh of the hub's own.
func (dev *device) refreshes(id string) bool {
	if id == "" {
		return false
	}
	for _, list := range [][]*command{dev.open, dev.recent} {
		for _, c := range list {
			if c.refresh == id {
				return true
			}
		}
	}
	return false
}

// refresh asks the device for its state where the proof of something is overdue.
// That is nobody's command: it stands in no history, is not asked twice, and
// takes no place among what is unacknowledged. Like pump, which calls it, it
// gives the lock back while the link is at work. It reports whether it asked.
func (d *Dispatcher) refresh(e *held, now time.Time) bool {
	dev := &e.State
	if dev.link == nil {
		return false
	}
	due, _ := dev.awaited(now)
	if len(due) == 0 || !d.reachable(dev, now) || !dev.window() {
		return false
	}
	env := Envelope{CmdID: ulid.MustNewDefault(now).String(), Op: string(lights.Refresh), Params: map[string]any{},
		IssuedAt: now.UnixMilli(), Attempt: 1, By: string(devices.ActorHub)}
	until := now.Add(minLife)
	for _, c := range due {
		c.refresh = env.CmdID // before it leaves: the answer may be back before the link returns
		until = later(until, c.confirmBy)
	}
	env.ExpiresAt, env.TTLMS = until.UnixMilli(), until.Sub(now).Milliseconds()
	l := dev.link
	took := false
	e.Outside(func() { took = l.send(env) })
	if took {
		d.stats.refreshed.Add(1)
		return true
	}
	for _, c := range due {
		c.refresh = ""
	}
	l.stuck = d.now().Add(retrySend)
	return true
}

// reachable reports whether something can be sent to the device now.
func (d *Dispatcher) reachable(dev *device, now time.Time) bool {
	return dev.link != nil && !now.Before(dev.link.stuck) && d.cfg.Liveness.Status(dev.id).State != devices.Sleeping
}

// window reports whether the link takes one more that is unacknowledged there.
func (dev *device) window() bool {
	if dev.link.window == 0 {
		return true
	}
	unacked := 0
	for _, c := range dev.open {
		if c.rec.Status == Sent && !c.again && c.sentEpoch == dev.link.epoch {
			unacked++
		}
	}
	return unacked < dev.link.window
}

// Forwarded says that an adapter has passed a command on, over the link of epoch,
// in the place of a device that has no word for it: from then on nothing but the
// device's state will tell what came of it.
func (d *Dispatcher) Forwarded(id devices.ID, epoch int64, cmdID string) {
	d.with(id, func(dev *device, now time.Time) {
		c := dev.find(cmdID)
		if c == nil || c.final {
			return
		}
		c.forwarded = true
		d.imply(dev, c, true, epoch, now)
		d.prove(dev, c, epoch, now)
	})
	d.cfg.Liveness.CommandAnswered(id, epoch)
	d.pump(id)
}
