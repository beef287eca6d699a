package ingestlog

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"devicehub/hub/poison"
)

// Options of a log. The zero value of a field stands for its default.
type Options struct {
	FS           FS    // Disk
	SegmentBytes int64 // DefaultSegment
	SyncEvery    bool  // Commit returns after fsync
	Logger       *slog.Logger
	Now          func() time.Time
}

// Log is an open log. One goroutine writes (Begin, Commit); the other methods
// may be called from any.
type Log struct {
	dir  string
	opts Options

	// Owned by the writer.
	file File
	head header
	buf  []byte

	mu       sync.Mutex
	segments []segment // the oldest first; the last is written to
	end      uint64    // behind the last committed frame
	synced   uint64    // known to be on the disk
	state    error     // nil: takes frames; ErrFull, ErrFailed or ErrCorrupt with the cause
	lastSync time.Duration
}

type segment struct {
	base uint64
	path string
}

// Open opens the log in dir, which exists, and calls replay with every frame
// at or behind from. A torn tail is cut. A damaged log is opened too, and
// replayed as far as it can be read: State tells, and Commit refuses. An error
// is one of replay, of reading, or of a version that is not known.
func Open(dir string, opts Options, from uint64, replay func(Frame) error) (*Log, error) {
	if opts.FS == nil {
		opts.FS = Disk{}
	}
	if opts.SegmentBytes == 0 {
		opts.SegmentBytes = DefaultSegment
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	l := &Log{dir: dir, opts: opts}
	accepted, err := l.list()
	if err != nil {
		return nil, err
	}
	l.end = from
	if err := l.replayAll(from, accepted, replay); err != nil {
		return nil, err
	}
	l.synced = l.end
	return l, nil
}

// list finds the segments, and those that somebody has set aside as bad.
func (l *Log) list() (accepted map[uint64]bool, err error) {
	names, err := l.opts.FS.List(l.dir)
	if err != nil {
		return nil, fmt.Errorf("list the log: %w", err)
	}
	accepted = map[uint64]bool{}
	for _, n := range names {
		if name, ok := strings.CutSuffix(n, suffix); ok && len(name) == 16 {
			if base, err := strconv.ParseUint(name, 16, 64); err == nil {
				l.segments = append(l.segments, segment{base, filepath.Join(l.dir, n)})
			}
		}
		if name, ok := strings.CutSuffix(n, badSuffix); ok {
			if base, err := strconv.ParseUint(name, 16, 64); err == nil {
				accepted[base] = true
			}
		}
	}
	slices.SortFunc(l.segments, func(a, b segment) int {
		if a.base < b.base {
			return -1
		}
		return 1
	})
	return accepted, nil
}

func (l *Log) replayAll(from uint64, accepted map[uint64]bool, replay func(Frame) error) error {
	for i := 0; i < len(l.segments); i++ {
		seg := l.segments[i]
		last := i == len(l.segments)-1
		if !last && l.segments[i+1].base <= from {
			continue
		}
		if i > 0 && l.end > from && seg.base != l.end && !accepted[l.end] {
			l.corrupt(fmt.Errorf("a segment from position %x on is missing", l.end))
		}
		if len(l.segments) > 0 && i == 0 && seg.base > from && !accepted[from] {
			l.corrupt(fmt.Errorf("the log begins at %x, %x is needed", seg.base, from))
		}
		end, err := l.replaySegment(seg, last, from, replay)
		if err != nil {
			return err
		}
		l.end = max(l.end, end)
		if last && end == seg.base && l.state == nil { // nothing in it: its place is taken by the next
			if err := l.opts.FS.Remove(seg.path); err != nil {
				return fmt.Errorf("remove an empty segment: %w", err)
			}
			l.segments = l.segments[:i]
		}
	}
	return nil
}

func (l *Log) corrupt(cause error) {
	if l.state == nil {
		l.state = fmt.Errorf("%w: %w", ErrCorrupt, cause)
		l.opts.Logger.Error("the ingest log is damaged: readings are refused until the segment is restored, or set aside by adding .bad to its name", "err", cause)
	}
}

// replaySegment reads one segment. It returns the position behind the last
// good frame.
func (l *Log) replaySegment(seg segment, last bool, from uint64, replay func(Frame) error) (uint64, error) {
	f, err := l.opts.FS.Open(seg.path)
	if err != nil {
		return 0, fmt.Errorf("open a segment: %w", err)
	}
	defer f.Close()
	b, err := readAll(f)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", seg.path, err)
	}
	h, err := decodeHeader(b)
	switch {
	case errors.Is(err, errVersion):
		return 0, fmt.Errorf("%s: %w", seg.path, err)
	case err != nil && last && !anyFrame(b):
		return seg.base, nil // the crash came between making it and its first frame
	case err != nil || h.base != seg.base:
		l.corrupt(fmt.Errorf("%s: %w", seg.path, errHeader))
		return seg.base, nil
	}
	b = b[headerLen:]
	off := 0
	good := 0
	for {
		fr, _, size, st := h.frameAt(b, off)
		if st == frameGood {
			if fr.Pos >= from {
				if err := replay(fr); err != nil {
					return 0, fmt.Errorf("%s at %d: %w", seg.path, headerLen+off, err)
				}
			}
			if poison.On {
				poison.Bytes(b[off : off+size : off+size])
			}
			off += size
			good = off
			continue
		}
		next, synced := h.resync(b, off)
		switch {
		case next < 0 && st == frameEnd:
		case last && (next < 0 || synced <= h.base+uint64(off)):
			l.opts.Logger.Warn("a torn end of the ingest log is cut: it was never acknowledged", "segment", filepath.Base(seg.path), "offset", headerLen+off)
			if err := cut(f, int64(headerLen+off)); err != nil {
				return 0, fmt.Errorf("cut %s: %w", seg.path, err)
			}
		case next < 0:
			l.corrupt(fmt.Errorf("%s: bad frame at %d", seg.path, headerLen+off))
		default:
			l.corrupt(fmt.Errorf("%s: bad frame at %d, good ones from %d on", seg.path, headerLen+off, headerLen+next))
			off = next
			continue
		}
		return h.base + uint64(good), nil
	}
}

