package devices

import (
	"math"
	"strconv"
)

// Digits is how many significant digits a number has that the hub works out
// itself: a conversion, a mean, a sum. No sensor has more, and what a float64
// adds behind them is noise: 100 °C are 212 °F and not 211.99999999999997.
const Digits = 12

// Round rounds v to 12 significant digits. What a device sends is never rounded.
func Round(v float64) float64 { return RoundBeside(v, v, Digits) }

// RoundBeside rounds v to the decimal place that a number as large as size has
// as its last of so many significant digits: a difference of two large numbers
// is no more exact than they are. v comes back as it is where size is 0 or no
// number.
func RoundBeside(v, size float64, digits int) float64 {
	size = math.Abs(size)
	if v == 0 || size == 0 || v-v != 0 || size-size != 0 {
		return v + 0 // −0 is 0
	}
	places := digits - 1 - magnitude(size)
	var r float64
	switch {
	case places >= 0 && places < len(pow10):
		// A whole number below 2^53 over an exact power of ten is the float64
		// nearest to the decimal, so that its shortest form is that decimal.
		r = math.Round(v*pow10[places]) / pow10[places]
	case places < 0 && -places < len(pow10):
		r = math.Round(v/pow10[-places]) * pow10[-places]
	case v == size || v == -size:
		r, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'e', digits-1, 64), 64)
	default:
		return v
	}
	if r-r != 0 {
		return v
	}
	return r + 0
}

// pow10 are the powers of ten that a float64 holds exactly.
var pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// magnitude is the power of ten of the first digit of v, which is more than 0
// and finite. Far from 1 it may be one too small.
func magnitude(v float64) int {
	_, exp := math.Frexp(v) // v is at least 2^(exp−1)
	m := int(math.Floor(float64(exp-1) * (math.Ln2 / math.Ln10)))
	switch next := m + 1; {
	case next >= 0 && next < len(pow10) && v >= pow10[next]:
		return next
	case next < 0 && -next < len(pow10) && v*pow10[-next] >= 1:
		return next
	}
	return m
}
