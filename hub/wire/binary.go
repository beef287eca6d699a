package wire

import "unicode/utf8"

// Kinds of binary frame: the first byte.
const (
	kindPush      = 0
	kindReply     = 1
	kindBroadcast = 2
)

// DecodePush decodes a binary frame from a client into m. Every field of m is set; an empty
// join_ref or ref is null. It returns ErrFrame, wrapped, for a frame that is cut short or of
// another kind.
//
//	00 | jr_len | ref_len | topic_len | event_len | jr | ref | topic | event | payload…
func DecodePush(m *Message, frame []byte) error {
	*m = Message{Binary: true}
	if len(frame) == 0 || frame[0] != kindPush {
		return malformed("not a binary push")
	}
	var f [4][]byte
	rest, err := split(frame[1:], f[:])
	if err != nil {
		return err
	}
	for _, field := range f {
		if !utf8.Valid(field) { // would be echoed in text frames
			return malformed("header of a binary frame is not UTF-8")
		}
	}
	m.JoinRef, m.Ref = refValue(f[0]), refValue(f[1])
	m.Topic, m.Event = Value{String, f[2]}, Value{String, f[3]}
	m.Payload = rest
	return nil
}

// DecodeServer decodes a binary frame from a server into m: a push, a reply (which sets
// Status, and phx_reply as the event) or a broadcast. It returns ErrFrame, wrapped, for
// anything else.
func DecodeServer(m *Message, frame []byte) error {
	*m = Message{Binary: true}
	if len(frame) == 0 {
		return malformed("empty")
	}
	var f [4][]byte
	var err error
	switch frame[0] {
	case kindPush:
		m.Payload, err = split(frame[1:], f[:3])
		m.JoinRef, m.Topic, m.Event = refValue(f[0]), Value{String, f[1]}, Value{String, f[2]}
	case kindReply:
		m.Payload, err = split(frame[1:], f[:4])
		m.JoinRef, m.Ref, m.Topic, m.Status = refValue(f[0]), refValue(f[1]), Value{String, f[2]}, f[3]
		m.Event = Value{String, []byte(EventReply)}
	case kindBroadcast:
		m.Payload, err = split(frame[1:], f[:2])
		m.Topic, m.Event = Value{String, f[0]}, Value{String, f[1]}
	default:
		return malformed("binary frame of kind %d", frame[0])
	}
	return err
}

// split cuts fields off b, which begins with one length byte a field, and returns the rest.
func split(b []byte, fields [][]byte) (rest []byte, err error) {
	n := len(fields)
	if len(b) < n {
		return nil, malformed("binary frame is cut short")
	}
	rest = b[n:]
	for i := range fields {
		size := int(b[i])
		if len(rest) < size {
			return nil, malformed("binary frame is cut short")
		}
		fields[i], rest = rest[:size:size], rest[size:]
	}
	return rest, nil
}

func refValue(b []byte) Value {
	if len(b) == 0 {
		return Value{}
	}
	return Value{String, b}
}

// AppendBinaryPush appends a server's push. It returns ErrFieldSize if a field is too long.
func AppendBinaryPush(dst []byte, joinRef, topic, event Value, payload []byte) ([]byte, error) {
	return appendBinary(dst, kindPush, payload, joinRef.Text, topic.Text, event.Text)
}

// AppendBinaryReply appends a server's reply. It returns ErrFieldSize if a field is too long.
func AppendBinaryReply(dst []byte, joinRef, ref, topic Value, status string, payload []byte) ([]byte, error) {
	return appendBinary(dst, kindReply, payload, joinRef.Text, ref.Text, topic.Text, []byte(status))
}

// AppendBinaryBroadcast appends a server's broadcast. It returns ErrFieldSize if a field is too long.
func AppendBinaryBroadcast(dst []byte, topic, event Value, payload []byte) ([]byte, error) {
	return appendBinary(dst, kindBroadcast, payload, topic.Text, event.Text)
}

// AppendClientBinary appends a client's binary push. It returns ErrFieldSize if a field is too long.
func AppendClientBinary(dst []byte, m *Message) ([]byte, error) {
	return appendBinary(dst, kindPush, m.Payload, m.JoinRef.Text, m.Ref.Text, m.Topic.Text, m.Event.Text)
}

func appendBinary(dst []byte, kind byte, payload []byte, fields ...[]byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, kind)
	for _, f := range fields {
		if len(f) > 255 {
			return dst[:start], ErrFieldSize
		}
		dst = append(dst, byte(len(f)))
	}
	for _, f := range fields {
		dst = append(dst, f...)
	}
	return append(dst, payload...), nil
}
