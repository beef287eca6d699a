package sim

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// blipPatience is how long a light may take to go, and to be back.
const blipPatience = 10 * time.Second

// blip breaks the connections of lights while a command is under way, and gives each the next
// command as soon as it is back: that must come at once, whatever has become of the one before.
func (s *Sim) blip(ctx context.Context, r *rand.Rand, units []*unit) {
	// What waits when the load ends may end by itself.
	calls := context.WithoutCancel(ctx)
	var wg sync.WaitGroup
	for _, u := range units {
		n, first, second := r.IntN(3), 1+r.IntN(255), 1+r.IntN(255)
		if !u.group.Light || u.group.Behaviour.HangPct > 0 ||
			u.standing().IsZero() { // a light that hangs holds up the next one itself
			continue
		}
		wg.Go(func() { s.blipOne(ctx, calls, u, n, first, second) })
	}
	wg.Wait()
}

func (s *Sim) blipOne(ctx, calls context.Context, u *unit, n, first, second int) {
	params := func(brightness int) map[string]any {
		if modes := u.group.Behaviour.Modes; len(modes) > 0 && modes[0] == "onoff" {
			return map[string]any{"on": brightness%2 == 0}
		}
		return map[string]any{"on": true, "brightness": brightness}
	}
	before := u.standing()
	u.dev.Blip(n)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.issue(calls, &issued{unit: u, op: "set"}, params(first), time.Now()) })
	for end := time.Now().Add(blipPatience); ; sleep(ctx, 5*time.Millisecond) {
		if now := u.standing(); !now.IsZero() && !now.Equal(before) {
			break
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return // no command came, or it is not back: others say so
		}
	}
	wg.Go(func() { s.issue(calls, &issued{unit: u, op: "set", blip: true}, params(second), time.Now()) })
}
