package profile

import (
	"math"
	"strings"
	"testing"
	"time"
)

const staged = `
fleet: [{kind: light, count: 10}]
load:
  commands: {mix: {set: 1}}
  stages:
    - {for: 10s, pct: 50}
    - {for: 20s, commands: 100/s}
    - {for: 10s, pct: 100, commands: 0/s}
`

func TestStages(t *testing.T) {
	p, err := Parse([]byte(staged))
	if err != nil {
		t.Fatal(err)
	}
	l := &p.Load
	if got := l.Length(); got != 40*time.Second {
		t.Errorf("got %v in all, want 40s", got)
	}
	for i, want := range []time.Duration{2, 4, 6, 8, 10, 32, 34, 36, 38, 40} {
		if got, ever := l.SwitchOn(i, 10, 0); !ever || got.Round(time.Millisecond) != want*time.Second {
			t.Errorf("device %d is switched on at %v (%t), want %v", i, got, ever, want*time.Second)
		}
	}
	for at, want := range map[time.Duration]float64{0: 0, 10: 0, 20: 50, 30: 100, 35: 50, 40: 0, 100: 0} {
		if got := l.CommandRate(at * time.Second); math.Abs(got-want) > 1e-6 {
			t.Errorf("after %d s: got %v commands/s, want %v", at, got, want)
		}
	}
	next := l.CommandMoments(0.5)
	n, last := 0, time.Duration(0)
	for at := next(); at != math.MaxInt64; at = next() {
		if at < last {
			t.Fatalf("command %d at %v, before the one at %v", n, at, last)
		}
		n, last = n+1, at
	}
	if n < 740 || n > 760 { // half of 1000 + 500
		t.Errorf("got %d commands, want 750", n)
	}
}

func TestStagesAreChecked(t *testing.T) {
	for _, c := range []struct{ name, with, want string }{
		{"no length", "{pct: 50}", "line 6"},
		{"switched off", "{for: 1s, pct: 50}\n    - {for: 1s, pct: 20}", "line 7"},
		{"unknown", "{for: 1s, rate: 5}", "line 6"},
	} {
		text := "fleet: [{kind: light}]\nload:\n  commands: {mix: {set: 1}}\n\n  stages:\n    - " + c.with + "\n"
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s in it", c.name, err, c.want)
		}
	}
	if _, err := Parse([]byte(strings.Replace(staged, "commands: {mix", "ramp: 5/s\n  commands: {mix", 1))); err == nil || !strings.Contains(err.Error(), "ramp") {
		t.Errorf("a ramp beside stages: got %v", err)
	}
}
