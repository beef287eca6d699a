package main

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// parses reports whether a command line is one of ours: command and flags.
func parses(t *testing.T, words []string) {
	t.Helper()
	cmd, rest, err := (&app{}).root().Find(words)
	if err != nil {
		t.Errorf("%q: %v", words, err)
		return
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("%q: %v", words, err)
	}
	if !cmd.HasParent() || cmd.HasSubCommands() {
		t.Errorf("%q names no command", words)
	}
}

func TestSystemdUnit(t *testing.T) {
	b, err := os.ReadFile("../../configs/deploy/devicehub.service")
	if err != nil {
		t.Fatal(err)
	}
	envs := map[string]bool{}
	for _, k := range configKeys() {
		envs[k.Env()] = true
	}
	starts := 0
	settings := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			settings[key] = value
		}
		if rest, ok := strings.CutPrefix(line, "ExecStart=/usr/local/bin/devicehub "); ok {
			parses(t, strings.Fields(rest))
			starts++
		}
		if rest, ok := strings.CutPrefix(line, "#   sudo -u devicehub devicehub "); ok {
			parses(t, strings.Fields(rest))
		}
		if rest, ok := strings.CutPrefix(line, "Environment="); ok {
			if name, _, _ := strings.Cut(rest, "="); !envs[name] {
				t.Errorf("%s is no variable of ours", name)
			}
		}
	}
	if starts != 1 {
		t.Errorf("got %d ExecStart lines, want 1", starts)
	}
	// The hub stops within a minute; no core tells its keys.
	if stop, err := strconv.Atoi(settings["TimeoutStopSec"]); err != nil || stop <= 60 || settings["LimitCORE"] != "0" || settings["LimitNOFILE"] != "1048576" {
		t.Errorf("got TimeoutStopSec=%s LimitCORE=%s LimitNOFILE=%s", settings["TimeoutStopSec"], settings["LimitCORE"], settings["LimitNOFILE"])
	}
}

func TestDockerfile(t *testing.T) {
	b, err := os.ReadFile("../../configs/deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	user := ""
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == "USER":
			user = words[1]
		case words[0] == "COPY" && !strings.HasPrefix(words[1], "--"):
			for _, src := range words[1 : len(words)-1] {
				if _, err := os.Stat(filepath.Join("../..", src)); err != nil {
					t.Errorf("%s: %v", strings.TrimSpace(line), err)
				}
			}
		case words[0] == "CMD":
			parses(t, strings.Split(strings.Trim(words[1], `[]"`), `","`))
		case slices.Contains(words, "/devicehub") && words[0] == "#":
			parses(t, words[slices.Index(words, "/devicehub")+1:])
		}
	}
	if user == "" || strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") {
		t.Errorf("got user %q, want one without rights", user)
	}
}
