package packet

import (
	"errors"
	"io"
	"sync"

	"devicehub/hub/poison"
)

// ErrTooLarge is a packet over the limit. Its body has not been read.
var ErrTooLarge = &Error{TooLarge, "packet too large"}

const bufferSize = 4 << 10

var readBuffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// Source is where a Reader reads from. Fill puts at least one byte into the
// room, or fails.
type Source interface {
	Fill(room Room) (n int, err error)
}

// Room is where a Source puts what it reads. A source that can do so says
// Waits before it waits, so that an idle connection holds no buffer.
type Room interface {
	Take() []byte // at least one byte
	Waits()       // what was taken stays unused for a while
}

// PlainSource reads from any io.Reader.
type PlainSource struct{ io.Reader }

// Fill reads once.
func (s PlainSource) Fill(room Room) (int, error) {
	for {
		n, err := s.Read(room.Take())
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// Reader cuts a stream into packets. Memory is taken as bytes arrive, not as a
// packet announces them.
type Reader struct {
	src    Source
	max    int
	buf    []byte
	pooled *[]byte
	r, w   int
	given  int // where the packet that Next returned last begins
}

// NewReader reads packets of at most max bytes, fixed header included.
func NewReader(src Source, max int) *Reader {
	return &Reader{src: src, max: max}
}

// SetMax changes the limit for packets not yet begun.
func (r *Reader) SetMax(max int) { r.max = max }

// Buffered reports whether a whole packet, or an error, can be had without
// waiting for the network.
func (r *Reader) Buffered() bool {
	head, body, err := r.frame()
	return err != nil || head > 0 && r.w-r.r >= head+body
}

// Next returns the next packet: the first byte of its fixed header and what
// follows the remaining length. The body is valid until the call after. Errors:
// io.EOF between packets, io.ErrUnexpectedEOF within one, ErrTooLarge, an
// *Error, or the source's.
func (r *Reader) Next() (byte, []byte, error) {
	if poison.On {
		poison.Bytes(r.buf[r.given:r.r:r.r])
		r.given = r.r
	}
	for {
		head, body, err := r.frame()
		if err != nil {
			return 0, nil, err
		}
		if head > 0 && r.w-r.r >= head+body {
			first, b := r.buf[r.r], r.buf[r.r+head:r.r+head+body]
			r.r += head + body
			return first, b, nil
		}
		if r.r == r.w {
			r.release()
		}
		n, err := r.src.Fill((*room)(r))
		r.w += n
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) && r.w > r.r {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
	}
}

// Peek returns what has been read of the packet that is too large.
func (r *Reader) Peek() []byte { return r.buf[r.r:r.w] }

// Close gives the buffer back.
func (r *Reader) Close() { r.r = r.w; r.release() }

// frame is the length of the fixed header and of the body of the packet at r;
// head is 0 while the header is incomplete.
func (r *Reader) frame() (head, body int, err error) {
	b := r.buf[r.r:r.w]
	for i := 1; i < len(b); i++ {
		body |= int(b[i]&0x7F) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			if 1+i+body > r.max {
				return 0, 0, ErrTooLarge
			}
			return i + 1, body, nil
		}
		if i == 4 { // MQTT 5 §1.5.5
			return 0, 0, malformed("remaining length")
		}
	}
	return 0, 0, nil
}

// room is the Reader as its source sees it.
type room Reader

// Take is room for at least one more byte behind w. It moves and grows the
// buffer; what Next returned before is no longer needed when it is called.
func (o *room) Take() []byte {
	r := (*Reader)(o)
	switch {
	case r.buf == nil:
		r.pooled = readBuffers.Get().(*[]byte)
		r.buf, r.r, r.w, r.given = *r.pooled, 0, 0, 0
	case r.w == len(r.buf) && r.r > 0:
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r, r.given = 0, 0
	case r.w == len(r.buf):
		grown := make([]byte, 2*len(r.buf))
		copy(grown, r.buf)
		r.giveBack()
		r.buf = grown
	}
	return r.buf[r.w:]
}

// Waits gives the buffer back unless it holds the beginning of a packet.
func (o *room) Waits() {
	if r := (*Reader)(o); r.r == r.w {
		r.release()
	}
}

func (r *Reader) release() {
	r.giveBack()
	r.buf, r.r, r.w, r.given = nil, 0, 0, 0
}

func (r *Reader) giveBack() {
	poison.Bytes(r.buf)
	if r.pooled != nil {
		readBuffers.Put(r.pooled)
		r.pooled = nil
	}
}
