package tsdb

import (
	"errors"
	"time"

	"devicehub/devices/tsdb/ingestlog"
)

// The states of a store.
const (
	StateReady   = "ready"
	StateFull    = "full"    // no room on the disk; ends when there is
	StateFailed  = "failed"  // the disk failed; ends with a restart
	StateStalled = "stalled" // the disk is too slow; ends when the head is flushed
	StateCorrupt = "corrupt" // the log is damaged; the operator's turn
)

// Stats is a snapshot of a store.
type Stats struct {
	State        string // ready, full, failed, stalled or corrupt; only a ready store takes readings
	Err          string // why it is not ready
	Fsync        string // batch, interval or off
	HeadReadings int    // not yet in the chunks
	Series       int
	Misnamed     int   // of them: no device can have sent their names
	LogBytes     int64 // kept, for the next start and for sinks
	ChunkBytes   int64
	LastSync     time.Duration
	LastFlush    time.Duration
	Flushes      int64
	Flushed      int64 // readings
	StaleRollUps int
}

// Stats returns a snapshot.
func (s *Store) Stats() Stats {
	st := Stats{State: StateReady, Fsync: s.opts.Fsync, LastSync: s.log.LastSync(), LastFlush: time.Duration(s.stat.lastTook.Load()),
		Flushes: s.stat.flushes.Load(), Flushed: s.stat.readings.Load()}
	st.State, st.Err = s.Health()
	first, end := s.log.Bounds()
	st.LogBytes = int64(end - first)
	s.mu.RLock()
	st.HeadReadings = int(s.active.n)
	if s.frozen != nil {
		st.HeadReadings += int(s.frozen.n)
	}
	st.StaleRollUps = len(s.dirty)
	s.mu.RUnlock()
	_, n := s.book.Numbers()
	st.Series = int(n)
	st.Misnamed = int(s.aside.Load())
	if s.broken.Load() == nil {
		st.ChunkBytes = int64(s.db.Metrics().DiskSpaceUsage())
	}
	return st
}

// Health is the state of the store, and why it is not ready.
func (s *Store) Health() (state, reason string) {
	err := s.log.State()
	if b := s.broken.Load(); b != nil {
		err = *b
	} else if err == nil {
		err = s.free.check(s.log, s.opts.MinFree, s.opts.Now())
	}
	switch {
	case err == nil && s.stalled.Load():
		return StateStalled, errStalled.Error()
	case err == nil:
		return StateReady, ""
	case errors.Is(err, ingestlog.ErrFull):
		return StateFull, err.Error()
	case errors.Is(err, ingestlog.ErrCorrupt):
		return StateCorrupt, err.Error()
	}
	return StateFailed, err.Error()
}

// Free is the room on the disk that the log is on, and its size.
func (s *Store) Free() (free, total int64, err error) { return s.log.Free() }

// Space is the room on the disk that the log is on, and how much of it is kept back: when less is
// free, readings are refused.
func (s *Store) Space() (free, kept int64, err error) {
	free, total, err := s.log.Free()
	return free, max(0, reserve(s.opts.MinFree, total)), err
}
