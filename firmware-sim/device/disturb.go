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

// disturbed sends a push, and does to it what the network does: again is the same push once more.
// The lock is held.
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

// Token is the one that the device has.
func (d *Device) Token() string { return d.getToken() }

// SetToken gives the device another token, for its next connection.
func (d *Device) SetToken(token string) { d.setToken(token) }

// A blipMoment is when the connection breaks under a command.
type blipMoment uint8

const (
	blipNever blipMoment = iota
	blipOnArrival
	blipOnAck
	blipAtEnd // executed; that it is done is lost
)

// Blip has the connection break under the next command, before it is acknowledged, after that, or
// when it was executed, so that the answer is lost; the device comes back at once. n chooses.
func (d *Device) Blip(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.blip = blipMoment(1 + n%3)
}

// blips breaks the connection if it is to break at this moment.
func (d *Device) blips(now blipMoment) {
	d.mu.Lock()
	is := d.blip == now
	if is {
		d.blip = blipNever
	}
	d.mu.Unlock()
	if is {
		d.link.drop(0)
	}
}
