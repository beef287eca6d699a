package quota

import (
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	l := NewLimiter(Rate{PerSecond: 10, Burst: 2})
	for i, want := range []time.Duration{0, 0, 100 * time.Millisecond} {
		if wait, ok := l.Take(now); wait != want || ok != (want == 0) {
			t.Errorf("take %d: got %v %t, want %v", i, wait, ok, want)
		}
	}
	for i, want := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond} {
		if wait := l.Reserve(now); wait != want {
			t.Errorf("reserve %d: got %v, want %v", i, wait, want)
		}
	}
	now = now.Add(200 * time.Millisecond) // what was reserved is made good
	if _, ok := l.Take(now); ok || l.Overspent(now) {
		t.Error("right after what was reserved there is one more")
	}
	now = now.Add(time.Minute)
	l.Spend(now, 7)
	if !l.Overspent(now) || !l.Overspent(now.Add(400*time.Millisecond)) || l.Overspent(now.Add(600*time.Millisecond)) {
		t.Error("7 of 2, at 10 a second, are made good after 500 ms")
	}
	l = NewLimiter(Rate{})
	if _, ok := l.Take(now); !ok || l.Reserve(now) != 0 || l.Overspent(now) {
		t.Error("without a rate there is a bound")
	}
}
