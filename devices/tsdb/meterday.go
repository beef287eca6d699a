package tsdb

import (
	"encoding/binary"

	"devicehub/devices/readings"
)

// What a meter counts in a time depends on its mark at the beginning, the
// greatest reading since its last reset, and that may be years back. So that it
// need not be looked for among all readings, and not among the roll-ups of each
// day either, there is, besides those, one value for 256 days of a meter:
//
//	version 0x91 | day…
//	day: number within the 256, from the one before | flags: 1 a reset, 2 no reading in range |
//	     unless there is none: ms into the day of the first, and from it to the last |
//	     exponent + 1 or 0 | first (zigzag), last, head and tail less first (zigzag), scaled,
//	     or all four raw | rise raw, if there was a reset
//
// A day is written whenever its roll-ups are; of two in one value, which the
// merge operator puts together, the later one stands. Days that have no roll-ups,
// or whose roll-ups are stale, are added up from their readings instead.
const (
	meterVersion = 0x91
	meterDays    = 256
	meterReset   = 1
	meterNone    = 2
)

func meterKey(day, series uint32) []byte { return chunkKey(nil, classMeter, day/meterDays, series) }

// meterDay is what a meter came to on one day, as readings.Bucket has it.
type meterDay struct {
	day                           uint32 // of a value that is read, within the block
	flags                         byte
	firstT, lastT                 int64 // ms into the day
	first, last, head, tail, rise float64
}

func meterDayOf(day uint32, b *readings.Bucket) meterDay {
	start := dayStart(day)
	d := meterDay{day: day, firstT: b.FirstT - start, lastT: b.LastT - start,
		first: b.First, last: b.Last, head: b.Head, tail: b.Tail, rise: b.Rise}
	switch {
	case b.Good() == 0:
		d.flags = meterNone
	case b.Reset:
		d.flags = meterReset
	}
	return d
}

// bucket is the day as a bucket, of which nothing else is known.
func (d *meterDay) bucket() readings.Bucket {
	t := dayStart(d.day)
	b := readings.Bucket{T: t, Nature: readings.Meter}
	if d.flags != meterNone {
		b.Count, b.Reset, b.FirstT, b.LastT = 1, d.flags == meterReset, t+d.firstT, t+d.lastT
		b.First, b.Last, b.Head, b.Tail, b.Rise = d.first, d.last, d.head, d.tail, d.rise
	}
	return b
}

// fold is what buckets, in rising time, are together.
func fold(bs []readings.Bucket) readings.Bucket {
	sum := readings.Bucket{Nature: readings.Meter}
	for i := range bs {
		sum.Merge(&bs[i])
	}
	return sum
}

// appendMeterDay appends a value of one day, which has the buckets.
func appendMeterDay(b []byte, day uint32, bs []readings.Bucket) []byte {
	sum := fold(bs)
	d := meterDayOf(day, &sum)
	b = append(b, meterVersion)
	b = binary.AppendUvarint(b, uint64(day%meterDays))
	b = append(b, d.flags)
	if d.flags == meterNone { // it takes the place of what the day had before
		return b
	}
	b = binary.AppendUvarint(b, uint64(d.firstT))
	b = binary.AppendUvarint(b, uint64(d.lastT-d.firstT))
	vs := [...]float64{d.first, d.last, d.head, d.tail}
	if e, ok := exponent(vs[:]); ok {
		first, _ := scale(d.first, e)
		b = append(b, byte(e+1))
		b = appendInt(b, first)
		for _, v := range vs[1:] {
			n, _ := scale(v, e)
			b = appendInt(b, n-first)
		}
	} else {
		b = append(b, 0)
		for _, v := range vs {
			b = appendFloat(b, v)
		}
	}
	if d.flags == meterReset {
		b = appendFloat(b, d.rise)
	}
	return b
}

// eachMeterDay calls f with the days of a value and the bytes of each behind its
// number.
func eachMeterDay(b []byte, f func(d *meterDay, body []byte)) error {
	c := cursor{b: b}
	if c.byte() != meterVersion {
		return errCorrupt
	}
	var d meterDay
	for at := int64(-1); len(c.b) > 0; {
		skip := c.uint()
		if skip >= meterDays {
			return errCorrupt
		}
		if at += 1 + int64(skip); at >= meterDays {
			return errCorrupt
		}
		body := c.b
		d = meterDay{day: uint32(at)}
		if err := d.read(&c); err != nil {
			return err
		}
		f(&d, body[:len(body)-len(c.b)])
	}
	return c.err
}

// read reads a day behind its number.
func (d *meterDay) read(c *cursor) error {
	d.flags = c.byte()
	if d.flags > meterNone || c.err != nil {
		return errCorrupt
	}
	if d.flags == meterNone {
		return nil
	}
	first, more := c.uint(), c.uint()
	if first >= dayMS || more >= dayMS || first+more >= dayMS {
		return errCorrupt
	}
	d.firstT, d.lastT = int64(first), int64(first+more)
	if e := c.byte(); e > 0 && e <= maxExp+1 {
		by := pow10[e-1]
		first := c.int()
		d.first = float64(first) / by
		d.last, d.head, d.tail = float64(first+c.int())/by, float64(first+c.int())/by, float64(first+c.int())/by
	} else if e == 0 {
		d.first, d.last, d.head, d.tail = c.float(), c.float(), c.float(), c.float()
	} else {
		return errCorrupt
	}
	if d.rise = d.tail - d.first; d.flags == meterReset {
		d.rise = c.float()
	}
	return c.err
}

// mergeMeterDays appends what values, the oldest first, are together: of two of
// one day the later one.
func mergeMeterDays(out []byte, values [][]byte) ([]byte, error) {
	var days [meterDays][]byte
	for _, v := range values {
		if err := eachMeterDay(v, func(d *meterDay, body []byte) { days[d.day] = body }); err != nil {
			return out, err
		}
	}
	out = append(out, meterVersion)
	prev := -1
	for i, body := range days {
		if body != nil {
			out = binary.AppendUvarint(out, uint64(i-prev-1))
			out = append(out, body...)
			prev = i
		}
	}
	return out, nil
}
