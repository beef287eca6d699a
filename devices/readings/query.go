package readings

import (
	"context"
	"slices"
	"strconv"

	"devicehub/devices"
)

// Bounds of a question.
const (
	MaxPoints     = 10_000
	DefaultPoints = 500
)

// The aggregates by name. Every bucket carries all of them; the name says
// which of them the asker will draw.
const (
	AggMinMax = "minmax"
	AggMean   = "mean"
	AggLast   = "last"
)

// SeriesQuery asks for one metric of one device, From ≤ t < To in ms since
// epoch, in at most Points buckets. To 0 is now, Points 0 is 500, Agg "" is
// minmax.
type SeriesQuery struct {
	Device   devices.ID
	Metric   string
	From, To int64
	Points   int
	Agg      string
}

// AcrossQuery asks for one metric of many devices, taken together.
type AcrossQuery struct {
	Devices  []devices.ID
	Metric   string
	From, To int64
	Points   int
	Agg      string
}

// Chart is the answer to both: {metric,unit,from,to,step_ms,tier,buckets:[{t,
// min,max,mean,last,count,late?,delta?}]}. Buckets begin at multiples of the step;
// one without readings is absent. Min, max and mean of a bool count true as 1;
// strings have only last and count. Delta, of counters alone, is the rise since
// the bucket before, restarts from 0 allowed for. Late counts the readings that
// came late, where there are any and the bucket is from readings and not from a
// roll-up.
type Chart struct {
	Metric   string
	Type     devices.ValueType
	Unit     string
	From, To int64
	StepMS   int64
	Tier     Tier
	Buckets  []Bucket
	Counter  bool
	Devices  int // that had readings; told of AcrossQuery alone
}

// steps are the lengths that buckets may have, in ms.
var steps = []int64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 2 * 60_000, 5 * 60_000, 10 * 60_000,
	15 * 60_000, 30 * 60_000, hour, 2 * hour, 3 * hour, 4 * hour, 6 * hour, 8 * hour, 12 * hour, day, 2 * day, 5 * day, 10 * day, 15 * day, 30 * day, 90 * day, 180 * day, 365 * day}

const (
	hour = int64(3600_000)
	day  = 24 * hour
)

// plan picks the step, the shortest of which points cover the time, and the
// tier: the coarsest whose buckets fit into the step, or another one, for which
// the step is made longer, when that does not reach back to from.
func (in *Ingest) plan(from, to int64, points int) (step int64, tier Tier) {
	for _, step = range steps {
		if (to-1)/step-from/step < int64(points) {
			break
		}
	}
	for (to-1)/step-from/step >= int64(points) {
		step += 365 * day
	}
	order := make([]Tier, 0, 3)
	for t := Hour; t > Raw; t-- {
		if step%t.Step() == 0 {
			order = append(order, t)
		}
	}
	order = append(order, Raw)
	for t := Quarter; t <= Hour; t++ {
		if step%t.Step() != 0 {
			order = append(order, t)
		}
	}
	tier = order[0]
	for _, t := range order[1:] {
		if kept := in.store.Kept(tier); kept > from && in.store.Kept(t) < kept {
			tier = t
		}
	}
	if l := tier.Step(); l > 0 {
		step = (step + l - 1) / l * l
	}
	return step, tier
}

func (in *Ingest) span(from, to *int64, points *int, agg string) error {
	if *to == 0 {
		*to = in.cfg.Now().UnixMilli()
	}
	if *points == 0 {
		*points = DefaultPoints
	}
	switch {
	case *from < 0 || *from > maxTime:
		return devices.Invalid("from", "a time between 1970 and 10000")
	case *to > maxTime+1 || *to <= *from:
		return devices.Invalid("to", "a time after from")
	case *points < 1 || *points > MaxPoints:
		return devices.OutOfRange("points", 1, MaxPoints, "")
	}
	switch agg {
	case "", AggMinMax, AggMean, AggLast:
		return nil
	}
	return devices.Invalid("agg", "minmax, mean or last")
}

// Series answers a question about one device. A metric without readings has no
// buckets.
func (in *Ingest) Series(ctx context.Context, q SeriesQuery) (Chart, error) {
	return in.chart(ctx, []devices.ID{q.Device}, q.Metric, q.From, q.To, q.Points, q.Agg)
}

