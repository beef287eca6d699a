package tsdb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"devicehub/devices/readings"
)

// batchBytes is how much of a flush is handed to Pebble at a time.
const batchBytes = 4 << 20

// flushStats counts flushes.
type flushStats struct {
	flushes, readings atomic.Int64
	lastTook          atomic.Int64 // ns
}

// Run flushes the head, makes roll-ups and syncs the log, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	flusher := make(chan struct{})
	go func() {
		defer close(flusher)
		s.flushes(ctx)
	}()
	keeper := make(chan struct{})
	go func() {
		defer close(keeper)
		s.keep(ctx)
	}()
	every := time.NewTicker(s.opts.FlushEvery)
	defer every.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	if s.opts.Fsync != SyncInterval {
		second.Stop()
	}
	for {
		select {
		case <-ctx.Done():
			<-flusher
			<-keeper
			return nil
		case <-every.C:
			s.wmu.Lock()
			s.freeze()
			s.wmu.Unlock()
		case <-second.C:
			s.wmu.Lock()
			if err := s.log.Sync(); err == nil && s.opts.OnSync != nil {
				s.opts.OnSync(s.log.LastSync())
			}
			s.wmu.Unlock()
		}
	}
}

// flushes flushes whatever freezes.
func (s *Store) flushes(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		if err := s.flushFrozen(ctx); err != nil {
			s.breakDown(err)
			return
		}
	}
}

// flushFrozen makes the frozen generation, if there is one, part of the chunks.
func (s *Store) flushFrozen(context.Context) error {
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	s.mu.RLock()
	g := s.frozen
	s.mu.RUnlock()
	if g == nil || s.broken.Load() != nil {
		return nil
	}
	from := time.Now()
	f := flush{s: s, g: g, c: s.coder(), days: map[uint32]struct{}{}, lanes: make([]lane, lanes)}
	err := guard(f.run)
	s.putCoder(f.c)
	took := time.Since(from)
	if s.opts.OnFlush != nil {
		s.opts.OnFlush(int(g.n), took, err)
	}
	if err != nil {
		return err
	}
	s.stat.flushes.Add(1)
	s.stat.readings.Add(int64(g.n))
	s.stat.lastTook.Store(int64(took))
	s.mu.Lock()
	for d := range f.days {
		s.addDay(classRaw, d)
	}
	for _, id := range f.dirty {
		s.dirty[id] = struct{}{}
	}
	for _, d := range f.late {
		s.addDay(d.class, d.day)
	}
	s.pos = g.pos
	s.frozen = nil
	s.flushed.Broadcast()
	s.mu.Unlock()
	g.release()
	return s.releaseLog()
}

// flush is one generation on its way into the chunks.
type flush struct {
	s     *Store
	g     *gen
	c     *coder
	batch *pebble.Batch // chunks
	last  *pebble.Batch // what must not be there without the position
	days  map[uint32]struct{}
	dirty []uint64
	late  []classDay
	key   []byte
	buf   []byte
	lanes []lane
}

type classDay struct {
	class byte
	day   uint32
}

func (f *flush) run() (err error) {
	f.batch, f.last = f.s.db.NewBatch(), f.s.db.NewBatch()
	defer func() { err = errors.Join(err, f.batch.Close(), f.last.Close()) }()
	for id := uint32(1); id <= f.g.top; {
		id = f.fill(id)
		f.g.gather(f.lanes)
		for i := range f.lanes {
			if err := f.series(&f.lanes[i]); err != nil {
				return err
			}
		}
		if f.batch.Len() >= batchBytes {
			if err := f.batch.Commit(pebble.NoSync); err != nil {
				return err
			}
			f.batch.Reset()
		}
	}
	if err := f.batch.Commit(pebble.NoSync); err != nil {
		return err
	}
	if err := f.tables(); err != nil {
		return err
	}
	return f.last.Commit(pebble.Sync)
}

// fill gives the lanes to the series that the generation has something of,
// from id on. It returns where to go on.
func (f *flush) fill(id uint32) uint32 {
	ls := f.lanes[:0]
	for ; id <= f.g.top && len(ls) < lanes; id++ {
		at := f.g.last[id]
		if at == 0 {
			continue
		}
		if s := f.s.book.Series(id); s != nil && !s.Dropped() { // else forgotten
			ls = ls[:len(ls)+1]
			l := &ls[len(ls)-1]
			l.s, l.kind, l.at, l.ps = s, kindOf(s.Type), at, l.ps[:0]
		}
	}
	f.lanes = ls
	return id
}

