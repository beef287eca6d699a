package sim

import (
	"testing"
	"testing/synctest"
	"time"

	"devicehub/firmware-sim/profile"
)

// A hub that comes back cannot know of a device behind a bridge before it says something.
func TestPresenceBehindABridge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unit{id: "d", group: &profile.Group{Via: new(profile.Via)}}
		s := &Sim{stats: newStats(), units: []*unit{u}}
		row := Row{ID: "d"}
		row.Status.Link = "down"
		check := func(when string, judged bool, wrong int64) {
			t.Helper()
			got := s.comparePresence(u, row, time.Now(), 5*time.Second)
			if n := s.judge.verdict("presence_wrong").Count; got != judged || n != wrong {
				t.Errorf("%s: judged %v, %d wrong; want %v and %d", when, got, n, judged, wrong)
			}
		}
		u.up, u.since = true, time.Now()
		time.Sleep(time.Minute)
		check("it never spoke", false, 0)
		u.speaks(s)
		time.Sleep(time.Minute)
		check("it spoke a minute ago", true, 1)
		s.hubAway(true)
		s.hubAway(false)
		time.Sleep(time.Minute)
		check("it has not spoken since the hub is back", false, 1)
		u.speaks(s)
		time.Sleep(20 * time.Second)
		u.speaks(s)
		check("it speaks", false, 1)
		time.Sleep(20 * time.Second)
		u.speaks(s)
		check("it has spoken for a while", true, 2)
	})
}
