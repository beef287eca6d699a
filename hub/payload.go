package hub

import (
	"encoding/json"
	"errors"
)

// Binary is a payload sent as it is, in a binary frame. It needs version 2 of the protocol.
type Binary []byte

// Payload is what a message carries. Its bytes may be kept, and must not be changed.
type Payload struct {
	data   []byte
	binary bool
}

// JSONPayload returns a Payload of JSON text.
func JSONPayload(text []byte) Payload { return Payload{data: text} }

// BinaryPayload returns a binary Payload.
func BinaryPayload(data []byte) Payload { return Payload{data: data, binary: true} }

// Decode unmarshals a JSON payload into v. A binary payload is an error.
func (p Payload) Decode(v any) error {
	if p.binary {
		return errors.New("payload is binary, not JSON")
	}
	if len(p.data) == 0 {
		return errors.New("payload is empty")
	}
	return json.Unmarshal(p.data, v)
}

// Bytes returns the JSON text or the binary data.
func (p Payload) Bytes() []byte { return p.data }

// Binary reports whether the payload came in a binary frame.
func (p Payload) Binary() bool { return p.binary }

// Any returns the payload as something to send: Binary or json.RawMessage.
func (p Payload) Any() any {
	if p.binary {
		return Binary(p.data)
	}
	return json.RawMessage(p.data)
}

// MarshalJSON implements json.Marshaler, for a payload within another value. A binary one is an
// error.
func (p Payload) MarshalJSON() ([]byte, error) {
	switch {
	case p.binary:
		return nil, errors.New("payload is binary, not JSON")
	case len(p.data) == 0:
		return []byte("null"), nil
	}
	return p.data, nil
}
