package hub

import (
	"bufio"
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"

	"devicehub/hub/poison"
)

// permessage-deflate (RFC 7692) without context takeover: each message stands alone, so that a
// broadcast is compressed once and an idle connection holds no window.

// deflateFrom is the shortest message that is compressed.
const deflateFrom = 128

// deflater compresses into memory of its own.
type deflater struct {
	w   *flate.Writer
	out bytes.Buffer
}

var deflaters = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // the level is valid
	return &deflater{w: w}
}}

func (d *deflater) free() {
	poison.Bytes(d.out.Bytes())
	if d.out.Cap() <= 1<<16 {
		deflaters.Put(d)
	}
}

// compress returns the entry with its frame compressed, when that is worth it.
func compress(e entry) entry {
	if e.op != opText && e.op != opBinary || len(e.data)-int(e.head) < deflateFrom {
		return e
	}
	f := e.f
	if f == nil {
		f = &frame{data: e.data, head: e.head, op: e.op}
		if e.f = f.deflated(); e.f == f {
			e.f = nil
			return e
		}
	} else {
		e.f = f.deflated()
	}
	e.data, e.head = e.f.data, e.f.head
	return e
}

// deflated returns the frame compressed, or as it is when that is not shorter.
func (f *frame) deflated() *frame {
	f.deflate.Do(func() {
		f.small = f
		d := deflaters.Get().(*deflater)
		defer d.free()
		d.out.Reset()
		d.w.Reset(&d.out)
		d.w.Write(f.body())
		d.w.Flush()
		out := bytes.TrimSuffix(d.out.Bytes(), []byte("\x00\x00\xff\xff")) // RFC 7692 §7.2.1
		if len(out) >= len(f.body()) {
			return
		}
		s := newScratch()
		defer s.free()
		s.b = append(s.b, out...)
		small := s.shared(f.op)
		small.data[0] |= rsv1Bit
		small.op, small.whole = f.op, f
		f.small = small
	})
	return f.small
}

// inflater expands what it reads through memory of its own.
type inflater struct {
	flate io.ReadCloser
	in    bufio.Reader
}

var inflaters = sync.Pool{New: func() any { return &inflater{flate: flate.NewReader(nil)} }}

// free forgets where it read from: that is used again for something else.
func (z *inflater) free() {
	z.in.Reset(nil)
	inflaters.Put(z)
}

// inflate returns the message that was compressed to data, or ErrTooLarge when it is longer than
// max bytes.
func inflate(data []byte, max int) ([]byte, error) {
	z := inflaters.Get().(*inflater)
	defer z.free()
	// The tail that the sender cut off, and an empty final block, so that the reader ends.
	z.in.Reset(io.MultiReader(bytes.NewReader(data), bytes.NewReader([]byte("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
	if err := z.flate.(flate.Resetter).Reset(&z.in, nil); err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(z.flate, int64(max)+1))
	if err != nil {
		return nil, err
	}
	if len(out) > max {
		return nil, ErrTooLarge
	}
	return out, nil
}
