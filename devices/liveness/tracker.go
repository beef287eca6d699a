package liveness

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/internal/perdevice"
)

// Config is what a Tracker is made of. Store and Registry are required.
type Config struct {
	Store    Store
	Registry *devices.Registry
	// Freshness tells of a device's readings: whether any metric is stale,
	// whether there are readings at all, and when the next metric turns stale
	// (zero: none will). It is called with no lock held. Nil: no device has data.
	Freshness func(id devices.ID, now time.Time) (stale, any bool, nextStale time.Time)
	Feed      devices.Feed    // is told "status" events; may be nil
	Audit     devices.Auditor // is told of duplicate identities; may be nil
	Node      string          // this node's name in the history
	Logger    *slog.Logger
	Now       func() time.Time // time.Now unless set
}

// Tracker holds the connections and statuses of all devices. Safe for
// concurrent use. Events are published, and connections told to end, from the
// goroutine of the call that decided so, or from Run.
type Tracker struct {
	cfg    Config
	now    func() time.Time
	log    *slog.Logger
	epochs epochs
	boot   int64 // the epoch under which what was known before this start is told
	began  time.Time

	table   *perdevice.Table[devices.ID, device]
	bridges *perdevice.Table[string, bridge]
	writes  writer
	onBoot  []func(id devices.ID, epoch int64, boot string)
	stats   stats
}

// entry is a device with its lock held.
type entry = perdevice.Entry[devices.ID, device]

// New loads what is known of every device and reserves the first epochs. Those
// last known with a link keep their status, unverified, until they are back or
// Run finds that they are not.
func New(ctx context.Context, cfg Config) (*Tracker, error) {
	if cfg.Freshness == nil {
		cfg.Freshness = func(devices.ID, time.Time) (stale, any bool, nextStale time.Time) { return }
	}
	t := &Tracker{cfg: cfg, now: cfg.Now, log: cfg.Logger}
	if t.now == nil {
		t.now = time.Now
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	t.table = perdevice.New(perdevice.Rules[devices.ID, device]{Make: t.unheard, Due: t.fire, Feed: cfg.Feed, Now: t.now})
	t.bridges = perdevice.New(perdevice.Rules[string, bridge]{Make: newBridge, Due: t.bridgeLost, Now: t.now})
	t.writes.init(cfg.Store, t.log)
	t.epochs.init(cfg.Store)
	if err := t.epochs.reserve(ctx, false); err != nil {
		return nil, err
	}
	t.boot, _ = t.epochs.take()
	known, err := cfg.Store.LoadPresence(ctx)
	if err != nil {
		return nil, fmt.Errorf("load presence: %w", err)
	}
	t.began = t.now()
	t.restore(known)
	cfg.Registry.Watch(t.changed)
	return t, nil
}

// WatchBoots has f called whenever the boot of a device's present connection
// becomes known. For wiring, before the first Open; f must not block.
func (t *Tracker) WatchBoots(f func(id devices.ID, epoch int64, boot string)) {
	t.onBoot = append(t.onBoot, f)
}

// Run watches deadlines and writes what changed, until ctx ends; then it writes
// what is left.
func (t *Tracker) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { t.table.Run(ctx) })
	wg.Go(func() { t.bridges.Run(ctx) })
	wg.Go(func() { t.epochs.refill(ctx, t.log) })
	wg.Go(func() { perdevice.Every(ctx, seenEvery, seenEvery, t.checkpoint) })
	wg.Go(func() { perdevice.Every(ctx, time.Minute, pruneEvery, t.prune) })
	wg.Go(func() { t.write(ctx) })
	wg.Wait()
	return nil
}

// unheard makes a device of which nothing was heard yet. A deleted one is not made.
func (t *Tracker) unheard(e *entry) bool {
	rec, ok := t.cfg.Registry.Get(e.Key)
	if !ok {
		return false
	}
	d := &e.State
	d.init(e.Key, t.boot)
	d.status.Since = rec.CreatedAt
	d.askAt = t.now() // there may be readings of before this start
	e.Sooner(d.askAt)
	return true
}

// with runs f on the device's state, made if need be, under its lock; then it
// derives the status anew and tells what changed.
func (t *Tracker) with(id devices.ID, f func(d *device, now time.Time) (changed bool)) {
	t.table.With(id, func(e *entry) {
		now := t.now()
		if f(&e.State, now) {
			t.settle(e, now, "")
		}
	})
}

// Event is the payload of a "status" event.
type Event struct {
	Device devices.ID `json:"device"`
	devices.Status
}

