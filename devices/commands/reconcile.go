package commands

import (
	"time"

	"github.com/oklog/ulid/v2"

	"devicehub/devices"
	"devicehub/devices/lights"
)

// system lines up a set by which the hub brings a device to its desired state.
// by is who desired it.
func (d *Dispatcher) system(rec *devices.Device, by string, ask lights.Ask) (err error) {
	d.with(rec.ID, func(dev *device, now time.Time) {
		dev.reconciled = now
		_, params, want, e := ask.Resolve(nil)
		if e != nil || dev.link == nil || len(dev.open) >= maxOpen {
			err = e
			return
		}
		if _, asked := want[lights.On]; !asked {
			delete(params, lights.On)
		}
		life, _ := lifeOf(PolicyNone, dev.link.transport, nil) // nothing asked, nothing refused
		c := &command{system: true, issuedAt: now, durable: make(chan struct{}), expires: now.Add(life), want: want, group: want.Groups(),
			rec: Record{CmdID: ulid.MustNewDefault(now).String(), Device: rec.ID, Op: string(lights.Set), Params: params, By: by,
				Policy: PolicyNone, IssuedAt: now.UnixMilli(), ExpiresAt: now.Add(life).UnixMilli()}}
		c.deadlines()
		dev.open = append(dev.open, c)
		d.move(c, Pending, now)
		d.writes.create(c)
	})
	return err
}
