package sim

import (
	"container/heap"
	"context"
	"time"
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
	for {
		wait := time.Hour // for wishes alone
		if len(a) > 0 {
			wait = max(0, time.Until(a[0].due))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case do := <-s.wishes:
			do(time.Now())
			continue
		case <-timer.C:
		}
		if len(a) == 0 {
			continue
		}
		j := a[0]
		s.stats.record("lag_ms", time.Since(j.due))
		j.do(j.due)
		j.due = j.next(j.due)
		heap.Fix(&a, 0)
	}
}

// wish has something done by the goroutine of the schedule, to which what devices measure belongs.
func (s *Sim) wish(ctx context.Context, do func(due time.Time)) {
	select {
	case s.wishes <- do:
	case <-ctx.Done():
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
			m := &g.Metrics[mi]
			a = append(a, &job{unit: u,
				due: on.Add(time.Duration(u.rand.Float64() * float64(m.Every))),
				next: func(due time.Time) time.Time {
					return due.Add(time.Duration(float64(m.Every) * (1 + m.Jitter*(2*u.rand.Float64()-1))))
				},
				do: func(due time.Time) { s.measure(u, mi, due) },
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
			a = append(a, s.sometimes(u, on, g.Misbehave.Restart, u.restart))
		}
		if g.Reconnect.Every > 0 {
			leave := func() { s.comeback(u, time.Now(), g.Reconnect.Reboot) }
			a = append(a, s.sometimes(u, on, g.Reconnect.Every, leave))
		}
	}
	return a
}

// sometimes is a job with exponential gaps.
func (s *Sim) sometimes(u *unit, from time.Time, mean time.Duration, do func()) *job {
	gap := func() time.Duration { return time.Duration(u.rand.ExpFloat64() * float64(mean)) }
	return &job{unit: u, due: from.Add(gap()), next: func(due time.Time) time.Time { return due.Add(gap()) }, do: func(time.Time) { do() }}
}

// measure takes one value of a metric of the group, or does what a bad device does instead.
func (s *Sim) measure(u *unit, metric int, due time.Time) {
	m := &u.group.Metrics[metric]
	v, unit, state := u.sources[metric].Next(due), u.units[metric], unanswered
	if bad := u.group.Misbehave; bad.Bad() {
		switch x := u.rand.Float64(); {
		case x < bad.Malformed:
			u.malformed(m.Name)
			return
		case x < bad.Malformed+bad.OutOfRange:
			v, state = 1e7, deliberate
		case x < bad.Malformed+bad.OutOfRange+bad.BadUnit:
			unit, state = "furlong", deliberate
		}
	}
	if now := u.clock(); astray(time.Until(now)) && now.UnixMilli() >= clockUnset {
		u.stamped, state = true, deliberate
	}
	r, ok := u.dev.Measure(m.Name, in(m.Name, unit, v), unit, due)
	if !ok {
		s.stats.overflow.Add(1)
		return
	}
	s.stats.measured.Add(1)
	s.cfg.Journal.measured(u.n, r, state)
	u.ledger.measured(r, state)
}

// What a broken program sends in place of a reading; valid JSON, or the whole connection would be
// at fault. The bare ones are what stands on r/<metric>.
var (
	malformed = [][]byte{
		[]byte(`{}`), []byte(`{"m":"temperature"}`), []byte(`{"m":"Not A Metric","v":1}`),
		[]byte(`{"m":"temperature","v":{"a":1}}`), []byte(`{"v":21}`), []byte(`{"m":"temperature","v":"warm"}`),
		[]byte(`{"m":"temperature","v":21,"t":"yesterday"}`),
	}
	malformedBare = [][]byte{[]byte(`nan`), []byte(``), []byte("\x00\x01"), []byte(`1e999`)}
)

// malformed sends something that is no reading of a metric.
func (u *unit) malformed(metric string) {
	if n := u.rand.IntN(len(malformed) + len(malformedBare)); n < len(malformed) || !u.overMQTT() {
		u.dev.Raw("reading", malformed[n%len(malformed)])
	} else {
		u.dev.Raw("r/"+metric, malformedBare[n-len(malformed)])
	}
}
