package tsdb

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"devicehub/devices/readings"
)

// meterDay enters late readings of a day whose readings are gone: what the day
// comes to with them.
func (f *flush) meterDay(x *readings.Series, day uint32, ps []readings.Point) error {
	c := f.s.coder()
	defer f.s.coders.Put(c)
	bs, err := f.s.rollDay(nil, c, x, readings.Hour, day, dayStart(day), dayStart(day+1), ps)
	if err != nil {
		return err
	}
	return f.last.Merge(meterKey(day, x.ID), appendMeterDay(nil, day, bs), nil)
}

// addDay notes that there are values of a class on a day. The caller holds mu.
func (s *Store) addDay(class byte, day uint32) {
	s.days[class][day] = struct{}{}
	s.oldest = min(s.oldest, day)
}

// Before returns what a meter's readings before a time come to: from the latest
// day on, as far back as the last reset.
func (s *Store) Before(ctx context.Context, x *readings.Series, at int64) (readings.Bucket, error) {
	sum := readings.Bucket{Nature: readings.Meter}
	if at <= 0 {
		return sum, nil
	}
	head := s.head(x, 0, at)
	alone, oldest := s.dayByDay(x, head, at)
	c := s.coder()
	defer s.coders.Put(c)
	for block := dayOf(at-1) / meterDays; ; block-- {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		if err := s.meterBlock(c, x, block, alone, head, at); err != nil {
			return sum, err
		}
		for i := range slices.Backward(c.meter) {
			d := c.meter[i].bucket()
			d.Merge(&sum)
			if sum = d; sum.Reset {
				return sum, nil
			}
		}
		if block == 0 || block*meterDays <= oldest {
			return sum, nil
		}
	}
}

// meterBlock reads the days of a block that lie before a time into c.meter:
// those that are listed added up one by one, in the place of what the block has
// of them.
func (s *Store) meterBlock(
	c *coder, x *readings.Series, block uint32, alone []uint32, head []readings.Point, at int64,
) error {
	days := c.meter[:0]
	v, closer, err := s.db.Get(chunkKey(nil, classMeter, block, x.ID))
	if err == nil {
		err = eachMeterDay(v, func(d *meterDay, _ []byte) {
			d.day += block * meterDays
			if _, listed := slices.BinarySearch(alone, d.day); !listed && dayStart(d.day+1) <= at {
				days = append(days, *d)
			}
		})
		err = errors.Join(err, closer.Close())
	} else if errors.Is(err, pebble.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return err
	}
	stored := len(days)
	for _, day := range alone {
		if day/meterDays == block {
			sum, err := s.addUp(c, x, day, head, at)
			if err != nil {
				return err
			}
			days = append(days, meterDayOf(day, &sum))
		}
	}
	if len(days) > stored {
		slices.SortFunc(days, func(a, b meterDay) int { return int(a.day) - int(b.day) })
	}
	c.meter = days
	return nil
}

// dayByDay lists the days before a time that are to be added up one by one, in
// rising order, and the oldest day of all. head is what the head has of the
// series until then.
func (s *Store) dayByDay(x *readings.Series, head []readings.Point, at int64) (days []uint32, oldest uint32) {
	last := dayOf(at - 1)
	if at%dayMS != 0 {
		days = append(days, last) // in part
	}
	for i := range head {
		if d := dayOf(head[i].T); len(days) == 0 || d != days[len(days)-1] {
			days = append(days, d)
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for d := range s.days[classRaw] {
		if _, dirty := s.dirty[dirtyID(d, x.ID)]; d <= last && (dirty || !s.rolled[d]) {
			days = append(days, d)
		}
	}
	if s.metered > 0 {
		for d := range s.days[classHour] {
			if d <= last && d < s.metered {
				days = append(days, d)
			}
		}
	}
	slices.Sort(days)
	if oldest = s.oldest; len(days) > 0 {
		oldest = min(oldest, days[0])
	}
	return slices.Compact(days), oldest
}

// addUp adds up a day until a time, from its readings or what is left of them.
func (s *Store) addUp(
	c *coder, x *readings.Series, day uint32, head []readings.Point, at int64,
) (readings.Bucket, error) {
	from, to := dayStart(day), min(dayStart(day+1), at)
	head = slices.DeleteFunc(slices.Clone(head), func(p readings.Point) bool { return p.T < from || p.T >= to })
	s.mu.RLock()
	kept := s.kept
	s.mu.RUnlock()
	sum := readings.Bucket{T: from, Nature: readings.Meter}
	if day < kept[readings.Raw] {
		tier := readings.Quarter
		if day < kept[readings.Quarter] {
			tier = readings.Hour
		}
		bs, err := s.rollDay(nil, c, x, tier, day, from, to, head)
		if err == nil {
			sum = fold(bs)
			sum.T = from
		}
		return sum, err
	}
	ps, err := s.chunk(c.points[:0], c, x.ID, day, from, to)
	c.points = ps
	if err != nil {
		return sum, err
	}
	if len(head) > 0 {
		ps = mergePoints(nil, ps, head)
	}
	for i := range ps {
		sum.Add(&ps[i])
	}
	return sum, nil
}

// meterOld makes the days of meters of a folder that was written before there
// were any, from the roll-ups: a day at a time, the latest first.
func (s *Store) meterOld(ctx context.Context) error {
	for {
		s.mu.RLock()
		day, left := uint32(0), false
		for d := range s.days[classHour] {
			if d < s.metered && d >= day {
				day, left = d, true
			}
		}
		done := s.metered == 0
		s.mu.RUnlock()
		if done {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := guard(func() error {
			s.flushMu.Lock()
			defer s.flushMu.Unlock()
			return s.meterOne(day, left)
		})
		if err != nil {
			return err
		}
	}
}

// meterOne makes the days of one day, and notes that those from it on are there;
// without one, that all are. The caller holds flushMu.
func (s *Store) meterOne(day uint32, left bool) (err error) {
	b := s.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	if left {
		err = s.eachIn(classHour, day, func(series uint32, v []byte) error {
			x := s.book.Series(series)
			if x == nil || x.Nature() != readings.Meter {
				return nil
			}
			r, err := decodeRollups(nil, v, dayStart(day))
			if err != nil {
				return err
			}
			for i := range r.buckets {
				r.buckets[i].Become(readings.Meter)
			}
			return b.Merge(meterKey(day, series), appendMeterDay(nil, day, r.buckets), nil)
		})
		if err != nil {
			return err
		}
	} else {
		day = 0
	}
	if err := b.Set(metaKey(metaMetered), binary.BigEndian.AppendUint32(nil, day), nil); err != nil {
		return err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	s.mu.Lock()
	s.metered = day
	s.mu.Unlock()
	return nil
}

// eachIn calls f with the values of a class on a day.
func (s *Store) eachIn(class byte, day uint32, f func(series uint32, v []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: dayKey(class, day), UpperBound: dayKey(class, day+1)})
	if err != nil {
		return err
	}
	for it.First(); it.Valid() && err == nil; it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err != nil {
			break
		}
		_, series, ok := splitChunkKey(it.Key())
		if !ok {
			err = errCorrupt
			break
		}
		err = f(series, v)
	}
	return errors.Join(err, it.Error(), it.Close())
}
