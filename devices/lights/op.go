package lights

import (
	"encoding/json"
	"fmt"
	"maps"

	"devicehub/devices"
)

// MaxTransition is the longest transition, in ms.
const MaxTransition = 6_553_000

// Op is what people ask of a device.
type Op string

// The operations.
const (
	Set      Op = "set"
	Toggle   Op = "toggle"
	Step     Op = "step"
	Identify Op = "identify"
	Restart  Op = "restart"
	Refresh  Op = "refresh"
)

// Momentary reports whether the operation happens once and is never sent again.
func (op Op) Momentary() bool { return op == Identify || op == Restart }

// Ask is a checked request. What depends on the light's state is still open:
// see Resolve.
type Ask struct {
	Op           Op
	Fields       Fields // of set
	Brightness   int    // brightness_delta of step
	Percent      int    // pct_delta of step
	TransitionMS int64  // -1: not given
	Clamped      bool   // the transition was cut to MaxTransition
	IdentifyMS   int64
}

// Parse checks a request against what the light can do. l is nil for a device
// that is no light; it takes only identify, restart and refresh. The error is
// an invalid or range *devices.Error.
func Parse(l *devices.Light, op string, params json.RawMessage) (Ask, error) {
	a := Ask{Op: Op(op), TransitionMS: -1}
	var raw map[string]any
	if len(params) > 0 && string(params) != "null" {
		if err := decode(params, &raw); err != nil {
			return a, devices.Invalid("params", "a JSON object")
		}
	}
	switch a.Op {
	case Set, Toggle, Step:
		if l == nil {
			return a, devices.Invalid("op", "identify, restart or refresh: the device is no light")
		}
	}
	var err error
	switch a.Op {
	case Set:
		err = a.set(l, raw)
	case Toggle:
		err = a.only(raw)
	case Step:
		err = a.step(l, raw)
	case Identify:
		a.IdentifyMS = 5000
		if v, ok := raw["ms"]; ok {
			var n any
			if n, err = whole("ms", v, 1000, 30000, "ms"); err == nil {
				a.IdentifyMS = int64(n.(float64))
			}
		}
		if err == nil {
			err = only(raw, "ms")
		}
	case Restart, Refresh:
		err = only(raw)
	default:
		err = devices.Invalid("op", "set, toggle, step, identify, restart or refresh")
	}
	return a, err
}

func only(raw map[string]any, known ...string) error {
	for name := range raw {
		if len(known) == 0 {
			return devices.Invalid("params."+name, "no parameters")
		}
		if name != known[0] && (len(known) < 2 || name != known[1]) && (len(known) < 3 || name != known[2]) {
			return devices.Invalid("params."+name, fmt.Sprintf("only %v", known))
		}
	}
	return nil
}

func (a *Ask) only(raw map[string]any) error {
	if err := only(raw, "transition_ms"); err != nil {
		return err
	}
	return a.transition(raw)
}

// transition reads transition_ms, the one number that is clamped and not
// refused.
func (a *Ask) transition(raw map[string]any) error {
	v, ok := raw["transition_ms"]
	if !ok || v == nil {
		return nil
	}
	n, ok := v.(float64)
	if !ok {
		return devices.Invalid("transition_ms", "a number of ms")
	}
	switch {
	case n < 0:
		n, a.Clamped = 0, true
	case n > MaxTransition:
		n, a.Clamped = MaxTransition, true
	}
	a.TransitionMS = int64(n)
	return nil
}

func (a *Ask) set(l *devices.Light, raw map[string]any) error {
	if err := a.transition(raw); err != nil {
		return err
	}
	a.Fields = Fields{}
	for name, v := range raw {
		if name == "transition_ms" {
			continue
		}
		c, err := CheckField(l, name, v)
		if err != nil {
			return err
		}
		a.Fields[name] = c
	}
	if len(a.Fields) == 0 {
		return devices.Invalid("params", "at least one of on, brightness, rgb, hs, xy, kelvin, white, effect")
	}
	return a.Fields.OneColour()
}

func (a *Ask) step(l *devices.Light, raw map[string]any) error {
	if err := only(raw, "brightness_delta", "pct_delta", "transition_ms"); err != nil {
		return err
	}
	if err := a.transition(raw); err != nil {
		return err
	}
	if !l.Dimmable() {
		return devices.Invalid("op", "set or toggle: the light has no brightness").With("modes", l.Modes)
	}
	b, hasB := raw["brightness_delta"]
	p, hasP := raw["pct_delta"]
	if hasB == hasP {
		return devices.Invalid("params", "one of brightness_delta and pct_delta")
	}
	if hasB {
		n, err := whole("brightness_delta", b, -254, 254, "")
		if err != nil {
			return err
		}
		a.Brightness = int(n.(float64))
		return nil
	}
	n, err := whole("pct_delta", p, -100, 100, "%")
	if err != nil {
		return err
	}
	a.Percent = int(n.(float64))
	return nil
}

// Resolve makes toggle and step absolute against state, the fields as they will
// be when what is under way is done. It returns the operation as the device gets
// it, its parameters, and the fields that fulfil it.
func (a Ask) Resolve(state Fields) (op Op, params map[string]any, want Fields, err error) {
	params = map[string]any{}
	switch a.Op {
	case Set:
		want = a.Fields
	case Toggle:
		on, _ := state[On].(bool) // one that never said is taken to be off
		want = Fields{On: !on}
	case Step:
		now, ok := state[Brightness].(float64)
		if !ok {
			return "", nil, nil, devices.Refuse(devices.CodeInvalid, "the light has not said how bright it is; set a brightness").
				With("field", Brightness).With("want", "a reported state")
		}
		b := int(now) + a.Brightness
		if a.Percent != 0 {
			b = FromPercent(min(max(Percent(int(now))+a.Percent, 1), 100))
		}
		want = Fields{Brightness: float64(min(max(b, 1), MaxBrightness))}
	case Identify:
		params["ms"] = a.IdentifyMS
		return a.Op, params, nil, nil
	default:
		return a.Op, params, nil, nil
	}
	maps.Copy(params, want)
	if _, said := want[On]; !said {
		params[On] = true // brightness, colour or effect mean on
	}
	if a.TransitionMS >= 0 {
		params["transition_ms"] = a.TransitionMS
	}
	return Set, params, want, nil
}
