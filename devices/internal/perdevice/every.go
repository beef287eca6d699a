package perdevice

import (
	"context"
	"math/rand/v2"
	"time"
)

// Every calls f after first and then every period, give or take a tenth, until ctx ends.
func Every(ctx context.Context, first, period time.Duration, f func(context.Context)) {
	about := func(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5) }
	t := time.NewTimer(about(first))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		f(ctx)
		t.Reset(about(period))
	}
}
