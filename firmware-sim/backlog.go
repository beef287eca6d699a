package sim

import (
	"context"
	"sync"
	"time"
)

// What a broker has acknowledged while the bridge was away has to reach the hub soon after it is
// back.

const (
	backlogPatience = time.Minute
	backlogSample   = 20 // devices
)

// landmark is the newest reading of a device that its broker had acknowledged at some moment.
type landmark struct {
	unit   *unit
	metric string
	t      int64
}

// awaitBacklog measures how long after a moment it takes until the hub has what brokers had
// acknowledged by then.
func (s *Sim) awaitBacklog(ctx context.Context, from time.Time) {
	landmarks := s.landmarks()
	if len(landmarks) == 0 {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, m := range landmarks {
		wg.Go(func() {
			for time.Since(from) < backlogPatience && ctx.Err() == nil {
				if latest, _, err := s.api.Latest(ctx, m.unit.id); err == nil && latest[m.metric].T >= m.t {
					s.stats.record("backlog_ms", time.Since(from))
					return
				}
				sleep(ctx, 200*time.Millisecond)
			}
			if ctx.Err() == nil {
				s.stats.record("backlog_ms", backlogPatience)
			}
		})
	}
}

// landmarks are those of some devices behind bridges that tell the time.
func (s *Sim) landmarks() (out []landmark) {
	for _, u := range s.units {
		if u.group.Via == nil || !u.group.Sensor || len(out) == backlogSample {
			continue
		}
		m := landmark{unit: u}
		u.ledger.mu.Lock()
		for metric, of := range u.ledger.metrics {
			for i := len(of.entries) - 1; i >= 0 && i > len(of.entries)-200; i-- {
				if e := of.entries[i]; e.state == acknowledged && e.form&stamped == 0 {
					if e.t > m.t {
						m.metric, m.t = metric, e.t
					}
					break
				}
			}
		}
		u.ledger.mu.Unlock()
		if m.t > 0 {
			out = append(out, m)
		}
	}
	return out
}
