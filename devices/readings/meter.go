package readings

// A meter counts what was used, sent or fallen in all: energy, water, gas. Its
// readings only rise, but that it starts again from 0 when it is replaced or
// loses its memory, and that what comes over a noisy line dips now and then. By
// these rules a rise is told from the rest:
//
//   - A reading below 90 % of the one before it is a reset: the meter counts from
//     0 again, and the reading itself is what was used since. (So does Home
//     Assistant.)
//   - Any other reading counts by how much it is above the mark, the greatest
//     reading since the last reset; one at or below the mark counts nothing. So a
//     dip and the way back from it count nothing.
//   - The first reading that there ever was counts nothing. One out of range is
//     passed over.
//
// What each reading counts depends on the readings before it alone, so that the
// sum over a time is the same however it is cut.
//
// A bucket keeps of a meter, so that it can be put together with those beside it
// without the readings: Rise, what its readings count when there is none before
// its first; Reset, whether there is a reset among them; Head, the greatest
// reading before the first reset; Tail, the mark at its end. Without a reset Head
// and Tail are Max, and Rise is Max less First.

// resetBelow is the share of the reading before below which a reading is a
// reset.
const resetBelow = 0.9

// isReset reports whether v, behind last, is a reset.
func isReset(last, v float64) bool {
	if last < 0 { // a tenth of it lower, as well
		return v < last*(2-resetBelow)
	}
	return v < last*resetBelow
}

// addMeter enters a reading behind the others. Last is still the one before it.
func (b *Bucket) addMeter(v float64, first bool) {
	switch {
	case first:
		b.Rise, b.Head, b.Tail, b.Reset = 0, v, v, false
	case isReset(b.Last, v):
		b.Rise += max(0, v)
		b.Tail, b.Reset = v, true
	case v <= b.Tail:
	case b.Reset:
		b.Rise += v - b.Tail
		b.Tail = v
	default:
		b.Rise = v - b.First
		b.Head, b.Tail = v, v
	}
}

// Rose is how much a meter rose over the readings of o, those of b being the
// ones before them. Both may have none.
func (b *Bucket) Rose(o *Bucket) float64 {
	switch {
	case o.Good() == 0:
		return 0
	case b.Good() == 0:
		return o.Rise
	case isReset(b.Last, o.First):
		return max(0, o.First) + o.Rise
	case !o.Reset:
		return max(0, o.Head-b.Tail)
	}
	return o.Rise - (o.Head - o.First) + max(0, o.Head-b.Tail)
}

// mergeMeter enters the readings of o, which has some as b has, into what is
// kept of a meter. The rest of b is still what it was.
func (b *Bucket) mergeMeter(o *Bucket) {
	switch {
	case o.FirstT >= b.LastT:
		b.thenMeter(o)
	case o.LastT <= b.FirstT:
		before := *o
		before.thenMeter(b)
		b.Rise, b.Head, b.Tail, b.Reset = before.Rise, before.Head, before.Tail, before.Reset
	default:
		b.overlapMeter(o)
	}
}

// thenMeter enters readings that all lie behind.
func (b *Bucket) thenMeter(o *Bucket) {
	rose := b.Rose(o)
	fell := isReset(b.Last, o.First)
	if !b.Reset && !fell {
		b.Head = max(b.Head, o.Head)
	}
	if fell || o.Reset {
		b.Tail = o.Tail
	} else {
		b.Tail = max(b.Tail, o.Tail)
	}
	if b.Reset = b.Reset || fell || o.Reset; b.Reset {
		b.Rise += rose
	} else {
		b.Rise = b.Tail - b.First
	}
}

// overlapMeter enters readings that lie between those of b, of which nobody
// knows any more where each of them was: they came late, when only the roll-up
// was left, or under another unit. Where neither has a reset the result is
// exact.
func (b *Bucket) overlapMeter(o *Bucket) {
	switch {
	case !b.Reset && !o.Reset:
		first := b.First
		if o.FirstT < b.FirstT {
			first = o.First
		}
		b.Head = max(b.Head, o.Head)
		b.Tail = b.Head
		b.Rise = b.Head - first
	case !b.Reset:
		b.Rise, b.Head, b.Tail, b.Reset = o.Rise, o.Head, o.Tail, true
	}
}

// AssumeMeter makes up what is kept of a meter for a bucket that was rolled up
// without it. delta is its rise with every fall taken for a reset, if that is
// known.
func (b *Bucket) AssumeMeter(delta float64, known bool) {
	b.Nature = Meter
	b.Head, b.Tail, b.Reset = b.Max, b.Max, false
	b.Rise = b.Max - b.First
	rising := b.First == b.Min && b.Last == b.Max && (!known || delta == 0 || b.near(delta, b.Rise))
	switch {
	case b.Good() == 0:
		b.Rise, b.Head, b.Tail = 0, 0, 0
	case rising || !isReset(b.Max, b.Min): // no reading can have been below 90 % of another
	case known:
		b.Rise, b.Head, b.Tail, b.Reset = delta, b.First, b.Last, true
	default:
		b.Rise += max(0, b.Last)
		b.Tail, b.Reset = b.Last, true
	}
}

// near allows for the noise of a sum of many steps.
func (b *Bucket) near(x, y float64) bool {
	noise := 1e-9 * max(b.Max, -b.Min)
	return x-y <= noise && y-x <= noise
}
