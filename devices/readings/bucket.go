package readings

import (
	"devicehub/devices"
)

// Nature says what the readings of a series are beside numbers, which is what
// roll-ups keep of them beyond the usual sums.
type Nature uint8

// The natures. They are in the formats on disk: a new one is added at the end.
const (
	Plain   Nature = iota
	Meter          // a total that only rises, but for resets
	Degrees        // a direction
	Radians        // likewise
)

// Direction reports whether n is a direction.
func (n Nature) Direction() bool { return n == Degrees || n == Radians }

// natureOf is the nature of floats in a unit.
func natureOf(unit string, counter bool) Nature {
	radians, angle := devices.Angle(unit)
	switch {
	case counter:
		return Meter
	case angle && radians == 1:
		return Radians
	case angle:
		return Degrees
	}
	return Plain
}

// Nature is the nature of the series' readings.
func (s *Series) Nature() Nature {
	if s.Type != devices.TypeFloat {
		return Plain
	}
	return natureOf(s.Unit, s.Counter)
}

// Bucket is the roll-up of the readings of a stretch of time. A reading out of
// range is counted and takes no part in anything else but Late. Of strings and
// enums only the counts, the times and the texts are kept; a bool counts as 0 or
// 1.
type Bucket struct {
	T             int64   // where it begins, a multiple of its length
	Count         int64   // of all readings
	Out           int64   // of those out of range, or none of the metric's options
	Min, Max, Sum float64 // a direction has no sum
	First, Last   float64
	FirstT, LastT int64
	FirstS, LastS string
	Nature        Nature

	// Of a meter, see meter.go.
	Reset            bool
	Rise, Head, Tail float64
	// Delta is how much a meter rose since the reading before the bucket. Answers
	// have it, roll-ups do not keep it.
	Delta float64

	// Of a direction: the sums of its sines and cosines, see direction.go.
	Sin, Cos float64

	// Late is how many came late. Answers from the readings themselves have it,
	// roll-ups do not keep it.
	Late int64
}

// Good is how many readings the bucket is made of: those in range.
func (b *Bucket) Good() int64 { return b.Count - b.Out }

// Add enters a reading that is not older than those before it.
func (b *Bucket) Add(p *Point) {
	b.Count++
	if p.Q&RangeFlag != 0 {
		b.Out++
		return
	}
	first := b.Count-b.Out == 1
	switch b.Nature {
	case Degrees, Radians:
		b.addDirection(p.F)
	case Meter:
		b.addMeter(p.F, first)
		b.Sum += p.F
	default:
		b.Sum += p.F
	}
	if first {
		b.Min, b.Max, b.First, b.FirstT, b.FirstS = p.F, p.F, p.F, p.T, p.S
	} else {
		b.Min, b.Max = min(b.Min, p.F), max(b.Max, p.F)
	}
	b.Last, b.LastT, b.LastS = p.F, p.T, p.S
}

// Merge enters another bucket of the same series and nature.
func (b *Bucket) Merge(o *Bucket) {
	if !b.count(o) {
		return
	}
	if b.Nature == Meter {
		b.mergeMeter(o)
	}
	b.mergeSums(o)
}

// mix enters a bucket of another series of the same metric.
func (b *Bucket) mix(o *Bucket) {
	delta := b.Delta + o.Delta
	if b.count(o) {
		b.mergeSums(o)
	}
	b.Delta = delta
}

// count enters the counts of o. It reports whether the rest of o is still to be
// entered.
func (b *Bucket) count(o *Bucket) bool {
	t, count, out, late, good := b.T, b.Count+o.Count, b.Out+o.Out, b.Late+o.Late, b.Good()
	if good == 0 && o.Count > 0 {
		*b = *o
		b.T = t
	}
	b.Count, b.Out, b.Late = count, out, late
	return good > 0 && o.Good() > 0
}

func (b *Bucket) mergeSums(o *Bucket) {
	b.Min, b.Max = min(b.Min, o.Min), max(b.Max, o.Max)
	b.Sum += o.Sum
	b.Sin, b.Cos = b.Sin+o.Sin, b.Cos+o.Cos
	if o.FirstT < b.FirstT {
		b.First, b.FirstT, b.FirstS = o.First, o.FirstT, o.FirstS
	}
	if o.LastT >= b.LastT {
		b.Last, b.LastT, b.LastS = o.Last, o.LastT, o.LastS
	}
}

// Mean is the mean of the bucket's numbers, rounded to [devices.Digits], of
// directions the circular one. There is none where no reading was in range, or
// where directions cancel each other out.
func (b *Bucket) Mean() (mean float64, ok bool) {
	switch {
	case b.Good() == 0:
		return 0, false
	case b.Nature.Direction():
		return b.direction()
	}
	return min(b.Max, max(b.Min, devices.Round(b.Sum/float64(b.Good())))), true
}

// convert turns the values into another unit of the same quantity.
func (b *Bucket) convert(from, to string) bool {
	ok := true
	conv := func(v float64) float64 {
		c, can := devices.ConvertUnit(v, from, to)
		ok = ok && can
		return c
	}
	if b.Good() == 0 {
		conv(0)
		return ok
	}
	n := float64(b.Good())
	b.Sum = conv(b.Sum/n) * n
	b.Min, b.Max, b.First, b.Last = conv(b.Min), conv(b.Max), conv(b.First), conv(b.Last)
	if b.Nature == Meter {
		zero := conv(0)
		b.Rise = conv(b.Rise) - zero
		b.Head, b.Tail = conv(b.Head), conv(b.Tail)
	}
	if b.Nature.Direction() {
		b.Nature = natureOf(to, false)
	}
	return ok
}

// Become makes the bucket one of another nature, as far as can be told from
// what was kept of it: the series was declared otherwise when it was rolled up.
func (b *Bucket) Become(n Nature) {
	was := b.Nature
	b.Nature = n
	switch {
	case was == n || b.Good() == 0:
	case n == Meter:
		b.AssumeMeter(0, false)
	case n.Direction() && !was.Direction():
		b.assumeDirection()
	}
}

// Roll appends the buckets of readings in rising time to dst, which it may
// already have begun.
func Roll(dst []Bucket, ps []Point, step int64, n Nature) []Bucket {
	end := int64(-1)
	if n := len(dst); n > 0 {
		end = dst[n-1].T + step
	}
	for i := range ps {
		if p := &ps[i]; p.T >= end {
			dst = append(dst, Bucket{T: p.T - p.T%step, Nature: n})
			end = dst[len(dst)-1].T + step
		}
		dst[len(dst)-1].Add(&ps[i])
	}
	return dst
}
