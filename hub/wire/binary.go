package wire

import "unicode/utf8"

// Kinds of binary frame: the first byte.
const (
	kindPush      = 0
	kindReply     = 1
	kindBroadcast = 2
	// kindUserBroadcast is realtime-js' own; no Phoenix server takes it.
	kindUserBroadcast = 3
)

// DecodePush decodes a binary frame from a client into m. Every field of m is set; an empty
// join_ref or ref is null. It returns ErrFrame, wrapped, for a frame that is cut short or of
// another kind; m then has the join_ref, ref and topic if the frame begins with all three.
//
//	00 | jr_len | ref_len | topic_len | event_len | jr | ref | topic | event | payload…
func DecodePush(m *Message, frame []byte) error {
	*m = Message{Binary: true}
	if len(frame) == 0 {
		return malformed("empty")
	}
	var f [4][]byte
	lengths := 4
	switch frame[0] {
	case kindPush, kindReply:
	case kindUserBroadcast:
		lengths = 6 // those of the user's event and the metadata, and the encoding
	default:
		return malformed("binary frame of kind %d", frame[0])
	}
	rest, err := split(frame[1:], lengths, f[:])
	for _, field := range f {
		if !utf8.Valid(field) { // would be echoed in text frames
			return malformed("header of a binary frame is not UTF-8")
		}
	}
	if f[2] != nil {
		m.JoinRef, m.Ref, m.Topic = refValue(f[0]), refValue(f[1]), Value{String, f[2]}
	}
	switch {
	case err != nil:
		return err
	case frame[0] != kindPush:
		return malformed("binary frame of kind %d", frame[0])
	}
	m.Event, m.Payload = Value{String, f[3]}, rest
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
		m.Payload, err = split(frame[1:], 3, f[:3])
		m.JoinRef, m.Topic, m.Event = refValue(f[0]), Value{String, f[1]}, Value{String, f[2]}
	case kindReply:
		m.Payload, err = split(frame[1:], 4, f[:4])
		m.JoinRef, m.Ref, m.Topic, m.Status = refValue(f[0]), refValue(f[1]), Value{String, f[2]}, f[3]
		m.Event = Value{String, []byte(EventReply)}
	case kindBroadcast:
		m.Payload, err = split(frame[1:], 2, f[:2])
		m.Topic, m.Event = Value{String, f[0]}, Value{String, f[1]}
	default:
		return malformed("binary frame of kind %d", frame[0])
	}
	return err
}

// split cuts fields off b, which begins with that many lengths of a byte each, and returns the
// rest. Fields that are not whole are left as they are.
func split(b []byte, lengths int, fields [][]byte) (rest []byte, err error) {
	if len(b) < lengths {
		return nil, malformed("binary frame is cut short")
	}
	rest = b[lengths:]
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
