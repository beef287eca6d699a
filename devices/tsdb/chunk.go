package tsdb

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"

	"devicehub/devices"
	"devicehub/devices/readings"
	"devicehub/hub/poison"
)

// A chunk is the readings of one series of one day, UTC, in rising time:
//
//	version 1 | kind | block…
//	block: length uvarint of what follows | n uvarint | ms into the day of the first | ms from first to last | flags | body
//
// Blocks do not overlap and hold at most blockMax readings, so that a chunk is
// read, and merged, by the blocks that matter. Flags: 1 qualities are there, 2
// floats are XORed. The body is the time steps (the first, then the change of
// each against the one before, appendInts), the qualities as runs, and the
// values: floats as integers of a power of ten (its exponent, then the steps,
// appendInts) or as bytes that differ from the value before; bools as bits;
// texts as a dictionary and numbers into it, the whole through zstd where that
// is shorter (flag 4).
const (
	chunkVersion = 1
	blockMax     = 512

	flagQuality = 1
	flagXOR     = 2
	flagZstd    = 4
)

// The kinds of values, on disk.
const (
	kindFloat byte = iota
	kindBool
	kindString
	kindEnum
)

const dayMS = 24 * 3600 * 1000

func kindOf(t devices.ValueType) byte {
	switch t {
	case devices.TypeBool:
		return kindBool
	case devices.TypeString:
		return kindString
	case devices.TypeEnum:
		return kindEnum
	}
	return kindFloat
}

func typeOf(k byte) (devices.ValueType, bool) {
	switch k {
	case kindFloat:
		return devices.TypeFloat, true
	case kindBool:
		return devices.TypeBool, true
	case kindString:
		return devices.TypeString, true
	case kindEnum:
		return devices.TypeEnum, true
	}
	return "", false
}

// block is one block of a chunk, not yet decoded. Times are ms into the day.
type block struct {
	n           int
	first, last int64
	flags       byte
	body        []byte
	raw         []byte // with its length
}

// coder encodes and decodes chunks. It keeps scratch space: one goroutine at a
// time.
type coder struct {
	zip    *zipper
	points []readings.Point // the caller's
	blocks []block
	ranked []ranked
	ints   []int64
	floats []float64
	text   []byte
	meter  []meterDay
}

// forget lets go of what the coder was used for.
func (c *coder) forget() {
	clear(c.blocks)
	clear(c.ranked)
	if poison.On {
		gone := block{raw: []byte(poison.Text), body: []byte(poison.Text)}
		poison.Fill(c.points, readings.Point{T: -1, F: math.NaN(), S: poison.Text})
		poison.Fill(c.blocks, gone)
		poison.Fill(c.ranked, ranked{block: gone})
		poison.Fill(c.ints, -1)
		poison.Fill(c.floats, math.NaN())
		poison.Bytes(c.text)
	}
}

// appendChunk appends a chunk of readings of one day, in rising time, no two
// of the same.
func (c *coder) appendChunk(b []byte, kind byte, ps []readings.Point) []byte {
	b = append(b, chunkVersion, kind)
	return c.appendBlocks(b, kind, ps)
}

func (c *coder) appendBlocks(b []byte, kind byte, ps []readings.Point) []byte {
	for len(ps) > 0 {
		n := min(len(ps), blockMax)
		b = c.appendBlock(b, kind, ps[:n])
		ps = ps[n:]
	}
	return b
}

func (c *coder) appendBlock(b []byte, kind byte, ps []readings.Point) []byte {
	first, last := ps[0].T%dayMS, ps[len(ps)-1].T%dayMS
	var head [32]byte
	h := binary.AppendUvarint(head[:0], uint64(len(ps)))
	h = binary.AppendUvarint(h, uint64(first))
	h = binary.AppendUvarint(h, uint64(last-first))

	flags := byte(0)
	body := c.text[:0]
	c.ints = c.ints[:0]
	step := int64(0)
	for i := 1; i < len(ps); i++ {
		d := ps[i].T - ps[i-1].T
		c.ints = append(c.ints, d-step)
		step = d
	}
	body = appendInts(body, c.ints)
	for i := range ps {
		if ps[i].Q != 0 {
			flags |= flagQuality
			break
		}
	}
	if flags&flagQuality != 0 {
		body = appendQualities(body, ps)
	}
	var f byte
	body, f = c.appendValues(body, kind, ps)
	flags |= f
	if kind >= kindString {
		if z := c.zip.compress(body); len(z) < len(body) {
			flags |= flagZstd
			body = z
		}
	}
	c.text = body[:0]
	h = append(h, flags)
	b = binary.AppendUvarint(b, uint64(len(h)+len(body)))
	b = append(b, h...)
	return append(b, body...)
}

