package liveness

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/internal/groupcommit"
)

const (
	batchAfter   = 200 * time.Millisecond // transitions wait this long for company
	batchRows    = 500                    // of each sort in one transaction
	seenEvery    = 5 * time.Minute
	pruneEvery   = time.Hour
	historyFor   = 90 * 24 * time.Hour
	historyKeep  = 1000    // transitions of one device
	maxUnwritten = 100_000 // transitions that wait for a disk that fails; beyond, the oldest are lost to the history
)

// writer brings transitions to the disk behind, with what is known of their
// devices. One that a stopping hub disconnects is known by the state that it had
// before, so that the next start waits for it.
type writer struct {
	store  Store
	log    *slog.Logger
	source *groupcommit.Source

	mu    sync.Mutex
	known map[devices.ID]Known
	trs   []Transition
	lost  int
}

func (w *writer) init(store Store, log *slog.Logger) {
	w.store, w.log, w.known = store, log, map[devices.ID]Known{}
	w.source = store.Writer().Source(w.take)
}

func (w *writer) add(k Known, tr Transition) {
	if tr.To == devices.Offline && tr.Reason == ServerDrain {
		k.State = tr.From
	}
	w.put(k, tr)
}

// put writes what is known of a device, with lines of its history.
func (w *writer) put(k Known, trs ...Transition) {
	w.mu.Lock()
	first := w.empty()
	w.known[k.Device] = k
	w.trs = w.bounded(append(w.trs, trs...))
	w.mu.Unlock()
	if first {
		w.source.Due(batchAfter)
	}
}

func (w *writer) empty() bool { return len(w.known)+len(w.trs) == 0 }

func (w *writer) bounded(trs []Transition) []Transition {
	over := max(0, len(trs)-maxUnwritten)
	w.lost += over
	return trs[over:]
}

func (w *writer) forget(id devices.ID) {
	w.mu.Lock()
	delete(w.known, id)
	w.trs = slices.DeleteFunc(w.trs, func(tr Transition) bool { return tr.Device == id })
	w.mu.Unlock()
}

// take is what waits, as much as leaves others room in the transaction.
func (w *writer) take() groupcommit.Part {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.empty() {
		return groupcommit.Part{}
	}
	known := make([]Known, 0, min(len(w.known), batchRows))
	for id, k := range w.known {
		if len(known) == batchRows {
			break
		}
		known = append(known, k)
		delete(w.known, id)
	}
	n := min(len(w.trs), batchRows)
	trs := slices.Clone(w.trs[:n])
	if w.trs = w.trs[n:]; len(w.trs) == 0 {
		w.trs = nil
	}
	return groupcommit.Part{
		Write:  func(ctx context.Context) error { return w.store.SavePresence(ctx, known, trs) },
		Settle: func(err error) { w.settle(known, trs, err) },
		More:   !w.empty(),
	}
}

// settle has what could not be written wait on.
func (w *writer) settle(known []Known, trs []Transition, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		if w.lost > 0 {
			w.log.Error("transitions lost to the history: too many waited for the disk", "lost", w.lost)
			w.lost = 0
		}
		return
	}
	w.log.Error("transitions not written", "err", err)
	for _, k := range known {
		if _, newer := w.known[k.Device]; !newer {
			w.known[k.Device] = k
		}
	}
	w.trs = w.bounded(append(trs, w.trs...))
}

// flush writes what waits.
func (w *writer) flush(ctx context.Context) error { return w.source.Flush(ctx) }

// write writes until ctx ends, and then what is left.
func (t *Tracker) write(ctx context.Context) {
	t.writes.source.Run(ctx)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = t.writes.flush(last) // has logged its error
	t.checkpoint(last)
}

// prune forgets history that is too old or too long.
func (t *Tracker) prune(ctx context.Context) {
	if err := t.cfg.Store.PrunePresence(ctx, t.now().Add(-historyFor).UnixMilli(), historyKeep); err != nil && ctx.Err() == nil {
		t.log.Error("history not pruned", "err", err)
	}
}

// checkpoint writes when devices were last heard, those that were heard since
// the last time.
func (t *Tracker) checkpoint(ctx context.Context) {
	seen := map[devices.ID]int64{}
	t.table.Each(func(e *entry) {
		if d := &e.State; d.lastSeen > d.seenDone {
			d.seenDone = d.lastSeen
			seen[e.Key] = d.lastSeen
		}
	})
	if len(seen) == 0 {
		return
	}
	if err := t.cfg.Store.SaveSeen(ctx, seen); err != nil {
		t.log.Error("last seen not written", "err", err)
	}
}