func cut(f File, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}

// anyFrame reports whether anything was written behind the place of a header.
func anyFrame(b []byte) bool {
	for _, c := range b[min(len(b), headerLen):] {
		if c != 0 {
			return true
		}
	}
	return false
}

// resync finds the first valid frame behind a bad place: its offset and the
// greatest synced among it and those that follow it; −1 when there is none.
func (h header) resync(b []byte, off int) (next int, synced uint64) {
	next = -1
	for o := off + 8; o+frameLen < len(b); o += 8 {
		if binary.LittleEndian.Uint64(b[o:]) == 0 {
			continue
		}
		_, s, size, st := h.frameAt(b, o)
		if st != frameGood {
			continue
		}
		if next < 0 {
			next = o
		}
		synced = max(synced, s)
		o += size - 8
	}
	return next, synced
}

func readAll(f File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if int64(n) == size {
		return b, nil
	}
	return nil, err
}

// Begin returns a buffer to which the body of the next frame is appended.
func (l *Log) Begin(typ byte) []byte {
	l.mu.Lock()
	synced := l.synced
	l.mu.Unlock()
	b := append(l.buf[:0], 0, 0, 0, 0, 0, 0, 0, 0, typ)
	return binary.AppendUvarint(b, synced)
}

// Commit writes the frame that Begin began, and syncs it when every frame is
// to be. The positions are the frame's and the one behind it. An error wraps
// ErrFull, ErrFailed or ErrCorrupt; the frame is not, or will not be, counted
// as written, and after ErrFull the next Commit may be tried.
func (l *Log) Commit(b []byte) (pos, next uint64, err error) {
	l.buf = b
	if err := l.refuses(); err != nil {
		return 0, 0, err
	}
	content := len(b) - frameLen
	if content > MaxFrame {
		return 0, 0, fmt.Errorf("a frame of %d bytes", content)
	}
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	l.buf = b
	if l.file == nil || int64(l.end-l.head.base)+headerLen+int64(len(b)) > l.opts.SegmentBytes && l.end > l.head.base {
		if err := l.rotate(); err != nil {
			return 0, 0, err
		}
	}
	pos = l.end
	binary.LittleEndian.PutUint32(b, uint32(content))
	binary.LittleEndian.PutUint32(b[4:], l.head.sum(pos, b[frameLen:frameLen+content]))
	off := int64(pos-l.head.base) + headerLen
	if _, err := l.file.WriteAt(b, off); err != nil {
		return 0, 0, l.wrote(off, err)
	}
	if l.opts.SyncEvery {
		if err := l.sync(pos + uint64(len(b))); err != nil {
			return 0, 0, err
		}
	}
	poison.Bytes(b) // the next frame is written to it
	l.mu.Lock()
	defer l.mu.Unlock()
	l.end = pos + uint64(len(b))
	if l.state != nil && errors.Is(l.state, ErrFull) {
		l.state = nil
		l.opts.Logger.Info("the ingest log has room again")
	}
	return pos, l.end, nil
}

// refuses is why no frame is taken, if so. A full disk is tried again.
func (l *Log) refuses() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != nil && !errors.Is(l.state, ErrFull) {
		return l.state
	}
	return nil
}

