package tsdb

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
)

// Backup writes a copy of the store as it is at one moment to dir, which must
// not exist: a folder that Open opens, as after a crash at that moment. The
// store goes on taking readings meanwhile. Chunks are linked where the file
// system can do that.
func (s *Store) Backup(ctx context.Context, dir string) error {
	logDir := filepath.Join(dir, "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("back up the readings: %w", err)
	}
	if err := os.Mkdir(logDir, 0o700); err != nil {
		return fmt.Errorf("back up the readings: %w", err)
	}
	s.flushMu.Lock() // the position in the chunks, and with it the log, stays
	defer s.flushMu.Unlock()
	if err := guard(func() error { return s.db.Checkpoint(filepath.Join(dir, "chunks"), pebble.WithFlushedWAL()) }); err != nil {
		return fmt.Errorf("back up the chunks: %w", err)
	}
	s.mu.RLock()
	pos := s.pos
	s.mu.RUnlock()
	if err := s.log.Copy(ctx, logDir, pos); err != nil {
		return fmt.Errorf("back up the log: %w", err)
	}
	return nil
}
