package tsdb

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"devicehub/devices/readings"
)

const (
	// rollAfter is how long after its end a day is rolled up.
	rollAfter = time.Hour
	keepEvery = 5 * time.Minute
	// dirtyBatch is how many stale roll-ups are made again at a time, flushes
	// having their turn in between.
	dirtyBatch = 256
)

// keep makes roll-ups until ctx ends.
func (s *Store) keep(ctx context.Context) {
	t := time.NewTicker(keepEvery)
	defer t.Stop()
	for {
		if err := s.RollUp(ctx); err != nil && ctx.Err() == nil {
			s.opts.Logger.Error("roll-ups were not made", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// RollUp makes the roll-ups of each day that is over and has none, and again
// those that late readings have made stale.
func (s *Store) RollUp(ctx context.Context) error {
	over := s.opts.Now().Add(-rollAfter).UnixMilli()
	for _, day := range s.daysIn(classRaw, 0, over-over%dayMS) {
		s.mu.RLock()
		done := s.rolled[day]
		s.mu.RUnlock()
		if done {
			continue
		}
		if err := guard(func() error { return s.rollWhole(ctx, day) }); err != nil {
			return err
		}
	}
	for {
		n, err := s.rollDirty(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			return s.meterOld(ctx)
		}
	}
}

// rollWhole makes the roll-ups of a day. A flush may run meanwhile: what it adds
// to the day is marked as stale.
func (s *Store) rollWhole(ctx context.Context, day uint32) (err error) {
	s.flushMu.Lock()
	s.rolling = day + 1
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: dayKey(classRaw, day), UpperBound: dayKey(classRaw, day+1)})
	s.flushMu.Unlock()
	if err != nil {
		return err
	}
	c := s.coder()
	defer s.putCoder(c)
	b := s.db.NewBatch()
	defer func() { err = errors.Join(err, it.Close(), b.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		_, series, ok := splitChunkKey(it.Key())
		if !ok {
			return errCorrupt
		}
		if err := s.rollOne(b, c, day, series, v); err != nil {
			return err
		}
		if b.Len() >= batchBytes {
			if err := b.Commit(pebble.NoSync); err != nil {
				return err
			}
			b.Reset()
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	if err := it.Error(); err != nil {
		return err
	}
	if err := b.Set(rolledKey(day), []byte{rollupFormat}, nil); err != nil {
		return err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	s.mu.Lock()
	s.rolled[day] = true
	s.days[classQuarter][day], s.days[classHour][day] = struct{}{}, struct{}{}
	s.mu.Unlock()
	return nil
}

// rollOne writes the roll-ups of a chunk.
func (s *Store) rollOne(b *pebble.Batch, c *coder, day, series uint32, chunk []byte) error {
	if len(chunk) < 2 {
		return errCorrupt
	}
	x := s.book.Series(series)
	if x == nil || x.Dropped() {
		return nil // forgotten: what there is of it is deleted
	}
	kind, nature := chunk[1], x.Nature()
	ps, err := c.readChunk(nil, chunk, day, 0, 1<<62)
	if err != nil {
		return err
	}
	for _, tier := range []readings.Tier{readings.Quarter, readings.Hour} {
		bs := readings.Roll(nil, ps, tier.Step(), nature)
		v := appendRollups(nil, kind, nature, bs, tier.Step())
		if err := b.Set(chunkKey(nil, classOf(tier), day, series), v, nil); err != nil {
			return err
		}
		if tier == readings.Hour && nature == readings.Meter {
			if err := b.Merge(meterKey(day, series), appendMeterDay(nil, day, bs), nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// rollDirty makes some of the stale roll-ups again and returns how many.
func (s *Store) rollDirty(ctx context.Context) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	var ids []uint64
	s.mu.RLock()
	for id := range s.dirty {
		if ids = append(ids, id); len(ids) == dirtyBatch {
			break
		}
	}
	s.mu.RUnlock()
	if len(ids) == 0 {
		return 0, nil
	}
	slices.Sort(ids)
	b := s.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	c := s.coder()
	defer s.putCoder(c)
	err = guard(func() error {
		for _, id := range ids {
			day, series := uint32(id>>32), uint32(id)
			v, found, err := s.get(chunkKey(nil, classRaw, day, series))
			if err == nil && found && day >= s.kept[readings.Raw] {
				err = s.rollOne(b, c, day, series, v)
			}
			if err := errors.Join(err, b.Delete(chunkKey(nil, classDirty, day, series), nil)); err != nil {
				return err
			}
		}
		return b.Commit(pebble.Sync)
	})
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	for _, id := range ids {
		delete(s.dirty, id)
	}
	s.mu.Unlock()
	return len(ids), nil
}

// retainDays is how many days of a tier one pass deletes, unless all is asked
// for: a clock that runs away must not take the history with it.
const retainDays = 2

// Retain deletes days that are older than their tier is kept for. Readings go
// only once their roll-ups are made.
func (s *Store) Retain(ctx context.Context, now time.Time, all bool) error {
	if err := s.RollUp(ctx); err != nil {
		return err
	}
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	for tier, keep := range []time.Duration{readings.Raw: s.opts.RetainRaw, readings.Quarter: s.opts.RetainQuarter, readings.Hour: s.opts.RetainHour} {
		before := now.Add(-keep).UnixMilli()
		if before <= 0 {
			continue
		}
		days := s.daysIn(classOf(readings.Tier(tier)), 0, before-before%dayMS)
		if !all && len(days) > retainDays {
			days = days[:retainDays]
		}
		if len(days) == 0 {
			continue
		}
		if err := guard(func() error { return s.dropDays(readings.Tier(tier), days) }); err != nil {
			return err
		}
	}
	return nil
}

// dropDays deletes the oldest days of a tier. The caller holds flushMu.
func (s *Store) dropDays(tier readings.Tier, days []uint32) (err error) {
	b := s.db.NewBatch()
	defer func() { err = errors.Join(err, b.Close()) }()
	class := classOf(tier)
	s.mu.RLock()
	kept := s.kept
	if tier == readings.Raw {
		for i, d := range days {
			if !s.rolled[d] { // it came up since
				days = days[:i]
				break
			}
		}
	}
	s.mu.RUnlock()
	if len(days) == 0 {
		return nil
	}
	next := days[len(days)-1] + 1
	kept[tier] = max(kept[tier], next)
	var value []byte
	for _, k := range kept {
		value = binary.BigEndian.AppendUint32(value, k)
	}
	err = errors.Join(b.DeleteRange(dayKey(class, 0), dayKey(class, next), nil), b.Set(metaKey(metaKept), value, nil))
	if tier == readings.Hour {
		for _, d := range days {
			err = errors.Join(err, b.Delete(rolledKey(d), nil))
		}
		err = errors.Join(err, b.DeleteRange(meterKey(0, 0), meterKey(next, 0), nil)) // of whole blocks alone
	}
	if err != nil {
		return err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = kept
	for _, d := range days {
		delete(s.days[class], d)
		if tier == readings.Hour {
			delete(s.rolled, d)
		}
	}
	s.opts.Logger.Info("readings past their retention are deleted", "tier", tier.String(), "days", len(days))
	return nil
}
