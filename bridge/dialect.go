package bridge

import (
	"encoding/json"
	"strings"

	"devicehub/devices"
)

// readingsEvent tells the two payloads of <root>/<id>/r apart: one with a list
// under "r" is readings, any other a reading.
func readingsEvent(payload []byte) string {
	if hasKey(payload, "r") {
		return "readings"
	}
	return "reading"
}

// hasKey reports whether a JSON object has the key at its top level. It judges
// nothing: what is no JSON has no keys.
func hasKey(b []byte, key string) bool {
	depth, start := 0, -1
	for i := 0; i < len(b); i++ {
		switch c := b[i]; c {
		case '"':
			begin := i + 1
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if i >= len(b) {
				return false
			}
			if depth == 1 && start >= 0 && string(b[begin:i]) == key {
				return true
			}
			start = -1
		case '{', '[':
			depth++
			if c == '{' && depth == 1 {
				start = i
			}
		case '}', ']':
			depth--
		case ',':
			if depth == 1 {
				start = i // a key follows
			}
		}
	}
	return false
}

// cborSenML reports whether a SenML pack is CBOR: the content type of MQTT 5
// says so, else the first byte (JSON begins with a bracket or white space).
func cborSenML(contentType string, payload []byte) bool {
	switch media, _, _ := strings.Cut(contentType, ";"); strings.TrimSpace(media) {
	case "application/senml+cbor", "application/sensml+cbor":
		return true
	case "application/senml+json", "application/sensml+json":
		return false
	}
	if len(payload) == 0 {
		return false
	}
	switch payload[0] {
	case '[', '{', ' ', '\t', '\r', '\n':
		return false
	}
	return true
}

// sysEvent reads {"e":name,…}: the event's name, and the object without "e".
func sysEvent(payload []byte) (name string, rest []byte, err error) {
	if err := devices.CheckJSON(payload, "payload"); err != nil {
		return "", nil, err
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) != nil || fields == nil || json.Unmarshal(fields["e"], &name) != nil {
		return "", nil, devices.Invalid("e", "time_req, token_refresh, pong, sleep or info")
	}
	switch name {
	case "time_req", "token_refresh", "pong", "sleep", "info":
	default:
		return "", nil, devices.Invalid("e", "time_req, token_refresh, pong, sleep or info")
	}
	delete(fields, "e")
	rest, err = json.Marshal(fields)
	return name, rest, err
}
