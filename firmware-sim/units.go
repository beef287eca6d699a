package sim

import "math"

// A unit is another one than the hub's, in which some devices measure: what they send, times scale,
// plus offset, is in the hub's (BIPM SI brochure 9, NIST SP 811 appendix B.8).
type unitOf struct {
	name          string
	scale, offset float64
}

// otherUnits by metric.
var otherUnits = map[string][]unitOf{
	"temperature":  {{"°F", 5.0 / 9, -160.0 / 9}, {"K", 1, -273.15}, {"Cel", 1, 0}},
	"humidity":     {{"%RH", 1, 0}},
	"pressure":     {{"Pa", 0.01, 0}, {"kPa", 10, 0}},
	"air_pressure": {{"Pa", 0.01, 0}, {"mbar", 1, 0}},
	"power":        {{"kW", 1000, 0}},
	"energy":       {{"Wh", 0.001, 0}},
	"voltage":      {{"mV", 0.001, 0}},
	"current":      {{"mA", 0.001, 0}},
	"wind_speed":   {{"km/h", 1 / 3.6, 0}},
	"illuminance":  {{"lux", 1, 0}},
}

func otherUnit(metric, name string) (unitOf, bool) {
	for _, u := range otherUnits[metric] {
		if u.name == name {
			return u, true
		}
	}
	return unitOf{}, false
}

// in is a value of a metric in a unit, with as many digits as a display has.
func in(metric, unit string, v any) any {
	u, ok := otherUnit(metric, unit)
	f, isNumber := v.(float64)
	if !ok || !isNumber {
		return v
	}
	return math.Round((f-u.offset)/u.scale*1e4) / 1e4
}

// canonical is what the hub should make of a value in a unit.
func canonical(metric, unit string, v any) any {
	u, ok := otherUnit(metric, unit)
	f, isNumber := v.(float64)
	if !ok || !isNumber {
		return v
	}
	return f*u.scale + u.offset
}
