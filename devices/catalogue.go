package devices

import (
	"maps"
	"slices"
)

// catalogue is what a metric of a well-known name is taken for when the
// device's record does not say otherwise. Classes are Home Assistant's.
var catalogue = buildCatalogue()

func buildCatalogue() map[string]Metric {
	c := map[string]Metric{}
	float := func(name, class, unit string, min, max, precision float64) {
		c[name] = Metric{Name: name, Class: class, Unit: unit, Type: TypeFloat, Min: &min, Max: &max,
			OnRange: FlagRange, Precision: precision, StateClass: Measurement}
	}
	total := func(name, class, unit string, max, precision float64) {
		float(name, class, unit, 0, max, precision)
		m := c[name]
		m.StateClass = TotalIncreasing
		c[name] = m
	}
	float("temperature", "temperature", "°C", -60, 150, 0.1)
	float("humidity", "humidity", "%", 0, 100, 0.1)
	float("pressure", "pressure", "hPa", 300, 1100, 0.1)
	float("air_pressure", "atmospheric_pressure", "hPa", 300, 1100, 0)
	float("illuminance", "illuminance", "lx", 0, 200000, 1)
	float("irradiance", "irradiance", "W/m²", 0, 2000, 0)
	float("co2", "carbon_dioxide", "ppm", 0, 40000, 1)
	float("co", "carbon_monoxide", "ppm", 0, 10000, 0)
	float("pm1", "pm1", "µg/m³", 0, 1000, 1)
	float("pm25", "pm25", "µg/m³", 0, 1000, 1)
	float("pm10", "pm10", "µg/m³", 0, 1000, 1)
	float("voc", "volatile_organic_compounds", "µg/m³", 0, 60000, 0)
	float("voc_ppb", "volatile_organic_compounds_parts", "ppb", 0, 60000, 0)
	float("aqi", "aqi", "", 0, 500, 0)
	float("battery", "battery", "%", 0, 100, 1)
	float("voltage", "voltage", "V", 0, 1000, 0.01)
	float("current", "current", "A", -500, 500, 0.001)
	float("power", "power", "W", -1e6, 1e6, 0.1)
	float("power_factor", "power_factor", "", 0, 1, 0)
	float("frequency", "frequency", "Hz", 0, 1e6, 0)
	total("energy", "energy", "kWh", 1e9, 0.001)
	float("rssi", "signal_strength", "dBm", -130, 0, 1)
	float("sound", "sound_pressure", "dB", 0, 194, 0)
	float("distance", "distance", "m", 0, 1e5, 0)
	float("moisture", "moisture", "%", 0, 100, 0)
	float("ph", "ph", "", 0, 14, 0.01)
	float("flow", "volume_flow_rate", "L/min", 0, 1e5, 0)
	total("water", "water", "m³", 1e9, 0)
	total("gas", "gas", "m³", 1e9, 0)
	float("rain", "precipitation", "mm", 0, 1e5, 0)
	float("wind_speed", "wind_speed", "m/s", 0, 120, 0)
	float("wind_direction", "wind_direction", "°", 0, 360, 0)
	float("conductivity", "conductivity", "µS/cm", 0, 1e6, 0)
	float("weight", "weight", "kg", 0, 1e6, 0)
	zero := 0.0
	c["uptime"] = Metric{Name: "uptime", Class: "duration", Unit: "s", Type: TypeFloat, Min: &zero, OnRange: FlagRange, StateClass: Measurement}
	for _, name := range []string{"motion", "door", "leak", "smoke", "occupancy"} {
		class := name
		if name == "leak" {
			class = "moisture"
		}
		c[name] = Metric{Name: name, Class: class, Type: TypeBool}
	}
	c["mode"] = Metric{Name: "mode", Class: "enum", Type: TypeString}
	return c
}

// Catalogue lists the default declarations, by name.
func Catalogue() []Metric {
	return slices.SortedFunc(maps.Values(catalogue), func(a, b Metric) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
}
