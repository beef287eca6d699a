package hostile

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/firmware-sim/profile"
)

// A party keeps to its rate, makes up for nothing, and ends when it is told to.
func TestPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for rate, want := range map[float64]int{0.5: 6, 7: 71, 300: 3001, 2500: 25_001} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			p, n := &party{Hostile: &profile.Hostile{Rate: rate}}, 0
			p.paced(ctx, func() bool { n++; return true })
			if cancel(); n < want*99/100-1 || n > want {
				t.Errorf("%g/s: %d in 10 s, want %d", rate, n, want)
			}
		}
		p, n := &party{Hostile: &profile.Hostile{Rate: 100}}, 0
		began := time.Now()
		p.paced(t.Context(), func() bool { n++; time.Sleep(time.Second); return n < 5 })
		if n != 5 || time.Since(began) > 6*time.Second {
			t.Errorf("held up: %d in %v", n, time.Since(began))
		}
	})
}

func TestPlayRefuses(t *testing.T) {
	h := &profile.Hostile{Kind: "mischief"}
	if err := Play(t.Context(), h, Target{}, 0, new(Tally)); err == nil {
		t.Error("an unknown kind: no error")
	}
	for _, kind := range profile.HostileKinds() {
		if players[kind] == nil {
			t.Errorf("nobody plays %s", kind)
		}
	}
}

// Counts add up, and what a hub says does not make them grow for ever.
func TestTally(t *testing.T) {
	var tally Tally
	for i := range 1000 {
		tally.tried()
		tally.refused(fmt.Sprint("code ", i))
	}
	tally.taken()
	tally.cutOff()
	tally.waited(400 * time.Millisecond) // a hub may hold each up a little
	tally.waited(600 * time.Millisecond)
	tally.waited(time.Millisecond)
	c := tally.Counts()
	if c.Tried != 1000 || c.Denied() != 1000 || len(c.Refused) > codes+1 || c.Checked() != 1002 {
		t.Errorf("got %+v", c)
	}
	var again Tally
	again.Restore(c)
	again.refused("others")
	sum := c.Add(again.Counts())
	if sum.Tried != 2000 || sum.Denied() != 2001 || sum.CutOff != 2 || sum.HeldUp != 2 || c.Denied() != 1000 {
		t.Errorf("got %+v", sum)
	}
}

func TestToldCode(t *testing.T) {
	for text, want := range map[string]string{
		`{"e":"error","code":"rate_limited"}`: "rate_limited", `{"e":"disconnect","code":"x"}`: "x",
		`{"e":"time","code":"x"}`: "", `nonsense`: "",
	} {
		if got := toldCode([]byte(text)); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}
