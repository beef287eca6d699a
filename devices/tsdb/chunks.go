package tsdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// openChunks opens Pebble for what this package keeps in it.
func openChunks(dir string, opts Options, zip *zipper, fatal func(error)) (*pebble.DB, error) {
	cache := pebble.NewCache(opts.CacheBytes)
	defer cache.Unref()
	o := &pebble.Options{
		Cache:                       cache,
		MaxOpenFiles:                opts.OpenFiles, // 0 is Pebble's 1000
		MemTableSize:                16 << 20,
		MemTableStopWritesThreshold: 4,
		Merger:                      merging(zip),
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      pebbleLog{opts.Logger, fatal},
		L0CompactionThreshold:       8, // Pebble begins at half of it
		LBaseMaxBytes:               64 << 20,
	}
	o.EventListener = &pebble.EventListener{BackgroundError: func(err error) {
		opts.Logger.Error("the chunk store has a problem in the background", "err", err)
	}}
	for i := range o.Levels {
		o.Levels[i].BlockSize = 16 << 10
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
		if i >= 5 {
			o.Levels[i].Compression = func() *sstable.CompressionProfile { return sstable.ZstdCompression }
		}
	}
	return pebble.Open(dir, o)
}

// pebbleLog passes on what matters. Pebble calls Fatalf when it cannot go on
// and must not be returned to. Where the call is ours the goroutine panics, and
// guard recovers; a goroutine of Pebble's own ends. The hub goes on without
// taking readings.
type pebbleLog struct {
	log   *slog.Logger
	fatal func(error)
}

type fatalError struct{ error }

func (l pebbleLog) Infof(string, ...any) {}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("the chunk store reports", "err", fmt.Sprintf(format, args...))
}

func (l pebbleLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.fatal(err)
	if guarded() {
		panic(fatalError{err})
	}
	runtime.Goexit()
}

// guarded reports whether guard is among the callers.
func guarded() bool {
	pcs := make([]uintptr, 100)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if f.Function == guardName {
			return true
		}
		if !more {
			return false
		}
	}
}

// guardName is how the stack names guard.
const guardName = "devicehub/devices/tsdb.guard"

// guard runs f and returns what Pebble panicked with, if it did.
//
//go:noinline
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(fatalError)
			if !ok {
				panic(r)
			}
			err = e
		}
	}()
	return f()
}

func (s *Store) closeChunks() error {
	if s.broken.Load() != nil {
		return nil // closing waits for what will not come
	}
	return guard(s.db.Close)
}

func (s *Store) get(key []byte) (value []byte, found bool, err error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	} else if err != nil {
		return nil, false, err
	}
	value = append([]byte(nil), v...)
	return value, true, closer.Close()
}

// scanClass calls f with the keys and values of a class.
func (s *Store) scanClass(class byte, f func(key, value []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{class}, UpperBound: []byte{class + 1}})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = f(it.Key(), v)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// load reads the tables: who there is, their state, and which days.
func (s *Store) load() error {
	format, found, err := s.get(metaKey(metaFormat))
	if err != nil {
		return err
	}
	if !found {
		return s.db.Set(metaKey(metaFormat), binary.BigEndian.AppendUint16(nil, formatVersion), pebble.Sync)
	}
	if len(format) != 2 || binary.BigEndian.Uint16(format) > formatVersion {
		return errors.New("the folder was written by a newer version")
	}
	for _, f := range []func() error{s.loadMeta, s.loadTables, s.loadStates, s.loadDays} {
		if err := f(); err != nil {
			return err
		}
	}
	if v := binary.BigEndian.Uint16(format); v < formatVersion {
		return s.upgrade(v)
	}
	return nil
}

// upgrade makes a folder of an older version one of this version. Roll-ups of
// the older one are known by their marks and made again in the background.
func (s *Store) upgrade(from uint16) error {
	s.metered = s.kept[readings.Raw]
	b := s.db.NewBatch()
	err := errors.Join(b.Set(metaKey(metaFormat), binary.BigEndian.AppendUint16(nil, formatVersion), nil),
		b.Set(metaKey(metaMetered), binary.BigEndian.AppendUint32(nil, s.metered), nil))
	if err == nil {
		err = b.Commit(pebble.Sync)
	}
	s.opts.Logger.Info("the readings store has a new format: roll-ups are made again where the readings are kept",
		"from", from, "to", formatVersion)
	return errors.Join(err, b.Close())
}

func (s *Store) loadMeta() error {
	return s.scanClass(classMeta, func(k, v []byte) error {
		switch name := string(k[1:]); {
		case name == metaPos && len(v) == 8:
			s.pos = binary.BigEndian.Uint64(v)
		case name == metaClock && len(v) == 9:
			s.mark = readings.ClockMark{Wall: int64(binary.BigEndian.Uint64(v)), Suspect: v[8] != 0}
		case name == metaNumbers && len(v) == 8:
			s.book.Reserve(binary.BigEndian.Uint32(v), binary.BigEndian.Uint32(v[4:]))
		case name == metaKept && len(v) == 12:
			for i := range s.kept {
				s.kept[i] = binary.BigEndian.Uint32(v[4*i:])
			}
		case name == metaMetered && len(v) == 4:
			s.metered = binary.BigEndian.Uint32(v)
		case len(name) == len(metaRolled)+4 && name[:len(metaRolled)] == metaRolled:
			if len(v) == 1 && v[0] == rollupFormat { // else it is to be rolled up again
				s.rolled[binary.BigEndian.Uint32(k[1+len(metaRolled):])] = true
			}
		}
		return nil
	})
}

func (s *Store) loadTables() error {
	r := groupReader{book: s.book, known: &s.known}
	err := s.scanClass(classDevice, func(k, v []byte) error {
		if len(k) != 5 {
			return errCorrupt
		}
		num := binary.BigEndian.Uint32(k[1:])
		s.known.devs.add(num)
		s.book.Restore(devices.ID(v), num)
		return nil
	})
	if err != nil {
		return err
	}
	return s.scanClass(classSeries, func(k, v []byte) error {
		if len(k) != 5 {
			return errCorrupt
		}
		return r.series(binary.BigEndian.Uint32(k[1:]), &cursor{b: v})
	})
}

func (s *Store) loadStates() error {
	return s.scanClass(classState, func(k, v []byte) error {
		if len(k) != 5 {
			return errCorrupt
		}
		rec := s.book.Numbered(binary.BigEndian.Uint32(k[1:]))
		if rec == nil {
			return errCorrupt
		}
		return s.book.LoadState(rec, v)
	})
}

// loadDays finds the days of each class, a seek each.
func (s *Store) loadDays() error {
	for class, days := range s.days {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{class}, UpperBound: []byte{class + 1}, KeyTypes: pebble.IterKeyTypePointsOnly})
		if err != nil {
			return err
		}
		for ok := it.First(); ok; {
			day, _, valid := splitChunkKey(it.Key())
			if !valid {
				return errors.Join(errCorrupt, it.Close())
			}
			days[day] = struct{}{}
			s.oldest = min(s.oldest, day)
			ok = it.SeekGE(dayKey(class, day+1))
		}
		if err := errors.Join(it.Error(), it.Close()); err != nil {
			return err
		}
	}
	return s.scanClass(classDirty, func(k, _ []byte) error {
		day, series, ok := splitChunkKey(k)
		if !ok {
			return errCorrupt
		}
		s.dirty[dirtyID(day, series)] = struct{}{}
		return nil
	})
}

func dirtyID(day, series uint32) uint64 { return uint64(day)<<32 | uint64(series) }
