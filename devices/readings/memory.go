package readings

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Memory is a Store that forgets everything with the process, and keeps all
// tiers for ever until then. The zero value is not ready: use NewMemory.
type Memory struct {
	book *Book

	mu     sync.RWMutex
	points map[uint32][]Point // by series, in rising time
}

// NewMemory returns an empty store.
func NewMemory() *Memory { return &Memory{book: NewBook(), points: map[uint32][]Point{}} }

// Book is what the store knows of each device.
func (m *Memory) Book() *Book { return m.book }

// Clock is the zero mark: nothing is on record.
func (m *Memory) Clock() ClockMark { return ClockMark{} }

// Linger is 0: a group need not wait.
func (m *Memory) Linger() time.Duration { return 0 }

// Append keeps a group; it fails for a misnamed series alone.
func (m *Memory) Append(g *Group) error {
	for _, e := range g.Entries {
		for i := range e.Items {
			if s := e.Items[i].S; s != nil && s.Misnamed() {
				return ErrMisnamed
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range g.Entries {
		if e.Forget {
			for _, s := range e.Rec.AllSeries() {
				delete(m.points, s.ID)
			}
		}
		if !m.book.Apply(e, 0) {
			continue
		}
		for i := range e.Items {
			if it := &e.Items[i]; it.S != nil {
				e.Bytes += pointBytes + len(it.Point.S)
				m.points[it.S.ID] = insert(m.points[it.S.ID], it.Point)
			}
		}
	}
	return nil
}

// pointBytes is about what a reading takes.
const pointBytes = 64

func insert(ps []Point, p Point) []Point {
	i, found := slices.BinarySearchFunc(ps, p.T, func(q Point, t int64) int { return cmp.Compare(q.T, t) })
	if found {
		ps[i] = p
		return ps
	}
	return slices.Insert(ps, i, p)
}

// Drop erases series.
func (m *Memory) Drop(list []*Series) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range list {
		delete(m.points, s.ID)
	}
	m.book.Drop(list)
	return nil
}

// Scan calls f with a copy of the readings.
func (m *Memory) Scan(_ context.Context, s *Series, from, to int64, f func([]Point) error) error {
	m.mu.RLock()
	ps := m.points[s.ID]
	at := func(t int64) int {
		i, _ := slices.BinarySearchFunc(ps, t, func(q Point, t int64) int { return cmp.Compare(q.T, t) })
		return i
	}
	ps = slices.Clone(ps[at(from):max(at(from), at(to))])
	m.mu.RUnlock()
	if len(ps) == 0 {
		return nil
	}
	return f(ps)
}

// Rollups makes the buckets from the readings.
func (m *Memory) Rollups(ctx context.Context, s *Series, tier Tier, from, to int64, f func([]Bucket) error) error {
	step := tier.Step()
	from = (from + step - 1) / step * step
	to = (to + step - 1) / step * step
	return m.Scan(ctx, s, from, to, func(ps []Point) error { return f(Roll(nil, ps, step, s.Nature())) })
}

// Before adds up all that was before.
func (m *Memory) Before(ctx context.Context, s *Series, at int64) (Bucket, error) {
	b := Bucket{Nature: Meter}
	err := m.Scan(ctx, s, 0, at, func(ps []Point) error {
		for i := range ps {
			b.Add(&ps[i])
		}
		return nil
	})
	if b.Good() == 0 {
		b = Bucket{Nature: Meter}
	}
	return b, err
}

// Kept is 0: nothing is ever deleted.
func (m *Memory) Kept(Tier) int64 { return 0 }

// Retain keeps everything.
func (m *Memory) Retain(context.Context, time.Time, bool) error { return nil }

// Run waits for ctx to end.
func (m *Memory) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