// Across answers a question about many devices.
func (in *Ingest) Across(ctx context.Context, q AcrossQuery) (Chart, error) {
	c, err := in.chart(ctx, q.Devices, q.Metric, q.From, q.To, q.Points, q.Agg)
	if c.Devices == 0 {
		c.Devices = -1 // tell of none, too
	}
	return c, err
}

func (in *Ingest) chart(ctx context.Context, ids []devices.ID, name string, from, to int64, points int, agg string) (Chart, error) {
	if !devices.ValidMetricName(name) {
		return Chart{}, devices.Invalid("metric", "a metric name")
	}
	if err := in.span(&from, &to, &points, agg); err != nil {
		return Chart{}, err
	}
	c := Chart{Metric: name, From: from, To: to, Buckets: []Bucket{}}
	c.StepMS, c.Tier = in.plan(from, to, points)
	if decl := catalogue[name]; decl != nil {
		c.Type, c.Unit = decl.Type, decl.Unit
	}
	sum := sums{first: from / c.StepMS, step: c.StepMS, buckets: make([]Bucket, (to-1)/c.StepMS-from/c.StepMS+1)}
	var other *sums
	for i, id := range ids {
		series, typ, unit := in.pick(id, name)
		if len(series) == 0 {
			continue
		}
		if c.Devices == 0 {
			c.Type, c.Unit = typ, unit
		}
		c.Devices++
		one := &sum
		if len(ids) > 1 && i > 0 {
			if other == nil {
				other = &sums{first: sum.first, step: sum.step, buckets: make([]Bucket, len(sum.buckets))}
			}
			clear(other.buckets)
			one = other
		}
		for _, s := range series {
			if s.Type != c.Type {
				continue // of a device that declares the metric otherwise
			}
			c.Counter = c.Counter || s.Counter
			if err := in.fill(ctx, s, c, one); err != nil {
				return Chart{}, err
			}
		}
		if one != &sum {
			sum.mix(one)
		}
	}
	if len(ids) == 1 {
		c.Devices = 0
	}
	c.Buckets = sum.list(c.Counter && len(ids) == 1)
	return c, nil
}

// pick is the series of a metric that a chart shows: those of the type that is
// declared now, else of the latest reading, with the unit of the answer.
func (in *Ingest) pick(id devices.ID, name string) (series []*Series, typ devices.ValueType, unit string) {
	rec, ok := in.book.Lookup(id)
	if !ok {
		return nil, "", ""
	}
	decl := declared(in.record(id), name)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	var newest *Series
	for _, s := range rec.series {
		if s.has && s.Metric == name {
			series = append(series, s)
			if newest == nil || s.last.T >= newest.last.T {
				newest = s
			}
		}
	}
	if newest == nil {
		return nil, "", ""
	}
	typ, unit = newest.Type, newest.Unit
	if decl != nil && slices.ContainsFunc(series, func(s *Series) bool { return s.Type == decl.Type }) {
		typ, unit = decl.Type, decl.Unit
	}
	series = slices.DeleteFunc(series, func(s *Series) bool {
		_, ok := devices.ConvertUnit(0, s.Unit, unit)
		return s.Type != typ || !ok && s.Unit != "" // without a unit it is taken for the one that was declared since
	})
	return series, typ, unit
}

// sums are the buckets of an answer while it is put together.
type sums struct {
	first, step int64 // the number of the first bucket, and their length
	buckets     []Bucket
}

// fill enters one series.
func (in *Ingest) fill(ctx context.Context, s *Series, c Chart, sum *sums) (err error) {
	enter := func(b *Bucket) {
		if s.Unit != c.Unit && s.Unit != "" && !b.convert(s.Unit, c.Unit) {
			return
		}
		sum.buckets[b.T/sum.step-sum.first].Merge(b)
	}
	if c.Tier == Raw {
		return in.fillRaw(ctx, s, c.From, c.To, c.StepMS, enter)
	}
	// Whole buckets come from the tier, the ends from the readings while those are kept.
	l := c.Tier.Step()
	from, to := (c.From+l-1)/l*l, c.To/l*l
	if from >= to || c.From < in.store.Kept(Raw) {
		from, to = max(c.From/l*l, sum.first*sum.step), c.To
	} else {
		if err := in.fillRaw(ctx, s, c.From, from, c.StepMS, enter); err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = in.fillRaw(ctx, s, to, c.To, c.StepMS, enter)
			}
		}()
	}
	return in.store.Rollups(ctx, s, c.Tier, from, to, func(bs []Bucket) error {
		for i := range bs {
			b := bs[i]
			enter(&b)
		}
		return nil
	})
}

