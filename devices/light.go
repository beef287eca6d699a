package devices

import "slices"

// LightMode is a way in which a light can shine. The rules for combining them
// are those of Home Assistant's colour modes.
type LightMode string

// The modes.
const (
	ModeOnOff      LightMode = "onoff"
	ModeBrightness LightMode = "brightness"
	ModeColorTemp  LightMode = "color_temp"
	ModeHS         LightMode = "hs"
	ModeRGB        LightMode = "rgb"
	ModeRGBW       LightMode = "rgbw"
	ModeRGBWW      LightMode = "rgbww"
	ModeXY         LightMode = "xy"
	ModeWhite      LightMode = "white"
)

var lightModes = []LightMode{ModeOnOff, ModeBrightness, ModeColorTemp, ModeHS, ModeRGB, ModeRGBW, ModeRGBWW, ModeXY, ModeWhite}

// Default range of white temperature, in Kelvin.
const (
	DefaultMinKelvin = 2000
	DefaultMaxKelvin = 6535
)

// Light declares what a light can do.
type Light struct {
	Modes     []LightMode `json:"modes"`
	MinKelvin int         `json:"min_kelvin,omitempty"` // 0 means DefaultMinKelvin
	MaxKelvin int         `json:"max_kelvin,omitempty"` // 0 means DefaultMaxKelvin
	Effects   []string    `json:"effects,omitempty"`    // "none" is always allowed
}

// Check returns what is wrong with the declaration. onoff and brightness stand
// alone; white never does.
func (l *Light) Check() error {
	if len(l.Modes) == 0 {
		return Invalid("light.modes", "at least one mode")
	}
	for i, m := range l.Modes {
		if !slices.Contains(lightModes, m) {
			return Invalid("light.modes", "onoff, brightness, color_temp, hs, rgb, rgbw, rgbww, xy or white")
		}
		if slices.Contains(l.Modes[:i], m) {
			return Invalid("light.modes", "each mode once")
		}
		if (m == ModeOnOff || m == ModeBrightness) && len(l.Modes) > 1 {
			return Invalid("light.modes", string(m)+" alone")
		}
	}
	if len(l.Modes) == 1 && l.Modes[0] == ModeWhite {
		return Invalid("light.modes", "white beside another mode")
	}
	min, max := l.Kelvin()
	if min < 1000 || max > 20000 || min >= max {
		return OutOfRange("light.min_kelvin", 1000, 20000, "K")
	}
	if len(l.Effects) > 64 {
		return Invalid("light.effects", "at most 64")
	}
	for _, e := range l.Effects {
		if e == "" || len(e) > MaxLabel {
			return Invalid("light.effects", "names of 1 to 63 bytes")
		}
	}
	return nil
}

// Kelvin is the range of white temperature.
func (l *Light) Kelvin() (min, max int) {
	min, max = l.MinKelvin, l.MaxKelvin
	if min == 0 {
		min = DefaultMinKelvin
	}
	if max == 0 {
		max = DefaultMaxKelvin
	}
	return min, max
}

// Has reports whether the light can shine in mode m.
func (l *Light) Has(m LightMode) bool { return slices.Contains(l.Modes, m) }

// Dimmable reports whether the light has a brightness at all.
func (l *Light) Dimmable() bool { return !l.Has(ModeOnOff) }
