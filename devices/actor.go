package devices

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// ActorKind says what sort of caller an Actor is.
type ActorKind string

// The sorts of callers.
const (
	ActorUser    ActorKind = "user"
	ActorService ActorKind = "service"
	ActorDevice  ActorKind = "device"
	ActorBridge  ActorKind = "bridge"
	ActorCLI     ActorKind = "cli" // the owner of the data folder, through the command line
	ActorHub     ActorKind = "hub" // the hub itself
)

// Role is what a person is allowed in general.
type Role string

// The roles, from least to most.
const (
	RoleViewer   Role = "viewer"
	RoleOperator Role = "operator"
	RoleAdmin    Role = "admin"
)

// ParseRole returns s as a Role, or an invalid error.
func ParseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case RoleViewer, RoleOperator, RoleAdmin:
		return r, nil
	}
	return "", Invalid("role", "admin, operator or viewer")
}

// Right is a set of things an actor may do.
type Right uint8

// The rights. A service account is given any of them by name; a person has
// those of the role.
const (
	RightRead    Right = 1 << iota // see devices, readings, states and history
	RightCommand                   // send commands, write shadows
	RightIngest                    // send readings and states in a device's place
	RightAdmin                     // create, change and delete
)

var rightNames = []string{"read", "command", "ingest", "admin"}

// ParseRights reads names of rights such as "read", "command".
func ParseRights(names []string) (Right, error) {
	var r Right
	for _, n := range names {
		i := slices.Index(rightNames, n)
		if i < 0 {
			return 0, Invalid("rights", "a list of read, command, ingest, admin")
		}
		r |= 1 << i
	}
	return r, nil
}

// Names lists the rights of the set.
func (r Right) Names() []string {
	names := []string{}
	for i, n := range rightNames {
		if r&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// Rights of a role.
func (r Role) Rights() Right {
	switch r {
	case RoleViewer:
		return RightRead
	case RoleOperator:
		return RightRead | RightCommand
	case RoleAdmin:
		return RightRead | RightCommand | RightAdmin
	}
	return 0
}

// Actor is who asks, with what they may do at this moment. It is looked up for
// every event and never kept past it.
type Actor struct {
	Kind   ActorKind
	Name   string // user or account name, device id; empty for cli and hub
	Role   Role   // people only
	Rights Right
	Scope  Scope
}

// String is the form that stands in records: "user:ana", "device:kitchen-temp", "cli".
func (a Actor) String() string {
	if a.Name == "" {
		return string(a.Kind)
	}
	return string(a.Kind) + ":" + a.Name
}

// May reports whether the actor has the right over device d. An administrator's
// scope is every device. A device has no rights over others, nor history of its
// own; what it may send is decided where it connects.
func (a Actor) May(r Right, d *Device) bool {
	if a.Rights&r != r {
		return false
	}
	return a.Rights&RightAdmin != 0 && a.Kind != ActorService || a.Scope.Covers(d)
}

// Admin reports whether the actor may administer the hub.
func (a Actor) Admin() bool { return a.Rights&RightAdmin != 0 }

// CLI is the owner of the data folder.
func CLI() Actor {
	return Actor{Kind: ActorCLI, Role: RoleAdmin, Rights: RightRead | RightCommand | RightAdmin}
}

// Scope selects devices: terms joined by commas, all of which must hold.
// A term is "key=value" or "key in [a,b]"; the key is id, kind, area or the
// name of a label. The empty scope is every device.
type Scope struct {
	text  string
	terms []term
}

type term struct {
	key    string
	values []string
}

// ParseScope reads the form described at Scope, or returns an invalid error.
func ParseScope(s string) (Scope, error) {
	sc := Scope{text: strings.TrimSpace(s)}
	for rest := sc.text; rest != ""; {
		var part string
		part, rest = cutTerm(rest)
		t, err := parseTerm(part)
		if err != nil {
			return Scope{}, err
		}
		sc.terms = append(sc.terms, t)
	}
	return sc, nil
}

// cutTerm splits at the first comma outside brackets.
func cutTerm(s string) (term, rest string) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '[':
			depth++
		case ']':
			depth--
		case ',':
			if depth == 0 {
				return s[:i], strings.TrimSpace(s[i+1:])
			}
		}
	}
	return s, ""
}

func parseTerm(s string) (term, error) {
	bad := Invalid("scope", `terms such as area=kitchen or id in [a,b], joined by commas`)
	if key, list, ok := strings.Cut(s, " in "); ok {
		list = strings.TrimSpace(list)
		if !strings.HasPrefix(list, "[") || !strings.HasSuffix(list, "]") {
			return term{}, bad
		}
		t := term{key: strings.TrimSpace(key)}
		for v := range strings.SplitSeq(list[1:len(list)-1], ",") {
			if v = strings.TrimSpace(v); v != "" {
				t.values = append(t.values, v)
			}
		}
		if t.key == "" || len(t.values) == 0 {
			return term{}, bad
		}
		return t, nil
	}
	key, value, ok := strings.Cut(s, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !ok || key == "" || value == "" {
		return term{}, bad
	}
	return term{key: key, values: []string{value}}, nil
}

// String is the text the scope was parsed from.
func (s Scope) String() string { return s.text }

// All reports whether the scope covers every device.
func (s Scope) All() bool { return len(s.terms) == 0 }

// Covers reports whether d is selected.
func (s Scope) Covers(d *Device) bool {
	for _, t := range s.terms {
		if !t.holds(d) {
			return false
		}
	}
	return true
}

func (t term) holds(d *Device) bool {
	switch t.key {
	case "id":
		return slices.Contains(t.values, string(d.ID))
	case "area":
		return slices.Contains(t.values, d.Area)
	case "kind":
		return slices.ContainsFunc(d.Kinds, func(k Kind) bool { return slices.Contains(t.values, string(k)) })
	}
	v, ok := d.Labels[t.key]
	return ok && slices.Contains(t.values, v)
}

// MarshalJSON writes the scope as its text.
func (s Scope) MarshalJSON() ([]byte, error) { return json.Marshal(s.text) }

// UnmarshalJSON reads the scope from its text.
func (s *Scope) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("scope: %w", err)
	}
	sc, err := ParseScope(text)
	if err != nil {
		return err
	}
	*s = sc
	return nil
}
