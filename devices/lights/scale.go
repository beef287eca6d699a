package lights

import "math"

// MaxBrightness is the greatest brightness; the least is 1, and off is no
// brightness but on:false.
const MaxBrightness = 255

// Percent is brightness b for people, 1 to 100. FromPercent takes every percent
// back to itself.
func Percent(b int) int { return int(math.Round(1 + float64(b-1)*99/254)) }

// FromPercent is the brightness of a percentage from 1 to 100.
func FromPercent(pct int) int { return int(math.Round(1 + float64(pct-1)*254/99)) }

// ToScale is brightness b in a device's scale 1..max.
func ToScale(b, max int) int {
	return atLeast(1, int(math.Round(float64(b)*float64(max)/MaxBrightness)))
}

// FromScale is the brightness of a device's value v in its scale 1..max. For
// max up to 255 ToScale takes the result back to v; ToScale followed by
// FromScale does not keep b, which is why [Same] compares in the device's scale.
func FromScale(v, max int) int {
	return min(atLeast(1, int(math.Round(float64(v)*MaxBrightness/float64(max)))), MaxBrightness)
}

func atLeast(least, v int) int { return max(least, v) }

// Mireds is the white temperature of k Kelvin in mireds, as devices keep it.
func Mireds(k int) int { return int(math.Round(1e6 / float64(k))) }

// FromMireds is the white temperature of m mireds in Kelvin.
func FromMireds(m int) int { return int(math.Round(1e6 / float64(m))) }