// settle derives the status and, where it differs, tells, remembers and counts
// it. event names a change worth a line of history though the state stays.
func (t *Tracker) settle(e *entry, now time.Time, event string) {
	d := &e.State
	st, next := d.derive(now)
	if !next.IsZero() {
		e.Sooner(next)
	}
	old := d.status
	if !differs(old, st) && event == "" {
		return
	}
	if st.Epoch == old.Epoch {
		st.Seq = old.Seq + 1
	} else {
		st.Seq = 1
	}
	st.Since = old.Since
	if st.State != old.State || st.Since == 0 {
		st.Since = now.UnixMilli()
	}
	st.RTTMS = d.rttMS()
	d.status = st
	t.stats.moved(old.State, st.State)
	if rec, ok := t.cfg.Registry.Get(d.id); ok {
		t.table.Publish(d.id, devices.Event{Device: d.id, Kinds: rec.Kinds, Name: "status", Key: "status", Payload: Event{d.id, st}})
	}
	if event == "" && st.Reason == DuplicateIdentity && old.Reason != DuplicateIdentity {
		event = DuplicateIdentity
	}
	tr := Transition{Device: d.id, At: now.UnixMilli(), From: old.State, To: st.State, Reason: st.Reason,
		Epoch: st.Epoch, Transport: cmp.Or(st.Transport, old.Transport), Node: t.cfg.Node}
	if st.State == old.State && event == "" {
		if st.Epoch == old.Epoch {
			return
		}
		// Back after a restart: no transition, but another way in.
		if !d.drained {
			t.writes.put(d.known())
			return
		}
		tr.From = devices.Offline // as the history has it
	}
	if event != "" {
		tr.Reason = event
	}
	d.drained = false
	t.writes.add(d.known(), tr)
}

func differs(a, b devices.Status) bool {
	return a.State != b.State || a.Link != b.Link || a.Data != b.Data || a.Control != b.Control || a.Reason != b.Reason ||
		a.Flapping != b.Flapping || a.Unverified != b.Unverified || a.AwakeAt != b.AwakeAt || a.Epoch != b.Epoch || a.Transport != b.Transport
}

// Status is what the hub derives of a device. One that nothing was heard of is
// never_seen, registered or not.
func (t *Tracker) Status(id devices.ID) (st devices.Status) {
	if t.table.Find(id, func(e *entry) { st = e.State.status; st.RTTMS = e.State.rttMS() }) {
		return st
	}
	return devices.Status{State: devices.NeverSeen, Link: LinkDown, Data: DataNone, Control: ControlUnknown, Since: t.registeredAt(id)}
}

func (t *Tracker) registeredAt(id devices.ID) int64 {
	if rec, ok := t.cfg.Registry.Get(id); ok {
		return rec.CreatedAt
	}
	return 0
}

// Current is the device's present connection, if it has one.
func (t *Tracker) Current(id devices.ID) (epoch int64, c Conn, ok bool) {
	t.table.Find(id, func(e *entry) {
		if cn := e.State.conn; cn != nil {
			epoch, c, ok = cn.epoch, cn.Conn, true
		}
	})
	return epoch, c, ok
}

// LastSeen is when anything was last heard of the device, in ms since epoch; 0
// if never.
func (t *Tracker) LastSeen(id devices.ID) (at int64) {
	t.table.Find(id, func(e *entry) { at = e.State.lastSeen })
	return at
}

// changed follows the registry: a deleted device is forgotten, and what a
// device's record says of its intervals and its way in is looked at again.
func (t *Tracker) changed(c devices.Change) {
	id := c.ID()
	switch {
	case c.After == nil:
		t.table.Find(id, func(e *entry) {
			t.stats.moved(e.State.status.State, "")
			e.Delete() // whoever let its connection in ends it
		})
		t.writes.forget(id)
	case c.Before != nil:
		t.with(id, func(d *device, now time.Time) bool {
			d.askAt = now
			if c.After.Via != c.Before.Via && d.bridge != nil && c.After.Via != d.bridge.name {
				d.unbridge(ConnectionLost)
			}
			return true
		})
	}
}

// fire looks again at a device whose deadline has come.
func (t *Tracker) fire(id devices.ID) {
	t.table.Find(id, func(e *entry) {
		d, now := &e.State, t.now()
		if d.wantsData(now) {
			d.askAt, d.asking = time.Time{}, true
			var stale, any bool
			var next time.Time
			e.Outside(func() { stale, any, next = t.cfg.Freshness(id, now) }) // the readings have locks of their own
			d.asking = false
			d.data(stale, any, next, now)
		}
		if !e.Gone() {
			t.settle(e, t.now(), "")
		}
	})
}
