//go:build race

package liveness

// raceEnabled: the detector watches goroutines, of which the property test has
// few; it plays a tenth of the worlds.
const raceEnabled = true
