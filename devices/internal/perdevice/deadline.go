package perdevice

import (
	"context"
	"math"
	"time"
)

// Deadlines are nanoseconds since a table's base.
const (
	never   = math.MaxInt64 // no deadline
	working = math.MinInt64 // Run is not asleep: it needs no waking
)

// Sooner gives the entry a deadline unless it has an earlier one. Whoever is called at a deadline
// looks again and sets the next, so that moving it to a later time costs nothing.
func (e *Entry[K, S]) Sooner(at time.Time) {
	n := min(at.Sub(e.table.base).Nanoseconds(), never-1)
	if e.gone || e.pos >= 0 && e.at <= n {
		return
	}
	e.at = n
	h := &e.shard.heap
	if e.pos < 0 {
		h.push(e)
	} else {
		h.up(e.pos)
	}
	if e.pos == 0 {
		e.shard.first.Store(n)
		e.table.rouse(n)
	}
}

func (e *Entry[K, S]) unschedule() {
	if e.pos >= 0 {
		e.shard.heap.remove(e.pos)
		e.shard.first.Store(e.shard.heap.first())
	}
}

// rouse wakes Run if it waits for a later deadline than n.
func (t *Table[K, S]) rouse(n int64) {
	if n < t.asleep.Load() {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// earliest is the shard with the earliest deadline, and the deadline.
func (t *Table[K, S]) earliest() (sh *shard[K, S], at int64) {
	at = never
	for i := range t.shards {
		if n := t.shards[i].first.Load(); n < at {
			sh, at = &t.shards[i], n
		}
	}
	return sh, at
}

// Next is the earliest deadline.
func (t *Table[K, S]) Next() (at time.Time, ok bool) {
	_, n := t.earliest()
	if n == never {
		return at, false
	}
	return t.base.Add(time.Duration(n)), true
}

// Fire calls Due for the key with the earliest deadline, if that has come.
func (t *Table[K, S]) Fire() bool {
	now := t.rules.Now().Sub(t.base).Nanoseconds()
	for {
		sh, at := t.earliest()
		if at > now {
			return false
		}
		if key, ok := sh.pop(now); ok {
			t.rules.Due(key)
			return true
		} // else it was removed meanwhile
	}
}

func (sh *shard[K, S]) pop(now int64) (key K, ok bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.heap.first() > now {
		return key, false
	}
	e := sh.heap[0]
	e.unschedule()
	return e.Key, true
}

// Run calls Due, one key at a time, for deadlines that have come, the earliest first, until ctx
// ends.
func (t *Table[K, S]) Run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	defer t.asleep.Store(working)
	for ctx.Err() == nil {
		if t.Fire() {
			continue
		}
		t.asleep.Store(never) // from here on whoever sets a deadline wakes it
		wait := time.Hour
		if _, at := t.earliest(); at != never {
			t.asleep.Store(at)
			wait = max(0, min(wait, t.base.Add(time.Duration(at)).Sub(t.rules.Now())))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-t.wake:
		case <-timer.C:
		}
		t.asleep.Store(working)
	}
}

// heap has the earliest deadline at its top.
type heap[K ~string, S any] []*Entry[K, S]

func (h heap[K, S]) first() int64 {
	if len(h) == 0 {
		return never
	}
	return h[0].at
}

func (h *heap[K, S]) push(e *Entry[K, S]) {
	e.pos = len(*h)
	*h = append(*h, e)
	h.up(e.pos)
}

func (h *heap[K, S]) remove(i int) {
	last := len(*h) - 1
	(*h)[i].pos = -1
	moved := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	if i == last {
		return
	}
	(*h)[i], moved.pos = moved, i
	h.up(i)
	h.down(moved.pos)
}

func (h heap[K, S]) up(i int) {
	for i > 0 {
		p := (i - 1) / 2
		if h[p].at <= h[i].at {
			return
		}
		h.swap(i, p)
		i = p
	}
}

func (h heap[K, S]) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && h[c+1].at < h[c].at {
			c++
		}
		if h[c].at >= h[i].at {
			return
		}
		h.swap(i, c)
		i = c
	}
}

func (h heap[K, S]) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}
