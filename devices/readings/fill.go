package readings

import (
	"context"
	"math"
	"slices"

	"devicehub/devices"
)

// sums are the buckets of an answer while it is put together.
type sums struct {
	*grid
	buckets []Bucket
}

func (c *Chart) sums() sums { return sums{&c.grid, make([]Bucket, c.grid.n)} }

// fillOne enters one device. It returns how many readings it had.
func (in *Ingest) fillOne(ctx context.Context, p picked, c *Chart, sum *sums) (n int64, err error) {
	for i, s := range p.series {
		own := sum
		if i > 0 { // apart first: a bucket takes in what lies before or behind it, not within
			apart := c.sums()
			own = &apart
		}
		f := fill{in: in, ctx: ctx, s: s, nature: p.nature, chart: c, sum: own}
		if err := f.tier(c.Tier, c.From, c.To); err != nil {
			return 0, err
		}
		for k := range own.buckets {
			if i > 0 && own.buckets[k].Count > 0 {
				sum.buckets[k].Merge(&own.buckets[k])
			}
		}
	}
	for i := range sum.buckets {
		n += sum.buckets[i].Count
	}
	if p.nature == Meter && n > 0 {
		c.Counter = true
		if err := in.deltas(ctx, p, c, sum.buckets); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// deltaDigits is how many digits of a meter's reading what it rose by is exact
// to: a float64 has almost 16.
const deltaDigits = 14

// deltas works out how much a meter rose in each bucket.
func (in *Ingest) deltas(ctx context.Context, p picked, c *Chart, buckets []Bucket) error {
	before := Bucket{Nature: Meter}
	for _, s := range p.series {
		b, err := in.store.Before(ctx, s, c.From)
		if err != nil {
			return err
		}
		if b.Good() == 0 || s.Unit != c.Unit && s.Unit != "" && !b.convert(s.Unit, c.Unit) {
			continue
		}
		before.Merge(&b)
	}
	for i := range buckets {
		k := &buckets[i]
		if k.Good() == 0 {
			continue
		}
		size := max(math.Abs(before.Tail), math.Abs(k.Max), math.Abs(k.Min))
		k.Delta = devices.RoundBeside(before.Rose(k), size, deltaDigits)
		before.Merge(k)
	}
	return nil
}

// fill enters a series into the buckets of an answer.
type fill struct {
	in     *Ingest
	ctx    context.Context
	s      *Series
	nature Nature // that the metric is shown as
	chart  *Chart
	sum    *sums
}

// tier enters what lies from ≤ t < to out of a tier: its whole buckets, and the
// ends out of the tiers below as long as those are kept there.
func (f *fill) tier(t Tier, from, to int64) error {
	if from >= to {
		return nil
	}
	if t == Raw {
		return f.raw(from, to)
	}
	l := t.Step()
	begin, end := (from+l-1)/l*l, to/l*l
	if begin > end { // no whole bucket, nor the beginning of one
		return f.end(t, from, to)
	}
	if err := f.end(t, from, begin); err != nil {
		return err
	}
	whole := end
	if end < to && !f.finer(t, end) {
		whole = end + l // the last one begins in the time
	}
	err := f.in.store.Rollups(f.ctx, f.s, t, begin, whole, func(bs []Bucket) error {
		for i := range bs {
			b := bs[i]
			f.enter(&b)
		}
		return nil
	})
	if err != nil || whole > end {
		return err
	}
	return f.end(t, end, to)
}

// finer reports whether anything finer than a tier is kept at a time.
func (f *fill) finer(t Tier, at int64) bool {
	for t > Raw {
		if t--; f.in.store.Kept(t) <= at {
			return true
		}
	}
	return false
}

// end enters a part of a bucket out of what is finer; where nothing is, the
// bucket belongs to the time that it begins in, which is another one.
func (f *fill) end(t Tier, from, to int64) error {
	for t > Raw && from < to {
		if t--; f.in.store.Kept(t) <= from {
			return f.tier(t, from, to)
		}
	}
	return nil
}

func (f *fill) enter(b *Bucket) {
	b.Become(f.s.shownNature(f.nature))
	if c := f.chart; f.s.Unit != c.Unit && f.s.Unit != "" && !b.convert(f.s.Unit, c.Unit) {
		return
	}
	f.sum.buckets[f.sum.index(b.T)].Merge(b)
}

// raw enters readings: into the buckets of the answer themselves, where those are
// empty and in the same unit, else by way of a spare one.
func (f *fill) raw(from, to int64) error {
	nature := f.s.shownNature(f.nature)
	same := f.s.Unit == f.chart.Unit || f.s.Unit == ""
	var spare Bucket
	b, end := &spare, int64(-1)
	err := f.in.store.Scan(f.ctx, f.s, from, to, func(ps []Point) error {
		for i := range ps {
			if p := &ps[i]; p.T >= end {
				if b == &spare && b.Count > 0 {
					f.enter(b)
				}
				at := f.sum.index(p.T)
				if b = &f.sum.buckets[at]; b.Count > 0 || !same {
					spare = Bucket{}
					b = &spare
				}
				b.Nature = nature
				b.T, end = f.sum.bucket(at)
			}
			b.Add(&ps[i])
			if ps[i].Q&Late != 0 {
				b.Late++
			}
		}
		return nil
	})
	if err == nil && b == &spare && b.Count > 0 {
		f.enter(b)
	}
	return err
}

// mix enters the buckets of another device.
func (s *sums) mix(o *sums) {
	for i := range o.buckets {
		if b := &s.buckets[i]; o.buckets[i].Count > 0 {
			b.mix(&o.buckets[i])
			b.Delta = devices.Round(b.Delta)
		}
	}
}

// list returns the buckets that have readings.
func (s *sums) list() []Bucket {
	for i := range s.buckets {
		s.buckets[i].T, _ = s.bucket(i)
	}
	return slices.DeleteFunc(s.buckets, func(b Bucket) bool { return b.Count == 0 })
}
