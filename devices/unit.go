package devices

import (
	"maps"
	"math"
	"slices"
	"strings"
)

// unit is one way to write a quantity: value in the base unit of its quantity
// is raw*scale + offset.
type unit struct {
	quantity      string
	scale, offset float64
}

// units are the spellings that NormalizeUnit leaves, by quantity. Factors are
// exact by definition (BIPM SI brochure 9, NIST SP 811 appendix B.8).
var units = map[string]unit{
	"°C": {"temperature", 1, 0}, "K": {"temperature", 1, -273.15}, "°F": {"temperature", 5.0 / 9, -160.0 / 9},
	"%":  {"ratio", 1, 0},
	"Pa": {"pressure", 0.01, 0}, "hPa": {"pressure", 1, 0}, "kPa": {"pressure", 10, 0}, "mbar": {"pressure", 1, 0}, "cbar": {"pressure", 10, 0},
	"bar": {"pressure", 1000, 0}, "inHg": {"pressure", 33.86389, 0}, "psi": {"pressure", 68.94757293168, 0}, "mmHg": {"pressure", 1.33322387415, 0},
	"lx":   {"illuminance", 1, 0},
	"W/m²": {"irradiance", 1, 0}, "BTU/(h⋅ft²)": {"irradiance", 3.15459074506, 0},
	"ppm": {"fraction", 1, 0}, "ppb": {"fraction", 0.001, 0},
	"µg/m³": {"density", 1, 0}, "mg/m³": {"density", 1000, 0},
	"V": {"voltage", 1, 0}, "mV": {"voltage", 1e-3, 0}, "µV": {"voltage", 1e-6, 0}, "kV": {"voltage", 1e3, 0}, "MV": {"voltage", 1e6, 0},
	"A": {"current", 1, 0}, "mA": {"current", 1e-3, 0},
	"W": {"power", 1, 0}, "mW": {"power", 1e-3, 0}, "kW": {"power", 1e3, 0}, "MW": {"power", 1e6, 0}, "GW": {"power", 1e9, 0}, "TW": {"power", 1e12, 0}, "BTU/h": {"power", 0.29307107017, 0},
	"kWh": {"energy", 1, 0}, "mWh": {"energy", 1e-6, 0}, "Wh": {"energy", 1e-3, 0}, "MWh": {"energy", 1e3, 0}, "GWh": {"energy", 1e6, 0}, "TWh": {"energy", 1e9, 0},
	"J": {"energy", 1 / 3.6e6, 0}, "kJ": {"energy", 1 / 3.6e3, 0}, "MJ": {"energy", 1 / 3.6, 0}, "GJ": {"energy", 1e3 / 3.6, 0},
	"cal": {"energy", 4.184 / 3.6e6, 0}, "kcal": {"energy", 4.184 / 3.6e3, 0}, "Mcal": {"energy", 4.184 / 3.6, 0}, "Gcal": {"energy", 4184 / 3.6, 0},
	"Hz": {"frequency", 1, 0}, "kHz": {"frequency", 1e3, 0}, "MHz": {"frequency", 1e6, 0}, "GHz": {"frequency", 1e9, 0},
	"dBm": {"signal", 1, 0}, "dB": {"level", 1, 0}, "dBA": {"level", 1, 0},
	"m": {"length", 1, 0}, "mm": {"length", 1e-3, 0}, "cm": {"length", 1e-2, 0}, "km": {"length", 1e3, 0},
	"in": {"length", 0.0254, 0}, "ft": {"length", 0.3048, 0}, "yd": {"length", 0.9144, 0}, "mi": {"length", 1609.344, 0},
	"L/min": {"flow", 1, 0}, "m³/h": {"flow", 1000.0 / 60, 0}, "mL/s": {"flow", 0.06, 0}, "ft³/min": {"flow", 28.316846592, 0}, "gal/min": {"flow", 3.785411784, 0},
	"m³": {"volume", 1, 0}, "L": {"volume", 1e-3, 0}, "mL": {"volume", 1e-6, 0}, "ft³": {"volume", 0.028316846592, 0}, "CCF": {"volume", 2.8316846592, 0},
	"gal": {"volume", 0.003785411784, 0}, "fl. oz.": {"volume", 0.0000295735295625, 0},
	"m/s": {"speed", 1, 0}, "km/h": {"speed", 1 / 3.6, 0}, "mm/s": {"speed", 1e-3, 0}, "mph": {"speed", 0.44704, 0}, "ft/s": {"speed", 0.3048, 0}, "kn": {"speed", 1852.0 / 3600, 0},
	"°": {"angle", 1, 0}, "rad": {"angle", 57.29577951308232, 0},
	"µS/cm": {"conductivity", 1, 0}, "mS/cm": {"conductivity", 1e3, 0}, "S/cm": {"conductivity", 1e6, 0}, "S/m": {"conductivity", 1e4, 0},
	"kg": {"mass", 1, 0}, "g": {"mass", 1e-3, 0}, "mg": {"mass", 1e-6, 0}, "µg": {"mass", 1e-9, 0}, "oz": {"mass", 0.028349523125, 0}, "lb": {"mass", 0.45359237, 0},
	"s": {"duration", 1, 0}, "ms": {"duration", 1e-3, 0}, "min": {"duration", 60, 0}, "h": {"duration", 3600, 0}, "d": {"duration", 86400, 0},
}

