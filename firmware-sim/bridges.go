package sim

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// bridgePatience is how long a bridge may take to connect before the devices behind it are switched on, and to bring the last
// of what its broker has acknowledged.
const bridgePatience = time.Minute

// awaitBridges returns when every bridge that the profile names is connected: what a broker took before anybody had
// subscribed, it promised to nobody.
func (s *Sim) awaitBridges(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bridgePatience)
	defer cancel()
	for _, g := range s.profile.Fleet {
		for g.Via != nil {
			bridges, err := s.api.Bridges(ctx)
			if err != nil {
				return fmt.Errorf("bridge %s: %w", g.Via.Bridge, err)
			}
			i := slices.IndexFunc(bridges, func(b Bridge) bool { return b.Name == g.Via.Bridge })
			if i < 0 {
				return fmt.Errorf("the hub has no bridge %s; it stands under mqtt.bridges in its configuration", g.Via.Bridge)
			}
			if bridges[i].Connected {
				break
			}
			if sleep(ctx, 200*time.Millisecond); ctx.Err() != nil {
				return fmt.Errorf("bridge %s does not connect to its broker", g.Via.Bridge)
			}
		}
	}
	return nil
}

// awaitDelivery returns when the bridges have brought what their broker acknowledged: when they are connected and nothing
// more has come for a while.
func (s *Sim) awaitDelivery(ctx context.Context) {
	used := func(b Bridge) bool {
		return slices.ContainsFunc(s.units, func(u *unit) bool { return u.group.Via != nil && u.group.Via.Bridge == b.Name })
	}
	ctx, cancel := context.WithTimeout(ctx, bridgePatience)
	defer cancel()
	const still = 3 * time.Second
	last, since := int64(-1), time.Now()
	for ctx.Err() == nil && slices.ContainsFunc(s.units, func(u *unit) bool { return u.group.Via != nil }) {
		bridges, err := s.api.Bridges(ctx)
		if err != nil {
			return // the judge will say that the hub does not answer
		}
		sum := int64(0)
		busy := false
		for _, b := range bridges {
			if used(b) {
				sum += b.Received
				busy = busy || !b.Connected || b.Waiting > 0
			}
		}
		if busy || sum != last {
			last, since = sum, time.Now()
		}
		if time.Since(since) > still {
			return
		}
		sleep(ctx, 200*time.Millisecond)
	}
}
