package tsdb

import (
	"cmp"
	"encoding/binary"
	"slices"

	"devicehub/devices/readings"
)

// A roll-up value is the buckets of one tier, series and day:
//
//	version 0x81 | kind | bucket…
//	bucket: start / step within the day, from the one before | count | ms from the start to first and last |
//	        floats and bools: exponent + 1 or 0 | min (zigzag), max, first and last less min, scaled, or all four raw | sum raw | 1, delta raw or 0
//	        texts: first, last
//
// The tier is the key's. The version byte differs from a chunk's, so that the
// merge operator can tell them apart.
const rollupVersion = 0x81

func appendRollups(b []byte, kind byte, bs []readings.Bucket, step int64) []byte {
	b = append(b, rollupVersion, kind)
	b = binary.AppendUvarint(b, uint64(step))
	prev := int64(-1)
	for i := range bs {
		k := &bs[i]
		at := k.T % dayMS / step
		b = binary.AppendUvarint(b, uint64(at-prev-1))
		prev = at
		b = binary.AppendUvarint(b, uint64(k.Count))
		b = binary.AppendUvarint(b, uint64(k.FirstT-k.T))
		b = binary.AppendUvarint(b, uint64(k.LastT-k.T))
		if kind >= kindString {
			b = appendStr(appendStr(b, k.FirstS), k.LastS)
			continue
		}
		b = appendNumbers(b, k)
	}
	return b
}

func appendNumbers(b []byte, k *readings.Bucket) []byte {
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
	b = appendFloat(b, k.Sum)
	if k.Delta == 0 {
		return append(b, 0)
	}
	return appendFloat(append(b, 1), k.Delta)
}

// decodeRollups reads the buckets of a day.
func decodeRollups(dst []readings.Bucket, b []byte, day int64) (kind byte, step int64, _ []readings.Bucket, err error) {
	c := cursor{b: b}
	if c.byte() != rollupVersion {
		return 0, 0, dst, errCorrupt
	}
	kind = c.byte()
	step = int64(c.uint())
	if c.err != nil || kind > kindEnum || step < 1000 || step > dayMS {
		return 0, 0, dst, errCorrupt
	}
	at := int64(-1)
	for len(c.b) > 0 {
		skip := c.uint()
		if skip > dayMS {
			return 0, 0, dst, errCorrupt
		}
		at += 1 + int64(skip)
		k := readings.Bucket{T: day + at*step, Count: int64(c.uint())}
		first, last := c.uint(), c.uint()
		if at*step >= dayMS || k.Count <= 0 || first > last || last >= uint64(step) {
			return 0, 0, dst, errCorrupt
		}
		k.FirstT, k.LastT = k.T+int64(first), k.T+int64(last)
		if kind >= kindString {
			k.FirstS, k.LastS = c.str(), c.str()
		} else {
			readNumbers(&c, &k)
		}
		if c.err != nil {
			return 0, 0, dst, c.err
		}
		dst = append(dst, k)
	}
	return kind, step, dst, nil
}

func readNumbers(c *cursor, k *readings.Bucket) {
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
	k.Sum = c.float()
	if c.byte() != 0 {
		k.Delta = c.float()
	}
}

// mergeRollups appends what values, the oldest first, are together: the buckets
// of the same start become one.
func mergeRollups(out []byte, values [][]byte) ([]byte, error) {
	var all []readings.Bucket
	var kind byte
	var step int64
	for i, v := range values {
		k, s, bs, err := decodeRollups(nil, v, 0)
		if err != nil || i > 0 && (k != kind || s != step) {
			return out, errCorrupt
		}
		kind, step = k, s
		for j := range bs {
			n, found := slices.BinarySearchFunc(all, bs[j].T, func(b readings.Bucket, t int64) int { return cmp.Compare(b.T, t) })
			if found {
				all[n].Merge(&bs[j])
			} else {
				all = slices.Insert(all, n, bs[j])
			}
		}
	}
	return appendRollups(out, kind, all, step), nil
}
