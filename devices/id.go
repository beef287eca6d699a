package devices

import (
	"fmt"
	"slices"
)

// ID names a device: 1 to 63 characters a-z, 0-9 and '-', beginning and ending
// with a letter or digit (a DNS label). It needs no escaping in MQTT topics,
// NATS subjects, URLs or SenML names, and never changes.
type ID string

// ParseID returns s as an ID, or an invalid error naming the form it wants.
func ParseID(s string) (ID, error) {
	if !validID(s) {
		return "", Invalid("id", "1 to 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit")
	}
	return ID(s), nil
}

func validID(s string) bool {
	if len(s) == 0 || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		if !alnum && (c != '-' || i == 0 || i == len(s)-1) {
			return false
		}
	}
	return true
}

// Kind is a role that a device plays; each kind has its own topic "<kind>:<id>".
type Kind string

// The kinds known today. A further kind is a new constant here and a package
// of its own.
const (
	KindSensor Kind = "sensor"
	KindLight  Kind = "light"
)

// Kinds lists every known kind.
func Kinds() []Kind { return []Kind{KindSensor, KindLight} }

func checkKinds(kinds []Kind) error {
	if len(kinds) == 0 {
		return Invalid("kinds", "at least one of sensor, light")
	}
	for i, k := range kinds {
		if !slices.Contains(Kinds(), k) {
			return Invalid("kinds", fmt.Sprintf("sensor or light, not %q", k))
		}
		if slices.Contains(kinds[:i], k) {
			return Invalid("kinds", "each kind once")
		}
	}
	return nil
}

// Topic is the channel topic of a device in one of its kinds.
func Topic(k Kind, id ID) string { return string(k) + ":" + string(id) }
