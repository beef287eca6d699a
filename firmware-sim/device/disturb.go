package device

import (
	"time"
)

// Disturb makes the network under the device worse from now on: a part of the pushes of readings is sent twice, a part is
// held back so that later ones overtake it. Both are 0 to 1; a negative one stays as it is.
func (d *Device) Disturb(duplicate, reorder float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if duplicate >= 0 {
		d.duplicate = duplicate
	}
	if reorder >= 0 {
		d.reorder = reorder
	}
}

// disturbed sends a push, and does to it what the network does: again is the same push once more. The lock is held.
func (d *Device) disturbed(send, again func()) {
	twice := d.duplicate > 0 && d.rand.Float64() < d.duplicate
	if d.reorder > 0 && d.rand.Float64() < d.reorder {
		d.after(time.Duration(50+d.rand.IntN(250))*time.Millisecond, func() {
			d.mu.Lock()
			defer d.unlock()
			d.jobs = append(d.jobs, send)
		})
		return
	}
	d.jobs = append(d.jobs, send)
	if twice {
		d.jobs = append(d.jobs, again)
	}
}

// Stall keeps the device from reading what the hub sends, for a while.
func (d *Device) Stall(t time.Duration) { d.link.stall(t) }

// Garbage sends a frame that is none of the protocol's.
func (d *Device) Garbage() { d.link.garbage() }

// SetToken gives the device another token, for its next connection.
func (d *Device) SetToken(token string) { d.setToken(token) }
