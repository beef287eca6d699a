package readings

import (
	"slices"
	"sort"
	"time"
)

// steps are the lengths that buckets may have, in ms.
var steps = []int64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 2 * 60_000, 5 * 60_000, 10 * 60_000,
	15 * 60_000, 30 * 60_000, hour, 2 * hour, 3 * hour, 4 * hour, 6 * hour, 8 * hour, 12 * hour, day, 2 * day, 5 * day, 10 * day, 15 * day, 30 * day, 90 * day, 180 * day, 365 * day}

const (
	hour = int64(3600_000)
	day  = 24 * hour
)

// grid says where the buckets of an answer begin: at multiples of the step, or,
// of an hour and more in a time zone, where the step begins on its clocks.
type grid struct {
	step   int64
	first  int64   // the number of the first bucket, without bounds
	n      int     // buckets
	bounds []int64 // where each bucket begins, and at last where the last one ends
}

// gridOf covers a time with at most so many buckets of the shortest step that
// does.
func gridOf(from, to int64, points int, zone *time.Location) grid {
	step := int64(0)
	for i := 0; ; i++ {
		if step += 365 * day; i < len(steps) {
			step = steps[i]
		}
		if zone != nil && step >= hour {
			if b := zoneBounds(zone, from, to, step, points); b != nil {
				return grid{step: step, n: len(b) - 1, bounds: b}
			}
			continue
		}
		if n := (to-1)/step - from/step; n < int64(points) {
			return grid{step: step, first: from / step, n: int(n) + 1}
		}
	}
}

// fits reports whether buckets of a length lie within those of the grid.
func (g *grid) fits(length int64) bool {
	if g.bounds == nil {
		return g.step%length == 0
	}
	return !slices.ContainsFunc(g.bounds, func(t int64) bool { return t%length != 0 })
}

// widen makes the step one that buckets of a length fit into. Where the bounds
// are a zone's they stay: a bucket belongs to the one that it begins in.
func (g *grid) widen(length, from, to int64) {
	if g.bounds == nil {
		g.step = (g.step + length - 1) / length * length
		g.first = from / g.step
		g.n = int((to-1)/g.step - g.first + 1)
	}
}

// index is the bucket that a time lies in.
func (g *grid) index(t int64) int {
	if g.bounds == nil {
		return int(t/g.step - g.first)
	}
	return sort.Search(g.n, func(i int) bool { return g.bounds[i+1] > t })
}

// bucket is where a bucket begins and ends.
func (g *grid) bucket(i int) (begin, end int64) {
	if g.bounds == nil {
		begin = (g.first + int64(i)) * g.step
		return begin, begin + g.step
	}
	return g.bounds[i], g.bounds[i+1]
}

// zoneBounds is where steps of an hour and more begin on the clocks of a zone,
// from the one that from lies in to the one behind to; nil when those are more
// than so many. A day has 23 or 25 hours when the clocks are changed. Steps of
// several days count from 1970-01-01.
func zoneBounds(zone *time.Location, from, to, step int64, most int) []int64 {
	if (to-from)/step > int64(most)+2 {
		return nil
	}
	days := max(1, step/day)
	number := dayNumber(time.UnixMilli(from).In(zone))
	number -= (number%days + days) % days
	var bounds []int64
	for add := true; add; number += days {
		for _, t := range starts(zone, number, step) {
			switch n := len(bounds); {
			case n > 0 && t <= bounds[n-1]: // clocks that skip it
			case n > 0 && bounds[n-1] >= to:
				add = false
			case t <= from:
				bounds = append(bounds[:0], t)
			case n > most+1:
				return nil
			default:
				bounds = append(bounds, t)
			}
		}
	}
	if len(bounds)-1 > most {
		return nil
	}
	return bounds
}

// starts is where the steps of a day begin; of steps of a day or more the day.
func starts(zone *time.Location, number, step int64) []int64 {
	begin := midnight(zone, number)
	list := []int64{begin}
	switch {
	case step == hour:
		for t, end := begin+hour, midnight(zone, number+1); t < end; t += hour {
			list = append(list, t)
		}
	case step < day:
		y, m, d := time.Unix(number*day/1000, 0).UTC().Date()
		for h := step / hour; h < 24; h += step / hour {
			list = append(list, time.Date(y, m, d, int(h), 0, 0, 0, zone).UnixMilli())
		}
	}
	return list
}

// dayNumber counts the days of the calendar since 1970-01-01.
func dayNumber(t time.Time) int64 {
	y, m, d := t.Date()
	return time.Date(y, m, d, 0, 0, 0, 0, time.UTC).UnixMilli() / day
}

// midnight is when a day begins: at 0 o'clock, which clocks may skip or show
// twice.
func midnight(zone *time.Location, number int64) int64 {
	y, m, d := time.Unix(number*day/1000, 0).UTC().Date()
	t := time.Date(y, m, d, 0, 0, 0, 0, zone)
	if dayNumber(t) < number {
		_, t = t.ZoneBounds()
	}
	for earlier := t.Add(-time.Hour); dayNumber(earlier.In(zone)) == number; earlier = t.Add(-time.Hour) {
		t = earlier.In(zone)
	}
	return t.UnixMilli()
}