// appendQualities writes runs: length, quality.
func appendQualities(b []byte, ps []readings.Point) []byte {
	for i := 0; i < len(ps); {
		j := i + 1
		for j < len(ps) && ps[j].Q == ps[i].Q {
			j++
		}
		b = binary.AppendUvarint(b, uint64(j-i))
		b = binary.AppendUvarint(b, uint64(ps[i].Q))
		i = j
	}
	return b
}

func (c *coder) appendValues(b []byte, kind byte, ps []readings.Point) ([]byte, byte) {
	switch kind {
	case kindFloat:
		return c.appendFloats(b, ps)
	case kindBool:
		at := len(b)
		b = append(b, make([]byte, (len(ps)+7)/8)...)
		for i := range ps {
			if ps[i].F != 0 {
				b[at+i/8] |= 1 << (i % 8)
			}
		}
		return b, 0
	}
	var dict []string
	c.ints = c.ints[:0]
	number := map[string]int64{}
	for i := range ps {
		k, ok := number[ps[i].S]
		if !ok {
			k = int64(len(dict))
			number[ps[i].S] = k
			dict = append(dict, ps[i].S)
		}
		c.ints = append(c.ints, k)
	}
	b = binary.AppendUvarint(b, uint64(len(dict)))
	for _, s := range dict {
		b = appendStr(b, s)
	}
	return appendInts(b, c.ints), 0
}

func (c *coder) appendFloats(b []byte, ps []readings.Point) ([]byte, byte) {
	c.floats = c.floats[:0]
	for i := range ps {
		c.floats = append(c.floats, ps[i].F)
	}
	e, ok := exponent(c.floats)
	if !ok {
		return appendXOR(b, c.floats), flagXOR
	}
	c.ints = c.ints[:0]
	prev := int64(0)
	for _, f := range c.floats {
		v, _ := scale(f, e)
		c.ints = append(c.ints, v-prev)
		prev = v
	}
	b = append(b, byte(e))
	return appendInts(b, c.ints), 0
}

// appendXOR writes each value as those bytes that differ from the one before:
// a byte with the numbers of zero bytes at either end, then what lies between.
func appendXOR(b []byte, fs []float64) []byte {
	prev := uint64(0)
	for _, f := range fs {
		u := math.Float64bits(f)
		x := u ^ prev
		prev = u
		if x == 0 {
			b = append(b, 0x80)
			continue
		}
		lead, trail := bits.LeadingZeros64(x)/8, bits.TrailingZeros64(x)/8
		b = append(b, byte(lead<<4|trail))
		x >>= 8 * trail
		for i := 0; i < 8-lead-trail; i++ {
			b = append(b, byte(x>>(8*i)))
		}
	}
	return b
}

func readXOR(b []byte, fs []float64) ([]byte, error) {
	prev := uint64(0)
	for i := range fs {
		if len(b) == 0 {
			return nil, errCorrupt
		}
		head := b[0]
		b = b[1:]
		if head != 0x80 {
			lead, trail := int(head>>4), int(head&15)
			n := 8 - lead - trail
			if n < 1 || n > len(b) {
				return nil, errCorrupt
			}
			x := uint64(0)
			for k := range n {
				x |= uint64(b[k]) << (8 * k)
			}
			b = b[n:]
			prev ^= x << (8 * trail)
		}
		fs[i] = math.Float64frombits(prev)
	}
	return b, nil
}

