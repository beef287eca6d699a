// Package lights knows what a light can be asked and what it says of itself:
// fields and their ranges, capabilities, the scales in which devices count, and
// when a state fulfils a command.
package lights

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"

	"devicehub/devices"
)

// Causes of a state.
const (
	CauseCommand  = "command"
	CauseLocal    = "local"
	CauseSchedule = "schedule"
	CauseRule     = "rule"
	CauseSync     = "sync" // said again, not happened
	CauseBoot     = "boot"
)

var causes = []string{CauseCommand, CauseLocal, CauseSchedule, CauseRule, CauseSync, CauseBoot}

// Report is what a light says of itself: event "state".
type Report struct {
	Fields        Fields
	Transitioning bool   // under way to Target; what Fields say will not stay
	Target        Fields // may be empty
	T             int64  // ms since epoch by the device's clock, 0 if not given
	Cause         string // "" if not given
	Cmd           string // the command that caused it
}

// maxCmd bounds the id of a command.
const maxCmd = 64

// ParseReport reads a report. It checks what holds for any light, not what this
// one declares: what a light says is so, is so. The error is an invalid or
// range *devices.Error.
func ParseReport(payload []byte) (Report, error) {
	var raw map[string]any
	if err := decode(payload, &raw); err != nil {
		return Report{}, err
	}
	r := Report{Fields: Fields{}}
	for name, v := range raw {
		if err := r.take(name, v); err != nil {
			return Report{}, err
		}
	}
	if !r.Transitioning {
		r.Target = nil
	}
	return r, r.Fields.OneColour()
}

func (r *Report) take(name string, v any) (err error) {
	switch name {
	case "transitioning":
		b, ok := v.(bool)
		if !ok {
			return devices.Invalid(name, "true or false")
		}
		r.Transitioning = b
	case "target":
		m, ok := v.(map[string]any)
		if !ok && v != nil {
			return devices.Invalid(name, "an object of light fields")
		}
		r.Target, err = checkAll(m)
	case "t":
		n, ok := v.(float64)
		if !ok || n < 0 || n != math.Trunc(n) || n > 1<<53 {
			return devices.Invalid(name, "ms since epoch")
		}
		r.T = int64(n)
	case "cause":
		s, ok := v.(string)
		if !ok || !slices.Contains(causes, s) {
			return devices.Invalid(name, "command, local, schedule, rule, sync or boot")
		}
		r.Cause = s
	case "cmd":
		s, ok := v.(string)
		if v != nil && !ok || len(s) > maxCmd {
			return devices.Invalid(name, "the id of a command")
		}
		r.Cmd = s
	case "ver", "by": // the hub's own fields, in case a device says back all it knows
	default:
		if v == nil {
			return nil // a colour in another representation, or nothing to say
		}
		r.Fields[name], err = check(name, v)
	}
	return err
}

func checkAll(m map[string]any) (Fields, error) {
	f := Fields{}
	for name, v := range m {
		if v == nil {
			continue
		}
		c, err := check(name, v)
		if err != nil {
			return nil, err
		}
		f[name] = c
	}
	return f, nil
}

// decode reads one JSON object and nothing after it.
func decode(payload []byte, v any) error {
	if err := devices.CheckJSON(payload, "payload"); err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(payload))
	if err := dec.Decode(v); err != nil {
		return devices.Invalid("payload", "a JSON object")
	}
	if dec.More() || bytes.Equal(bytes.TrimSpace(payload), []byte("null")) {
		return devices.Invalid("payload", "one JSON object")
	}
	return nil
}

// Merge returns the state after a report: what it leaves out is unchanged, and
// of the colour representations only the one reported last is kept.
func (f Fields) Merge(report Fields) Fields {
	m := maps.Clone(f)
	if m == nil {
		m = Fields{}
	}
	for _, c := range colours {
		v, ok := report[c]
		if !ok {
			continue
		}
		for _, other := range colours {
			delete(m, other)
		}
		if _, said := report[Mode]; !said {
			m[Mode] = string(modeOf(c, v))
		}
	}
	maps.Copy(m, report)
	return m
}

