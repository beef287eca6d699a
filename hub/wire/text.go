package wire

// DecodeText decodes a text frame of version v into m, from a client or a server. Every
// field of m is set. It returns ErrFrame, wrapped, for anything that is not such a frame; m then
// has what was read before the fault.
//
// V2 is [join_ref, ref, topic, event, payload]; elements past the fifth are ignored.
// V1 is an object with the keys topic, event, payload and ref, and perhaps join_ref;
// other keys are ignored, and of a key that comes twice the last value counts.
func (v Version) DecodeText(m *Message, frame []byte) error {
	if v == V1 {
		return decodeV1(m, frame)
	}
	return decodeV2(m, frame)
}

func decodeV2(m *Message, b []byte) (err error) {
	*m = Message{}
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '[' {
		return malformed("not an array")
	}
	next := func(what string) error {
		if i = skipSpace(b, i); i >= len(b) || b[i] != ',' {
			return malformed("no %s", what)
		}
		i = skipSpace(b, i+1)
		return nil
	}
	i = skipSpace(b, i+1)
	if m.JoinRef, i, err = scanField(b, i); err != nil {
		return err
	}
	if err = next("ref"); err != nil {
		return err
	}
	if m.Ref, i, err = scanField(b, i); err != nil {
		return err
	}
	if err = next("topic"); err != nil {
		return err
	}
	if m.Topic, i, err = scanField(b, i); err != nil {
		return err
	}
	if err = next("event"); err != nil {
		return err
	}
	if m.Event, i, err = scanField(b, i); err != nil {
		return err
	}
	if err = next("payload"); err != nil {
		return err
	}
	start := i
	i, ok := scanValue(b, i)
	if !ok {
		return malformed("payload, byte %d", i)
	}
	m.Payload = b[start:i:i]
	for {
		if i = skipSpace(b, i); i >= len(b) {
			return malformed("array has no end")
		}
		if b[i] == ']' {
			break
		}
		if b[i] != ',' {
			return malformed("byte %d", i)
		}
		if i, ok = scanValue(b, skipSpace(b, i+1)); !ok {
			return malformed("byte %d", i)
		}
	}
	if skipSpace(b, i+1) != len(b) {
		return malformed("text after the array")
	}
	return nil
}

func decodeV1(m *Message, b []byte) (err error) {
	*m = Message{}
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return malformed("not an object")
	}
	const hasTopic, hasEvent, hasPayload, hasRef = 1, 2, 4, 8
	seen := 0
	i = skipSpace(b, i+1)
	if i < len(b) && b[i] == '}' {
		return malformed("empty object")
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return malformed("key at byte %d", i)
		}
		end, escaped, ok := scanString(b, i)
		if !ok {
			return malformed("key at byte %d", i)
		}
		key := b[i+1 : end-1]
		if escaped {
			if key, err = unescape(b[i:end]); err != nil {
				return err
			}
		}
		if i = skipSpace(b, end); i >= len(b) || b[i] != ':' {
			return malformed("byte %d", i)
		}
		i = skipSpace(b, i+1)
		switch string(key) {
		case "topic":
			m.Topic, i, err = scanField(b, i)
			seen |= hasTopic
		case "event":
			m.Event, i, err = scanField(b, i)
			seen |= hasEvent
		case "ref":
			m.Ref, i, err = scanField(b, i)
			seen |= hasRef
		case "join_ref":
			m.JoinRef, i, err = scanField(b, i)
		default:
			start := i
			if i, ok = scanValue(b, i); !ok {
				return malformed("value at byte %d", i)
			}
			if string(key) == "payload" {
				m.Payload = b[start:i:i]
				seen |= hasPayload
			}
		}
		if err != nil {
			return err
		}
		if i = skipSpace(b, i); i >= len(b) {
			return malformed("object has no end")
		}
		if b[i] == '}' {
			break
		}
		if b[i] != ',' {
			return malformed("byte %d", i)
		}
		i = skipSpace(b, i+1)
	}
	if skipSpace(b, i+1) != len(b) {
		return malformed("text after the object")
	}
	if seen != hasTopic|hasEvent|hasPayload|hasRef {
		return malformed("topic, event, payload or ref is missing")
	}
	return nil
}

// AppendPush appends a server's text frame with the given JSON payload. A broadcast has
// null for joinRef and ref. Version 1 has no place for joinRef and leaves it out.
func (v Version) AppendPush(dst []byte, joinRef, ref, topic, event Value, payload []byte) []byte {
	if v == V1 {
		dst = append(dst, `{"event":`...)
		dst = event.AppendJSON(dst)
		dst = append(dst, `,"payload":`...)
		dst = append(dst, payload...)
		return appendV1Tail(dst, ref, topic)
	}
	dst = appendV2Head(dst, joinRef, ref, topic)
	dst = event.AppendJSON(dst)
	dst = append(dst, ',')
	dst = append(dst, payload...)
	return append(dst, ']')
}

// AppendReply appends a server's phx_reply as text; response is JSON.
func (v Version) AppendReply(dst []byte, joinRef, ref, topic Value, status string, response []byte) []byte {
	if v == V1 {
		dst = append(dst, `{"event":"phx_reply","payload":`...)
		dst = appendResponse(dst, status, response)
		return appendV1Tail(dst, ref, topic)
	}
	dst = appendV2Head(dst, joinRef, ref, topic)
	dst = append(dst, `"phx_reply",`...)
	dst = appendResponse(dst, status, response)
	return append(dst, ']')
}

func appendResponse(dst []byte, status string, response []byte) []byte {
	dst = append(dst, `{"response":`...)
	dst = append(dst, response...)
	dst = append(dst, `,"status":`...)
	dst = AppendString(dst, status)
	return append(dst, '}')
}

func appendV2Head(dst []byte, joinRef, ref, topic Value) []byte {
	dst = append(dst, '[')
	dst = joinRef.AppendJSON(dst)
	dst = append(dst, ',')
	dst = ref.AppendJSON(dst)
	dst = append(dst, ',')
	dst = topic.AppendJSON(dst)
	return append(dst, ',')
}

func appendV1Tail(dst []byte, ref, topic Value) []byte {
	dst = append(dst, `,"ref":`...)
	dst = ref.AppendJSON(dst)
	dst = append(dst, `,"topic":`...)
	dst = topic.AppendJSON(dst)
	return append(dst, '}')
}

// AppendMessage appends what a client sends: a text frame, or, when m.Binary is set, a
// binary frame of kind 0. It reports whether the frame is binary. It returns ErrBinary for
// a binary payload in version 1 and ErrFieldSize for a field over 255 bytes in a binary frame.
func (v Version) AppendMessage(dst []byte, m *Message) (frame []byte, binary bool, err error) {
	if m.Binary {
		if v == V1 {
			return dst, true, ErrBinary
		}
		frame, err = AppendClientBinary(dst, m)
		return frame, true, err
	}
	if v == V2 {
		return v.AppendPush(dst, m.JoinRef, m.Ref, m.Topic, m.Event, m.Payload), false, nil
	}
	dst = append(dst, `{"topic":`...)
	dst = m.Topic.AppendJSON(dst)
	dst = append(dst, `,"event":`...)
	dst = m.Event.AppendJSON(dst)
	dst = append(dst, `,"payload":`...)
	dst = append(dst, m.Payload...)
	dst = append(dst, `,"ref":`...)
	dst = m.Ref.AppendJSON(dst)
	if !m.JoinRef.IsNull() {
		dst = append(dst, `,"join_ref":`...)
		dst = m.JoinRef.AppendJSON(dst)
	}
	return append(dst, '}'), false, nil
}
