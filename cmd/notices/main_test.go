package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// The file that the binary holds is what the module graph and the dashboard's lock file come to today.
func TestNoticesAreUpToDate(t *testing.T) {
	want, err := notices("../..")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../devicehub/licenses.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("cmd/devicehub/licenses.txt is not up to date: run `make notices`")
	}
}

// Every module of the built program is in it.
func TestNoticesAreWhole(t *testing.T) {
	b, err := os.ReadFile("../devicehub/licenses.txt")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", "devicehub/cmd/devicehub", "devicehub/cmd/firmware-sim").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" && line != "devicehub" && !strings.Contains(text, "\n"+line+"  https://") {
			t.Errorf("%s is missing", line)
		}
	}
	for _, s := range []string{"Mozilla Public License", "@jaames/iro 5", "https://github.com/jaames/iro.js", "Go's standard library", "Dan Wheeler and Dropbox", "preact 11"} {
		if !strings.Contains(text, s) {
			t.Errorf("%q is missing", s)
		}
	}
}
