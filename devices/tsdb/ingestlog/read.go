package ingestlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"devicehub/hub/poison"
)

// Read calls f with the frames from position from on, up to the end at the
// time of the call, until f returns false. It returns the position behind the
// last frame that f took. ErrGone says that from is before the first segment
// kept, ErrCorrupt that what stands there cannot be read.
func (l *Log) Read(from uint64, f func(Frame) bool) (uint64, error) {
	l.mu.Lock()
	segs := append([]segment(nil), l.segments...)
	end := l.end
	l.mu.Unlock()
	for i, s := range segs {
		if i+1 < len(segs) && segs[i+1].base <= from {
			continue
		}
		if from >= end {
			break
		}
		if s.base > from {
			return from, ErrGone
		}
		stop := end
		if i+1 < len(segs) {
			stop = segs[i+1].base
		}
		next, more, err := l.readSegment(s, from, stop, f)
		from = next
		if err != nil || !more {
			return from, err
		}
	}
	if from < end && len(segs) == 0 {
		return from, ErrGone
	}
	return from, nil
}

// readChunk is how much of a segment is read at a time, unless a frame is
// larger.
const readChunk = 1 << 20

func (l *Log) readSegment(s segment, from, stop uint64, f func(Frame) bool) (uint64, bool, error) {
	file, err := l.opts.FS.Open(s.path)
	if isGone(err) {
		return from, false, ErrGone
	} else if err != nil {
		return from, false, err
	}
	defer file.Close()
	b := make([]byte, headerLen)
	if _, err := file.ReadAt(b, 0); err != nil {
		return from, false, fmt.Errorf("%w: %s: %w", ErrCorrupt, s.path, err)
	}
	h, err := decodeHeader(b)
	if err != nil {
		return from, false, fmt.Errorf("%w: %s: %w", ErrCorrupt, s.path, err)
	}
	want := readChunk
	for from < stop {
		n := min(uint64(want), stop-from)
		b = append(b[:0], make([]byte, n)...)
		if _, err := file.ReadAt(b, int64(from-h.base)+headerLen); err != nil && err != io.EOF {
			return from, false, err
		}
		window := header{base: from, salt: h.salt}
		off := 0
		for off < len(b) {
			fr, _, size, st := window.frameAt(b, off)
			if st != frameGood {
				break
			}
			if !f(fr) {
				return from + uint64(off), false, nil
			}
			if poison.On {
				poison.Bytes(b[off : off+size : off+size])
			}
			off += size
		}
		switch {
		case off > 0:
			want = readChunk
		case uint64(len(b)) < stop-from && want < 2*MaxFrame:
			want *= 4
		default:
			return from, false, fmt.Errorf("%w: %s: bad frame at %d", ErrCorrupt, s.path, from-h.base+headerLen)
		}
		from += uint64(off)
	}
	return from, true, nil
}

// Copy writes the segments that reach behind pos, up to what was committed at
// the time of the call, to another directory. Nothing is released meanwhile:
// that is the caller's to see to.
func (l *Log) Copy(ctx context.Context, dir string, pos uint64) error {
	l.mu.Lock()
	segs := append([]segment(nil), l.segments...)
	end := l.end
	l.mu.Unlock()
	for i, s := range segs {
		stop := end
		if i+1 < len(segs) {
			stop = segs[i+1].base
		}
		if stop <= pos {
			continue
		}
		if err := l.copySegment(ctx, s, filepath.Join(dir, filepath.Base(s.path)), int64(stop-s.base)+headerLen); err != nil {
			return err
		}
	}
	return Disk{}.SyncDir(dir)
}

func (l *Log) copySegment(ctx context.Context, s segment, to string, size int64) (err error) {
	from, err := l.opts.FS.Open(s.path)
	if err != nil {
		return err
	}
	defer from.Close()
	f, err := Disk{}.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, readChunk)
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := from.ReadAt(b[:min(int64(len(b)), size-off)], off)
		if n == 0 && err != nil {
			return err
		}
		if _, err := f.WriteAt(b[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	return f.Sync()
}