// series merges what the generation has of one series into its days.
func (f *flush) series(l *lane) error {
	for ps := l.ps; len(ps) > 0; {
		day := dayOf(ps[0].T)
		n := 1
		for n < len(ps) && dayOf(ps[n].T) == day {
			n++
		}
		if err := f.day(l.s, l.kind, day, ps[:n]); err != nil {
			return err
		}
		ps = ps[n:]
	}
	return nil
}

// day merges the readings of one day. Where the day's readings are no longer
// kept they go into its roll-ups.
func (f *flush) day(s *readings.Series, kind byte, day uint32, ps []readings.Point) error {
	st := f.s
	if day >= st.kept[readings.Raw] {
		f.days[day] = struct{}{}
		f.key = chunkKey(f.key, classRaw, day, s.ID)
		f.buf = f.c.appendChunk(f.buf[:0], kind, ps)
		if err := f.batch.Merge(f.key, f.buf, nil); err != nil {
			return err
		}
		st.mu.RLock()
		fresh := !st.rolled[day] && st.rolling != day+1
		st.mu.RUnlock()
		if fresh {
			return nil
		}
		f.dirty = append(f.dirty, dirtyID(day, s.ID))
		return f.last.Set(chunkKey(f.key, classDirty, day, s.ID), nil, nil)
	}
	nature := s.Nature()
	for _, tier := range []readings.Tier{readings.Quarter, readings.Hour} {
		if day < st.kept[tier] {
			continue
		}
		if tier == readings.Hour && nature == readings.Meter {
			if err := f.meterDay(s, day, ps); err != nil {
				return err
			}
		}
		f.buf = appendRollups(f.buf[:0], kind, nature, readings.Roll(nil, ps, tier.Step(), nature), tier.Step())
		f.late = append(f.late, classDay{classOf(tier), day})
		f.key = chunkKey(f.key, classOf(tier), day, s.ID)
		if err := f.last.Merge(f.key, f.buf, nil); err != nil {
			return err
		}
	}
	return nil
}

// tables writes who there is, their states, and how far the log is done with.
func (f *flush) tables() error {
	set := func(key, value []byte, err error) error {
		if err != nil {
			return err
		}
		return f.last.Set(key, value, nil)
	}
	var err error
	for num := range f.g.touched.all() {
		if r := f.s.book.Numbered(num); r != nil { // else forgotten
			f.buf = r.AppendState(f.buf[:0])
			err = set(numberKey(classState, num), f.buf, err)
		}
	}
	// The states are of now: they may tell of series that came after the freeze.
	f.s.mu.RLock()
	devs := append(slices.Clone(f.g.devs), f.s.active.devs...)
	series := append(slices.Clone(f.g.series), f.s.active.series...)
	f.s.mu.RUnlock()
	for _, r := range devs {
		err = set(numberKey(classDevice, r.Num), []byte(r.ID), err)
	}
	for _, x := range series {
		if x.Misnamed() && !x.Aside() && !x.Dropped() { // by now: the log has what it was
			return fmt.Errorf("series %d of %s: %w", x.ID, x.Rec.ID, readings.ErrMisnamed)
		}
		err = set(numberKey(classSeries, x.ID), appendSeriesDef(nil, x), err)
	}
	for _, r := range f.g.forgot {
		if err == nil {
			err = f.forget(r)
		}
	}
	num, top := f.s.book.Numbers()
	err = set(metaKey(metaNumbers), binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, num), top), err)
	err = set(metaKey(metaPos), u64(f.g.pos), err)
	clock := append(u64(uint64(f.g.clock.Wall)), 0)
	if f.g.clock.Suspect {
		clock[8] = 1
	}
	return set(metaKey(metaClock), clock, err)
}

// forget deletes what there is of a device: each of its series from each day.
func (f *flush) forget(r *readings.Record) error {
	err := errors.Join(f.last.Delete(numberKey(classDevice, r.Num), nil), f.last.Delete(numberKey(classState, r.Num), nil))
	days := f.s.allDays()
	for _, x := range r.AllSeries() {
		err = errors.Join(err, f.last.Delete(numberKey(classSeries, x.ID), nil), eraseSeries(f.last, x, days))
		if err != nil {
			return err
		}
	}
	return nil
}