// spellings are other ways in which devices write the units above; SenML's
// among them (RFC 8428 §12.1).
var spellings = map[string]string{
	"C": "°C", "Cel": "°C", "celsius": "°C", "F": "°F", "fahrenheit": "°F", "kelvin": "K",
	"%RH": "%", "%EL": "%",
	"m3": "m³", "ft3": "ft³", "m3/h": "m³/h", "l": "L", "l/min": "L/min", "liters": "L", "liter": "L",
	"ug/m3": "µg/m³", "µg/m3": "µg/m³", "ug/m³": "µg/m³", "mg/m3": "mg/m³",
	"W/m2": "W/m²", "seconds": "s", "second": "s", "sec": "s", "minutes": "min", "hours": "h", "hour": "h", "days": "d",
	"uS/cm": "µS/cm", "deg": "°", "kph": "km/h", "Kelvin": "K", "volt": "V", "lux": "lx", "uV": "µV", "ug": "µg",
}

// NormalizeUnit brings a unit to the spelling that the hub uses: "C" is "°C",
// "ug/m3" is "µg/m³", and the Greek letter mu (U+03BC) is the micro sign
// (U+00B5). An unknown unit comes back unchanged.
func NormalizeUnit(u string) string {
	u = strings.ReplaceAll(strings.TrimSpace(u), "\u03bc", "\u00b5")
	if s, ok := spellings[u]; ok {
		return s
	}
	return u
}

// ConvertUnit converts v between two normalized units, rounded to [Digits]; ok is
// false when they do not measure the same thing. SenML's "/" is a ratio, 1 being
// 100 %.
func ConvertUnit(v float64, from, to string) (converted float64, ok bool) {
	if from == to {
		return v, true
	}
	if from == "/" && to == "%" {
		return Round(v * 100), true
	}
	f, okF := units[from]
	t, okT := units[to]
	if !okF || !okT || f.quantity != t.quantity {
		return 0, false
	}
	c := (v*f.scale + f.offset - t.offset) / t.scale
	return RoundBeside(c, max(math.Abs(c), math.Abs(f.offset/t.scale), math.Abs(t.offset/t.scale)), Digits), true
}

// Angle is how many radians a normalized unit of angles is; ok is false for any
// other unit. What is measured in one is a direction: 359° and 1° are two apart.
func Angle(unit string) (radians float64, ok bool) {
	switch unit {
	case "°":
		return math.Pi / 180, true
	case "rad":
		return 1, true
	}
	return 0, false
}

// ConvertibleTo lists the units from which ConvertUnit reaches to, itself first.
func ConvertibleTo(to string) []string {
	list := []string{to}
	t, ok := units[to]
	if !ok {
		return list
	}
	for _, name := range unitNames {
		if name != to && units[name].quantity == t.quantity {
			list = append(list, name)
		}
	}
	return list
}

var unitNames = sortedUnitNames()

func sortedUnitNames() []string {
	return slices.Sorted(maps.Keys(units))
}
