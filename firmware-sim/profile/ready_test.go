package profile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"devicehub/firmware-sim/profile"
)

func TestEveryReadyProfileLoads(t *testing.T) {
	files, err := filepath.Glob("../../configs/fleet/*.yaml")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d profiles, %v", len(files), err)
	}
	for _, f := range files {
		if _, err := profile.Read(f); err != nil {
			t.Error(err)
		}
	}
}

// peak is the greatest rate of commands.
func peak(l *profile.Load) float64 {
	rate := l.Commands.Rate
	for _, s := range l.Stages {
		rate = max(rate, s.Commands)
	}
	return rate
}

// A profile whose commands are more than a hub takes from one person says which limit to raise.
func TestHeadsNameTheLimitToRaise(t *testing.T) {
	defaults, err := os.ReadFile("../../configs/devicehub.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	said := regexp.MustCompile(`\bevents_per_s: (\d+)`)
	number := func(text string) float64 {
		n := 0.0
		if m := said.FindStringSubmatch(text); m != nil {
			fmt.Sscan(m[1], &n)
		}
		return n
	}
	limit := number(string(defaults))
	files, err := filepath.Glob("../../configs/fleet/*.yaml")
	if err != nil || limit == 0 {
		t.Fatal(limit, err)
	}
	raised := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		p, err := profile.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		head, _, _ := strings.Cut(string(text), "\nseed:")
		to := number(head)
		if to > 0 {
			raised++
		}
		// A quarter is left for what else the person does.
		if rate := peak(&p.Load); max(limit, to) < 1.25*rate {
			t.Errorf("%s: %g commands/s of one person; its head has events_per_s: %g, not enough", f, rate, to)
		}
	}
	if raised < 2 {
		t.Errorf("%d heads name a limit", raised)
	}
}

// chaos.yaml has every kind of harm, and describes it with its knobs.
func TestChaosHasEveryHarm(t *testing.T) {
	text, err := os.ReadFile("../../configs/fleet/chaos.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(text), "\nseed:")
	for _, kind := range profile.HostileKinds() {
		long := func(h profile.Hostile) bool { return h.Kind == kind && h.For >= h.Within }
		if !slices.ContainsFunc(p.Hostile, long) {
			t.Errorf("nobody plays %s for long enough", kind)
		}
		row := regexp.MustCompile(`(?m)^#.* ` + string(kind) + `( .*|$)`).FindStringSubmatch(head)
		if row == nil {
			t.Errorf("the table of keys has no row of %s", kind)
			continue
		}
		_, err := profile.Parse([]byte("fleet: [{kind: light}]\nhostile: [{" + string(kind) + ": {knob: 1}}]"))
		_, knobs, _ := strings.Cut(fmt.Sprint(err), "there are ")
		for _, knob := range strings.Split(knobs, ", ") {
			common := slices.Contains([]string{"count", "for", "within"}, knob)
			if !common && !strings.Contains(row[1], knob) {
				t.Errorf("the row of %s has no %s", kind, knob)
			}
		}
	}
	for _, figure := range []string{"hostile_unchecked", "hostile_harm", "ack_hostile_ms", "ack_quiet_ms", "hostile_answer_ms"} {
		if !strings.Contains(head, figure) {
			t.Errorf("the head has no %s", figure)
		}
	}
}