// Over returns what of f is still meant when want is asked for after it: a new
// colour leaves no other colour standing.
func (f Fields) Over(want Fields) Fields {
	m := maps.Clone(f)
	if m == nil {
		m = Fields{}
	}
	if want.Groups()&Colour != 0 {
		maps.DeleteFunc(m, func(name string, _ any) bool { return GroupOf(name) == Colour })
	}
	maps.Copy(m, want)
	return m
}

// Wire is the state as people see it: every field, null where there is none.
func (f Fields) Wire() map[string]any {
	m := make(map[string]any, 16)
	for _, name := range []string{On, Brightness, Mode, RGB, HS, XY, Kelvin, White, Effect} {
		m[name] = f[name]
	}
	return m
}

// Unknown is the scale of a light whose scale is not known.
const Unknown = 0

// scales are those in use: ours, Zigbee's and percent.
var scales = []int{255, 254, 100}

// Same reports whether a light that counts brightness in 1..scale can mean the
// same by both values of a field. Two brightnesses are the same when the coarser
// of both scales cannot tell them apart; for an Unknown scale, when one of those
// in use cannot. White temperatures are compared in mireds.
func Same(field string, a, b any, scale int) bool {
	switch field {
	case Brightness, White:
		x, ok1 := a.(float64)
		y, ok2 := b.(float64)
		return ok1 && ok2 && sameLevel(int(x), int(y), scale)
	case Kelvin:
		x, ok1 := a.(float64)
		y, ok2 := b.(float64)
		return ok1 && ok2 && x > 0 && y > 0 && Mireds(int(x)) == Mireds(int(y))
	case RGB:
		return sameList(a, b, func(_ int, x, y float64) bool { return sameLevel(int(x), int(y), scale) })
	case HS:
		return sameList(a, b, func(i int, x, y float64) bool {
			d := math.Abs(x - y)
			if i == 0 {
				d = min(d, 360-d)
				return d <= 1.5 || colourless(HS, a) && colourless(HS, b) // a hue in 254 steps
			}
			return d <= 1
		})
	case XY:
		return sameList(a, b, func(_ int, x, y float64) bool { return math.Abs(x-y) <= 0.005 })
	}
	return a == b // bool and string
}

// colourless reports whether a colour is white, of whichever temperature.
func colourless(field string, v any) bool {
	list, _ := v.([]any)
	switch {
	case field == HS && len(list) == 2:
		saturation, ok := list[1].(float64)
		return ok && saturation <= 1
	case field == RGB && len(list) == 3:
		return list[0] == list[1] && list[1] == list[2] && list[0] != 0.0
	}
	return false
}

// Shows reports whether the state has the field as v, as far as a light of this
// scale can tell. One with white LEDs may make a colour without saturation of
// those, and say so.
func (f Fields) Shows(field string, v any, scale int) bool {
	if Same(field, v, f[field], scale) {
		return true
	}
	_, kelvin := f[Kelvin]
	_, white := f[White]
	return (kelvin || white) && colourless(field, v)
}

func sameLevel(x, y, scale int) bool {
	if x == y {
		return true
	}
	if x == 0 || y == 0 {
		return false
	}
	if scale != Unknown {
		return scale < MaxBrightness && ToScale(x, scale) == ToScale(y, scale)
	}
	return slices.ContainsFunc(scales, func(s int) bool { return ToScale(x, s) == ToScale(y, s) })
}

func sameList(a, b any, same func(i int, x, y float64) bool) bool {
	la, ok1 := a.([]any)
	lb, ok2 := b.([]any)
	if !ok1 || !ok2 || len(la) != len(lb) {
		return false
	}
	for i := range la {
		x, ok1 := la[i].(float64)
		y, ok2 := lb[i].(float64)
		if !ok1 || !ok2 || !same(i, x, y) {
			return false
		}
	}
	return true
}

// Fulfils reports whether the state has every field of want. A light that is
// off need not show the brightness or colour it was given with on:false.
func (f Fields) Fulfils(want Fields, scale int) bool {
	if on, said := want[On].(bool); said && !on {
		return f[On] == false
	}
	for name, v := range want {
		if !f.Shows(name, v, scale) {
			return false
		}
	}
	return true
}
