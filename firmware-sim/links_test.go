package sim_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	sim "devicehub/firmware-sim"
)

// Every device of a running fleet is in one state, by transport, and a fault shows while it is in force.
func TestSnapshotsTellWhereDevicesStand(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		var mu sync.Mutex
		var seen []sim.Snapshot
		r := play(t, h, strings.Replace(small, "hold: 1500ms", "hold: 6s", 1)+`
faults:
  - {at: 1500ms, drop: {pct: 100, for: 2s}}
  - {at: 5s, half_open: {pct: 100, for: 30s}}
`, func(c *sim.Config) {
			c.Progress = func(s sim.Snapshot) {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, s)
			}
		})
		mu.Lock()
		defer mu.Unlock()
		var up, dropped, half bool
		phases := map[string]bool{}
		for _, s := range seen {
			phases[s.Phase] = true
			sum := s.AllLinks()
			if sum.Devices() != 12 || s.Links["longpoll"].Devices() != 3 || s.Links["websocket"].Devices() != 9 {
				t.Errorf("%.1f s: %d devices in %v", s.Elapsed, sum.Devices(), s.Links)
			}
			if sum.Up == 12 {
				up = true
			}
			if sum.Dropped > 6 && len(s.Faults) == 1 && strings.HasPrefix(s.Faults[0].Text, "drop 100 %") && s.Faults[0].Left > 0 {
				dropped = true
				if s.Next == nil || !strings.HasPrefix(s.Next.Text, "half_open") || s.Left <= 0 || s.Left > 5 {
					t.Errorf("%.1f s: next %+v, %.1f s left", s.Elapsed, s.Next, s.Left)
				}
			}
			half = half || sum.HalfOpen > 6
		}
		if !up || !dropped || !half {
			t.Errorf("up %v, dropped %v, half open %v; want all seen\n%s", up, dropped, half, table(r))
		}
		for _, want := range []string{"registering", "playing", "settling", "judging"} {
			if !phases[want] {
				t.Errorf("phase %s was not shown", want)
			}
		}
		for _, s := range r.History {
			if s.Codes != nil || s.Faults != nil {
				t.Fatal("the history holds what only matters to those who watch")
			}
		}
	})
}

// A device whose token is worth nothing is refused, and that is no back-off.
func TestRefusedIsAState(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		h := newFakeHub(t)
		h.lie.deny = true
		var mu sync.Mutex
		refused := 0
		play(t, h, small, func(c *sim.Config) {
			c.Duration, c.Settle, c.NoJudge = 2*time.Second, time.Second, true
			c.Progress = func(s sim.Snapshot) {
				mu.Lock()
				defer mu.Unlock()
				refused = max(refused, s.AllLinks().Refused)
			}
		})
		mu.Lock()
		defer mu.Unlock()
		if refused != 12 {
			t.Errorf("%d of 12 devices are shown as refused", refused)
		}
	})
}

func TestSnapshotLine(t *testing.T) {
	s := sim.Snapshot{Phase: "playing", Devices: 9, Up: 5, Links: map[string]sim.Links{"mqtt": {Up: 2, Waiting: 1}, "websocket": {Up: 3, Dropped: 2, Waiting: 1}},
		Faults: []sim.FaultSign{{Text: "drop 20 %"}}}
	if got := s.String(); !strings.Contains(got, "up 5/9 (2 waiting, 2 dropped)") || !strings.Contains(got, "fault: drop 20 %") {
		t.Errorf("got %s", got)
	}
	if got := s.Add(s); got.Links["mqtt"].Up != 4 || got.Up != 10 || len(got.Faults) != 1 || s.Links["mqtt"].Up != 2 {
		t.Errorf("the sum of two is %+v", got)
	}
}
