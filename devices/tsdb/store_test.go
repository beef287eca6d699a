package tsdb

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"devicehub/devices/readings"
	"devicehub/devices/readings/storetest"
)

// testOptions keep everything small, so that all of it happens.
func testOptions() Options {
	return Options{Fsync: SyncOff, MinFree: -1, FlushReadings: 1000, SegmentBytes: 64 << 10, FlushEvery: time.Hour,
		Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.UnixMilli(1_763_726_400_000) }}
}

func mustOpen(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run has the store work in the background; the function it returns ends that.
func run(t testing.TB, s *Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (s *Store) freezeNow() {
	s.wmu.Lock()
	s.freeze()
	s.wmu.Unlock()
}

func TestStore(t *testing.T) {
	dirs := map[string]string{}
	storetest.Test(t, func(t *testing.T) (readings.Store, func()) {
		if dirs[t.Name()] == "" {
			dirs[t.Name()] = filepath.Join(t.TempDir(), "readings")
		}
		s := mustOpen(t, dirs[t.Name()], testOptions())
		stop := run(t, s)
		return s, func() {
			stop()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}, func(rs readings.Store, r *rand.Rand) {
		s := rs.(*Store)
		if r.IntN(3) == 0 {
			s.freezeNow()
		}
		if r.IntN(10) == 0 {
			if err := s.RollUp(context.Background()); err != nil {
				t.Error(err)
			}
		}
		if r.IntN(15) == 0 {
			if err := s.db.Compact(context.Background(), []byte{0}, []byte{255}, false); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestStoreCopied goes on, each time, from a copy of the running store, which is
// what a crash at that moment would have left.
func TestStoreCopied(t *testing.T) {
	dirs := map[string]string{}
	storetest.Test(t, func(t *testing.T) (readings.Store, func()) {
		dir := dirs[t.Name()]
		if dir == "" {
			dir = filepath.Join(t.TempDir(), "readings")
		}
		s := mustOpen(t, dir, testOptions())
		stop := run(t, s)
		return s, func() {
			copied := filepath.Join(t.TempDir(), "readings")
			if err := s.Backup(context.Background(), copied); err != nil {
				t.Error(err)
			}
			dirs[t.Name()] = copied
			stop()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}, func(rs readings.Store, r *rand.Rand) {
		if r.IntN(3) == 0 {
			rs.(*Store).freezeNow()
		}
	})
}
