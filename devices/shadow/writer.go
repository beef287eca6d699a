package shadow

import (
	"context"
	"maps"
	"sync"
	"time"

	"devicehub/devices"
)

// writeAfter is how long changes wait for company on their way to the disk.
const writeAfter = 40 * time.Millisecond

// writer brings changed shadows to the disk, each at most once a batch. It
// keeps ids only, so what waits is bounded by the number of devices.
type writer struct {
	store Store
	wake  chan struct{}

	mu    sync.Mutex
	dirty map[devices.ID]struct{}
}

func (w *writer) init(store Store) {
	w.store, w.wake, w.dirty = store, make(chan struct{}, 1), map[devices.ID]struct{}{}
}

func (w *writer) mark(id devices.ID) {
	w.mu.Lock()
	w.dirty[id] = struct{}{}
	w.mu.Unlock()
	w.kick()
}

func (w *writer) kick() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *writer) forget(id devices.ID) {
	w.mu.Lock()
	delete(w.dirty, id)
	w.mu.Unlock()
}

func (w *writer) run(ctx context.Context, s *Shadows) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if err := w.flush(last, s); err != nil {
				s.log.Error("shadows not written", "err", err)
			}
			return
		case <-w.wake:
		}
		for delay := writeAfter; delay > 0; {
			wait.Reset(delay)
			delay = 0
			select {
			case <-ctx.Done():
				continue
			case <-wait.C:
			}
			if err := w.flush(ctx, s); err != nil && ctx.Err() == nil {
				s.log.Error("shadows not written", "err", err)
				delay = time.Second
			}
		}
	}
}

// flush writes what changed. What cannot be written waits on.
func (w *writer) flush(ctx context.Context, s *Shadows) error {
	w.mu.Lock()
	dirty := w.dirty
	w.dirty = map[devices.ID]struct{}{}
	w.mu.Unlock()
	rows := make([]Row, 0, len(dirty))
	for id := range dirty {
		s.table.Find(id, func(e *entry) {
			if row, err := e.State.row(s.start); err == nil {
				rows = append(rows, row)
			} else {
				s.log.Error("shadow not written", "device", id, "err", err)
			}
		})
	}
	if len(rows) == 0 {
		return nil
	}
	if err := w.store.SaveShadows(ctx, rows); err != nil {
		w.mu.Lock()
		maps.Copy(w.dirty, dirty)
		w.mu.Unlock()
		return err
	}
	for _, row := range rows {
		s.table.Find(row.Device, func(e *entry) { e.State.limit = max(e.State.limit, row.Limit) })
	}
	return nil
}
