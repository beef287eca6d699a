package wire

import (
	"errors"
	"strconv"
	"strings"
)

// Version is a version of the protocol's serializer.
type Version uint8

const (
	V1 Version = 1
	V2 Version = 2
)

// ErrVersion is returned for a vsn that no serializer serves.
var ErrVersion = errors.New("unsupported vsn")

// Negotiate returns the serializer for a client's vsn parameter: V1 for ~> 1.0.0 and V2 for
// ~> 2.0.0, in strict semantic versioning. A client that sends none speaks V1; the
// caller passes "1.0.0" for it. It returns ErrVersion for anything else.
// Source: phoenix lib/phoenix/socket.ex, negotiate_serializer.
func Negotiate(vsn string) (Version, error) {
	core, build, hasBuild := strings.Cut(vsn, "+")
	if hasBuild && !identifiers(build) {
		return 0, ErrVersion
	}
	core, pre, hasPre := strings.Cut(core, "-")
	if hasPre && !identifiers(pre) {
		return 0, ErrVersion
	}
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return 0, ErrVersion
	}
	var n [3]uint64
	for i, p := range parts {
		if len(p) > 1 && p[0] == '0' || p == "" || p[0] == '+' || p[0] == '-' {
			return 0, ErrVersion
		}
		x, err := strconv.ParseUint(p, 10, 64)
		if err != nil {
			return 0, ErrVersion
		}
		n[i] = x
	}
	// A pre-release of the lower bound comes before it; one of a later patch is inside.
	if n[1] == 0 && (n[0] == 1 || n[0] == 2) && !(hasPre && n[2] == 0) {
		return Version(n[0]), nil
	}
	return 0, ErrVersion
}

// identifiers reports whether s is a dot-separated list of non-empty [0-9A-Za-z-] (semver 2.0.0 §10).
func identifiers(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if part == "" {
			return false
		}
		for _, c := range []byte(part) {
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-') {
				return false
			}
		}
	}
	return true
}
