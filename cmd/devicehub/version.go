package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// release is the version of a released binary, set by the linker
// (-X main.release=v1.2.3).
var release string

// versionString is the release, else the commit that the binary was built from.
func versionString() string {
	if release != "" {
		return release
	}
	commit, dirty := "", false
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				commit = s.Value
			case "vcs.modified":
				dirty = s.Value == "true"
			}
		}
	}
	if commit == "" {
		return "development"
	}
	v := "development " + commit[:min(12, len(commit))]
	if dirty {
		v += " with changes"
	}
	return v
}

// versionLine is what `devicehub version` prints.
func versionLine() string {
	return fmt.Sprintf("devicehub %s (%s, %s/%s), data format %d", versionString(), runtime.Version(), runtime.GOOS, runtime.GOARCH, dataFormat)
}
