// Package wire turns the frames of the Phoenix Channels protocol, versions 1
// and 2, into Messages and back. It does no I/O and keeps nothing: a decoded
// Message is a set of slices into the frame that it was decoded from.
//
// A server decodes with [Version.DecodeText] and [DecodePush], and encodes with
// the Append functions named after what a server sends: [Version.AppendPush],
// [Version.AppendReply], [AppendBinaryPush], [AppendBinaryReply] and
// [AppendBinaryBroadcast]. A client decodes with [Version.DecodeText] and
// [DecodeServer], and encodes with [Version.AppendMessage].
//
// Source: phoenix lib/phoenix/socket/serializers/v1_json_serializer.ex and
// v2_json_serializer.ex.
package wire

import "errors"

// Events with a meaning of their own in the protocol.
const (
	EventJoin      = "phx_join"
	EventLeave     = "phx_leave"
	EventReply     = "phx_reply"
	EventClose     = "phx_close"
	EventError     = "phx_error"
	EventHeartbeat = "heartbeat"

	// TopicPhoenix is the topic of heartbeats.
	TopicPhoenix = "phoenix"
)

var (
	// ErrFrame is returned, wrapped with what is wrong, for a frame that cannot be decoded.
	ErrFrame = errors.New("malformed frame")
	// ErrBinary is returned when a binary payload meets version 1, which cannot carry one.
	ErrBinary = errors.New("binary payload needs version 2")
	// ErrFieldSize is returned when a field of a binary frame exceeds 255 bytes.
	ErrFieldSize = errors.New("field of a binary frame exceeds 255 bytes")
)

// Kind is what a Value holds.
type Kind uint8

const (
	Null    Kind = iota // null or absent
	String              // a string; Text is its contents, unescaped
	Literal             // any other JSON value; Text is its JSON text, compact
)

// Value is one field of the envelope. The protocol has strings and null there;
// a number, or what else a client makes up, is kept as it came and echoed so.
// The zero Value is null.
type Value struct {
	Kind Kind
	Text []byte
}

// Str returns the string s as a Value.
func Str(s string) Value { return Value{Kind: String, Text: []byte(s)} }

// IsNull reports whether v is null.
func (v Value) IsNull() bool { return v.Kind == Null }

// Is reports whether v is the string s. It does not allocate.
func (v Value) Is(s string) bool { return v.Kind == String && string(v.Text) == s }

// String returns the text of v: a string's contents, a literal's JSON, "" for null.
func (v Value) String() string { return string(v.Text) }

// Equal reports whether v and w are the same value of the same type: 1 and "1" differ.
func (v Value) Equal(w Value) bool { return v.Kind == w.Kind && string(v.Text) == string(w.Text) }

// Clone returns a copy of v that shares no memory with the frame.
func (v Value) Clone() Value {
	if v.Kind == Null {
		return Value{}
	}
	return Value{Kind: v.Kind, Text: append([]byte(nil), v.Text...)}
}

// AppendJSON appends the JSON form of v.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.Kind {
	case String:
		return AppendString(dst, v.Text)
	case Literal:
		return append(dst, v.Text...)
	}
	return append(dst, "null"...)
}

// Message is one decoded frame. Every slice in it points into the frame it came from, or,
// where a string had escapes, to memory of its own.
type Message struct {
	JoinRef Value
	Ref     Value
	Topic   Value
	Event   Value

	// Payload is JSON text, valid as encoding/json has it, or opaque bytes when Binary is set.
	Payload []byte
	Binary  bool

	// Status is set on a binary reply from a server ("ok", "error"), whose Event is
	// phx_reply. A reply in text carries its status in the payload, {"response":…,"status":…}.
	Status []byte
}
