package sim

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"devicehub/firmware-sim/profile"
)

// What a series makes of readings is held against the readings themselves.

const (
	seriesBuckets = 7  // of a series whose figures are judged
	seriesWindows = 5  // into which a counter's readings are cut
	seriesEnough  = 10 // readings that a counter must have for that
)

// judgeSeries holds the series of a metric against the rows that are stored.
func (s *Sim) judgeSeries(ctx context.Context, u *unit, metric string, m *measured, rows []row) {
	if len(rows) == 0 || isText(m.entries) {
		return
	}
	whole, err := s.api.Series(ctx, u.id, metric, time.UnixMilli(0), time.Now().Add(time.Hour), 200)
	if err != nil {
		s.judge.unable("%s: %v", u.id, err)
		return
	}
	if n := whole.Count(); n != len(rows) {
		s.judge.found("series_differs", Finding{
			Device: u.id,
			Text:   fmt.Sprintf("%s: series counts %d readings, export %d", metric, n, len(rows)),
			Line:   bucketLines(rows, whole.Buckets),
		})
	}
	s.judge.checked("series_differs", 1)
	first, last := time.UnixMilli(rows[0].t), time.UnixMilli(rows[len(rows)-1].t+1)
	short, err := s.api.Series(ctx, u.id, metric, first, last, seriesBuckets)
	if err != nil {
		s.judge.unable("%s: %v", u.id, err)
		return
	}
	for _, b := range short.Buckets {
		s.judge.checked("series_wrong", 1)
		if text := wrongBucket(metric, rows, b, short.Step); text != "" {
			s.judge.found("series_wrong", Finding{
				Device: u.id,
				Text:   fmt.Sprintf("%s from %d, %d ms: %s", metric, b.T, short.Step, text),
				Line:   rowsOf(rows, b.T, short.Step),
			})
		}
	}
	if g := u.generator(metric); g != nil && g.Kind == "counter" && isCounter(metric) {
		s.judgeWindows(ctx, u, metric, g, rows)
	}
}

// generator is what a metric's values come from, nil of one that the profile does not name.
func (u *unit) generator(metric string) *profile.Generator {
	for i := range u.group.Metrics {
		if m := &u.group.Metrics[i]; m.Name == metric {
			return &m.Gen
		}
	}
	return nil
}

// isCounter and isAngle are of the hub's default catalogue.
func isCounter(metric string) bool {
	return slices.Contains([]string{"energy", "water", "gas"}, metric)
}

func isAngle(metric string) bool { return metric == "wind_direction" }

// isText reports strings, which have no series of numbers.
func isText(es []entry) bool {
	return slices.ContainsFunc(es, func(e entry) bool { return e.text })
}

// wrongBucket says what of a bucket is not as its rows are, "" if nothing is. Values out of range
// take no part in its figures.
func wrongBucket(metric string, rows []row, b Bucket, step int64) string {
	from, _ := at(rows, b.T)
	to, _ := at(rows, b.T+step)
	var vs []float64
	for _, r := range rows[from:to] {
		if !r.out {
			vs = append(vs, r.v)
		}
	}
	if b.Count != to-from {
		return fmt.Sprintf("it counts %d readings, %d are stored", b.Count, to-from)
	}
	if len(vs) == 0 || b.Mean == nil {
		return ""
	}
	if isAngle(metric) {
		if mean, sure := circularMean(vs); sure && angleBetween(*b.Mean, mean) > 0.01 {
			return fmt.Sprintf("the mean direction is %v, shown is %v", mean, *b.Mean)
		}
		return ""
	}
	sum := 0.0
	for _, v := range vs {
		sum += v
	}
	mean := sum / float64(len(vs))
	near := func(a, b float64) bool { return math.Abs(a-b) <= 1e-6*max(1, math.Abs(a), math.Abs(b)) }
	switch {
	case !near(*b.Mean, mean):
		return fmt.Sprintf("the mean is %v, shown is %v", mean, *b.Mean)
	case b.Min != nil && !near(*b.Min, slices.Min(vs)):
		return fmt.Sprintf("the least is %v, shown is %v", slices.Min(vs), *b.Min)
	case b.Max != nil && !near(*b.Max, slices.Max(vs)):
		return fmt.Sprintf("the greatest is %v, shown is %v", slices.Max(vs), *b.Max)
	}
	return ""
}

// circularMean is the direction of the sum of unit vectors; not sure when they all but cancel each
// other out.
func circularMean(degrees []float64) (mean float64, sure bool) {
	var x, y float64
	for _, d := range degrees {
		sin, cos := math.Sincos(d * math.Pi / 180)
		x, y = x+cos, y+sin
	}
	return math.Mod(math.Atan2(y, x)*180/math.Pi+360, 360), math.Hypot(x, y) > 1e-3*float64(len(degrees))
}

