package commands

import (
	"context"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/internal/groupcommit"
)

const (
	writeAfter  = 40 * time.Millisecond // transitions wait this long for company
	pruneEvery  = time.Hour
	historyFor  = 90 * 24 * time.Hour
	historyKeep = 1000 // of one device
)

// writer brings commands to the disk: new ones at once, transitions behind. What
// waits is bounded by what the dispatcher has open: while the disk fails, no
// command is made.
type writer struct {
	d      *Dispatcher
	source *groupcommit.Source
	done   chan struct{} // closed when nothing is written any more

	mu     sync.Mutex
	fresh  []*command
	behind map[*command]struct{}
}

func (w *writer) init(d *Dispatcher) {
	w.d, w.done, w.behind = d, make(chan struct{}), map[*command]struct{}{}
	w.source = d.cfg.Store.Writer().Source(w.take)
}

func (w *writer) create(c *command) {
	w.mu.Lock()
	w.fresh = append(w.fresh, c)
	w.mu.Unlock()
	w.source.Due(0)
}

func (w *writer) mark(c *command) {
	w.mu.Lock()
	first := len(w.behind) == 0
	w.behind[c] = struct{}{}
	w.mu.Unlock()
	if first {
		w.source.Due(writeAfter)
	}
}

func (w *writer) forget(c *command) {
	w.mu.Lock()
	delete(w.behind, c)
	w.mu.Unlock()
}

// run writes until ctx ends, and then what is left.
func (w *writer) run(ctx context.Context) {
	defer w.leave()
	w.source.Run(ctx)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = w.source.Flush(last) // has logged its error
}

// leave says that nothing is written any more, also to those whose commands came
// too late.
func (w *writer) leave() {
	close(w.done)
	w.mu.Lock()
	late := w.fresh
	w.fresh = nil
	w.mu.Unlock()
	for _, c := range late {
		w.d.tellWaiters(c, stopping(c))
	}
}

// prune forgets commands that are too old or too many.
func (d *Dispatcher) prune(ctx context.Context) {
	if err := d.cfg.Store.PruneCommands(ctx, d.now().Add(-historyFor).UnixMilli(), historyKeep); err != nil && ctx.Err() == nil {
		d.log.Error("commands not pruned", "err", err)
	}
}

// take is all that waits. New commands that cannot be written are refused;
// transitions wait on.
func (w *writer) take() groupcommit.Part {
	w.mu.Lock()
	fresh, behind := w.fresh, w.behind
	w.fresh, w.behind = nil, map[*command]struct{}{}
	w.mu.Unlock()
	b := batch{d: w.d, rows: make([]Row, 0, len(fresh)+len(behind))}
	for c := range behind {
		b.add(c, false)
	}
	for _, c := range fresh {
		b.add(c, true)
	}
	if len(fresh)+len(b.rows) == 0 {
		return groupcommit.Part{}
	}
	return groupcommit.Part{
		Write: func(ctx context.Context) error { return w.d.cfg.Store.SaveCommands(ctx, b.rows) },
		Settle: func(err error) {
			if err != nil {
				w.d.log.Error("commands not written", "err", err)
				b.putBack(w)
			}
			for _, c := range fresh {
				w.d.written(c, err)
			}
		},
	}
}

// batch is what one transaction writes.
type batch struct {
	d     *Dispatcher
	rows  []Row
	known []*command // of the rows, those that are on disk already
}

// add takes a command as it is now, and with it all of its device that have moved:
// the disk shall not know that a command left, and of the one that was done before
// it that it is still under way.
func (b *batch) add(c *command, fresh bool) {
	b.d.table.Locked(c.rec.Device, func(e *held) {
		if fresh || c.moved {
			b.take(c, fresh)
		}
		if e == nil {
			return
		}
		for _, list := range [][]*command{e.State.open, e.State.recent} {
			for _, o := range list {
				if o.moved && o.stored {
					b.take(o, false)
				}
			}
		}
	})
}

func (b *batch) take(c *command, fresh bool) {
	c.moved = false
	row, err := c.row()
	if err != nil {
		b.d.log.Error("command not written", "device", c.rec.Device, "err", err)
		return
	}
	b.rows = append(b.rows, row)
	if !fresh {
		b.known = append(b.known, c)
	}
}

// putBack has what could not be written wait on.
func (b *batch) putBack(w *writer) {
	for _, c := range b.known {
		b.d.table.Locked(c.rec.Device, func(*held) { c.moved = true })
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range b.known {
		w.behind[c] = struct{}{}
	}
}

// written lets a new command that is on disk go, and refuses one that is not.
func (d *Dispatcher) written(c *command, err error) {
	first := true
	select {
	case <-c.durable:
		first = false // it waited, and shall leave now
	default:
	}
	d.with(c.rec.Device, func(dev *device, now time.Time) {
		c.stored = err == nil || !first
		switch {
		case err == nil:
			if c.moved {
				d.writes.mark(c)
			}
		case !first:
			c.leaving = false
			if dev.link != nil {
				dev.link.stuck = now.Add(time.Second)
			}
		default:
			c.refuse = devices.Refuse(devices.CodePlatformUnavailable, "the command could not be kept").After(time.Second)
			c.rec.Code = string(devices.CodePlatformUnavailable)
			if !c.final {
				d.move(c, Refused, now)
			}
		}
	})
	if err == nil {
		d.pump(c.rec.Device)
	}
	if first {
		close(c.durable)
		d.tellWaiters(c, nil)
	}
}
