package liveness

import (
	"sync/atomic"
	"time"

	"devicehub/devices"
	"devicehub/devices/internal/perdevice"
)

// bridgeWait is how long a bridge may be away before those behind it are
// offline.
const bridgeWait = 10 * time.Second

// Availability says what a bridge's adapter can know of the links of the
// devices behind it.
type Availability uint8

// What adapters know.
const (
	// NoAvailability: nothing. The link is unknown.
	NoAvailability Availability = iota
	// Announced: a topic says both online and offline.
	Announced
	// WillOnly: a will says offline; any message after it means online again.
	WillOnly
)

// availability is what is known of one device's own link.
type availability uint8

const (
	availUnknown availability = iota
	availNone                 // its adapter cannot tell
	availOnline               // heard, and not said to be offline
	availOffline              // said to be offline
)

type bridge struct {
	name string
	lost atomic.Bool // down for longer than bridgeWait, or never up

	// Guarded by the bridge's entry.
	down    bool
	lostAt  time.Time // when it has been down for too long
	members map[devices.ID]struct{}
}

func (b *bridge) unknown(a availability) bool { return b != nil && a == availNone && !b.lost.Load() }

// bridgeEntry is a bridge with its lock held.
type bridgeEntry = perdevice.Entry[string, bridge]

func newBridge(e *bridgeEntry) bool {
	b := &e.State
	b.name, b.down, b.members = e.Key, true, map[devices.ID]struct{}{}
	b.lost.Store(true)
	return true
}

// BridgeUp says that a bridge is connected. Devices behind it that were offline
// for its absence alone have a link again, under a new epoch, or, where nothing
// is known of it, an unknown one.
func (t *Tracker) BridgeUp(name string) {
	var b *bridge
	var ids []devices.ID
	t.bridges.With(name, func(e *bridgeEntry) {
		b = &e.State
		b.down = false
		if b.lost.Swap(false) {
			ids = b.ids()
		}
	})
	for _, id := range ids {
		t.with(id, func(d *device, now time.Time) bool {
			if d.bridge == b && d.avail == availNone && d.conn == nil {
				d.unknown(t.patience(id), now)
				return true
			}
			return d.bridge == b && t.bridgeLink(d, now)
		})
	}
}

// BridgeDown says that a bridge lost its connection. What is behind it is
// offline after ten seconds, unless it is back by then.
func (t *Tracker) BridgeDown(name string) {
	t.bridges.With(name, func(e *bridgeEntry) {
		if b := &e.State; !b.down {
			b.down, b.lostAt = true, t.now().Add(bridgeWait)
			e.Sooner(b.lostAt)
		}
	})
}

// bridgeLost ends the links behind a bridge that stayed away.
func (t *Tracker) bridgeLost(name string) {
	var b *bridge
	var ids []devices.ID
	t.bridges.Find(name, func(e *bridgeEntry) {
		b = &e.State
		switch {
		case !b.down || b.lost.Load():
		case b.lostAt.After(t.now()): // it was back in between
			e.Sooner(b.lostAt)
		default:
			b.lost.Store(true)
			ids = b.ids()
		}
	})
	for _, id := range ids {
		t.with(id, func(d *device, _ time.Time) bool {
			if d.bridge != b {
				return false
			}
			if d.conn != nil && d.conn.end != nil {
				return false
			}
			if d.conn != nil || !d.linklessTill.IsZero() || !d.assumedUntil.IsZero() || d.reason == "" {
				d.close(BridgeDown)
			}
			d.linklessTill, d.assumedUntil = time.Time{}, time.Time{}
			return true
		})
	}
}

