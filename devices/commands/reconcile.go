package commands

import (
	"encoding/json"
	"errors"
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
			open[c.rec.CmdID] = c.waiting() || c.holds(now) || c.rec.Status == Done && !c.final
			if c.waiting() || c.holds(now) {
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
