package tsdb

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"devicehub/devices/readings"
)

// look takes views of what the head has of a series, the frozen generation
// first. The chunks are read after it: a flush that ends in between shows a
// reading twice, and never not at all.
func (s *Store) look(id uint32) (frozen, active *view) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.frozen.look(id), s.active.look(id)
}

// head returns what the head has of a series from ≤ t < to, in rising time.
func (s *Store) head(x *readings.Series, from, to int64) []readings.Point {
	frozen, active := s.look(x.ID)
	var ps []readings.Point
	for _, v := range []*view{frozen, active} {
		if v != nil {
			ps = v.points(ps, kindOf(x.Type) >= kindString, from, to)
			v.release()
		}
	}
	return settle(ps)
}

// daysIn lists the days of a class that are kept, between two times, rising.
func (s *Store) daysIn(class byte, from, to int64) []uint32 {
	if from >= to {
		return nil
	}
	first, last := dayOf(from), dayOf(to-1)
	s.mu.RLock()
	defer s.mu.RUnlock()
	var days []uint32
	for d := range s.days[class] {
		if d >= first && d <= last {
			days = append(days, d)
		}
	}
	slices.Sort(days)
	return days
}

// Scan calls f with the readings of a series, a day at a time at most.
func (s *Store) Scan(ctx context.Context, x *readings.Series, from, to int64, f func([]readings.Point) error) error {
	head := s.head(x, from, to)
	c := s.coder()
	defer s.putCoder(c)
	ps, out := c.points, []readings.Point(nil)
	var err error
	defer func() { c.points = ps }()
	for _, day := range s.daysIn(classRaw, from, to) {
		if err := ctx.Err(); err != nil {
			return err
		}
		ps, err = s.chunk(ps[:0], c, x.ID, day, from, to)
		if err != nil {
			return err
		}
		n := 0
		for n < len(head) && head[n].T < dayStart(day+1) {
			n++
		}
		day := ps
		if n > 0 {
			out = mergePoints(out[:0], ps, head[:n])
			day = out
		}
		if len(day) > 0 {
			if err := f(day); err != nil {
				return err
			}
		}
		head = head[n:]
	}
	if len(head) > 0 {
		return f(head)
	}
	return nil
}

// mergePoints merges two rising runs. Of two readings of the same time the one
// in newer stands.
func mergePoints(dst, older, newer []readings.Point) []readings.Point {
	for len(older) > 0 && len(newer) > 0 {
		switch o, n := older[0].T, newer[0].T; {
		case o < n:
			dst, older = append(dst, older[0]), older[1:]
		case o > n:
			dst, newer = append(dst, newer[0]), newer[1:]
		default:
			older = older[1:]
		}
	}
	return append(append(dst, older...), newer...)
}

// chunk appends the readings of a series of one day that lie from ≤ t < to.
func (s *Store) chunk(dst []readings.Point, c *coder, id, day uint32, from, to int64) ([]readings.Point, error) {
	v, closer, err := s.db.Get(chunkKey(nil, classRaw, day, id))
	if errors.Is(err, pebble.ErrNotFound) {
		return dst, nil
	} else if err != nil {
		return dst, err
	}
	dst, err = c.readChunk(dst, v, day, from, to)
	return dst, errors.Join(err, closer.Close())
}

// readChunk appends those readings of a day's chunk that lie from ≤ t < to.
func (c *coder) readChunk(dst []readings.Point, v []byte, day uint32, from, to int64) ([]readings.Point, error) {
	kind, blocks, err := splitChunk(c.blocks[:0], v)
	c.blocks = blocks
	if err != nil {
		return dst, err
	}
	start := dayStart(day)
	at := len(dst)
	for i := range blocks {
		b := &blocks[i]
		if start+b.last < from || start+b.first >= to {
			continue
		}
		if dst, err = c.decode(dst, kind, b, start); err != nil {
			return dst, err
		}
	}
	ps := dst[at:]
	cut := 0
	for cut < len(ps) && ps[cut].T < from {
		cut++
	}
	end := len(ps)
	for end > cut && ps[end-1].T >= to {
		end--
	}
	if cut > 0 {
		copy(ps, ps[cut:end])
	}
	return dst[:at+end-cut], nil
}

// Kept is the time from which on a tier is complete.
func (s *Store) Kept(t readings.Tier) int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return dayStart(s.kept[t])
}

// Rollups calls f with the buckets of a tier, a day at a time: those that are
// stored, or made from the readings where they are not yet, or no longer right.
func (s *Store) Rollups(ctx context.Context, x *readings.Series, tier readings.Tier, from, to int64, f func([]readings.Bucket) error) error {
	step := tier.Step()
	from = (from + step - 1) / step * step
	to = (to + step - 1) / step * step
	head := s.head(x, from, to)
	days := append(s.daysIn(classRaw, from, to), s.daysIn(classOf(tier), from, to)...)
	for i := range head {
		if d := dayOf(head[i].T); i == 0 || d != dayOf(head[i-1].T) {
			days = append(days, d)
		}
	}
	slices.Sort(days)
	c := s.coder()
	defer s.putCoder(c)
	var buckets []readings.Bucket
	for _, day := range slices.Compact(days) {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := 0
		for n < len(head) && head[n].T < dayStart(day+1) {
			n++
		}
		var err error
		buckets, err = s.rollDay(buckets[:0], c, x, tier, day, max(from, dayStart(day)), min(to, dayStart(day+1)), head[:n])
		if err != nil {
			return err
		}
		head = head[n:]
		if len(buckets) > 0 {
			if err := f(buckets); err != nil {
				return err
			}
		}
	}
	return nil
}

// rollDay appends the buckets of one day; head is what the head has of it.
func (s *Store) rollDay(dst []readings.Bucket, c *coder, x *readings.Series, tier readings.Tier, day uint32, from, to int64, head []readings.Point) ([]readings.Bucket, error) {
	s.mu.RLock()
	_, dirty := s.dirty[dirtyID(day, x.ID)]
	lost := day < s.kept[readings.Raw]
	ready := s.rolled[day] && !dirty && len(head) == 0
	s.mu.RUnlock()
	step := tier.Step()
	if !lost && !ready {
		ps, err := s.chunk(c.points[:0], c, x.ID, day, from, to)
		c.points = ps
		if err != nil {
			return dst, err
		}
		if len(head) > 0 {
			ps = mergePoints(nil, ps, head)
		}
		return readings.Roll(dst, ps, step, x.Nature()), nil
	}
	v, closer, err := s.db.Get(chunkKey(nil, classOf(tier), day, x.ID))
	if err == nil {
		var r rollups
		r, err = decodeRollups(dst, v, dayStart(day))
		dst = r.buckets
		err = errors.Join(err, closer.Close())
	} else if errors.Is(err, pebble.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return dst, err
	}
	dst = slices.DeleteFunc(dst, func(b readings.Bucket) bool { return b.T < from || b.T >= to })
	nature := x.Nature()
	for i := range dst {
		dst[i].Become(nature)
	}
	for _, b := range readings.Roll(nil, head, step, nature) {
		at, found := slices.BinarySearchFunc(dst, b.T, func(k readings.Bucket, t int64) int { return cmp.Compare(k.T, t) })
		if found {
			dst[at].Merge(&b)
		} else {
			dst = slices.Insert(dst, at, b)
		}
	}
	return dst, nil
}
