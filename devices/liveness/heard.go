package liveness

import (
	"time"

	"devicehub/devices"
)

// Heard is what a device was heard to send.
type Heard uint8

// What devices send.
const (
	Data  Heard = iota + 1 // readings, stored
	Ack                    // an answer to a command
	State                  // a report of its state
)

// Heard says that the device sent something over connection epoch, or, with
// epoch 0, by a way that has no connection, such as HTTP. What comes late over
// a connection that is gone is ignored.
func (t *Tracker) Heard(id devices.ID, epoch int64, what Heard) {
	if epoch == 0 {
		t.linkless(id)
		return
	}
	t.with(id, func(d *device, now time.Time) bool { return d.heardOn(epoch, now) })
}

// Pong says that the device answered a ping over connection epoch after rtt.
func (t *Tracker) Pong(id devices.ID, epoch int64, rtt time.Duration) {
	t.with(id, func(d *device, now time.Time) bool {
		if d.conn != nil && d.conn.epoch == epoch {
			d.rtt = max(0, rtt)
		}
		return d.heardOn(epoch, now)
	})
}

func (d *device) heardOn(epoch int64, now time.Time) (changed bool) {
	if d.conn == nil || d.conn.epoch != epoch {
		return false
	}
	d.heard(now)
	// Readings on their way when the sleep was announced do not wake it.
	if d.awakeAt != 0 && now.Sub(d.sleptAt) > wakeAfter {
		d.wake()
		return true
	}
	return false
}

// linkless counts data that came without a connection.
func (t *Tracker) linkless(id devices.ID) {
	t.with(id, func(d *device, now time.Time) bool {
		d.heard(now)
		d.linklessTill = now.Add(t.patience(id))
		if d.awakeAt != 0 && d.conn == nil && now.Sub(d.sleptAt) > wakeAfter {
			d.wake()
		}
		return d.status.State != devices.DataOnly
	})
}

// patience is how long data without a link counts: three intervals, or an hour
// for a device that declares none.
func (t *Tracker) patience(id devices.ID) time.Duration {
	rec, ok := t.cfg.Registry.Get(id)
	if !ok {
		return silentAfter
	}
	interval := rec.ExpectedIntervalS
	for i := range rec.Metrics {
		interval = max(interval, rec.Metrics[i].ExpectedIntervalS)
	}
	if interval <= 0 {
		return silentAfter
	}
	return time.Duration(interval * staleFactor * float64(time.Second))
}

// Sleep says that the device announced over connection epoch (0: without one)
// that it sleeps until awakeAt, in ms since epoch.
func (t *Tracker) Sleep(id devices.ID, epoch, awakeAt int64) {
	t.with(id, func(d *device, now time.Time) bool {
		if epoch != 0 && (d.conn == nil || d.conn.epoch != epoch) {
			return false
		}
		d.heard(now)
		d.sleep(awakeAt, now, now)
		return true
	})
}

// sleep notes the announcement. Waking late is normal: clocks of sleeping
// devices run badly, and joining a network takes time.
func (d *device) sleep(awakeAt int64, since, now time.Time) {
	end := now.Add(time.Duration(awakeAt-now.UnixMilli()) * time.Millisecond)
	grace := min(max(end.Sub(since)/20, minGrace), maxGrace)
	d.awakeAt, d.sleptAt, d.sleepEnd = awakeAt, since, end.Add(grace)
}

// CommandUnanswered says that the last command sent to the device was not
// answered in time over connection epoch.
func (t *Tracker) CommandUnanswered(id devices.ID, epoch int64) {
	t.control(id, epoch, ControlUnanswered)
}

// CommandAnswered says that the device answered a command over connection
// epoch.
func (t *Tracker) CommandAnswered(id devices.ID, epoch int64) { t.control(id, epoch, ControlOK) }

func (t *Tracker) control(id devices.ID, epoch int64, control string) {
	t.with(id, func(d *device, _ time.Time) bool {
		if d.conn == nil || d.conn.epoch != epoch || d.control == control {
			return false
		}
		d.control = control
		return true
	})
}

// DataChanged says that the device's readings changed; how fresh they are is
// asked soon after, not during the call.
func (t *Tracker) DataChanged(id devices.ID) {
	t.table.With(id, func(e *entry) {
		d := &e.State
		at := t.now()
		if d.any && !d.stale {
			at = at.Add(dataAskEvery)
		}
		if d.askAt.IsZero() || at.Before(d.askAt) {
			d.askAt = at
			e.Sooner(at)
		}
	})
}