func (in *Ingest) fillRaw(ctx context.Context, s *Series, from, to, step int64, enter func(*Bucket)) error {
	if from >= to {
		return nil
	}
	var b Bucket
	end := int64(-1)
	err := in.store.Scan(ctx, s, from, to, func(ps []Point) error {
		for i := range ps {
			if p := &ps[i]; p.T >= end {
				if b.Count > 0 {
					enter(&b)
				}
				b = Bucket{T: p.T - p.T%step}
				end = b.T + step
			}
			b.Add(&ps[i])
			if ps[i].Q&Late != 0 {
				b.Late++
			}
		}
		return nil
	})
	if err == nil && b.Count > 0 {
		enter(&b)
	}
	return err
}

// mix enters the buckets of another device.
func (s *sums) mix(o *sums) {
	for i := range o.buckets {
		s.buckets[i].mix(&o.buckets[i])
	}
}

// list returns the buckets that have readings; a counter's with the rise from
// one to the next.
func (s *sums) list(counter bool) []Bucket {
	out := s.buckets[:0]
	for i := range s.buckets {
		b := s.buckets[i]
		if b.Count == 0 {
			continue
		}
		b.T = (s.first + int64(i)) * s.step
		if n := len(out); counter && n > 0 {
			b.Delta += rise(out[n-1].Last, b.First)
		}
		out = append(out, b)
	}
	return out
}

// MarshalJSON writes the answer as told at Chart.
func (c Chart) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 256+96*len(c.Buckets))
	b = append(b, `{"metric":`...)
	b = appendString(b, c.Metric)
	b = append(b, `,"unit":`...)
	b = appendString(b, c.Unit)
	b = append(b, `,"from":`...)
	b = strconv.AppendInt(b, c.From, 10)
	b = append(b, `,"to":`...)
	b = strconv.AppendInt(b, c.To, 10)
	b = append(b, `,"step_ms":`...)
	b = strconv.AppendInt(b, c.StepMS, 10)
	b = append(b, `,"tier":"`...)
	b = append(b, c.Tier.String()...)
	b = append(b, '"')
	if c.Devices != 0 {
		b = append(b, `,"devices":`...)
		b = strconv.AppendInt(b, int64(max(0, c.Devices)), 10)
	}
	b = append(b, `,"buckets":[`...)
	for i := range c.Buckets {
		if i > 0 {
			b = append(b, ',')
		}
		b = c.appendBucket(b, &c.Buckets[i])
	}
	return append(b, ']', '}'), nil
}

func (c *Chart) appendBucket(b []byte, k *Bucket) []byte {
	b = append(b, `{"t":`...)
	b = strconv.AppendInt(b, k.T, 10)
	if c.Type == devices.TypeFloat || c.Type == devices.TypeBool {
		b = append(b, `,"min":`...)
		b = appendFloat(b, k.Min)
		b = append(b, `,"max":`...)
		b = appendFloat(b, k.Max)
		b = append(b, `,"mean":`...)
		b = appendFloat(b, min(k.Max, max(k.Min, k.Sum/float64(k.Count))))
	}
	b = append(b, `,"last":`...)
	b = Value{c.Type, k.Last, k.LastS}.AppendJSON(b)
	b = append(b, `,"count":`...)
	b = strconv.AppendInt(b, k.Count, 10)
	if k.Late > 0 {
		b = append(b, `,"late":`...)
		b = strconv.AppendInt(b, k.Late, 10)
	}
	if c.Counter {
		b = append(b, `,"delta":`...)
		b = appendFloat(b, k.Delta)
	}
	return append(b, '}')
}