// splitChunk lists the blocks of a chunk.
func splitChunk(dst []block, b []byte) (kind byte, _ []block, err error) {
	if len(b) < 2 || b[0] != chunkVersion || b[1] > kindEnum {
		return 0, nil, errCorrupt
	}
	kind = b[1]
	b = b[2:]
	for len(b) > 0 {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return 0, nil, errCorrupt
		}
		raw := b[:k+int(n)]
		c := cursor{b: raw[k:]}
		count, first, length := c.uint(), c.uint(), c.uint()
		flags := c.byte()
		if c.err != nil || count == 0 || count > blockMax || first >= dayMS || length >= dayMS || first+length >= dayMS || count-1 > length {
			return 0, nil, errCorrupt
		}
		dst = append(dst, block{n: int(count), first: int64(first), last: int64(first + length), flags: flags, body: c.b, raw: raw})
		b = b[len(raw):]
	}
	return kind, dst, nil
}

// decode appends the readings of a block; day is where the day begins.
func (c *coder) decode(dst []readings.Point, kind byte, k *block, day int64) ([]readings.Point, error) {
	body := k.body
	if k.flags&flagZstd != 0 {
		var err error
		if body, err = c.zip.expand(body); err != nil {
			return dst, errCorrupt
		}
	}
	n := k.n
	from := len(dst)
	dst = slices.Grow(dst, n)[:from+n]
	ps := dst[from:]
	if cap(c.ints) < blockMax {
		c.ints = make([]int64, blockMax)
	}
	ints := c.ints[:n-1]
	body, err := readInts(body, ints)
	if err != nil {
		return dst[:from], err
	}
	t := day + k.first
	step := int64(0)
	ps[0] = readings.Point{T: t}
	for i, d := range ints {
		step += d
		if step <= 0 {
			return dst[:from], errCorrupt
		}
		t += step
		ps[i+1] = readings.Point{T: t}
	}
	if t != day+k.last {
		return dst[:from], errCorrupt
	}
	if k.flags&flagQuality != 0 {
		if body, err = readQualities(body, ps); err != nil {
			return dst[:from], err
		}
	}
	if err := c.readValues(body, kind, k.flags, ps); err != nil {
		return dst[:from], err
	}
	return dst, nil
}

func readQualities(b []byte, ps []readings.Point) ([]byte, error) {
	c := cursor{b: b}
	for i := 0; i < len(ps); {
		n, q := c.uint(), c.uint()
		if c.err != nil || n == 0 || n > uint64(len(ps)-i) || q > math.MaxUint16 {
			return nil, errCorrupt
		}
		for ; n > 0; n-- {
			ps[i].Q = readings.Quality(q)
			i++
		}
	}
	return c.b, nil
}

func (c *coder) readValues(b []byte, kind, flags byte, ps []readings.Point) error {
	switch {
	case kind == kindFloat && flags&flagXOR != 0:
		if cap(c.floats) < blockMax {
			c.floats = make([]float64, blockMax)
		}
		fs := c.floats[:len(ps)]
		if _, err := readXOR(b, fs); err != nil {
			return err
		}
		for i, f := range fs {
			if f-f != 0 {
				return errCorrupt
			}
			ps[i].F = f
		}
		return nil
	case kind == kindFloat:
		if len(b) == 0 || b[0] > maxExp {
			return errCorrupt
		}
		ints := c.ints[:len(ps)]
		if _, err := readInts(b[1:], ints); err != nil {
			return err
		}
		v, by := int64(0), pow10[b[0]]
		for i, d := range ints {
			v += d
			ps[i].F = float64(v) / by
		}
		return nil
	case kind == kindBool:
		if len(b) < (len(ps)+7)/8 {
			return errCorrupt
		}
		for i := range ps {
			ps[i].F = float64(b[i/8] >> (i % 8) & 1)
		}
		return nil
	}
	cur := cursor{b: b}
	count := cur.uint()
	if count > blockMax {
		return errCorrupt
	}
	dict := make([]string, count)
	for i := range dict {
		dict[i] = cur.str()
	}
	if cur.err != nil {
		return errCorrupt
	}
	ints := c.ints[:len(ps)]
	if _, err := readInts(cur.b, ints); err != nil {
		return err
	}
	for i, k := range ints {
		if k < 0 || k >= int64(len(dict)) {
			return errCorrupt
		}
		ps[i].S = dict[k]
	}
	return nil
}
