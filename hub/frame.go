package hub

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync"

	"devicehub/hub/poison"
	"devicehub/hub/pubsub"
	"devicehub/hub/wire"
)

// WebSocket opcodes (RFC 6455 §5.2).
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

const (
	finBit  = 0x80
	rsv1Bit = 0x40
	// headRoom is the longest header of an unmasked frame.
	headRoom = 10
)

// frame is one message to clients, with the WebSocket header that it will be sent with. It is
// immutable and shared by all who receive it.
type frame struct {
	data    []byte // header and body
	head    uint8  // length of the header
	op      uint8
	end     int // in data, the index after the payload's closing brace; 0: no JSON object
	deflate sync.Once
	small   *frame // set by deflate: the frame compressed
	whole   *frame // what this one compresses, if it does
}

func (f *frame) body() []byte { return f.data[f.head:] }

// scratch is a buffer in which a frame is built behind room for its header.
type scratch struct {
	b   []byte
	buf bytes.Buffer
	enc *json.Encoder
}

var scratches = sync.Pool{New: func() any {
	s := new(scratch)
	s.enc = json.NewEncoder(&s.buf)
	s.enc.SetEscapeHTML(false)
	return s
}}

func newScratch() *scratch {
	s := scratches.Get().(*scratch)
	s.b = append(s.b[:0], make([]byte, headRoom)...)
	return s
}

func (s *scratch) free() {
	poison.Bytes(s.b)
	poison.Bytes(s.buf.Bytes())
	if cap(s.b) > 1<<16 || s.buf.Cap() > 1<<16 {
		return
	}
	scratches.Put(s)
}

// finish writes the header in front of the body and returns both.
func (s *scratch) finish(op byte) (data []byte, head uint8) {
	n := len(s.b) - headRoom
	h := headRoom - headLen(n)
	putHead(s.b[h:], finBit|op, n)
	return s.b[h:], uint8(headRoom - h)
}

func headLen(n int) int {
	switch {
	case n < 126:
		return 2
	case n < 1<<16:
		return 4
	}
	return 10
}

func putHead(b []byte, first byte, n int) {
	b[0] = first
	switch headLen(n) {
	case 2:
		b[1] = byte(n)
	case 4:
		b[1] = 126
		binary.BigEndian.PutUint16(b[2:], uint16(n))
	default:
		b[1] = 127
		binary.BigEndian.PutUint64(b[2:], uint64(n))
	}
}

// shared copies a finished scratch into a frame of its own.
func (s *scratch) shared(op byte) *frame {
	data, head := s.finish(op)
	return &frame{data: append(make([]byte, 0, len(data)), data...), head: head, op: op}
}

// appender is a payload that knows its JSON text, which is taken without a check.
type appender interface {
	AppendJSON(dst []byte) ([]byte, error)
}

// payloadJSON returns the JSON text of a payload, in memory that the next call on s reuses.
// The text of a json.RawMessage is checked.
func (s *scratch) payloadJSON(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return view(emptyPayload), nil
	case json.RawMessage:
		if !wire.Valid(v) {
			return nil, fmt.Errorf("%w: not JSON", ErrPayload)
		}
		if bytes.ContainsAny(v, " \t\r\n") { // as often as not inside a string
			s.buf.Reset()
			err := json.Compact(&s.buf, v)
			return s.buf.Bytes(), err
		}
		return v, nil
	case appender:
		s.buf.Reset()
		out, err := v.AppendJSON(s.buf.AvailableBuffer())
		if err != nil {
			return nil, err
		}
		s.buf.Write(out)
		return s.buf.Bytes(), nil
	}
	s.buf.Reset()
	if err := s.enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(s.buf.Bytes(), []byte("\n")), nil
}

// objectJSON is payloadJSON for what must be an object.
func (s *scratch) objectJSON(v any) ([]byte, error) {
	text, err := s.payloadJSON(v)
	if err == nil && (len(text) == 0 || text[0] != '{') {
		return nil, ErrPayload
	}
	return text, err
}