// wrote deals with a write that failed at off: what it has left is cut off.
func (l *Log) wrote(off int64, cause error) error {
	if err := l.file.Truncate(off); err != nil {
		return l.fail(ErrFailed, fmt.Errorf("%w, and the cut after it: %w", cause, err))
	}
	if isFull(cause) {
		return l.fail(ErrFull, cause)
	}
	return l.fail(ErrFailed, cause)
}

func (l *Log) fail(kind, cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.state
	if was == nil || errors.Is(was, ErrFull) && kind != ErrFull {
		l.state = fmt.Errorf("%w: %w", kind, cause)
		l.opts.Logger.Error("the ingest log takes nothing", "err", l.state)
	}
	return l.state
}

// rotate ends the segment and begins the next.
func (l *Log) rotate() error {
	if l.file != nil {
		if err := l.seal(); err != nil {
			return err
		}
	}
	var salt [8]byte
	rand.Read(salt[:])
	h := header{base: l.end, salt: binary.LittleEndian.Uint64(salt[:]), created: uint64(l.opts.Now().UnixMilli())}
	path := filepath.Join(l.dir, fmt.Sprintf("%016x", h.base)+suffix)
	f, err := l.opts.FS.Create(path)
	if err != nil {
		return l.fail(l.kind(err), err)
	}
	err = f.Allocate(l.opts.SegmentBytes)
	if err == nil {
		_, err = f.WriteAt(h.encode(), 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.opts.FS.SyncDir(l.dir)
	}
	if err != nil {
		kind := l.kind(err)
		if rm := errors.Join(f.Close(), l.opts.FS.Remove(path)); rm != nil {
			kind, err = ErrFailed, errors.Join(err, rm)
		}
		return l.fail(kind, err)
	}
	l.file, l.head = f, h
	l.mu.Lock()
	l.segments = append(l.segments, segment{h.base, path})
	l.mu.Unlock()
	return nil
}

func (l *Log) kind(err error) error {
	if isFull(err) {
		return ErrFull
	}
	return ErrFailed
}

// seal cuts the segment to what was written, syncs and closes it.
func (l *Log) seal() error {
	err := l.file.Truncate(int64(l.end-l.head.base) + headerLen)
	if err == nil {
		err = l.sync(l.end)
	}
	if cerr := l.file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return l.fail(ErrFailed, err)
	}
	l.file = nil
	return nil
}

// sync makes what was written up to end durable. A failed fsync is never tried
// again: what the kernel has dropped is not known.
func (l *Log) sync(end uint64) error {
	from := time.Now()
	if err := l.file.Sync(); err != nil {
		return l.fail(ErrFailed, err)
	}
	l.mu.Lock()
	l.lastSync = time.Since(from)
	l.synced = max(l.synced, end)
	l.mu.Unlock()
	return nil
}

// Sync makes all that is committed durable. The writer calls it, or nobody
// while the writer works.
func (l *Log) Sync() error {
	if err := l.refuses(); err != nil {
		return err
	}
	l.mu.Lock()
	done := l.synced == l.end
	end := l.end
	l.mu.Unlock()
	if done || l.file == nil {
		return nil
	}
	return l.sync(end)
}

// Close syncs and closes the log.
func (l *Log) Close() error {
	if l.file == nil {
		return nil
	}
	if l.refuses() != nil {
		err := l.file.Close()
		l.file = nil
		return err
	}
	return l.seal()
}

// Cut ends the segment, so that Release may delete all that is committed so far.
// The writer calls it, or nobody while the writer works.
func (l *Log) Cut() error {
	if err := l.refuses(); err != nil {
		return err
	}
	if l.file != nil && l.end == l.head.base {
		return nil
	}
	return l.rotate()
}

// Release deletes the segments that end at or before pos.
func (l *Log) Release(pos uint64) error {
	l.mu.Lock()
	var gone []segment
	for len(l.segments) > 1 && l.segments[1].base <= pos {
		gone = append(gone, l.segments[0])
		l.segments = l.segments[1:]
	}
	l.mu.Unlock()
	for _, s := range gone {
		if err := l.opts.FS.Remove(s.path); err != nil && !isGone(err) {
			return fmt.Errorf("remove a segment: %w", err)
		}
	}
	return nil
}

// State is nil while the log takes frames, else why it does not.
func (l *Log) State() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Bounds are the position of the oldest frame kept and that behind the newest.
func (l *Log) Bounds() (first, end uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.segments) == 0 {
		return l.end, l.end
	}
	return l.segments[0].base, l.end
}

// LastSync is how long the last fsync took.
func (l *Log) LastSync() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastSync
}

// Free is the room on the disk that the log is on, and the disk's size.
func (l *Log) Free() (free, total int64, err error) { return l.opts.FS.Free(l.dir) }
