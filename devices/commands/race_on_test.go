//go:build race

package commands

// raceEnabled: random lives take longer under the detector, so it plays a few.
const raceEnabled = true
