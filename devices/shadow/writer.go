package shadow

import (
	"context"
	"maps"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/internal/groupcommit"
)

// writeAfter is how long changes wait for company on their way to the disk.
const writeAfter = 40 * time.Millisecond

// writer brings changed shadows to the disk behind. It keeps ids only, so what
// waits is bounded by the number of devices.
type writer struct {
	s      *Shadows
	source *groupcommit.Source

	mu    sync.Mutex
	dirty map[devices.ID]struct{}
}

func (w *writer) init(s *Shadows) {
	w.s, w.dirty = s, map[devices.ID]struct{}{}
	w.source = s.cfg.Store.Writer().Source(w.take)
}

func (w *writer) mark(id devices.ID) {
	w.mu.Lock()
	first := len(w.dirty) == 0
	w.dirty[id] = struct{}{}
	w.mu.Unlock()
	if first {
		w.kick()
	}
}

func (w *writer) kick() { w.source.Due(writeAfter) }

func (w *writer) forget(id devices.ID) {
	w.mu.Lock()
	delete(w.dirty, id)
	w.mu.Unlock()
}

// run writes until ctx ends, and then what is left.
func (w *writer) run(ctx context.Context) {
	w.source.Run(ctx)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = w.source.Flush(last) // has logged its error
}

// take is what changed, as it is now.
func (w *writer) take() groupcommit.Part {
	w.mu.Lock()
	dirty := w.dirty
	w.dirty = map[devices.ID]struct{}{}
	w.mu.Unlock()
	rows := make([]Row, 0, len(dirty))
	for id := range dirty {
		w.s.table.Find(id, func(e *entry) {
			if row, err := e.State.row(w.s.start); err == nil {
				rows = append(rows, row)
			} else {
				w.s.log.Error("shadow not written", "device", id, "err", err)
			}
		})
	}
	if len(rows) == 0 {
		return groupcommit.Part{}
	}
	return groupcommit.Part{
		Write:  func(ctx context.Context) error { return w.s.cfg.Store.SaveShadows(ctx, rows) },
		Settle: func(err error) { w.settle(dirty, rows, err) },
	}
}

// settle lets the versions be given out that are reserved now, and has what could
// not be written wait on.
func (w *writer) settle(dirty map[devices.ID]struct{}, rows []Row, err error) {
	if err != nil {
		w.s.log.Error("shadows not written", "err", err)
		w.mu.Lock()
		defer w.mu.Unlock()
		maps.Copy(w.dirty, dirty)
		return
	}
	for _, row := range rows {
		w.s.table.Find(row.Device, func(e *entry) { e.State.limit = max(e.State.limit, row.Limit) })
	}
}
