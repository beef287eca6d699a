package readings

// WindowSize is how far above its ack a window remembers single numbers: the
// pushes in flight times the readings of a push, rounded up.
const WindowSize = 4096

// maxRanges is how many ranges of each kind a window remembers.
const maxRanges = 16

// Range is the sequence numbers First to Last, both included.
type Range struct{ First, Last int64 }

// Window knows which sequence numbers of one boot of a device are decided.
type Window struct {
	Boot string
	// Num stands for the boot in the store's log: the device's boots are
	// numbered as they are first met.
	Num uint32
	// Ack is the greatest number up to which all are decided or fell out of
	// the window undecided.
	Ack int64
	// Gaps are the latest ranges that fell out undecided.
	Gaps []Range
	// TooOld are the latest ranges that were refused as too old: a repeat of
	// one is refused again, where others decided are duplicates.
	TooOld []Range
	// Lost counts the numbers that fell out undecided and have not come since.
	Lost int64

	bits []uint64 // numbers above Ack, at their value modulo WindowSize
	n    int      // how many are set
}

// Decided reports whether a reading with number s was stored or finally
// refused.
func (w *Window) Decided(s int64) bool {
	switch {
	case s <= w.Ack:
		return !contains(w.Gaps, s)
	case s > w.Ack+WindowSize || w.n == 0:
		return false
	}
	return w.bits[s/64%(WindowSize/64)]&(1<<(s%64)) != 0
}

// RefusedOld reports whether s is remembered as too old.
func (w *Window) RefusedOld(s int64) bool { return contains(w.TooOld, s) }

// Mark decides s.
func (w *Window) Mark(s int64) {
	if s <= w.Ack {
		var removed bool
		if w.Gaps, removed = remove(w.Gaps, s); removed {
			w.Lost--
		}
		return
	}
	if s == w.Ack+1 && w.n == 0 {
		w.Ack = s
		return
	}
	if s > w.Ack+WindowSize {
		w.moveTo(s - WindowSize)
	}
	if w.bits == nil {
		w.bits = make([]uint64, WindowSize/64)
	}
	word, bit := &w.bits[s/64%(WindowSize/64)], uint64(1)<<(s%64)
	if *word&bit == 0 {
		*word |= bit
		w.n++
	}
	w.settle()
}

// MarkOld decides s as too old.
func (w *Window) MarkOld(s int64) {
	w.Mark(s)
	w.TooOld = add(w.TooOld, Range{s, s})
}

// moveTo raises Ack to at least ack, what is undecided up to there becoming
// gaps.
func (w *Window) moveTo(ack int64) {
	from := w.Ack + 1
	for s := from; s <= ack; s++ {
		if w.n == 0 { // nothing decided up there: the rest is one gap
			w.gap(Range{s, ack})
			break
		}
		word, bit := &w.bits[s/64%(WindowSize/64)], uint64(1)<<(s%64)
		if *word&bit != 0 {
			*word &^= bit
			w.n--
		} else {
			w.gap(Range{s, s})
		}
	}
	w.Ack = ack
}

func (w *Window) gap(r Range) {
	w.Lost += r.Last - r.First + 1
	w.Gaps = add(w.Gaps, r)
}

// settle moves Ack over what is decided.
func (w *Window) settle() {
	for w.n > 0 {
		s := w.Ack + 1
		word, bit := &w.bits[s/64%(WindowSize/64)], uint64(1)<<(s%64)
		if *word&bit == 0 {
			return
		}
		*word &^= bit
		w.n--
		w.Ack = s
	}
	w.bits = nil
}

// clone returns a copy that shares nothing with w.
func (w *Window) clone() Window {
	c := *w
	c.Gaps = append([]Range(nil), w.Gaps...)
	c.TooOld = append([]Range(nil), w.TooOld...)
	c.bits = append([]uint64(nil), w.bits...)
	return c
}

func contains(rs []Range, s int64) bool {
	for i := len(rs) - 1; i >= 0; i-- {
		if rs[i].First <= s && s <= rs[i].Last {
			return true
		}
	}
	return false
}

// add appends r, joined to the last range where they meet; the oldest range
// goes when there are too many.
func add(rs []Range, r Range) []Range {
	if n := len(rs); n > 0 && r.First >= rs[n-1].First && r.First <= rs[n-1].Last+1 {
		rs[n-1].Last = max(rs[n-1].Last, r.Last)
		return rs
	}
	rs = append(rs, r)
	if len(rs) > maxRanges {
		rs = append(rs[:0], rs[1:]...)
	}
	return rs
}

// remove takes s out. A range that is split in two may push out the oldest.
func remove(rs []Range, s int64) ([]Range, bool) {
	for i, r := range rs {
		if s < r.First || s > r.Last {
			continue
		}
		switch {
		case r.First == r.Last:
			rs = append(rs[:i], rs[i+1:]...)
		case s == r.First:
			rs[i].First++
		case s == r.Last:
			rs[i].Last--
		default:
			rs = append(rs, Range{})
			copy(rs[i+2:], rs[i+1:])
			rs[i], rs[i+1] = Range{r.First, s - 1}, Range{s + 1, r.Last}
			if len(rs) > maxRanges {
				rs = append(rs[:0], rs[1:]...)
			}
		}
		return rs, true
	}
	return rs, false
}
