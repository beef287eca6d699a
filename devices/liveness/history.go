package liveness

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/devices"
)

// History returns up to limit transitions of a device (50 when 0, at most 200),
// the newest first, and the cursor for those before them, "" when there are
// none. The caller has checked that the actor may read the device.
func (t *Tracker) History(ctx context.Context, id devices.ID, limit int, cursor string) (trs []Transition, next string, err error) {
	if limit <= 0 {
		limit = 50
	}
	limit = min(limit, 200)
	var before int64
	if cursor != "" {
		if before, err = strconv.ParseInt(cursor, 36, 64); err != nil || before <= 0 {
			return nil, "", devices.Invalid("cursor", "one that the hub gave")
		}
	}
	if err := t.writes.flush(ctx); err != nil {
		return nil, "", fmt.Errorf("history of %s: %w", id, err)
	}
	trs, err = t.cfg.Store.PresenceHistory(ctx, id, before, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("history of %s: %w", id, err)
	}
	if len(trs) > limit {
		trs = trs[:limit]
		next = strconv.FormatInt(trs[limit-1].N, 36)
	}
	return trs, next, nil
}

// restore takes over what was known before this start.
func (t *Tracker) restore(known []Known) {
	for _, k := range known {
		rec, ok := t.cfg.Registry.Get(k.Device)
		if !ok {
			continue
		}
		t.table.With(k.Device, func(e *entry) {
			d, now := &e.State, t.now()
			if rec.Via != devices.ViaDirect {
				d.bridge = t.join(k.Device, rec.Via)
			}
			d.restore(k, now, t.patience(k.Device))
			st, next := d.derive(now)
			st.Seq, st.Since = 1, k.Since
			d.status = st
			t.stats.moved("", st.State)
			if !next.IsZero() {
				e.Sooner(next)
			}
		})
	}
}

func (d *device) restore(k Known, now time.Time, patience time.Duration) {
	d.seen, d.linked, d.reason = k.State != devices.NeverSeen, k.Linked, k.Reason
	d.lastSeen, d.seenDone, d.offline = k.LastSeen, k.LastSeen, k.OfflineAfter
	d.status.Transport = k.Transport
	d.any, d.stale = k.State == devices.Quiet, k.State == devices.Quiet
	wait := max(restartWait, k.OfflineAfter)
	if k.State == devices.Online {
		// Nothing could arrive while the hub was away.
		d.quietUntil = now.Add(wait)
	}
	ago := time.Duration(max(0, now.UnixMilli()-k.LastSeen)) * time.Millisecond
	switch k.State {
	case devices.Online, devices.Quiet, devices.Unresponsive:
		d.assumedUntil, d.control = now.Add(wait), k.Control
		d.drained = k.Reason == ServerDrain
	case devices.Sleeping:
		d.sleep(k.AwakeAt, now.Add(-ago), now)
	case devices.DataOnly:
		d.linklessTill = now.Add(max(patience-ago, restartWait))
	}
}

// Stats counts what happened since the start.
type Stats struct {
	States   map[devices.State]int // devices of which anything is known, by state
	Opened   int64                 // epochs
	Replaced int64                 // connections taken over
	Refused  int64                 // newcomers turned away as duplicates
}

type stats struct {
	mu                        sync.Mutex
	states                    map[devices.State]int
	opened, replaced, refused atomic.Int64
}

func (s *stats) moved(from, to devices.State) {
	if from == to {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.states == nil {
		s.states = map[devices.State]int{}
	}
	if from != "" && from != devices.NeverSeen {
		s.states[from]--
	}
	if to != "" && to != devices.NeverSeen {
		s.states[to]++
	}
}

// Stats returns the counts; devices that are not in States were never seen.
func (t *Tracker) Stats() Stats {
	t.stats.mu.Lock()
	defer t.stats.mu.Unlock()
	st := Stats{States: map[devices.State]int{}, Opened: t.stats.opened.Load(), Replaced: t.stats.replaced.Load(), Refused: t.stats.refused.Load()}
	for k, v := range t.stats.states {
		if v > 0 {
			st.States[k] = v
		}
	}
	return st
}
