// Package brokerlog is the durable store of the broker: a log of changes.
//
// A commit is one frame of the log (package devices/tsdb/ingestlog, which says
// how it survives crashes, torn writes and full disks). In memory stands only
// where the newest record of each key is. When more than half of the log is
// out of date, what still holds in its oldest segment is written again at the
// end, a segment at a time, and the segment goes: the log stays below twice
// what is kept and a few segments more.
package brokerlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"devicehub/bridge/broker"
	"devicehub/devices/tsdb/ingestlog"
)

// Options of a store. The zero value of a field stands for its default.
type Options struct {
	// Sync says that a commit is on the disk itself when it returns. Otherwise it
	// survives a crash of the process, and one of the machine after a second.
	Sync         bool
	SegmentBytes int64        // 4 MiB
	FS           ingestlog.FS // the disk
	Logger       *slog.Logger
}

// Store is an open store. It implements broker.Store.
type Store struct {
	opts Options

	mu    sync.Mutex
	log   *ingestlog.Log
	index map[broker.Key]place
	live  int64 // bytes of records that hold
	timer *time.Timer
}

// place is where the newest record of a key is.
type place struct {
	pos  uint64 // of its frame
	size uint32
}

const (
	frameChanges = 1
	slack        = 4 // segments that the log may have beyond twice what is kept
	overhead     = 24
)

var errCorrupt = errors.New("a frame is no list of changes")

// Open opens the store in dir, which is made if need be. A log that is damaged
// is opened too: Commit refuses.
func Open(dir string, opts Options) (*Store, error) {
	if opts.SegmentBytes == 0 {
		opts.SegmentBytes = 4 << 20
	}
	if opts.FS == nil {
		opts.FS = ingestlog.Disk{}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("broker store: %w", err)
	}
	s := &Store{opts: opts, index: map[broker.Key]place{}}
	from, err := first(opts.FS, dir)
	if err != nil {
		return nil, fmt.Errorf("broker store: %w", err)
	}
	s.log, err = ingestlog.Open(dir, ingestlog.Options{
		FS: opts.FS, SegmentBytes: opts.SegmentBytes, SyncEvery: opts.Sync, Logger: opts.Logger.With("store", "broker"),
	}, from, s.replay)
	if err != nil {
		return nil, fmt.Errorf("broker store: %w", err)
	}
	return s, nil
}

// first is the position at which the oldest segment begins.
func first(fs ingestlog.FS, dir string) (uint64, error) {
	names, err := fs.List(dir)
	if err != nil {
		return 0, err
	}
	from, some := uint64(0), false
	for _, n := range names {
		name, ok := strings.CutSuffix(filepath.Base(n), ".log")
		base, err := strconv.ParseUint(name, 16, 64)
		if ok && err == nil && len(name) == 16 && (!some || base < from) {
			from, some = base, true
		}
	}
	return from, nil
}

func (s *Store) replay(f ingestlog.Frame) error {
	return each(f, func(k broker.Key, value []byte) { s.enter(k, value, f.Pos) })
}

// enter notes where the newest record of a key is.
func (s *Store) enter(k broker.Key, value []byte, pos uint64) {
	if old, ok := s.index[k]; ok {
		s.live -= int64(old.size)
		delete(s.index, k)
	}
	if value != nil {
		p := place{pos, uint32(len(value) + overhead)}
		s.index[k] = p
		s.live += int64(p.size)
	}
}

// appendChange writes a change: kind, A, B, then 0 for a deletion or the length
// and 1, and the value.
func appendChange(b []byte, k broker.Key, value []byte) []byte {
	b = append(b, k.Kind)
	b = binary.AppendUvarint(b, k.A)
	b = binary.AppendUvarint(b, k.B)
	if value == nil {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(value))+1)
	return append(b, value...)
}

// each calls f with every change of a frame; a value is valid during the call.
func each(fr ingestlog.Frame, f func(k broker.Key, value []byte)) error {
	if fr.Type != frameChanges {
		return fmt.Errorf("%w: type %d", errCorrupt, fr.Type)
	}
	b := fr.Body
	num := func() (n uint64) {
		n, k := binary.Uvarint(b)
		if k <= 0 {
			b = nil
			return 0
		}
		b = b[k:]
		return n
	}
	for len(b) > 0 {
		k := broker.Key{Kind: b[0]}
		b = b[1:]
		k.A = num()
		k.B = num()
		if len(b) == 0 {
			return errCorrupt
		}
		n := num()
		if n == 0 {
			f(k, nil)
			continue
		}
		if n--; n > uint64(len(b)) {
			return errCorrupt
		}
		f(k, b[:n:n])
		b = b[n:]
	}
	return nil
}

