package readings

import (
	"context"
	"slices"
	"strconv"
	"time"

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
	Zone     *time.Location // see Chart; nil is UTC
}

// AcrossQuery asks for one metric of many devices, taken together.
type AcrossQuery struct {
	Devices  []devices.ID
	Metric   string
	From, To int64
	Points   int
	Agg      string
	Zone     *time.Location
}

// Chart is the answer to both: {metric,unit,from,to,step_ms,tier,tz?,buckets:[{t,
// end?,min?,max?,mean?,last,count,out_of_range?,late?,delta?}]}. Buckets begin at
// multiples of the step since 1970, so that a day is one of UTC. Asked for in a
// time zone, those of an hour and more begin where they do on its clocks, and tell
// when they end: a day has 23, 24 or 25 hours there. A bucket without readings is
// absent.
//
// Count counts all readings, out_of_range those among them that are outside the
// metric's plausible range, or none of its options: these take no part in the
// rest, and where there are no others, min, max and mean are absent and last is
// null. Min, max and mean of a bool count true as 1; strings have only last and
// the counts. A direction has neither min nor max, whatever agg asks for, and
// its mean is the circular one, absent where directions cancel each other out.
// Delta, of meters alone, is how much they rose since the reading before the
// bucket, wherever that lies: the deltas of times that join are those of the
// whole (see meter.go). Late counts the readings that came late, where there are
// any and the bucket is from readings and not from a roll-up. What is worked out
// has 12 significant digits.
//
// A time that begins or ends within a bucket of a tier of which nothing finer is
// kept has that bucket if it begins in the time.
type Chart struct {
	Metric   string
	Type     devices.ValueType
	Unit     string
	From, To int64
	StepMS   int64
	Tier     Tier
	Buckets  []Bucket
	Counter  bool
	Devices  int // with a reading in the time
	across   bool
	zone     *time.Location
	grid     grid
}

// plan picks the buckets, and the tier: the coarsest whose buckets fit into them,
// or another one, for which they are made longer, when that does not reach back to
// from.
func (in *Ingest) plan(from, to int64, points int, zone *time.Location) (g grid, tier Tier) {
	g = gridOf(from, to, points, zone)
	order := make([]Tier, 0, 3)
	for t := Hour; t > Raw; t-- {
		if g.fits(t.Step()) {
			order = append(order, t)
		}
	}
	order = append(order, Raw)
	for t := Quarter; t <= Hour; t++ {
		if !g.fits(t.Step()) {
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
		g.widen(l, from, to)
	}
	return g, tier
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

// Series answers a question about one device. A metric that has readings, or
// that the device's record or the catalogue declares, has a chart, be it without
// a bucket; any other is not_found.
func (in *Ingest) Series(ctx context.Context, q SeriesQuery) (Chart, error) {
	return in.chart(ctx, AcrossQuery{[]devices.ID{q.Device}, q.Metric, q.From, q.To, q.Points, q.Agg, q.Zone})
}

// Across answers a question about many devices.
func (in *Ingest) Across(ctx context.Context, q AcrossQuery) (Chart, error) {
	c, err := in.chart(ctx, q)
	c.across = true
	return c, err
}

func (in *Ingest) chart(ctx context.Context, q AcrossQuery) (Chart, error) {
	ids, name := q.Devices, q.Metric
	if !devices.ValidMetricName(name) {
		return Chart{}, devices.Invalid("metric", "a metric name")
	}
	if err := in.span(&q.From, &q.To, &q.Points, q.Agg); err != nil {
		return Chart{}, err
	}
	if err := in.knows(ids, name); err != nil {
		return Chart{}, err
	}
	c := Chart{Metric: name, From: q.From, To: q.To, Buckets: []Bucket{}, zone: q.Zone}
	c.grid, c.Tier = in.plan(q.From, q.To, q.Points, q.Zone)
	c.StepMS = c.grid.step
	if decl := catalogue[name]; decl != nil {
		c.Type, c.Unit = decl.Type, decl.Unit
	}
	sum := c.sums()
	var other *sums
	met := false
	for _, id := range ids {
		p := in.pick(id, name)
		if len(p.series) == 0 {
			continue
		}
		if !met {
			c.Type, c.Unit, met = p.typ, p.unit, true
		}
		if p.typ.Text() != c.Type.Text() || !p.typ.Text() && p.typ != c.Type {
			continue // a device that declares the metric otherwise
		}
		one := &sum
		if c.Devices > 0 {
			if other == nil {
				o := c.sums()
				other = &o
			}
			clear(other.buckets)
			one = other
		}
		n, err := in.fillOne(ctx, p, &c, one)
		if err != nil {
			return Chart{}, err
		}
		if n == 0 {
			continue
		}
		if c.Devices++; one != &sum {
			sum.mix(one)
		}
	}
	c.Buckets = sum.list()
	return c, nil
}

// knows refuses a metric that none of the devices has a reading of and that
// nothing declares: it is misspelt, and not without data.
func (in *Ingest) knows(ids []devices.ID, name string) error {
	if len(ids) == 0 || catalogue[name] != nil {
		return nil
	}
	for _, id := range ids {
		if declared(in.record(id), name) != nil {
			return nil
		}
		if rec, ok := in.book.Lookup(id); ok && rec.has(name) {
			return nil
		}
	}
	return unknownMetric(name)
}

func unknownMetric(name string) error {
	reason := "no such metric: there is no reading of " + name + ", and nothing declares it"
	return devices.Refuse(devices.CodeNotFound, reason).With("field", "metric")
}

// has reports whether there are readings of a metric.
func (r *Record) has(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.series, func(s *Series) bool { return s.has && s.Metric == name })
}

// shownNature is the nature of the series' own readings, in its own unit, where the
// metric is shown as one of n.
func (s *Series) shownNature(n Nature) Nature {
	if n.Direction() && s.Unit != "" {
		return natureOf(s.Unit, false)
	}
	return n
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
	if c.zone != nil {
		b = append(b, `,"tz":`...)
		b = appendString(b, c.zone.String())
	}
	if c.across {
		b = append(b, `,"devices":`...)
		b = strconv.AppendInt(b, int64(c.Devices), 10)
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
	if c.grid.bounds != nil {
		_, end := c.grid.bucket(c.grid.index(k.T))
		b = append(b, `,"end":`...)
		b = strconv.AppendInt(b, end, 10)
	}
	numbers := c.Type == devices.TypeFloat || c.Type == devices.TypeBool
	if numbers && k.Good() > 0 && !k.Nature.Direction() {
		b = append(b, `,"min":`...)
		b = appendFloat(b, k.Min)
		b = append(b, `,"max":`...)
		b = appendFloat(b, k.Max)
	}
	if mean, ok := k.Mean(); numbers && ok {
		b = append(b, `,"mean":`...)
		b = appendFloat(b, mean)
	}
	b = append(b, `,"last":`...)
	if k.Good() > 0 {
		b = Value{c.Type, k.Last, k.LastS}.AppendJSON(b)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"count":`...)
	b = strconv.AppendInt(b, k.Count, 10)
	if k.Out > 0 {
		b = append(b, `,"out_of_range":`...)
		b = strconv.AppendInt(b, k.Out, 10)
	}
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
