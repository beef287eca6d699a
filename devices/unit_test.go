package devices

import (
	"math"
	"testing"
)

func TestConvertUnit(t *testing.T) {
	for _, row := range []struct {
		v        float64
		from, to string
		want     float64
	}{
		{70.1, "F", "°C", 21.16666667}, {0, "K", "C", -273.15}, {21, "°C", "°F", 69.8}, {1, "bar", "hPa", 1000}, {29.92, "inHg", "hPa", 1013.2075888},
		{1, "kWh", "Wh", 1000}, {3.6, "MJ", "kWh", 1}, {0.42, "/", "%", 42}, {55, "%RH", "%", 55}, {1, "ug/m3", "\u03bcg/m³", 1}, {2, "m3", "L", 2000}, {90, "km/h", "m/s", 25},
	} {
		got, ok := ConvertUnit(row.v, NormalizeUnit(row.from), NormalizeUnit(row.to))
		if !ok || math.Abs(got-row.want) > 1e-6*math.Max(1, math.Abs(row.want)) {
			t.Errorf("%v %s in %s: got %v, %v, want %v", row.v, row.from, row.to, got, ok, row.want)
		}
	}
	for _, pair := range [][2]string{{"V", "A"}, {"°C", "%"}, {"furlong", "m"}, {"", "V"}} {
		if _, ok := ConvertUnit(1, pair[0], pair[1]); ok {
			t.Errorf("%s to %s: want no conversion", pair[0], pair[1])
		}
	}
}

func TestUnitsRoundTrip(t *testing.T) {
	for _, from := range unitNames {
		for _, to := range ConvertibleTo(from) {
			there, ok := ConvertUnit(12.5, from, to)
			back, ok2 := ConvertUnit(there, to, from)
			if !ok || !ok2 || math.Abs(back-12.5) > 1e-9*12.5 {
				t.Errorf("%s to %s and back: got %v, want 12.5", from, to, back)
			}
		}
	}
}

func TestCatalogueIsSound(t *testing.T) {
	for _, m := range Catalogue() {
		d := Device{ID: "x", Kinds: []Kind{KindSensor}, Metrics: []Metric{m}}
		if err := d.Normalize(); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}
