package lights

import (
	"fmt"
	"math"
	"slices"

	"devicehub/devices"
)

// Fields are parts of a light's state, by name: on (bool), brightness, kelvin
// and white (float64, whole numbers), rgb, hs and xy ([]any of float64), mode
// and effect (string). They are what encoding/json makes of them, so that a
// stored state and a received one compare.
type Fields map[string]any

// The fields' names.
const (
	On         = "on"
	Brightness = "brightness"
	Mode       = "mode"
	RGB        = "rgb"
	HS         = "hs"
	XY         = "xy"
	Kelvin     = "kelvin"
	White      = "white"
	Effect     = "effect"
)

// NoEffect is the effect of a light that plays none; it is always allowed.
const NoEffect = "none"

// colours are the representations of which exactly one holds.
var colours = []string{RGB, HS, XY, Kelvin, White}

// Group is a set of fields that commands hold together.
type Group uint8

// The groups.
const (
	Power  Group = 1 << iota // on, brightness
	Colour                   // mode, rgb, hs, xy, kelvin, white
	Effects
)

// GroupOf is the group that a field belongs to.
func GroupOf(field string) Group {
	switch field {
	case On, Brightness:
		return Power
	case Effect:
		return Effects
	}
	return Colour
}

// Groups are those of all fields.
func (f Fields) Groups() (g Group) {
	for name := range f {
		g |= GroupOf(name)
	}
	return g
}

// check returns v as the field's value, or an invalid or range error. What
// holds for any light is checked; see capable for what this one can do.
func check(field string, v any) (any, error) {
	switch field {
	case On:
		if _, ok := v.(bool); !ok {
			return nil, devices.Invalid(On, "true or false")
		}
		return v, nil
	case Brightness:
		return whole(field, v, 1, MaxBrightness, "")
	case White:
		return whole(field, v, 0, 255, "")
	case Kelvin:
		return whole(field, v, 1000, 20000, "K")
	case RGB:
		return numbers(field, v, []int{3, 4, 5}, true, 255, 255, 255, 255, 255)
	case HS:
		return numbers(field, v, []int{2}, false, 360, 100)
	case XY:
		return numbers(field, v, []int{2}, false, 1, 1)
	case Mode:
		s, ok := v.(string)
		if l := (devices.Light{Modes: []devices.LightMode{devices.LightMode(s), devices.ModeRGB}}); !ok ||
			s != string(devices.ModeOnOff) && s != string(devices.ModeBrightness) && s != string(devices.ModeRGB) && l.Check() != nil {
			return nil, devices.Invalid(Mode, "onoff, brightness, color_temp, hs, rgb, rgbw, rgbww, xy or white")
		}
		return s, nil
	case Effect:
		s, ok := v.(string)
		if !ok || s == "" || len(s) > devices.MaxLabel {
			return nil, devices.Invalid(Effect, "a name of 1 to 63 bytes")
		}
		return s, nil
	}
	return nil, devices.Invalid(field, "on, brightness, rgb, hs, xy, kelvin, white or effect")
}

func whole(field string, v any, min, max float64, unit string) (any, error) {
	n, ok := v.(float64)
	if !ok || n != math.Trunc(n) {
		return nil, devices.Invalid(field, fmt.Sprintf("a whole number %v..%v", min, max))
	}
	if n < min || n > max {
		return nil, devices.OutOfRange(field, min, max, unit)
	}
	return n, nil
}

func numbers(field string, v any, lens []int, wholes bool, max ...float64) (any, error) {
	want := devices.Invalid(field, fmt.Sprintf("a list of %d numbers", lens[0]))
	list, ok := v.([]any)
	if !ok || !slices.Contains(lens, len(list)) {
		return nil, want
	}
	for i, e := range list {
		n, ok := e.(float64)
		if !ok || wholes && n != math.Trunc(n) {
			return nil, want
		}
		if n < 0 || n > max[i] {
			return nil, devices.OutOfRange(field, 0, max[i], "")
		}
	}
	return list, nil
}

// capable checks that the light can do what a checked field asks.
func capable(l *devices.Light, field string, v any) error {
	can := func(m devices.LightMode) error {
		if l.Has(m) {
			return nil
		}
		return devices.Invalid(field, fmt.Sprintf("one of what this light can do: %v", l.Modes)).With("modes", l.Modes)
	}
	switch field {
	case Brightness:
		if !l.Dimmable() {
			return can(devices.ModeBrightness)
		}
	case Kelvin:
		if err := can(devices.ModeColorTemp); err != nil {
			return err
		}
		min, max := l.Kelvin()
		if k := v.(float64); k < float64(min) || k > float64(max) {
			return devices.OutOfRange(Kelvin, float64(min), float64(max), "K")
		}
	case RGB:
		return can([]devices.LightMode{devices.ModeRGB, devices.ModeRGBW, devices.ModeRGBWW}[len(v.([]any))-3])
	case HS:
		return can(devices.ModeHS)
	case XY:
		return can(devices.ModeXY)
	case White:
		return can(devices.ModeWhite)
	case Mode:
		return devices.Invalid(Mode, "no mode in a command: the colour given sets it")
	case Effect:
		if v != NoEffect && !slices.Contains(l.Effects, v.(string)) {
			return devices.Invalid(Effect, fmt.Sprintf("none or one of %v", l.Effects)).With("effects", l.Effects)
		}
	}
	return nil
}

// CheckField returns v as a value that may be asked of the light for the field,
// or an invalid or range error.
func CheckField(l *devices.Light, field string, v any) (any, error) {
	if field == Mode {
		return nil, capable(l, field, v)
	}
	v, err := check(field, v)
	if err != nil {
		return nil, err
	}
	return v, capable(l, field, v)
}

// OneColour refuses fields that ask for two colours at once.
func (f Fields) OneColour() error {
	var first string
	for _, c := range colours {
		if _, ok := f[c]; !ok {
			continue
		}
		if first != "" {
			return devices.Invalid(c, "one colour, not "+first+" too")
		}
		first = c
	}
	return nil
}

// modeOf is the mode that a colour field puts a light in.
func modeOf(field string, v any) devices.LightMode {
	switch field {
	case RGB:
		return []devices.LightMode{devices.ModeRGB, devices.ModeRGBW, devices.ModeRGBWW}[len(v.([]any))-3]
	case HS:
		return devices.ModeHS
	case XY:
		return devices.ModeXY
	case Kelvin:
		return devices.ModeColorTemp
	}
	return devices.ModeWhite
}
