package httpapi

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"devicehub/devices"
)

// parameters reads the query of a request. Nothing in it is passed over: what
// does not parse, is unknown, has no value or has more than one is invalid.
// [url.URL.Query] would drop what it does not understand, and a call would do more
// than was asked for.
func (r *route) parameters(raw string) (url.Values, error) {
	values := url.Values{}
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil {
			return nil, devices.Invalid(printable(rawName), "a name whose % are written as %25")
		}
		p, err := r.parameter(name)
		if err != nil {
			return nil, err
		}
		value, err := url.QueryUnescape(rawValue)
		switch {
		case strings.Contains(pair, ";"):
			return nil, devices.Invalid(name, "parameters joined by &, and a semicolon within one written as %3B")
		case err != nil || !utf8.ValidString(value):
			return nil, devices.Invalid(name, "UTF-8, and a % written as %25")
		case value == "" && !p.blank:
			return nil, devices.Invalid(name, p.values())
		case !p.many && values.Has(name):
			return nil, devices.Invalid(name, "one value")
		}
		values.Add(name, value)
	}
	return values, nil
}

// parameter is the one of the name, or the refusal of a name that is none.
func (r *route) parameter(name string) (param, error) {
	i := slices.IndexFunc(r.query, func(p param) bool { return p.name == name })
	if i < 0 {
		names := make([]string, len(r.query))
		for i, p := range r.query {
			names[i] = p.name
		}
		return param{}, devices.Refuse(devices.CodeInvalid, "unknown parameter").With("field", printable(name)).With("want", strings.Join(names, ", "))
	}
	return r.query[i], nil
}

// values says what the parameter may be.
func (p *param) values() string {
	switch {
	case p.enum != nil:
		return strings.Join(p.enum, ", ")
	case p.kind == "boolean":
		return "true or false"
	case p.kind == "integer":
		return "a whole number"
	}
	return "a value; leave it out where there is none"
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

// query is the value of a parameter, "" where it was not given.
func (c *call) query(name string) string { return c.params.Get(name) }

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
		if ms >= leastSeconds && ms < mostSeconds {
			return 0, devices.Invalid(name, "ms since epoch, not seconds: three more digits")
		}
		return ms, nil
	}
	if t, err := time.Parse(time.RFC3339, plusBack(s)); err == nil && t.UnixMilli() >= 0 {
		return t.UnixMilli(), nil
	}
	return 0, devices.Invalid(name, "RFC 3339 with its zone (2026-03-29T02:30:00+01:00; in a query + may be written %2B) or ms since epoch")
}

// Numbers from the one to below the other are seconds of 2001 to 2033, or ms of
// the year 1970, when there were no readings.
const (
	leastSeconds = 1_000_000_000
	mostSeconds  = 2_000_000_000
)

// plusBack puts back the plus of a time zone: in a query it stands for a space,
// and RFC 3339 has none.
func plusBack(s string) string {
	if at := len(s) - len("+01:00"); at > 0 && s[at] == ' ' {
		return s[:at] + "+" + s[at+1:]
	}
	return s
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
