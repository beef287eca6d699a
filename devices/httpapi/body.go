package httpapi

import (
	"errors"
	"io"
	"net/http"
	"time"

	"devicehub/devices"
)

// body reads the request's JSON object into v: unknown fields, other types and
// anything behind it are invalid.
func (c *call) body(v any) error {
	b, err := c.raw()
	if err != nil {
		return err
	}
	return devices.Decode(b, "body", v)
}

// A client that is slower than that is given up.
const (
	bodyWithin = time.Minute      // until a body is there
	takeWithin = 30 * time.Second // until the next part of a streamed answer is taken
)

// raw reads the body, as far as the route allows.
func (c *call) raw() ([]byte, error) {
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
	return b, nil
}