func angleBetween(a, b float64) float64 { return math.Abs(math.Mod(a-b+540, 360) - 180) }

// judgeWindows asks what a counter rose by in each of several windows, each for itself: they add up
// to the whole, and each counts from the last reading before it.
func (s *Sim) judgeWindows(ctx context.Context, u *unit, metric string, g *profile.Generator, rows []row) {
	first, last := rows[0].t, rows[len(rows)-1].t+1
	if len(rows) < seriesEnough || last-first < 10*seriesWindows {
		return
	}
	unit := math.Pow10(-g.Digits)
	rises, resets := risesOf(rows)
	s.judge.checked("window_wrong", 1)
	sum, all := 0.0, 0.0
	var lines []string
	wrong := false
	for i := range int64(seriesWindows) {
		from, to := first+(last-first)*i/seriesWindows, first+(last-first)*(i+1)/seriesWindows
		got, err := s.api.Series(ctx, u.id, metric, time.UnixMilli(from), time.UnixMilli(to), 1)
		if err != nil {
			s.judge.unable("%s: %v", u.id, err)
			return
		}
		want, have := 0.0, 0.0
		for j, r := range rows {
			if r.t >= from && r.t < to {
				want += rises[j]
			}
		}
		for _, b := range got.Buckets {
			if b.Delta != nil {
				have += *b.Delta
			}
		}
		sum, all = sum+have, all+want
		line := fmt.Sprintf("%s  from t=%d  rose by %.6g, shown is %.6g", stamp(time.UnixMilli(from)), from, want, have)
		if math.Abs(have-want) > 3*unit { // a dip at either end may be counted here or there
			line, wrong = line+"  <--", true
		}
		lines = append(lines, line)
	}
	if wrong || math.Abs(sum-all) > float64(3+10*resets)*unit {
		s.judge.found("window_wrong", Finding{
			Device: u.id,
			Text:   fmt.Sprintf("%s rose by %.6g in all, its windows by %.6g", metric, all, sum),
			Line:   lines,
		})
	}
}

// risesOf is by how much a counter rose with each reading, and how often it began again from 0. A
// small fall is none: what comes after it counts from where the counter had been. A fall by more
// than a tenth is another beginning.
func risesOf(rows []row) (rises []float64, resets int) {
	rises = make([]float64, len(rows))
	before, high := math.NaN(), 0.0
	for i, r := range rows {
		switch {
		case r.out:
			continue
		case math.IsNaN(before):
			high = r.v
		case r.v < 0.9*before:
			rises[i], high = r.v, r.v
			resets++
		case r.v > high:
			rises[i], high = r.v-high, r.v
		}
		before = r.v
	}
	return rises, resets
}

// rowsOf shows the rows of a bucket.
func rowsOf(rows []row, from, step int64) (lines []string) {
	const most = 12
	i, _ := at(rows, from)
	j, _ := at(rows, from+step)
	for n, r := range rows[i:j] {
		if n == most {
			return append(lines, fmt.Sprintf("and %d more", j-i-most))
		}
		line := fmt.Sprintf("%s  t=%d v=%v", stamp(time.UnixMilli(r.t)), r.t, r.v)
		if r.out {
			line += ", out of range"
		}
		lines = append(lines, line)
	}
	return lines
}

// bucketLines holds the buckets of a series against the rows of an export: those that differ, with
// the one before and after.
func bucketLines(rows []row, buckets []Bucket) (lines []string) {
	exported, early := make([]int, len(buckets)), 0
	for _, r := range rows {
		i, found := slices.BinarySearchFunc(buckets, r.t, func(b Bucket, t int64) int { return cmp.Compare(b.T, t) })
		if !found {
			i--
		}
		if i < 0 {
			early++
			continue
		}
		exported[i]++
	}
	if early > 0 {
		lines = append(lines, fmt.Sprintf("before the first bucket  series 0, export %d  <--", early))
	}
	const most = 10
	for i, b := range buckets {
		differs := func(i int) bool { return i >= 0 && i < len(buckets) && buckets[i].Count != exported[i] }
		if !differs(i-1) && !differs(i) && !differs(i+1) {
			continue
		}
		line := fmt.Sprintf(
			"%s  bucket t=%d  series %d, export %d",
			stamp(time.UnixMilli(b.T)),
			b.T,
			b.Count,
			exported[i],
		)
		if differs(i) {
			line += "  <--"
		}
		if lines = append(lines, line); len(lines) == most {
			break
		}
	}
	return lines
}
