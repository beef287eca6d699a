package tsdb

import (
	"cmp"
	"encoding/binary"
	"slices"

	"devicehub/devices/readings"
)

// A roll-up value is the buckets of one tier, series and day:
//
//	version 0x82 | kind | nature | step | bucket…
//	bucket: start / step within the day, from the one before | flags | count | out of range, if flagged |
//	        unless all were: ms from the start to first and last, and
//	        floats and bools: exponent + 1 or 0 | min (zigzag), max, first and last less min, scaled,
//	          or all four raw | sum raw, of directions the sums of sines and of cosines instead |
//	          of a meter with a reset: head, tail and rise raw
//	        texts: first, last
//
// The tier is the key's. The version byte differs from a chunk's, so that the
// merge operator can tell them apart. Version 0x81, read and no longer written,
// has no nature, flags nor counts of what was out of range (such readings are in
// its sums), and after the sum: 1, delta raw or 0, where every fall of a meter
// was taken for a reset.
const (
	rollupVersion = 0x82
	rollupFirst   = 0x81

	rollupOut   = 1 // some were out of range
	rollupReset = 2
)

// rollups are the buckets of a value.
type rollups struct {
	kind    byte
	nature  readings.Nature
	step    int64
	buckets []readings.Bucket
	first   bool // of the first version
}

func appendRollups(b []byte, kind byte, nature readings.Nature, bs []readings.Bucket, step int64) []byte {
	b = append(b, rollupVersion, kind, byte(nature))
	b = binary.AppendUvarint(b, uint64(step))
	prev := int64(-1)
	for i := range bs {
		k := &bs[i]
		at := k.T % dayMS / step
		b = binary.AppendUvarint(b, uint64(at-prev-1))
		prev = at
		flags := byte(0)
		if k.Out > 0 {
			flags |= rollupOut
		}
		if nature == readings.Meter && k.Reset {
			flags |= rollupReset
		}
		b = append(b, flags)
		b = binary.AppendUvarint(b, uint64(k.Count))
		if k.Out > 0 {
			b = binary.AppendUvarint(b, uint64(k.Out))
		}
		if k.Good() == 0 {
			continue
		}
		b = binary.AppendUvarint(b, uint64(k.FirstT-k.T))
		b = binary.AppendUvarint(b, uint64(k.LastT-k.T))
		if kind >= kindString {
			b = appendStr(appendStr(b, k.FirstS), k.LastS)
			continue
		}
		b = appendNumbers(b, nature, k)
	}
	return b
}

func appendNumbers(b []byte, nature readings.Nature, k *readings.Bucket) []byte {
	vs := [...]float64{k.Min, k.Max, k.First, k.Last}
	if e, ok := exponent(vs[:]); ok {
		low, _ := scale(k.Min, e)
		b = append(b, byte(e+1))
		b = appendInt(b, low)
		for _, v := range vs[1:] {
			i, _ := scale(v, e)
			b = binary.AppendUvarint(b, uint64(i-low))
		}
	} else {
		b = append(b, 0)
		for _, v := range vs {
			b = appendFloat(b, v)
		}
	}
	switch {
	case nature.Direction():
		return appendFloat(appendFloat(b, k.Sin), k.Cos)
	case nature == readings.Meter && k.Reset:
		return appendFloat(appendFloat(appendFloat(appendFloat(b, k.Sum), k.Head), k.Tail), k.Rise)
	}
	return appendFloat(b, k.Sum)
}

