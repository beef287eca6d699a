package liveness

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"devicehub/devices"
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

// writer brings transitions to the disk in batches, with what is known of their
// devices. One that a stopping hub disconnects is known by the state that it had
// before, so that the next start waits for it.
type writer struct {
	store Store
	wake  chan struct{}

	mu    sync.Mutex
	known map[devices.ID]Known
	trs   []Transition
	lost  int

	flushing sync.Mutex
}

func (w *writer) init(store Store) {
	w.store, w.wake, w.known = store, make(chan struct{}, 1), map[devices.ID]Known{}
}

func (w *writer) add(k Known, tr Transition) {
	w.mu.Lock()
	if tr.To == devices.Offline && tr.Reason == ServerDrain {
		k.State = tr.From
	}
	w.known[k.Device] = k
	w.trs = append(w.trs, tr)
	if over := len(w.trs) - maxUnwritten; over > 0 {
		w.trs = w.trs[over:]
		w.lost += over
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// put writes what is known of a device without a line of history.
func (w *writer) put(k Known) {
	w.mu.Lock()
	w.known[k.Device] = k
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *writer) forget(id devices.ID) {
	w.mu.Lock()
	delete(w.known, id)
	w.trs = slices.DeleteFunc(w.trs, func(tr Transition) bool { return tr.Device == id })
	w.mu.Unlock()
}

func (w *writer) run(ctx context.Context, t *Tracker) {
	jitter := func(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5) }
	seen, prune := time.NewTimer(jitter(seenEvery)), time.NewTimer(jitter(time.Minute))
	defer seen.Stop()
	defer prune.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if err := w.flush(last); err != nil {
				t.log.Error("transitions not written", "err", err)
			}
			t.checkpoint(last)
			return
		case <-w.wake:
			select {
			case <-ctx.Done():
				continue
			case <-time.After(batchAfter):
			}
			if err := w.flush(ctx); err != nil && ctx.Err() == nil {
				t.log.Error("transitions not written", "err", err)
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		case <-seen.C:
			t.checkpoint(ctx)
			seen.Reset(jitter(seenEvery))
		case <-prune.C:
			if err := w.store.PrunePresence(ctx, t.now().Add(-historyFor).UnixMilli(), historyKeep); err != nil && ctx.Err() == nil {
				t.log.Error("history not pruned", "err", err)
			}
			prune.Reset(jitter(pruneEvery))
		}
	}
}

// flush writes what waits, in transactions short enough to let others write in
// between. What cannot be written waits on.
func (w *writer) flush(ctx context.Context) error {
	w.flushing.Lock()
	defer w.flushing.Unlock()
	w.mu.Lock()
	known, trs := w.known, w.trs
	w.known, w.trs = map[devices.ID]Known{}, nil
	w.mu.Unlock()
	ks := slices.Collect(maps.Values(known))
	var err error
	for len(ks)+len(trs) > 0 && err == nil {
		k, tr := min(len(ks), batchRows), min(len(trs), batchRows)
		if err = w.store.SavePresence(ctx, ks[:k], trs[:tr]); err == nil {
			ks, trs = ks[k:], trs[tr:]
		}
	}
	if err == nil {
		return nil
	}
	w.mu.Lock()
	for _, k := range ks {
		if _, newer := w.known[k.Device]; !newer {
			w.known[k.Device] = k
		}
	}
	w.trs = append(trs, w.trs...)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return err
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
