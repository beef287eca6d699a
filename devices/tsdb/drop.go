package tsdb

import (
	"context"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"devicehub/devices/readings"
)

// Drop erases series. What is in the head of others is flushed, so that the log
// behind is done with: it goes as soon as no sink needs it any more. Of each
// series its number and type stay, for those who still read the log. The names
// are gone from the tables and from the chunk store's files, but for a file of
// its own log that waits to be written over, or to be deleted at the next start.
func (s *Store) Drop(list []*readings.Series) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if err := s.ready(0); err != nil {
		return err
	}
	if err := s.log.Sync(); err != nil {
		return unavailable(err)
	}
	s.book.Drop(list)
	s.aside.Store(s.misnamed())
	err := s.flushFrozen(context.Background())
	if err == nil && s.freeze() {
		err = s.flushFrozen(context.Background())
	}
	if err == nil {
		err = s.erase(list)
	}
	if err != nil {
		s.breakDown(err)
		return unavailable(err)
	}
	if err := s.log.Cut(); err != nil {
		return unavailable(err)
	}
	return s.releaseLog()
}

// erase deletes series from the chunks, the roll-ups and the tables. Nothing of
// them is in the head. The caller holds wmu.
func (s *Store) erase(list []*readings.Series) error {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	return guard(func() (err error) {
		b := s.db.NewBatch()
		defer func() { err = errors.Join(err, b.Close()) }()
		days := s.allDays()
		for _, x := range list {
			if s.book.Numbered(x.Rec.Num) != x.Rec { // the device was erased meanwhile, and all of it
				continue
			}
			if err := eraseSeries(b, x, days); err != nil {
				return err
			}
			if err := b.Set(numberKey(classSeries, x.ID), appendSeriesDef(nil, x), nil); err != nil {
				return err
			}
			if err := b.Set(numberKey(classState, x.Rec.Num), x.Rec.AppendState(nil), nil); err != nil {
				return err
			}
		}
		if err := b.Commit(pebble.Sync); err != nil {
			return err
		}
		s.mu.Lock()
		for _, x := range list {
			for _, d := range days {
				delete(s.dirty, dirtyID(d.day, x.ID))
			}
		}
		s.mu.Unlock()
		// What was overwritten leaves the files.
		if err := s.db.Flush(); err != nil {
			return err
		}
		return s.db.Compact(context.Background(), []byte{classSeries}, []byte{classSeries + 1}, false)
	})
}

// allDays lists the days of every class that have values.
func (s *Store) allDays() (days []classDay) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for class, ds := range s.days {
		for d := range ds {
			days = append(days, classDay{class, d})
		}
	}
	return days
}

// eraseSeries deletes what there is of a series on the days given.
func eraseSeries(b *pebble.Batch, x *readings.Series, days []classDay) (err error) {
	for _, d := range days {
		err = errors.Join(err, b.Delete(chunkKey(nil, d.class, d.day, x.ID), nil))
		if d.class == classRaw {
			err = errors.Join(err, b.Delete(chunkKey(nil, classDirty, d.day, x.ID), nil))
		}
		if x.Nature() == readings.Meter {
			err = errors.Join(err, b.Delete(meterKey(d.day, x.ID), nil))
		}
	}
	return err
}