// decodeRollups reads the buckets of a day, behind those in dst.
func decodeRollups(dst []readings.Bucket, b []byte, day int64) (r rollups, err error) {
	r.buckets = dst
	c := cursor{b: b}
	switch c.byte() {
	case rollupVersion:
		r.kind, r.nature = c.byte(), readings.Nature(c.byte())
	case rollupFirst:
		r.kind, r.first = c.byte(), true
		if r.kind == kindFloat {
			r.nature = readings.Meter // what it kept of every float
		}
	default:
		return r, errCorrupt
	}
	r.step = int64(c.uint())
	known := r.kind <= kindEnum && r.nature <= readings.Radians && (r.kind == kindFloat || r.nature == readings.Plain)
	if c.err != nil || !known || r.step < 1000 || r.step > dayMS {
		return r, errCorrupt
	}
	at := int64(-1)
	for len(c.b) > 0 {
		skip := c.uint()
		if skip > dayMS {
			return r, errCorrupt
		}
		at += 1 + int64(skip)
		k := readings.Bucket{T: day + at*r.step, Nature: r.nature}
		if at*r.step >= dayMS || !r.read(&c, &k) {
			return r, errCorrupt
		}
		r.buckets = append(r.buckets, k)
	}
	return r, nil
}

// read reads one bucket behind its start.
func (r *rollups) read(c *cursor, k *readings.Bucket) bool {
	flags := byte(0)
	if !r.first {
		flags = c.byte()
	}
	k.Count = int64(c.uint())
	if flags&rollupOut != 0 {
		k.Out = int64(c.uint())
	}
	if c.err != nil || k.Count <= 0 || k.Out < 0 || k.Out > k.Count {
		return false
	}
	if k.Good() == 0 {
		return true
	}
	first, last := c.uint(), c.uint()
	if first > last || last >= uint64(r.step) {
		return false
	}
	k.FirstT, k.LastT = k.T+int64(first), k.T+int64(last)
	if r.kind >= kindString {
		k.FirstS, k.LastS = c.str(), c.str()
		return c.err == nil
	}
	readValues4(c, k)
	switch {
	case r.first:
		k.Sum = c.float()
		delta := 0.0
		if c.byte() != 0 {
			delta = c.float()
		}
		if r.nature == readings.Meter {
			k.AssumeMeter(delta, true)
		}
	case r.nature.Direction():
		k.Sin, k.Cos = c.float(), c.float()
	default:
		k.Sum = c.float()
		if k.Reset = flags&rollupReset != 0; k.Reset {
			k.Head, k.Tail, k.Rise = c.float(), c.float(), c.float()
		} else if r.nature == readings.Meter {
			k.Head, k.Tail, k.Rise = k.Max, k.Max, k.Max-k.First
		}
	}
	return c.err == nil
}

// readValues4 reads min, max, first and last.
func readValues4(c *cursor, k *readings.Bucket) {
	if e := c.byte(); e > 0 && e <= maxExp+1 {
		by := pow10[e-1]
		low := c.int()
		k.Min = float64(low) / by
		k.Max = float64(low+int64(c.uint())) / by
		k.First = float64(low+int64(c.uint())) / by
		k.Last = float64(low+int64(c.uint())) / by
	} else if e == 0 {
		k.Min, k.Max, k.First, k.Last = c.float(), c.float(), c.float(), c.float()
	} else {
		c.fail()
	}
}

// mergeRollups appends what values, the oldest first, are together: the buckets
// of the same start become one.
func mergeRollups(out []byte, values [][]byte) ([]byte, error) {
	var all []readings.Bucket
	var sum rollups
	for i, v := range values {
		r, err := decodeRollups(nil, v, 0)
		if err != nil || i > 0 && (r.kind != sum.kind || r.step != sum.step) {
			return out, errCorrupt
		}
		if i == 0 || sum.first && !r.first { // one of the first version does not know its nature
			sum = r
			for j := range all {
				all[j].Become(r.nature)
			}
		}
		for j := range r.buckets {
			k := &r.buckets[j]
			k.Become(sum.nature)
			n, found := slices.BinarySearchFunc(all, k.T, func(b readings.Bucket, t int64) int {
				return cmp.Compare(b.T, t)
			})
			if found {
				all[n].Merge(k)
			} else {
				all = slices.Insert(all, n, *k)
			}
		}
	}
	return appendRollups(out, sum.kind, sum.nature, all, sum.step), nil
}
