package sim

import (
	"container/heap"
	"context"
	"time"

	"devicehub/firmware-sim/profile"
)

// job is something that a device does again and again, at moments that do not depend on what the hub does.
type job struct {
	due  time.Time
	unit *unit
	next func(due time.Time) time.Time // the moment after this one
	do   func(due time.Time)
}

// agenda is a heap of jobs by their moments.
type agenda []*job

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].due.Before(a[j].due) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(*job)) }
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	*a = old[:len(old)-1]
	return last
}

// schedule measures, flushes, presses buttons and misbehaves, each at its moment, until ctx is done. How late it is itself
// goes into lag_ms.
func (s *Sim) schedule(ctx context.Context) {
	a := s.agenda()
	heap.Init(&a)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for len(a) > 0 {
		j := a[0]
		if wait := time.Until(j.due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		} else if ctx.Err() != nil {
			return
		}
		s.stats.record("lag_ms", time.Since(j.due))
		j.do(j.due)
		j.due = j.next(j.due)
		heap.Fix(&a, 0)
	}
}

// agenda lists the first moment of everything. A device begins when it is switched on.
func (s *Sim) agenda() agenda {
	var a agenda
	for i, u := range s.units {
		on, ever := s.powerOn(i)
		if !ever {
			break
		}
		g := u.group
		for mi := range g.Metrics {
			m, src := &g.Metrics[mi], u.sources[mi]
			a = append(a, &job{unit: u,
				due: on.Add(time.Duration(u.rand.Float64() * float64(m.Every))),
				next: func(due time.Time) time.Time {
					return due.Add(time.Duration(float64(m.Every) * (1 + m.Jitter*(2*u.rand.Float64()-1))))
				},
				do: func(due time.Time) { s.measure(u, m, src, due) },
			})
		}
		if g.BatchEvery > 0 {
			a = append(a, &job{unit: u, due: on.Add(time.Duration(u.rand.Float64() * float64(g.BatchEvery))),
				next: func(due time.Time) time.Time { return due.Add(g.BatchEvery) },
				do:   func(due time.Time) { u.dev.Flush(due) },
			})
		}
		if g.Behaviour.PressPerH > 0 {
			a = append(a, s.sometimes(u, on, time.Duration(float64(time.Hour)/g.Behaviour.PressPerH), func() { u.dev.Press() }))
		}
		if g.Misbehave.Flap > 0 {
			a = append(a, s.sometimes(u, on, g.Misbehave.Flap, func() { u.drop(time.Duration(u.rand.Int64N(int64(3 * time.Second)))) }))
		}
		if g.Misbehave.Restart > 0 {
			a = append(a, s.sometimes(u, on, g.Misbehave.Restart, func() { u.dev.Restart() }))
		}
	}
	return a
}

// sometimes is a job with exponential gaps.
func (s *Sim) sometimes(u *unit, from time.Time, mean time.Duration, do func()) *job {
	gap := func() time.Duration { return time.Duration(u.rand.ExpFloat64() * float64(mean)) }
	return &job{unit: u, due: from.Add(gap()), next: func(due time.Time) time.Time { return due.Add(gap()) }, do: func(time.Time) { do() }}
}

// measure takes one value, or does what a bad device does instead.
func (s *Sim) measure(u *unit, m *profile.Metric, src *profile.Source, due time.Time) {
	v, unit, state := src.Next(due), m.Unit, unanswered
	if bad := u.group.Misbehave; bad.Bad() {
		switch x := u.rand.Float64(); {
		case x < bad.Malformed:
			u.dev.Raw("reading", malformed[u.rand.IntN(len(malformed))])
			return
		case x < bad.Malformed+bad.OutOfRange:
			v, state = 1e7, deliberate
		case x < bad.Malformed+bad.OutOfRange+bad.BadUnit:
			unit, state = "furlong", deliberate
		}
	}
	if astray(time.Until(u.clock())) {
		u.stamped, state = true, deliberate
	}
	r, ok := u.dev.Measure(m.Name, v, unit, due)
	if !ok {
		s.stats.overflow.Add(1)
		return
	}
	s.stats.measured.Add(1)
	s.cfg.Journal.measured(u.n, r, state)
	u.ledger.measured(r, state)
}

// What a broken program sends in place of a reading; valid JSON, or the whole connection would be at fault.
var malformed = [][]byte{
	[]byte(`{}`), []byte(`{"m":"temperature"}`), []byte(`{"m":"Not A Metric","v":1}`), []byte(`{"m":"temperature","v":{"a":1}}`),
	[]byte(`{"v":21}`), []byte(`{"m":"temperature","v":"warm"}`), []byte(`{"m":"temperature","v":21,"t":"yesterday"}`),
}
