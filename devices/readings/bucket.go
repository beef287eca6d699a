package readings

import (
	"devicehub/devices"
)

// Bucket is the roll-up of the readings of a stretch of time. Of strings and
// enums only the count, the times and the texts are kept; a bool counts as 0
// or 1.
type Bucket struct {
	T             int64 // where it begins, a multiple of its length
	Count         int64
	Min, Max, Sum float64
	First, Last   float64
	FirstT, LastT int64
	// Delta is how much a counter rose within the bucket, a fall being taken
	// as a restart from 0.
	Delta         float64
	FirstS, LastS string
	// Late is how many came late. Answers from the readings themselves have it,
	// roll-ups do not keep it.
	Late int64
}

// Add enters a reading that is not older than those before it.
func (b *Bucket) Add(p *Point) {
	if b.Count == 0 {
		b.Min, b.Max, b.First, b.FirstT, b.FirstS = p.F, p.F, p.F, p.T, p.S
	} else {
		b.Min, b.Max = min(b.Min, p.F), max(b.Max, p.F)
		b.Delta += rise(b.Last, p.F)
	}
	b.Count++
	b.Sum += p.F
	b.Last, b.LastT, b.LastS = p.F, p.T, p.S
}

// Merge enters another bucket of the same series. Where one lies behind the
// other the delta takes in the rise between them.
func (b *Bucket) Merge(o *Bucket) {
	switch {
	case o.Count == 0:
		return
	case b.Count == 0:
		t := b.T
		*b = *o
		b.T = t
		return
	}
	b.Min, b.Max = min(b.Min, o.Min), max(b.Max, o.Max)
	b.Sum += o.Sum
	b.Count += o.Count
	b.Late += o.Late
	switch {
	case o.FirstT >= b.LastT:
		b.Delta += o.Delta + rise(b.Last, o.First)
	case o.LastT <= b.FirstT:
		b.Delta += o.Delta + rise(o.Last, b.First)
	}
	if o.FirstT < b.FirstT {
		b.First, b.FirstT, b.FirstS = o.First, o.FirstT, o.FirstS
	}
	if o.LastT >= b.LastT {
		b.Last, b.LastT, b.LastS = o.Last, o.LastT, o.LastS
	}
}

// rise is how much a counter rose between two readings.
func rise(before, after float64) float64 {
	if after < before {
		return after
	}
	return after - before
}

// mix enters a bucket of another series of the same metric.
func (b *Bucket) mix(o *Bucket) {
	if b.Count == 0 || o.Count == 0 {
		b.Merge(o)
		return
	}
	d := b.Delta + o.Delta
	b.Merge(o)
	b.Delta = d
}

// convert turns the values into another unit.
func (b *Bucket) convert(from, to string) bool {
	ok := true
	conv := func(v float64) float64 {
		c, can := devices.ConvertUnit(v, from, to)
		ok = ok && can
		return c
	}
	zero := conv(0)
	b.Sum = conv(b.Sum/float64(b.Count)) * float64(b.Count)
	b.Delta = conv(b.Delta) - zero
	b.Min, b.Max, b.First, b.Last = conv(b.Min), conv(b.Max), conv(b.First), conv(b.Last)
	return ok
}

// Roll appends the buckets of readings in rising time to dst, which it may
// already have begun.
func Roll(dst []Bucket, ps []Point, step int64) []Bucket {
	end := int64(-1)
	if n := len(dst); n > 0 {
		end = dst[n-1].T + step
	}
	for i := range ps {
		if p := &ps[i]; p.T >= end {
			dst = append(dst, Bucket{T: p.T - p.T%step})
			end = dst[len(dst)-1].T + step
		}
		dst[len(dst)-1].Add(&ps[i])
	}
	return dst
}
