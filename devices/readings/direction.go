package readings

import (
	"math"

	"devicehub/devices"
)

// A direction goes round: 359° and 1° are two apart, and the mean of the two is
// 0° and not 180°. Its mean is that of the unit vectors (Mardia and Jupp,
// Directional Statistics, §2.2.1); it has no least and no greatest value. A bucket
// keeps the sums of sines and cosines.

// radians is how many radians one of the nature's unit is.
func (n Nature) radians() float64 {
	if n == Radians {
		return 1
	}
	return math.Pi / 180
}

// addDirection enters a reading.
func (b *Bucket) addDirection(v float64) {
	sin, cos := math.Sincos(v * b.Nature.radians())
	b.Sin += sin
	b.Cos += cos
}

const (
	// leastLength is how long the mean vector of unit vectors is to be for it to
	// point anywhere: a north wind and a south wind have no mean.
	leastLength = 1e-9
	// anglePlaces are kept of a mean direction.
	anglePlaces = 1e9
)

// direction is the circular mean: from 0 to below a full turn, or, where the
// readings are below 0 in part, from minus half a turn to half a turn.
func (b *Bucket) direction() (mean float64, ok bool) {
	if math.Hypot(b.Sin, b.Cos) < leastLength*float64(b.Good()) {
		return 0, false
	}
	unit := b.Nature.radians()
	full := 2 * math.Pi / unit
	mean = math.Round(math.Atan2(b.Sin, b.Cos)/unit*anglePlaces) / anglePlaces
	if mean < 0 && b.Min >= 0 {
		mean += full
	}
	if mean >= full {
		mean = 0
	}
	return devices.Round(mean), true
}

// assumeDirection makes up the vectors of a bucket that was rolled up without
// them: of its first and its last reading, which is all that is left of it.
func (b *Bucket) assumeDirection() {
	n := float64(b.Good()) / 2
	for _, v := range [...]float64{b.First, b.Last} {
		sin, cos := math.Sincos(v * b.Nature.radians())
		b.Sin += n * sin
		b.Cos += n * cos
	}
}
