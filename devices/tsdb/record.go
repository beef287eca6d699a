package tsdb

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"math/bits"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// A group in the log is one frame of type frameGroup. Its body is a wall time
// in ms, from which times count, and then, each behind its tag:
//
//	tagDevice    number | id
//	tagSeries    number | number of the device | kind | flags: 1 counter | metric | unit
//	tagPush      length of what follows | number of the device | boot: 0 none, 1 and its number, 2 and its name | when it came (zigzag, from the wall time)
//	             | number of items | item…
//	tagInterval  number of the series | expected interval, ms
//	tagForget    number of the device
//	tagClock     greatest wall time trusted | 1 suspect
//
// An item is a head byte, and by its bits: the number of the series (zigzag,
// from the item before), t (zigzag, from the item before, the first from when
// the push came), quality, sequence number (zigzag, from the one after the item
// before), value. The intervals of a push stand before it. Integers are
// uvarints.
const (
	frameGroup = 1

	tagDevice   = 1
	tagSeries   = 2
	tagPush     = 3
	tagInterval = 4
	tagForget   = 5
	tagClock    = 6

	itemRefused = 1 << 0 // a number decided without a reading: neither series, t nor value
	itemTooOld  = 1 << 1 // of a refused one
	itemQuality = 1 << 2
	itemSeq     = 1 << 3 // given; else one more than before, or none
	itemNoSeq   = 1 << 4
	itemDecimal = 1 << 5 // the float is a byte, the power of ten, and a zigzag integer
	itemTrue    = 1 << 6 // the bool

	bootNone = 0
	bootNum  = 1
	bootName = 2
)

// groupWriter appends groups to a frame. known tells which numbers are in the
// log or the tables already.
type groupWriter struct {
	known    *known
	push     []byte // scratch
	newDev   []*readings.Record
	newSer   []*readings.Series
	misnamed bool // a series is, and the group must not be written
}

// known are the records and series, by number, that are defined durably.
type known struct {
	devs, series bitset
}

type bitset []uint64

func (s bitset) has(n uint32) bool {
	return int(n/64) < len(s) && s[n/64]&(1<<(n%64)) != 0
}

func (s *bitset) add(n uint32) {
	for int(n/64) >= len(*s) {
		*s = append(*s, make([]uint64, 1+len(*s))...)
	}
	(*s)[n/64] |= 1 << (n % 64)
}

