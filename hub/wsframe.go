package hub

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// inFrame is a frame, or a message put together from fragments, of a client.
type inFrame struct {
	op   byte
	body []byte // unmasked; valid until the next call
}

// frameError says with which code a connection is to be closed.
type frameError struct {
	code int
	what string
	rest int // how many bytes of the frame have not arrived
}

func (e *frameError) Error() string { return fmt.Sprintf("close %d: %s", e.code, e.what) }

// frameReader reads the frames of a client (RFC 6455 §5). It is fed with what has arrived and
// keeps nothing but the fragments of an unfinished message.
type frameReader struct {
	max        int // bytes of a frame, header included
	maxMessage int // bytes of a fragmented message, or of one inflated
	deflate    bool

	need       int    // how long the frame at hand is, as far as is known
	fragments  []byte // of the message at hand
	op         byte   // of the message at hand; 0: none
	compressed bool
}

// next takes one frame, or message, off b. It returns how many bytes that took: none if more has
// to arrive first. Control frames come between fragments as they are. A fragment
// that does not end its message is returned with op 0.
func (r *frameReader) next(b []byte) (n int, f inFrame, err error) {
	r.need = 2
	if len(b) < 2 {
		return 0, f, nil
	}
	fin, op := b[0]&finBit != 0, b[0]&0x0F
	if err := r.checkHead(b[0], b[1]); err != nil {
		return 0, f, err
	}
	head, size := 6, uint64(b[1]&0x7F)
	switch size {
	case 126:
		head = 8
	case 127:
		head = 14
	}
	if r.need = head; len(b) < head {
		return 0, f, nil
	}
	switch head {
	case 8:
		size = uint64(binary.BigEndian.Uint16(b[2:]))
	case 14:
		size = binary.BigEndian.Uint64(b[2:])
	}
	if total := size + uint64(head); size > 1<<62 || total > uint64(r.max) {
		return 0, f, &frameError{CloseTooLarge, "frame too large", int(min(total, 1<<30)) - len(b)}
	}
	if r.need = head + int(size); len(b) < r.need {
		return 0, f, nil
	}
	body := b[head:r.need]
	unmask(body, [4]byte(b[head-4:head]))
	if op >= opClose {
		return r.need, inFrame{op, body}, checkClose(op, body)
	}
	f, err = r.data(op, fin, b[0]&rsv1Bit != 0, body)
	return r.need, f, err
}

func protocolError(what string) error { return &frameError{code: CloseProtocolError, what: what} }

// checkHead checks the first two bytes of a frame against the state of the message at hand.
func (r *frameReader) checkHead(b0, b1 byte) error {
	op := b0 & 0x0F
	switch {
	case b1&0x80 == 0:
		return protocolError("frame is not masked")
	case b0&0x30 != 0 || b0&rsv1Bit != 0 && (!r.deflate || op != opText && op != opBinary):
		return protocolError("reserved bit is set")
	case op > opBinary && op < opClose || op > opPong:
		return protocolError("reserved opcode")
	case op >= opClose && (b0&finBit == 0 || b1&0x7F > 125):
		return protocolError("control frame is fragmented or too long")
	case op == opContinuation && r.op == 0:
		return protocolError("nothing to continue")
	case (op == opText || op == opBinary) && r.op != 0:
		return protocolError("message has not ended")
	}
	return nil
}

// data adds a data frame to the message at hand.
func (r *frameReader) data(op byte, fin, compressed bool, body []byte) (f inFrame, err error) {
	if op != opContinuation {
		r.op, r.compressed = op, compressed
		if fin {
			return r.message(body)
		}
	}
	if !fin && op == opContinuation && len(body) == 0 {
		// Bandit closes so what would otherwise cost a client nothing for ever.
		return f, &frameError{code: ClosePolicy, what: "empty fragment"}
	}
	if len(r.fragments)+len(body) > r.maxMessage {
		return f, &frameError{code: CloseTooLarge, what: "message too large"}
	}
	r.fragments = append(r.fragments, body...)
	if !fin {
		return f, nil
	}
	whole := r.fragments
	r.fragments = nil
	return r.message(whole)
}

// message finishes the message at hand.
func (r *frameReader) message(body []byte) (f inFrame, err error) {
	f = inFrame{r.op, body}
	r.op = 0
	if r.compressed {
		if f.body, err = inflate(body, r.maxMessage); err == ErrTooLarge {
			return f, &frameError{code: CloseTooLarge, what: "inflated message too large"}
		} else if err != nil {
			return f, &frameError{code: CloseInvalidPayload, what: "does not inflate"}
		}
	}
	if f.op == opText && !utf8.Valid(f.body) {
		return f, &frameError{code: CloseInvalidPayload, what: "text is not UTF-8"}
	}
	return f, nil
}

// checkClose checks the body of a close frame; other control frames may hold anything.
func checkClose(op byte, body []byte) error {
	if op != opClose || len(body) == 0 {
		return nil
	}
	if len(body) == 1 {
		return protocolError("close code is cut short")
	}
	if !utf8.Valid(body[2:]) {
		return protocolError("close reason is not UTF-8")
	}
	return nil
}

// closeAnswer returns the code that answers a close frame.
// Source: bandit lib/bandit/websocket/connection.ex, reply_code.
func closeAnswer(body []byte) int {
	if len(body) < 2 {
		return 1000
	}
	switch code := binary.BigEndian.Uint16(body); {
	case code < 1000, code >= 1004 && code <= 1006, code >= 1012 && code < 3000:
		return CloseProtocolError
	}
	return 1000
}

// unmask applies the masking key (RFC 6455 §5.3).
func unmask(b []byte, key [4]byte) {
	k := uint64(binary.LittleEndian.Uint32(key[:]))
	k |= k << 32
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
}
