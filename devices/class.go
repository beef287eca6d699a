package devices

import (
	"slices"
	"strings"
)

// classes are Home Assistant's device classes of sensors with a number, and the
// units that each may have there. An empty unit stands for none.
var classes = map[string][]string{
	"temperature":                      {"°C", "°F", "K"},
	"temperature_delta":                {"°C", "°F", "K"},
	"humidity":                         {"%"},
	"moisture":                         {"%"},
	"pressure":                         pressures,
	"atmospheric_pressure":             pressures,
	"illuminance":                      {"lx"},
	"irradiance":                       {"W/m²", "BTU/(h⋅ft²)"},
	"carbon_dioxide":                   {"ppm"},
	"carbon_monoxide":                  {"ppm"},
	"pm1":                              {"µg/m³"},
	"pm25":                             {"µg/m³"},
	"pm10":                             {"µg/m³"},
	"volatile_organic_compounds":       {"µg/m³"},
	"volatile_organic_compounds_parts": {"ppm", "ppb"},
	"nitrogen_dioxide":                 {"µg/m³"},
	"ozone":                            {"µg/m³"},
	"sulphur_dioxide":                  {"µg/m³"},
	"aqi":                              {""},
	"ph":                               {""},
	"battery":                          {"%"},
	"voltage":                          {"V", "mV", "µV", "kV", "MV"},
	"current":                          {"A", "mA"},
	"power":                            {"mW", "W", "kW", "MW", "GW", "TW", "BTU/h"},
	"energy":                           {"J", "kJ", "MJ", "GJ", "mWh", "Wh", "kWh", "MWh", "GWh", "TWh", "cal", "kcal", "Mcal", "Gcal"},
	"power_factor":                     {"", "%"},
	"apparent_power":                   {"VA"},
	"reactive_power":                   {"var"},
	"frequency":                        {"Hz", "kHz", "MHz", "GHz"},
	"signal_strength":                  {"dB", "dBm"},
	"sound_pressure":                   {"dB", "dBA"},
	"distance":                         {"mm", "cm", "m", "km", "in", "ft", "yd", "mi"},
	"speed":                            speeds,
	"wind_speed":                       speeds,
	"wind_direction":                   {"°"},
	"precipitation":                    {"mm", "cm", "in"},
	"precipitation_intensity":          {"mm/h", "mm/d", "in/h", "in/d"},
	"volume":                           {"L", "mL", "m³", "ft³", "CCF", "gal", "fl. oz."},
	"water":                            {"L", "m³", "ft³", "CCF", "gal"},
	"gas":                              {"m³", "ft³", "CCF"},
	"volume_flow_rate":                 {"m³/h", "L/min", "mL/s", "ft³/min", "gal/min"},
	"weight":                           {"µg", "mg", "g", "kg", "oz", "lb"},
	"duration":                         {"d", "h", "min", "s", "ms"},
	"conductivity":                     {"S/cm", "mS/cm", "µS/cm"},
}

var (
	pressures = []string{"Pa", "hPa", "kPa", "mbar", "cbar", "bar", "inHg", "psi"}
	speeds    = []string{"m/s", "km/h", "mm/s", "mph", "ft/s", "kn", "Beaufort"}
)

// moreUnits are units that a class has here besides Home Assistant's and those
// that convert to one of them.
var moreUnits = map[string][]string{
	"carbon_monoxide":  {"µg/m³", "mg/m³"},
	"nitrogen_dioxide": {"ppm", "ppb"},
	"ozone":            {"ppm", "ppb"},
	"sulphur_dioxide":  {"ppm", "ppb"},
}

// binaryClasses are Home Assistant's device classes of sensors that are on or
// off.
var binaryClasses = []string{"battery", "battery_charging", "carbon_monoxide", "cold", "connectivity", "door", "garage_door", "gas", "heat", "light", "lock",
	"moisture", "motion", "moving", "occupancy", "opening", "plug", "power", "presence", "problem", "running", "safety", "smoke", "sound", "tamper", "update",
	"vibration", "window"}

// ClassUnits lists the units that Home Assistant knows of a class of numbers;
// known is false for any other class.
func ClassUnits(class string) (units []string, known bool) {
	units, known = classes[class]
	return units, known
}

// BinaryClass reports whether class is one of Home Assistant's of what is on or
// off.
func BinaryClass(class string) bool { return slices.Contains(binaryClasses, class) }

// classHas reports whether a class of numbers can have the unit, and names those
// that it can have.
func classHas(class, unit string) (ok bool, names string) {
	units := slices.Concat(classes[class], moreUnits[class])
	fits := func(u string) bool {
		if u == unit {
			return true
		}
		_, ok := ConvertUnit(0, unit, u)
		return ok
	}
	return slices.ContainsFunc(units, fits), choice(units)
}

// canonicalUnit is what a class of numbers is measured in where nobody says: as
// the catalogue has it, else the only unit there is.
func canonicalUnit(class string) string {
	for _, m := range catalogue {
		if m.Class == class && m.Type == TypeFloat {
			return m.Unit
		}
	}
	if units := classes[class]; len(units) == 1 {
		return units[0]
	}
	return ""
}

// choice joins what there is to choose from: "a, b or c".
func choice(list []string) string {
	words := make([]string, 0, len(list))
	for _, s := range list {
		if s == "" {
			s = "none"
		}
		words = append(words, s)
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
