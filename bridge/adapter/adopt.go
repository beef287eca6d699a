package adapter

import (
	"context"

	"devicehub/devices"
)

// Adopt ties a discovered device, by the name that Discovered gives it, to the
// record id: its via becomes the bridge's name, and a label named for the dialect
// holds the device's address there. The error is not_found when nothing of that
// name is to be adopted.
func Adopt(ctx context.Context, reg *devices.Registry, sets []*Set, adopt string, id devices.ID) error {
	for _, s := range sets {
		for _, d := range s.Discovered() {
			if d.Adopt != adopt {
				continue
			}
			key, address := d.Label()
			_, err := reg.Update(ctx, id, func(dev *devices.Device) error {
				dev.Via = d.Bridge
				if dev.Labels == nil {
					dev.Labels = map[string]string{}
				}
				dev.Labels[key] = address
				return nil
			})
			return err
		}
	}
	return devices.NotFound("discovered device").With("field", "adopt")
}