// noObject reports whether v is JSON text that is no object.
func noObject(v any) bool {
	var text []byte
	switch v := v.(type) {
	case Payload:
		if v.binary {
			return false
		}
		text = v.data
	case json.RawMessage:
		text = v
	default:
		return false
	}
	return !bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{"))
}

func asBinary(v any) ([]byte, bool) {
	switch v := v.(type) {
	case Binary:
		return v, true
	case Payload:
		return v.data, v.binary
	}
	return nil, false
}

// plain turns a Payload into what it holds; other values are themselves.
func plain(v any) any {
	if p, ok := v.(Payload); ok {
		return p.Any()
	}
	return v
}

// encoded is the memo of one broadcast in one version.
type encoded struct {
	frame *frame
	err   error
}

// Slots of pubsub.Message.Memo.
const (
	memoV1 = iota
	memoV2
	memoRaw   // Payload, for those who intercept
	memoBatch // *Batch, of those that are written together
)

// broadcastFrame returns m as version v has it, encoded once. A binary payload in version 1 is
// wire.ErrBinary.
func broadcastFrame(m *pubsub.Message, v wire.Version) (*frame, error) {
	slot, build := memoV2, encodeV2
	if v == wire.V1 {
		slot, build = memoV1, encodeV1
	}
	e := m.Memo(slot, build).(*encoded)
	return e.frame, e.err
}

func encodeV1(m *pubsub.Message) any { return encodeBroadcast(m, wire.V1) }
func encodeV2(m *pubsub.Message) any { return encodeBroadcast(m, wire.V2) }

func encodeBroadcast(m *pubsub.Message, v wire.Version) any {
	s := newScratch()
	defer s.free()
	topic, event := wire.Str(m.Topic), wire.Str(m.Event)
	if data, ok := asBinary(m.Payload); ok {
		if v == wire.V1 {
			return &encoded{err: wire.ErrBinary}
		}
		var err error
		if s.b, err = wire.AppendBinaryBroadcast(s.b, topic, event, data); err != nil {
			return &encoded{err: err}
		}
		return &encoded{frame: s.shared(opBinary)}
	}
	text, err := s.objectJSON(plain(m.Payload))
	if err != nil {
		return &encoded{err: err}
	}
	s.b = v.AppendPush(s.b, wire.Value{}, wire.Value{}, topic, event, text)
	f := s.shared(opText)
	f.end = payloadEnd(f.data, v, m.Topic)
	return &encoded{frame: f}
}

// payloadEnd returns the index after the payload in a text frame of a broadcast.
func payloadEnd(data []byte, v wire.Version, topic string) int {
	if v == wire.V2 {
		return len(data) - len("]")
	}
	tail := wire.AppendString([]byte(`,"ref":null,"topic":`), topic)
	return len(data) - len(tail) - len("}")
}

// skipped returns f with "skipped":n added to its payload.
func (f *frame) skipped(n int) *frame {
	if f.whole != nil {
		return f.whole.skipped(n).deflated()
	}
	if f.end == 0 || n == 0 {
		return f
	}
	s := newScratch()
	defer s.free()
	open := f.data[:f.end-1]
	s.b = append(s.b, open[f.head:]...)
	if open[len(open)-1] != '{' {
		s.b = append(s.b, ',')
	}
	s.b = fmt.Appendf(s.b, `"skipped":%d}`, n)
	s.b = append(s.b, f.data[f.end:]...)
	return s.shared(f.op)
}

// rawPayload returns the payload of m as a channel that intercepts gets it.
func rawPayload(m *pubsub.Message) (Payload, error) {
	type raw struct {
		p   Payload
		err error
	}
	r := m.Memo(memoRaw, func(m *pubsub.Message) any {
		if data, ok := asBinary(m.Payload); ok {
			return &raw{p: BinaryPayload(data)}
		}
		s := newScratch()
		defer s.free()
		text, err := s.objectJSON(plain(m.Payload))
		return &raw{JSONPayload(bytes.Clone(text)), err}
	}).(*raw)
	return r.p, r.err
}

// closeFrame returns a WebSocket close frame (RFC 6455 §5.5.1). The reason is cut to what fits.
func closeFrame(code int, reason string) *frame {
	s := newScratch()
	defer s.free()
	if len(reason) > 123 {
		reason = reason[:123]
	}
	s.b = binary.BigEndian.AppendUint16(s.b, uint16(code))
	s.b = append(s.b, reason...)
	return s.shared(opClose)
}
