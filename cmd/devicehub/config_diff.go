package main

import "reflect"

// Diff names the keys in which next differs from c: those that a running hub
// takes over at once, and those that need a restart.
func (c Config) Diff(next Config) (live, restart []string) {
	for _, k := range configKeys() {
		if reflect.DeepEqual(k.In(&c).Interface(), k.In(&next).Interface()) {
			continue
		}
		if k.Live {
			live = append(live, k.Path)
		} else {
			restart = append(restart, k.Path)
		}
	}
	return live, restart
}

// TakeLive returns c with the live keys of next.
func (c Config) TakeLive(next Config) Config {
	for _, k := range configKeys() {
		if k.Live {
			k.In(&c).Set(k.In(&next))
		}
	}
	return c
}