// BridgeHeard says that a message of the device arrived over a bridge, and what
// the bridge's adapter can know of its link. It returns the epoch of the link,
// 0 where there is none.
func (t *Tracker) BridgeHeard(id devices.ID, name string, can Availability) (epoch int64) {
	b := t.join(id, name)
	t.with(id, func(d *device, now time.Time) bool {
		if !d.enter(b) {
			return false
		}
		d.heard(now)
		switch {
		case can == NoAvailability:
			d.avail = availNone
		case can == WillOnly || d.avail != availOffline:
			d.avail = availOnline
		}
		if d.awakeAt != 0 && now.Sub(d.sleptAt) > wakeAfter {
			d.wake()
		}
		if d.avail == availNone || d.avail == availOffline {
			d.linklessTill = now.Add(t.patience(id))
		}
		t.bridgeLink(d, now)
		if d.conn != nil {
			epoch = d.conn.epoch
		}
		return true
	})
	return epoch
}

// BridgeUnknown says that the adapter of a bridge cannot tell of the device's
// link, and that what was said of it, such as that all of its kind are away, is
// no longer so: the device stands as it did by what was last heard of it.
func (t *Tracker) BridgeUnknown(id devices.ID, name string) {
	b := t.join(id, name)
	t.with(id, func(d *device, now time.Time) bool {
		if !d.enter(b) || d.conn != nil {
			return false
		}
		d.unknown(t.patience(id), now)
		return true
	})
}

// BridgeAvailable is the word of a device's own availability topic, or of its
// will, over a bridge. reason says why it is offline.
func (t *Tracker) BridgeAvailable(id devices.ID, name string, online bool, reason string) (epoch int64) {
	b := t.join(id, name)
	t.with(id, func(d *device, now time.Time) bool {
		if !d.enter(b) {
			return false
		}
		if !online {
			d.avail = availOffline
			d.linklessTill = time.Time{}
			if d.conn != nil || d.reason == "" {
				d.close(reason)
			}
			d.assumedUntil = time.Time{}
			d.seen = true
			return true
		}
		d.avail = availOnline
		d.heard(now)
		t.bridgeLink(d, now)
		if d.conn != nil {
			epoch = d.conn.epoch
		}
		return true
	})
	return epoch
}

// join finds the bridge and counts the device among its members.
func (t *Tracker) join(id devices.ID, name string) (b *bridge) {
	t.bridges.With(name, func(e *bridgeEntry) {
		b = &e.State
		b.members[id] = struct{}{}
	})
	return b
}

func (b *bridge) ids() []devices.ID {
	ids := make([]devices.ID, 0, len(b.members))
	for id := range b.members {
		ids = append(ids, id)
	}
	return ids
}

// enter puts the device behind b, unless it is connected directly.
func (d *device) enter(b *bridge) bool {
	if d.conn != nil && d.conn.end != nil {
		return false
	}
	if d.bridge != b {
		if d.conn != nil {
			d.close(Replaced)
		}
		d.bridge, d.avail = b, availUnknown
	}
	return true
}

// bridgeLink opens the link of a device behind a bridge, if it has none and its
// bridge and its own word allow one.
func (t *Tracker) bridgeLink(d *device, now time.Time) bool {
	if d.conn != nil || d.avail != availOnline || d.bridge.lost.Load() {
		return false
	}
	epoch, ok := t.epochs.take()
	if !ok {
		t.log.Warn("no epoch for a link yet", "device", d.id)
		return false // the next message asks again
	}
	t.stats.opened.Add(1)
	d.open(&conn{Conn: Conn{Transport: devices.OverBridge(d.bridge.name)}, epoch: epoch}, now)
	return true
}

// unknown makes the link of a device behind a bridge one of which nothing is
// known. What it sent counts for its time, as if nobody had said otherwise.
func (d *device) unknown(patience time.Duration, now time.Time) {
	d.avail, d.reason = availNone, ""
	d.seen = d.linked || d.lastSeen != 0
	if d.lastSeen != 0 {
		ago := time.Duration(now.UnixMilli()-d.lastSeen) * time.Millisecond
		d.linklessTill = now.Add(patience - ago)
	}
}

// unbridge takes the device from behind its bridge.
func (d *device) unbridge(reason string) {
	if d.conn != nil && d.conn.end == nil {
		d.close(reason)
	}
	d.bridge, d.avail = nil, availUnknown
}
