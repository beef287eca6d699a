package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const checkout = "../.."

// TestReadmeIsTrue holds what the README tells people to type against what
// there is: make targets, commands and their flags, files and packages. The
// first steps themselves are played by the end-to-end tests.
func TestReadmeIsTrue(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(checkout, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	makefile, err := os.ReadFile(filepath.Join(checkout, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}

	for _, m := range regexp.MustCompile("`make ([a-z]+)`|(?m)^make ([a-z]+)").FindAllStringSubmatch(readme, -1) {
		if target := m[1] + m[2]; !regexp.MustCompile(`(?m)^` + target + `:`).Match(makefile) {
			t.Errorf("make %s: the Makefile has no such target", target)
		}
	}

	commands := 0
	for _, m := range regexp.MustCompile("(?m)(?:^|`)(?:bin/)?devicehub ([a-z][^`#>\n]*)").FindAllStringSubmatch(readme, -1) {
		words := strings.Fields(m[1])
		if words[0] == "connects" || words[0] == "help" {
			continue
		}
		commands++
		cmd, rest, err := (&app{}).root().Find(words)
		if err != nil || cmd.Name() == "devicehub" {
			t.Errorf("devicehub %s: no such command", m[1])
			continue
		}
		for _, w := range rest {
			if name, ok := strings.CutPrefix(w, "--"); ok && cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
				t.Errorf("devicehub %s: no flag --%s", m[1], name)
			}
		}
	}
	if commands < 4 {
		t.Errorf("found %d commands in the README, want at least 4", commands)
	}

	paths := regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(readme, -1)
	paths = append(paths, regexp.MustCompile("`((?:devices|hub|bridge|dashboard|firmware-sim|cmd|configs)(?:/[a-z-]+)*)`").FindAllStringSubmatch(readme, -1)...)
	paths = append(paths, regexp.MustCompile(`(configs/fleet/[a-z]+\.yaml)`).FindAllStringSubmatch(readme, -1)...)
	for _, m := range paths {
		if _, err := os.Stat(filepath.Join(checkout, m[1])); err != nil {
			t.Errorf("%s: there is none", m[1])
		}
	}
}
