package commands

import (
	"context"

	"devicehub/devices"
)

// Submit is Issue for those who cannot wait for the disk. done is called exactly
// once, on another goroutine or before Submit returns, with what Issue returns;
// it must not block. Commands for a device are carried out in the order in which
// they are submitted, though none of them is on disk yet.
func (d *Dispatcher) Submit(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, r Request, done func(Receipt, error)) {
	c, err := d.take(ctx, a, id, r)
	if err != nil {
		done(d.receipt(a, o, id, r, nil, err))
		return
	}
	d.whenDurable(c, func(err error) { done(d.receipt(a, o, id, r, c, err)) })
}

// whenDurable calls f once c is on disk or could not be, or the hub is stopping.
func (d *Dispatcher) whenDurable(c *command, f func(error)) {
	durable := false
	d.table.Locked(c.rec.Device, func(*held) {
		select {
		case <-c.durable:
			durable = true
		default:
			c.waiters = append(c.waiters, f)
		}
	})
	if durable {
		f(nil)
		return
	}
	select {
	case <-d.writes.done: // it is on nobody's list any more
		d.tellWaiters(c, stopping(c))
	default:
	}
}

// tellWaiters calls those who wait for c.
func (d *Dispatcher) tellWaiters(c *command, err error) {
	var waiters []func(error)
	d.table.Locked(c.rec.Device, func(*held) { waiters, c.waiters = c.waiters, nil })
	for _, f := range waiters {
		f(err)
	}
}
