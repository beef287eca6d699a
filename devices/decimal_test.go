package devices

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
)

func TestRound(t *testing.T) {
	for _, row := range []struct{ v, want float64 }{
		{50.199999999999996, 50.2}, {0.1 + 0.2, 0.3}, {-211.99999999999997, -212}, {0, 0}, {math.Copysign(0, -1), 0}, {1e300, 1e300}, {5e-324, 5e-324},
		{123456789012.4, 123456789012}, {1234567890123.4, 1234567890120}, {1.0 / 3, 0.333333333333}, {2e-9 / 3, 6.66666666667e-10}, {999999999999.96, 1e12}, {math.MaxFloat64, 1.79769313486e308},
	} {
		if got := Round(row.v); got != row.want || math.Signbit(got) != math.Signbit(row.want) {
			t.Errorf("%v: got %v, want %v", row.v, got, row.want)
		}
	}
	for _, v := range []float64{math.Inf(1), math.Inf(-1)} {
		if got := Round(v); got != v {
			t.Errorf("%v: got %v", v, got)
		}
	}
	if !math.IsNaN(Round(math.NaN())) {
		t.Error("NaN became a number")
	}
}

// Whatever it is, what is rounded is written with 12 digits, and is near.
func TestRoundIsShort(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 100_000 {
		v := r.NormFloat64() * math.Pow(10, float64(r.IntN(40)-20))
		got := Round(v)
		text := strconv.FormatFloat(got, 'e', -1, 64)
		digits := 0
		for _, c := range text {
			if c == 'e' {
				break
			}
			if c >= '0' && c <= '9' {
				digits++
			}
		}
		if digits > Digits || math.Abs(got-v) > math.Abs(v)*5.1e-12 || Round(got) != got {
			t.Fatalf("%v: got %v", v, got)
		}
	}
}

func TestRoundBeside(t *testing.T) {
	// A meter of nine digits before the point that rose by a thousandth.
	a, b := 123456789.123, 123456789.124
	if got := RoundBeside(b-a, b, 14); got != 0.001 {
		t.Errorf("got %v, want 0.001", got)
	}
	if got := RoundBeside(1.4e-14, 273.15, Digits); got != 0 {
		t.Errorf("got %v, want 0", got)
	}
	if got := RoundBeside(3, 0, Digits); got != 3 {
		t.Errorf("got %v, want 3", got)
	}
}

func TestConversionsAreWrittenShort(t *testing.T) {
	for _, row := range []struct {
		v        float64
		from, to string
		want     float64
	}{
		{100, "°C", "°F", 212}, {20, "°C", "°F", 68}, {68, "°F", "°C", 20}, {32, "°F", "°C", 0}, {31.99, "°F", "°C", -0.0055555556}, {273.25, "K", "°C", 0.1},
		{215.7, "Wh", "kWh", 0.2157}, {0.1, "kWh", "Wh", 100}, {0.07, "/", "%", 7}, {180, "°", "rad", 3.14159265359}, {3.6, "km/h", "m/s", 1},
	} {
		if got, ok := ConvertUnit(row.v, row.from, row.to); !ok || got != row.want {
			t.Errorf("%v %s in %s: got %v, want %v", row.v, row.from, row.to, got, row.want)
		}
	}
}

func TestAngle(t *testing.T) {
	for unit, want := range map[string]float64{"°": math.Pi / 180, "rad": 1} {
		if got, ok := Angle(unit); !ok || got != want {
			t.Errorf("%s: got %v %v", unit, got, ok)
		}
	}
	for _, unit := range []string{"", "°C", "°F", "%"} {
		if _, ok := Angle(unit); ok {
			t.Errorf("%s is no angle", unit)
		}
	}
}
