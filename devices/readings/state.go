package readings

import (
	"encoding/binary"
	"errors"
	"math"

	"devicehub/devices"
)

// A record's state, as stores keep it: what Apply changes.
//
//	version 1 | applied u64 | boots met | number of series, then each:
//	  number | flags: 1 has a reading, 2 told an interval, 4 has gaps | t | quality | value | interval | gaps seen, the 8 gaps
//	number of windows, then each: boot | number | ack | lost | gaps | too old | how many numbers above ack,
//	  then by turns the length of a run of undecided and of decided ones, from ack + 1
//
// Integers are uvarints, values 8 bytes or a text with its length.
const stateVersion = 1

// ErrState is returned for bytes that AppendState has not written.
var ErrState = errors.New("readings: damaged state of a device")

const (
	stateHas = 1 << iota
	stateTold
	stateGaps
)

// AppendState appends the record's state.
func (r *Record) AppendState(b []byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	b = append(b, stateVersion)
	b = binary.LittleEndian.AppendUint64(b, r.applied)
	b = binary.AppendUvarint(b, uint64(r.booted))
	n := 0
	for _, s := range r.series {
		if s.has {
			n++
		}
	}
	b = binary.AppendUvarint(b, uint64(n))
	for _, s := range r.series {
		if s.has {
			b = s.appendState(b)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(r.boots)))
	for i := range r.boots {
		b = r.boots[i].appendState(b)
	}
	return b
}

func (s *Series) appendState(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(s.ID))
	flags := byte(stateHas)
	if s.interval > 0 {
		flags |= stateTold
	}
	if s.gapped > 0 {
		flags |= stateGaps
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(s.last.T))
	b = binary.AppendUvarint(b, uint64(s.last.Q))
	if s.Type == devices.TypeFloat || s.Type == devices.TypeBool {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.last.F))
	} else {
		b = appendText(b, s.last.S)
	}
	if s.interval > 0 {
		b = binary.AppendUvarint(b, uint64(s.interval))
	}
	if s.gapped > 0 {
		b = binary.AppendUvarint(b, uint64(s.gapped))
		for _, g := range s.gaps {
			b = binary.AppendUvarint(b, uint64(g))
		}
	}
	return b
}

func (w *Window) appendState(b []byte) []byte {
	b = appendText(b, w.Boot)
	b = binary.AppendUvarint(b, uint64(w.Num))
	b = binary.AppendUvarint(b, uint64(w.Ack))
	b = binary.AppendUvarint(b, uint64(w.Lost))
	b = appendRanges(b, w.Gaps)
	b = appendRanges(b, w.TooOld)
	b = binary.AppendUvarint(b, uint64(w.n))
	for s, left := int64(1), w.n; left > 0; s++ {
		from := s
		for !w.above(s) {
			s++
		}
		b = binary.AppendUvarint(b, uint64(s-from))
		for from = s; s <= WindowSize && w.above(s); s++ {
			left--
		}
		b = binary.AppendUvarint(b, uint64(s-from))
	}
	return b
}

// above reports whether the number d above Ack is decided.
func (w *Window) above(d int64) bool {
	s := w.Ack + d
	return w.bits[s/64%(WindowSize/64)]&(1<<(s%64)) != 0
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendRanges(b []byte, rs []Range) []byte {
	b = binary.AppendUvarint(b, uint64(len(rs)))
	for _, r := range rs {
		b = binary.AppendUvarint(b, uint64(r.First))
		b = binary.AppendUvarint(b, uint64(r.Last-r.First))
	}
	return b
}

// stateReader reads uvarints; bad sticks.
type stateReader struct {
	b   []byte
	bad bool
}

func (r *stateReader) uint() uint64 {
	u, k := binary.Uvarint(r.b)
	if k <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[k:]
	return u
}

// count is a number of things of which each takes a byte or more.
func (r *stateReader) count(most int) int {
	n := r.uint()
	if n > uint64(most) || n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *stateReader) bytes(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	x := r.b[:n]
	r.b = r.b[n:]
	return x
}

func (r *stateReader) text() string { return string(r.bytes(r.count(len(r.b)))) }

func (r *stateReader) ranges() []Range {
	rs := make([]Range, r.count(maxRanges))
	for i := range rs {
		rs[i].First = int64(r.uint())
		rs[i].Last = rs[i].First + int64(r.uint())
	}
	return rs
}

// LoadState puts back what AppendState wrote. The record's series have been
// restored before. It returns ErrState for anything else.
func (b *Book) LoadState(r *Record, state []byte) error {
	in := stateReader{b: state}
	if v := in.bytes(1); v[0] != stateVersion {
		return ErrState
	}
	applied := binary.LittleEndian.Uint64(in.bytes(8))
	booted := uint32(in.uint())
	for n := in.count(math.MaxInt32); n > 0; n-- {
		s := b.Series(uint32(in.uint()))
		if s == nil || s.Rec != r {
			return ErrState
		}
		r.mu.Lock()
		s.loadState(&in)
		r.mu.Unlock()
	}
	boots := make([]Window, in.count(MaxBoots))
	for i := range boots {
		boots[i].loadState(&in)
	}
	if in.bad || len(in.b) > 0 {
		return ErrState
	}
	r.mu.Lock()
	r.applied, r.booted, r.boots = applied, booted, boots
	r.mu.Unlock()
	return nil
}

func (s *Series) loadState(in *stateReader) {
	flags := in.bytes(1)[0]
	s.has = flags&stateHas != 0
	s.last = Point{T: int64(in.uint()), Q: Quality(in.uint())}
	if s.Type == devices.TypeFloat || s.Type == devices.TypeBool {
		s.last.F = math.Float64frombits(binary.LittleEndian.Uint64(in.bytes(8)))
	} else {
		s.last.S = in.text()
	}
	if flags&stateTold != 0 {
		s.interval = int64(in.uint())
	}
	if flags&stateGaps != 0 {
		s.gapped = uint32(in.uint())
		for i := range s.gaps {
			s.gaps[i] = uint32(in.uint())
		}
	}
}

func (w *Window) loadState(in *stateReader) {
	w.Boot = in.text()
	w.Num = uint32(in.uint())
	w.Ack = int64(in.uint())
	w.Lost = int64(in.uint())
	w.Gaps = in.ranges()
	w.TooOld = in.ranges()
	n := in.uint()
	if n == 0 {
		return
	}
	w.bits = make([]uint64, WindowSize/64)
	for d := uint64(1); n > 0; d++ { // the number behind a run is not in the next
		d += in.uint()
		run := in.uint()
		if run == 0 || run > n || d+run > WindowSize+1 || d == 0 {
			in.bad = true
			return
		}
		for end := d + run; d < end; d++ {
			s := w.Ack + int64(d)
			w.bits[s/64%(WindowSize/64)] |= 1 << (s % 64)
			w.n++
		}
		n -= run
	}
}
