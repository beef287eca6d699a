package commands

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/internal/perdevice"
	"devicehub/devices/quota"
	"devicehub/devices/shadow"
)

// Liveness knows who is there; liveness.Tracker is one.
type Liveness interface {
	Status(id devices.ID) devices.Status
	CommandAnswered(id devices.ID, epoch int64)
	CommandUnanswered(id devices.ID, epoch int64)
	// WatchBoots has f called when the boot of a connection becomes known.
	WatchBoots(f func(id devices.ID, epoch int64, boot string))
}

// Config is what a Dispatcher is made of. All but Feed, Audit, Logger and Now
// is required.
type Config struct {
	Store    Store
	Registry *devices.Registry
	Shadows  *shadow.Shadows
	Liveness Liveness
	Feed     devices.Feed    // is told "command_status" and "state" events
	Audit    devices.Auditor // is told who commanded what
	Logger   *slog.Logger
	Now      func() time.Time // time.Now unless set
}

// Dispatcher holds the commands that are under way. Safe for concurrent use.
type Dispatcher struct {
	cfg Config
	now func() time.Time
	log *slog.Logger

	table  *perdevice.Table[devices.ID, device]
	writes writer
	stats  stats
}

// held is a device with its lock held.
type held = perdevice.Entry[devices.ID, device]

// device is what is under way to one device. Guarded by its entry.
type device struct {
	id     devices.ID
	known  bool // to the registry; what is not, is not kept
	link   *link
	boot   string
	open   []*command // in the order of their issue
	recent []*command // the last that ended
	looked bool       // for the last one on disk

	last        *command    // the last that was sent
	left        int         // how many left
	sends       []time.Time // of the last sets, maxSends of them, a ring
	sendN       int
	pumping     bool
	pumpAgain   bool
	reconcileAt time.Time // when to look whether the desired state is reached
	reconciled  time.Time
	rate        *quota.Limiter
}

// link is the way to a device.
type link struct {
	epoch     int64
	transport devices.Transport
	window    int
	send      func(Envelope) bool
	since     time.Time
	stuck     time.Time // it took nothing; not before then again
}

const maxRecent = 32 // as many ids as a device keeps

// New loads the commands that were under way. Those that may run once and were
// sent end as timed_out; the rest is asked for again when the device is back.
func New(ctx context.Context, cfg Config) (*Dispatcher, error) {
	d := &Dispatcher{cfg: cfg, now: cfg.Now, log: cfg.Logger}
	if d.now == nil {
		d.now = time.Now
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.table = perdevice.New(perdevice.Rules[devices.ID, device]{Make: d.idle, Due: d.tick, Feed: cfg.Feed, Now: d.now})
	d.writes.init(d)
	rows, err := cfg.Store.OpenCommands(ctx)
	if err != nil {
		return nil, fmt.Errorf("load commands: %w", err)
	}
	if err := d.restore(rows); err != nil {
		return nil, err
	}
	cfg.Registry.Watch(d.changed)
	cfg.Shadows.Watch(d.patched)
	cfg.Liveness.WatchBoots(d.Booted)
	return d, nil
}

// Run sends, waits and writes until ctx ends; then it writes what is left.
func (d *Dispatcher) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { d.table.Run(ctx) })
	wg.Go(func() { perdevice.Every(ctx, 5*time.Minute, pruneEvery, d.prune) })
	wg.Go(func() { d.writes.run(ctx) })
	wg.Wait()
	return nil
}

// idle makes a device to which nothing is under way.
func (d *Dispatcher) idle(e *held) bool {
	_, known := d.cfg.Registry.Get(e.Key)
	e.State = device{id: e.Key, known: known}
	return true
}

// with runs f on the device under its lock, then tells what f decided. The
// device is made if need be.
func (d *Dispatcher) with(id devices.ID, f func(dev *device, now time.Time)) {
	d.table.With(id, func(e *held) {
		f(&e.State, d.now())
		d.settle(e)
		if !e.State.known { // deleted meanwhile
			e.Delete()
		}
	})
}

// settle sets when to look at the device again, and puts away what has ended.
func (d *Dispatcher) settle(e *held) {
	d.schedule(e)
	d.tidy(&e.State, d.now())
}

// tidy moves what has ended out of the way, and ends what is done and waits for
// its proof when there is too much of it.
func (d *Dispatcher) tidy(dev *device, now time.Time) {
	unproven := 0
	for _, c := range slices.Backward(dev.open) {
		if c.rec.Status == Done && c.unproven() {
			if unproven++; unproven > maxUnproven {
				d.unconfirmed(c, now)
			}
		}
	}
	dev.open = slices.DeleteFunc(dev.open, func(c *command) bool {
		if c.final {
			dev.recent = append(dev.recent, c)
		}
		return c.final
	})
	if over := len(dev.recent) - maxRecent; over > 0 {
		dev.recent = slices.Clone(dev.recent[over:])
	}
}

func (dev *device) find(cmdID string) *command {
	for _, c := range dev.open {
		if c.rec.CmdID == cmdID {
			return c
		}
	}
	for _, c := range dev.recent {
		if c.rec.CmdID == cmdID {
			return c
		}
	}
	return nil
}

// move brings a command to a status and tells everybody.
func (d *Dispatcher) move(c *command, to Status, now time.Time) {
	c.rec.Status, c.rec.At = to, now.UnixMilli()
	switch to {
	case Refused, Cancelled, Superseded, Rejected, Failed, Confirmed, Expired, LateDone:
		c.final = true
	case Done:
		c.final = !c.observable()
	}
	d.tell(c, now)
	if rec, ok := d.cfg.Registry.Get(c.rec.Device); ok && !c.system {
		switch to {
		case Refused, Cancelled, Superseded, Rejected, Failed, Expired, TimedOut:
			// What came to nothing is no longer wanted; under desired_wins a
			// wish that may have arrived stands.
			if to != TimedOut || rec.ShadowPolicy != devices.DesiredWins {
				d.cfg.Shadows.Unwant(rec, c.rec.CmdID)
			}
		}
	}
}

// end makes the present status final.
func (d *Dispatcher) end(c *command, code string, now time.Time) {
	c.rec.Code, c.rec.At, c.final = code, now.UnixMilli(), true
	d.tell(c, now)
}

// tell publishes the command's status, and has it written.
func (d *Dispatcher) tell(c *command, _ time.Time) {
	d.stats.count(c)
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
	c.moved = true
	if c.stored {
		d.writes.mark(c)
	}
	if rec, ok := d.cfg.Registry.Get(c.rec.Device); ok {
		d.table.Publish(rec.ID, devices.Event{Device: rec.ID, Kinds: rec.ControlTopicKinds(), Name: "command_status", Payload: c.rec})
	}
}

// changed forgets what was under way to a deleted device.
func (d *Dispatcher) changed(c devices.Change) {
	if c.After != nil {
		return
	}
	d.table.Find(c.ID(), func(e *held) {
		e.Delete()
		for _, cmd := range e.State.open {
			cmd.final = true
			if cmd.changed != nil {
				close(cmd.changed)
				cmd.changed = nil
			}
			d.writes.forget(cmd)
		}
	})
}

// patched looks soon whether a device has its desired state.
func (d *Dispatcher) patched(id devices.ID) {
	d.with(id, func(dev *device, now time.Time) { dev.reconcileAt = now })
}