// all yields the numbers in rising order.
func (s bitset) all() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for i, word := range s {
			for ; word != 0; word &= word - 1 {
				if !yield(uint32(64*i + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

func (s bitset) remove(n uint32) {
	if int(n/64) < len(s) {
		s[n/64] &^= 1 << (n % 64)
	}
}

// undo forgets what the last group would have defined: it was not written.
func (w *groupWriter) undo() {
	for _, r := range w.newDev {
		w.known.devs.remove(r.Num)
	}
	for _, x := range w.newSer {
		w.known.series.remove(x.ID)
	}
}

// appendGroup appends the body of a group's frame.
func (w *groupWriter) appendGroup(b []byte, g *readings.Group, wall int64) []byte {
	b = binary.AppendUvarint(b, uint64(wall))
	if g.Clock != nil {
		b = append(b, tagClock)
		b = binary.AppendUvarint(b, uint64(g.Clock.Wall))
		if g.Clock.Suspect {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	for _, e := range g.Entries {
		before := len(b)
		b = w.appendEntry(b, e, wall)
		e.Bytes = len(b) - before
	}
	return b
}

func (w *groupWriter) appendEntry(b []byte, e *readings.Entry, wall int64) []byte {
	if !w.known.devs.has(e.Rec.Num) {
		w.known.devs.add(e.Rec.Num)
		w.newDev = append(w.newDev, e.Rec)
		b = append(b, tagDevice)
		b = binary.AppendUvarint(b, uint64(e.Rec.Num))
		b = appendStr(b, string(e.Rec.ID))
	}
	if e.Forget {
		b = append(b, tagForget)
		return binary.AppendUvarint(b, uint64(e.Rec.Num))
	}
	for i := range e.Items {
		s := e.Items[i].S
		if s == nil {
			continue
		}
		w.misnamed = w.misnamed || s.Aside()
		if !w.known.series.has(s.ID) {
			w.misnamed = w.misnamed || s.Misnamed()
			w.known.series.add(s.ID)
			w.newSer = append(w.newSer, s)
			b = append(b, tagSeries)
			b = binary.AppendUvarint(b, uint64(s.ID))
			b = appendSeriesDef(b, s)
		}
	}
	for _, iv := range e.Intervals {
		b = append(b, tagInterval)
		b = binary.AppendUvarint(b, uint64(iv.S.ID))
		b = binary.AppendUvarint(b, uint64(iv.MS))
	}
	p := binary.AppendUvarint(w.push[:0], uint64(e.Rec.Num))
	if e.Boot == "" {
		p = append(p, bootNone)
	} else if n := e.Rec.BootNum(e.Boot); n != 0 {
		p = append(p, bootNum)
		p = binary.AppendUvarint(p, uint64(n))
	} else {
		p = append(p, bootName)
		p = appendStr(p, e.Boot)
	}
	p = appendInt(p, e.At-wall)
	p = binary.AppendUvarint(p, uint64(len(e.Items)))
	p = appendItems(p, e.Items, e.At)
	w.push = p
	b = append(b, tagPush)
	b = binary.AppendUvarint(b, uint64(len(p)))
	return append(b, p...)
}

// appendSeriesDef appends what a series is, behind its number. Of one that was
// dropped the type stays, without which its readings in the log cannot be passed
// over.
func appendSeriesDef(b []byte, s *readings.Series) []byte {
	b = binary.AppendUvarint(b, uint64(s.Rec.Num))
	b = append(b, kindOf(s.Type))
	if s.Counter {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	metric, unit := s.Metric, s.Unit
	if s.Dropped() {
		metric, unit = "", ""
	}
	return appendStr(appendStr(b, metric), unit)
}

func appendItems(b []byte, items []readings.Stored, at int64) []byte {
	t, seq := at, int64(0)
	series := int64(0)
	for i := range items {
		it := &items[i]
		head := byte(0)
		if it.Seq == 0 {
			head |= itemNoSeq
		} else if it.Seq != seq+1 {
			head |= itemSeq
		}
		if it.S == nil {
			head |= itemRefused
			if it.Point.Q&readings.Late != 0 {
				head |= itemTooOld
			}
			b = append(b, head)
			b = appendSeq(b, head, it.Seq, &seq)
			continue
		}
		if it.Point.Q != 0 {
			head |= itemQuality
		}
		var decimal int64
		exp := -1
		switch it.S.Type {
		case devices.TypeFloat:
			if exp = smallExp(it.Point.F, &decimal); exp >= 0 {
				head |= itemDecimal
			}
		case devices.TypeBool:
			if it.Point.F != 0 {
				head |= itemTrue
			}
		}
		b = append(b, head)
		b = appendInt(b, int64(it.S.ID)-series)
		series = int64(it.S.ID)
		b = appendInt(b, it.Point.T-t)
		t = it.Point.T
		if it.Point.Q != 0 {
			b = binary.AppendUvarint(b, uint64(it.Point.Q))
		}
		b = appendSeq(b, head, it.Seq, &seq)
		switch {
		case exp >= 0:
			b = append(b, byte(exp))
			b = appendInt(b, decimal)
		case it.S.Type == devices.TypeFloat:
			b = appendFloat(b, it.Point.F)
		case it.S.Type != devices.TypeBool:
			b = appendStr(b, it.Point.S)
		}
	}
	return b
}

func appendSeq(b []byte, head byte, s int64, seq *int64) []byte {
	if head&itemSeq != 0 {
		b = appendInt(b, s-*seq-1)
	}
	if s > 0 {
		*seq = s
	}
	return b
}

// smallExp finds a short decimal form of v: its power of ten, or −1.
func smallExp(v float64, out *int64) int {
	for e := 0; e <= 4; e++ {
		i, ok := scale(v, e)
		if i > 1<<40 || i < -1<<40 {
			return -1
		}
		if ok {
			*out = i
			return e
		}
	}
	return -1
}

// groupReader puts a group's frame back into entries.
type groupReader struct {
	book *readings.Book
	// known is nil for a reader that only looks: then the book stays as it is,
	// and what it has forgotten is passed over.
	known *known
	clock func(readings.ClockMark) // may be nil
	limit uint32                   // of the numbers of devices and series; 0: maxNumber
}

// maxNumber bounds the numbers of devices and series, so that a damaged one
// does not make a table of its size.
const maxNumber = 1 << 28

func (r *groupReader) mayBe(number uint32) bool {
	return number > 0 && number <= cmp.Or(r.limit, maxNumber)
}

// read calls f for each entry of a frame's body, with its number within the
// frame. Entries of devices that the book does not know are left out, and
// counted.
func (r *groupReader) read(body []byte, f func(i uint64, e *readings.Entry)) error {
	c := cursor{b: body}
	wall := int64(c.uint())
	var told []readings.Interval
	i := uint64(0)
	for len(c.b) > 0 && c.err == nil {
		switch tag := c.byte(); tag {
		case tagDevice:
			num := uint32(c.uint())
			id := devices.ID(c.str())
			if c.err == nil && !r.mayBe(num) {
				return errCorrupt
			}
			if c.err == nil && r.known != nil {
				r.known.devs.add(num)
				r.book.Restore(id, num)
			}
		case tagSeries:
			if err := r.series(uint32(c.uint()), &c); err != nil {
				return err
			}
		case tagInterval:
			s := r.book.Series(uint32(c.uint()))
			if ms := int64(c.uint()); s != nil {
				told = append(told, readings.Interval{S: s, MS: ms})
			}
		case tagForget:
			if rec := r.book.Numbered(uint32(c.uint())); rec != nil && c.err == nil {
				f(i, &readings.Entry{Rec: rec, Forget: true})
			}
			i++
		case tagClock:
			m := readings.ClockMark{Wall: int64(c.uint())}
			m.Suspect = c.byte() != 0
			if c.err == nil && r.clock != nil {
				r.clock(m)
			}
		case tagPush:
			p := cursor{b: c.bytes(c.uint())}
			if c.err != nil {
				break
			}
			e, err := r.push(&p, wall)
			if err != nil {
				return err
			}
			if e != nil {
				e.Intervals = told
				f(i, e)
			}
			told = nil
			i++
		default:
			return fmt.Errorf("%w: tag %d", errCorrupt, tag)
		}
	}
	return c.err
}

// series reads what a series is, and restores it.
func (r *groupReader) series(id uint32, c *cursor) error {
	num := uint32(c.uint())
	typ, ok := typeOf(c.byte())
	counter := c.byte() != 0
	metric, unit := c.str(), c.str()
	if c.err != nil || !ok || !r.mayBe(id) {
		return errCorrupt
	}
	if rec := r.book.Numbered(num); rec != nil && r.known != nil {
		r.book.RestoreSeries(rec, id, metric, typ, unit, counter)
		r.known.series.add(id)
	}
	return nil
}

// push reads one push; nil when its device is not known.
func (r *groupReader) push(c *cursor, wall int64) (*readings.Entry, error) {
	rec := r.book.Numbered(uint32(c.uint()))
	if rec == nil {
		return nil, c.err
	}
	e := &readings.Entry{Rec: rec}
	switch c.byte() {
	case bootNum:
		e.Boot = rec.BootOf(uint32(c.uint()))
	case bootName:
		e.Boot = c.str()
	}
	e.At = wall + c.int()
	n := c.uint()
	if n > uint64(len(c.b)) {
		return nil, errCorrupt
	}
	e.Items = make([]readings.Stored, 0, n)
	t, seq := e.At, int64(0)
	series := int64(0)
	for ; n > 0; n-- {
		head := c.byte()
		var it readings.Stored
		if head&itemRefused == 0 {
			series += c.int()
			t += c.int()
			it.Point.T = t
			if head&itemQuality != 0 {
				it.Point.Q = readings.Quality(c.uint())
			}
		} else if head&itemTooOld != 0 {
			it.Point.Q = readings.Late
		}
		switch {
		case head&itemSeq != 0:
			seq += 1 + c.int()
			it.Seq = seq
		case head&itemNoSeq == 0:
			seq++
			it.Seq = seq
		}
		if head&itemRefused == 0 {
			if it.S = r.book.Series(uint32(series)); it.S == nil || it.S.Rec != rec {
				if r.known == nil { // forgotten meanwhile
					return nil, nil
				}
				return nil, fmt.Errorf("%w: series %d is not defined", errCorrupt, series)
			}
			readValue(c, head, &it)
		}
		if c.err != nil {
			return nil, c.err
		}
		if it.S != nil && it.S.Dropped() {
			continue
		}
		e.Items = append(e.Items, it)
	}
	return e, c.err
}

func readValue(c *cursor, head byte, it *readings.Stored) {
	switch {
	case head&itemDecimal != 0:
		if e := c.byte(); e <= maxExp {
			it.Point.F = float64(c.int()) / pow10[e]
		} else {
			c.fail()
		}
	case it.S.Type == devices.TypeFloat:
		it.Point.F = c.float()
	case it.S.Type == devices.TypeBool:
		if head&itemTrue != 0 {
			it.Point.F = 1
		}
	default:
		it.Point.S = c.str()
	}
}
