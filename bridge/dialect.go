package bridge

import (
	"encoding/json"
	"strings"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// readingsEvent tells the two payloads of <root>/<id>/r apart.
func readingsEvent(payload []byte) string {
	if readings.HasList(payload) {
		return "readings"
	}
	return "reading"
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
