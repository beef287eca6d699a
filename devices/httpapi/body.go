package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"devicehub/devices"
)

// body reads the request's JSON object into v: unknown fields, other types, null
// and anything behind it are invalid.
func (c *call) body(v any) error {
	b, err := c.raw()
	if err != nil {
		return err
	}
	if string(bytes.TrimSpace(b)) == "null" {
		return devices.Invalid("body", "a JSON object")
	}
	return devices.Decode(b, "body", v)
}

// patchBody is body for the change of a record whose fields are always there:
// null would take one away, and is invalid.
func (c *call) patchBody(v any) error {
	if err := c.body(v); err != nil {
		return err
	}
	b, err := c.raw()
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return devices.Invalid("body", "a JSON object")
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if string(fields[name]) == "null" {
			return devices.Invalid(name, "a value; leave it out to keep what is there")
		}
	}
	return nil
}

// optionalBody is body for calls that may come without one.
func (c *call) optionalBody(v any) error {
	if b, err := c.raw(); err != nil || len(bytes.TrimSpace(b)) == 0 {
		return err
	}
	return c.body(v)
}

// noBody refuses a body with something in it where the call takes none: whoever
// sends one means something by it. An empty object is what some clients send for
// nothing.
func (c *call) noBody() error {
	if c.ContentLength == 0 {
		return nil
	}
	return c.optionalBody(&struct{}{})
}

// A client that is slower than that is given up.
const (
	bodyWithin = time.Minute      // until a body is there
	takeWithin = 30 * time.Second // until the next part of a streamed answer is taken
	takePart   = 16 << 10         // bytes of one
)

// raw reads the body, as far as the route allows. It is UTF-8 that calls itself
// JSON, or nothing at all. A second call returns the same.
func (c *call) raw() ([]byte, error) {
	if c.read {
		return c.sent, nil
	}
	limit := c.api.bodyLimit(c.route)
	conn := http.NewResponseController(c.w)
	_ = conn.SetReadDeadline(time.Now().Add(bodyWithin))
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, limit))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, devices.Refuse(devices.CodeTooLarge, "the body is too large").With("limit", limit)
	}
	if err != nil {
		return nil, devices.Refuse(devices.CodeInvalid, "the body broke off")
	}
	_ = conn.SetReadDeadline(time.Time{}) // it stays after an error: nothing more is waited for
	if len(b) > 0 {
		if err := c.checkType(b); err != nil {
			return nil, err
		}
		if !utf8.Valid(b) {
			return nil, devices.Invalid("body", "UTF-8")
		}
	}
	c.sent, c.read = b, true
	return b, nil
}

const (
	typeJSON  = "application/json"
	typeMerge = "application/merge-patch+json" // RFC 7396
	// What curl -d and the HTTP clients of small devices say of any body unless told
	// otherwise. It is taken for what it holds.
	typeForm = "application/x-www-form-urlencoded"
)

// checkType refuses a body that says it is something else than JSON in UTF-8 as it
// stands. One that says nothing is taken at its word (RFC 9110 §8.3).
func (c *call) checkType(body []byte) error {
	if coding := c.Header.Values("Content-Encoding"); len(coding) > 0 && !strings.EqualFold(strings.Join(coding, ","), "identity") {
		c.w.Header().Set("Accept-Encoding", "identity") // RFC 9110 §12.5.3
		return &refusal{devices.Invalid("Content-Encoding", "none: bodies are taken as they are"), http.StatusUnsupportedMediaType}
	}
	said := c.Header.Values("Content-Type")
	if len(said) == 0 {
		return nil
	}
	kind, params, err := mime.ParseMediaType(said[0])
	charset := params["charset"]
	switch {
	case err != nil || len(said) > 1:
	case charset != "" && !strings.EqualFold(charset, "utf-8"):
	case kind == typeJSON, kind == typeMerge && c.route.merges, kind == typeForm && looksLikeJSON(body):
		return nil
	}
	types := c.route.takes()
	c.w.Header().Set("Accept-"+c.Method[:1]+strings.ToLower(c.Method[1:]), strings.Join(types, ", ")) // RFC 5789 §2.2
	return &refusal{devices.Invalid("Content-Type", strings.Join(types, " or ")+" in UTF-8"), http.StatusUnsupportedMediaType}
}

// takes are the types of the route's body.
func (r *route) takes() []string {
	if r.merges {
		return []string{typeJSON, typeMerge}
	}
	return []string{typeJSON}
}

// looksLikeJSON reports whether a body is JSON, or began as if it were.
func looksLikeJSON(body []byte) bool {
	body = bytes.TrimSpace(body)
	return len(body) > 0 && (body[0] == '{' || body[0] == '[' || json.Valid(body))
}
