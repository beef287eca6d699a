package httpapi

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"devicehub/devices"
)

// A record's entity tag begins with its version (of a device's tokens, with their
// generation): "7". Where an answer holds what
// changes without the version (a device's status, its latest values), "-" and a
// hash of it all follow, and compression adds gzipSuffix. If-Match
// asks about the version alone: the record that is about to change, in whatever
// form it was read. If-None-Match asks about the whole tag.
func entityTag(ver int64, live bool, body []byte) string {
	tag := strconv.FormatInt(ver, 10)
	if live {
		sum := sha256.Sum256(body)
		tag += "-" + hex.EncodeToString(sum[:8])
	}
	return `"` + tag + `"`
}

// tags are those of an If-Match or If-None-Match.
type tags struct {
	any  bool // "*"
	list []tag
}

// tag is an entity tag (RFC 9110 §8.8.3) without its quotation marks and the
// suffix of a content coding.
type tag struct {
	weak bool
	text string
}

// readTags reads a header, nil where there is none.
func readTags(h http.Header, name string) (*tags, error) {
	lines := h.Values(name)
	if len(lines) == 0 {
		return nil, nil
	}
	bad := devices.Invalid(name, `* or entity tags as the hub gave them, such as "7"`)
	rest := strings.TrimSpace(strings.Join(lines, ","))
	if rest == "*" {
		return &tags{any: true}, nil
	}
	t := &tags{}
	for rest != "" {
		one := tag{}
		rest, one.weak = strings.CutPrefix(rest, "W/")
		if !strings.HasPrefix(rest, `"`) {
			return nil, bad
		}
		var closed bool
		if one.text, rest, closed = strings.Cut(rest[1:], `"`); !closed {
			return nil, bad
		}
		one.text = strings.TrimSuffix(one.text, gzipSuffix)
		t.list = append(t.list, one)
		rest = strings.TrimSpace(rest)
		if rest != "" && rest[0] != ',' {
			return nil, bad
		}
		rest = strings.TrimLeft(rest, ", \t") // empty elements are none (RFC 9110 §5.6.1.2)
	}
	if len(t.list) == 0 {
		return nil, bad
	}
	return t, nil
}

// hasVersion reports whether one of the tags is of the version: strongly, as
// If-Match compares, or also weakly (RFC 9110 §8.8.3.2).
func (t *tags) hasVersion(ver int64, weakly bool) bool {
	return t.any || slices.ContainsFunc(t.list, func(o tag) bool {
		of, _, _ := strings.Cut(o.text, "-")
		return (weakly || !o.weak) && of == strconv.FormatInt(ver, 10)
	})
}

// has reports whether one of the tags is the whole given one, weakly compared.
func (t *tags) has(whole string) bool {
	return t.any || slices.ContainsFunc(t.list, func(o tag) bool { return `"`+o.text+`"` == whole })
}

// expect is what the call expects of the version of the record that it changes:
// by If-Match and If-None-Match, of which a false one is 412, and by if_ver.
func (c *call) expect(ifVer *int64) (devices.Expect, error) {
	match, err := readTags(c.Header, "If-Match")
	if err != nil {
		return nil, err
	}
	noneMatch, err := readTags(c.Header, "If-None-Match")
	if err != nil {
		return nil, err
	}
	return func(ver int64) error {
		if match != nil && !match.hasVersion(ver, false) || noneMatch != nil && noneMatch.hasVersion(ver, true) {
			return &refusal{devices.VersionConflict(ver), http.StatusPreconditionFailed} // RFC 9110 §13.1.1, §13.1.2
		}
		return devices.IfVer(ifVer).Check(ver)
	}, nil
}

// expectQuery is expect where there is no body for an if_ver.
func (c *call) expectQuery() (devices.Expect, error) {
	text := c.query("if_ver")
	if text == "" {
		return c.expect(nil)
	}
	ver, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, devices.Invalid("if_ver", "a whole number")
	}
	return c.expect(&ver)
}

// noVersion refuses an If-Match where nothing has a version that it could be
// about, so that it is never passed over.
func (c *call) noVersion() error {
	match, err := readTags(c.Header, "If-Match")
	if err != nil || match == nil || match.any {
		return err
	}
	return &refusal{devices.Refuse(devices.CodeVersionConflict, "what this call changes has no version"), http.StatusPreconditionFailed}
}

// withCurrent adds to a version_conflict the record as it is now, so that whoever
// made the edit can make it again.
func withCurrent(err error, current func() (any, bool)) error {
	if devices.CodeOf(err) != devices.CodeVersionConflict {
		return err
	}
	record, there := current()
	if !there {
		return err
	}
	if other := (*refusal)(nil); errors.As(err, &other) {
		return &refusal{other.err.With("current", record), other.status}
	}
	var e *devices.Error
	errors.As(err, &e)
	return e.With("current", record)
}