// Load is the broker.Store's.
func (s *Store) Load(f func(broker.Key, []byte) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, end := s.log.Bounds()
	if from == end {
		return nil
	}
	var failed error
	_, err := s.log.Read(from, func(fr ingestlog.Frame) bool {
		bad := each(fr, func(k broker.Key, value []byte) {
			if failed == nil && value != nil && s.index[k].pos == fr.Pos && s.holds(k) {
				failed = f(k, append([]byte{}, value...))
			}
		})
		failed = errors.Join(failed, bad)
		return failed == nil
	})
	if failed != nil {
		return failed
	}
	if errors.Is(err, ingestlog.ErrCorrupt) && s.log.State() != nil {
		return nil // it was told when it was opened
	}
	return err
}

func (s *Store) holds(k broker.Key) bool { _, ok := s.index[k]; return ok }

// Commit is the broker.Store's.
func (s *Store) Commit(changes []broker.Change) error {
	if len(changes) == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return os.ErrClosed
	}
	b := s.log.Begin(frameChanges)
	for _, c := range changes {
		b = appendChange(b, c.Key, c.Value)
	}
	pos, _, err := s.log.Commit(b)
	if err != nil {
		return err
	}
	for _, c := range changes {
		s.enter(c.Key, c.Value, pos)
	}
	s.syncLater()
	if err := s.compact(); err != nil {
		s.opts.Logger.Warn("the broker's log is not made smaller", "err", err)
	}
	return nil
}

// syncLater syncs within a second what was not synced at once.
func (s *Store) syncLater() {
	if s.opts.Sync || s.timer != nil {
		return
	}
	s.timer = time.AfterFunc(time.Second, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.timer = nil
		if s.log != nil {
			_ = s.log.Sync() // the log tells of it, and the next commit
		}
	})
}

// compact writes what holds in the oldest segment again when too much of the
// log is out of date. The lock is held.
func (s *Store) compact() error {
	for {
		from, end := s.log.Bounds()
		if int64(end-from) <= 2*s.live+slack*s.opts.SegmentBytes {
			return nil
		}
		next, err := s.rewrite(from)
		if err != nil {
			return err
		}
		if err := s.log.Sync(); err != nil { // before their older copies go
			return err
		}
		if err := s.log.Release(next); err != nil {
			return err
		}
		if now, _ := s.log.Bounds(); now == from {
			return nil // it is the one that is written to
		}
	}
}

// rewriteBytes is how much of the oldest part of the log is looked at at a time.
func (s *Store) rewriteBytes() uint64 { return uint64(s.opts.SegmentBytes) }

// rewrite appends again what holds at the beginning of the log, and returns the
// position up to which that was done.
func (s *Store) rewrite(from uint64) (next uint64, err error) {
	var held []byte
	var keys []broker.Key
	var sizes []int
	var bad error
	next, err = s.log.Read(from, func(fr ingestlog.Frame) bool {
		if fr.Pos-from > s.rewriteBytes() {
			return false
		}
		bad = each(fr, func(k broker.Key, value []byte) {
			if p, ok := s.index[k]; ok && p.pos == fr.Pos && value != nil {
				held = appendChange(held, k, value)
				keys, sizes = append(keys, k), append(sizes, len(held))
			}
		})
		return bad == nil
	})
	if err := errors.Join(err, bad); err != nil {
		return from, err
	}
	for start, done := 0, 0; done < len(keys); {
		n := done
		for n < len(keys) && (n == done || sizes[n]-start <= ingestlog.MaxFrame/2) {
			n++
		}
		pos, _, err := s.log.Commit(append(s.log.Begin(frameChanges), held[start:sizes[n-1]]...))
		if err != nil {
			return from, err
		}
		for _, k := range keys[done:n] {
			s.index[k] = place{pos, s.index[k].size}
		}
		start, done = sizes[n-1], n
	}
	return next, nil
}

// Size is the number of bytes on the disk, and of those that hold.
func (s *Store) Size() (disk, live int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return 0, 0
	}
	from, end := s.log.Bounds()
	return int64(end - from), s.live
}

// Backup writes a copy of the store as it is at one moment to dir, which must
// not exist.
func (s *Store) Backup(ctx context.Context, dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return os.ErrClosed
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("back up the broker's store: %w", err)
	}
	from, _ := s.log.Bounds()
	if err := s.log.Copy(ctx, dir, from); err != nil {
		return fmt.Errorf("back up the broker's store: %w", err)
	}
	return nil
}

// Close syncs and closes the store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.log == nil {
		return nil
	}
	err := s.log.Close()
	s.log = nil
	return err
}
