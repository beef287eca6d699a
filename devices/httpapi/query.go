package httpapi

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"devicehub/devices"
)

func (r *route) checkQuery(req *http.Request) error {
	for name := range req.URL.Query() {
		i := slices.IndexFunc(r.query, func(p param) bool { return p.name == name })
		if i < 0 {
			return devices.Refuse(devices.CodeInvalid, "unknown parameter").With("field", printable(name)).With("want", r.queryNames())
		}
		if p := r.query[i]; !p.many && len(req.URL.Query()[name]) > 1 {
			return devices.Invalid(name, "one value")
		}
	}
	return nil
}

func (r *route) queryNames() string {
	names := make([]string, len(r.query))
	for i, p := range r.query {
		names[i] = p.name
	}
	return strings.Join(names, ", ")
}

func printable(s string) string {
	if len(s) > 64 {
		s = s[:64]
	}
	return strings.ToValidUTF8(s, "?")
}

// Lists are paged.
const (
	defaultLimit = 50
	maxLimit     = 500
)

func (c *call) limit() (int, error) { return c.number("limit", defaultLimit, 1, maxLimit) }

// number reads a whole number of the query.
func (c *call) number(name string, unset, min, max int) (int, error) {
	s := c.query(name)
	if s == "" {
		return unset, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, devices.Invalid(name, "a whole number")
	}
	if n < min || n > max {
		return 0, devices.OutOfRange(name, float64(min), float64(max), "")
	}
	return n, nil
}

func (c *call) query(name string) string { return c.URL.Query().Get(name) }

func (c *call) flag(name string) (bool, error) {
	switch c.query(name) {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	}
	return false, devices.Invalid(name, "true or false")
}

// span reads from and to: RFC 3339 or ms since epoch. to defaults to now.
func (c *call) span(unsetFrom time.Duration) (from, to int64, err error) {
	now := c.api.now()
	if to, err = c.instant("to", now.UnixMilli()); err != nil {
		return 0, 0, err
	}
	unset := int64(0)
	if unsetFrom > 0 {
		unset = to - unsetFrom.Milliseconds()
	}
	if from, err = c.instant("from", unset); err != nil {
		return 0, 0, err
	}
	if from > to {
		return 0, 0, devices.Invalid("from", "a time not after to")
	}
	return from, to, nil
}

// instant reads a point in time as ms since epoch.
func (c *call) instant(name string, unset int64) (int64, error) {
	s := c.query(name)
	if s == "" {
		return unset, nil
	}
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil && ms >= 0 && ms <= maxInstant {
		return ms, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil && t.UnixMilli() >= 0 {
		return t.UnixMilli(), nil
	}
	return 0, devices.Invalid(name, "RFC 3339 or ms since epoch")
}

// maxInstant is the year 9999 in ms since epoch.
const maxInstant = 253402300799999

// A cursor is where the next page begins: opaque to clients, good for the list
// it came from.
func cursor(list, at string) string {
	if at == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(list + "\x00" + at))
}

func (c *call) cursor(list string) (at string, err error) {
	s := c.query("cursor")
	if s == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil {
		if of, at, found := strings.Cut(string(b), "\x00"); found && of == list {
			return at, nil
		}
	}
	return "", devices.Invalid("cursor", "one from an earlier answer of this list")
}

// page is limit and cursor.
func (c *call) page(list string) (limit int, at string, err error) {
	if limit, err = c.limit(); err != nil {
		return 0, "", err
	}
	at, err = c.cursor(list)
	return limit, at, err
}
