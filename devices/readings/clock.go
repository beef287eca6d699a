package readings

import (
	"context"
	"sync"
	"time"
)

// The hub's own clock.
const (
	clockStep    = 10 * time.Minute // against the monotonic clock
	clockProbe   = time.Hour        // without a step before it is trusted again
	clockRecord  = 5 * time.Minute  // an idle hub records its clock this often
	retainFirst  = 10 * time.Minute
	retainEvery  = 6 * time.Hour
	startedEarly = 2 * time.Second // a start so little before the recorded time is none
)

// ClockState tells whether the hub trusts its clock.
type ClockState struct {
	Suspect  bool   `json:"suspect"`
	Since    int64  `json:"since,omitempty"`    // by the suspected clock
	Recorded int64  `json:"recorded,omitempty"` // greatest wall time that was trusted
	Reason   string `json:"reason,omitempty"`   // behind, stepped
}

// clock watches the wall clock against the monotonic one. Its zero value is
// started with start.
type clock struct {
	mu       sync.Mutex
	state    ClockState
	last     time.Time // when it was looked at last
	calm     time.Time // since when there was no step
	recorded int64     // as the log has it
	flagged  bool      // as the log has it
	accepted bool      // a mark is due that lowers the recorded time
}

func (c *clock) start(m ClockMark, now time.Time) {
	c.last, c.calm = now, now
	c.recorded, c.flagged = m.Wall, m.Suspect
	c.state.Recorded = m.Wall
	switch {
	case now.UnixMilli() < m.Wall-startedEarly.Milliseconds():
		c.suspectNow(now, "behind")
	case m.Suspect:
		c.suspectNow(now, "stepped")
	}
}

func (c *clock) suspectNow(now time.Time, why string) {
	c.calm = now
	if !c.state.Suspect {
		c.state.Suspect, c.state.Since, c.state.Reason = true, now.UnixMilli(), why
	}
}

// look notices steps, and the end of suspicion. It reports whether the state
// changed.
func (c *clock) look(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved(now, now.Round(0).Sub(c.last.Round(0)), now.Sub(c.last))
}

// moved enters how far the wall clock and the monotonic one went since the
// last look.
func (c *clock) moved(now time.Time, wall, mono time.Duration) bool {
	was := c.state.Suspect
	if step := wall - mono; step > clockStep || step < -clockStep {
		c.suspectNow(now, "stepped")
	}
	c.last = now
	if c.state.Suspect && now.UnixMilli() > c.state.Recorded && now.Sub(c.calm) >= clockProbe {
		c.state = ClockState{Recorded: c.state.Recorded}
	}
	if !c.state.Suspect {
		c.state.Recorded = max(c.state.Recorded, now.UnixMilli())
	}
	return was != c.state.Suspect
}

func (c *clock) suspect() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Suspect
}

// mark is what the next group is to record of the clock: its state when that
// changed, else the time when it is trusted and has moved.
func (c *clock) mark(now time.Time) *ClockMark {
	c.look(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.accepted || c.flagged != c.state.Suspect:
		return &ClockMark{Wall: c.state.Recorded, Suspect: c.state.Suspect}
	case !c.state.Suspect && c.state.Recorded > c.recorded:
		return &ClockMark{Wall: c.state.Recorded}
	}
	return nil
}

// marked notes that a mark is on record.
func (c *clock) marked(m *ClockMark) {
	if m == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recorded, c.flagged, c.accepted = m.Wall, m.Suspect, false
}

// due reports whether the clock is to be recorded without readings.
func (c *clock) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.accepted || c.flagged != c.state.Suspect || !c.state.Suspect && c.state.Recorded-c.recorded >= clockRecord.Milliseconds()
}

// Clock tells whether the hub trusts its clock.
func (in *Ingest) Clock() ClockState {
	in.clock.mu.Lock()
	defer in.clock.mu.Unlock()
	return in.clock.state
}

// AcceptClock takes the clock as it is for right, ends the suspicion and lets
// retention catch up. It returns once that is on record and retention has run.
func (in *Ingest) AcceptClock(ctx context.Context) error {
	now := in.cfg.Now()
	in.clock.mu.Lock()
	in.clock.state = ClockState{Recorded: now.UnixMilli()}
	in.clock.last, in.clock.calm = now, now
	in.clock.accepted = true
	in.clock.mu.Unlock()
	in.cfg.Logger.Info("the clock is accepted")
	if err := in.wait(ctx, &job{bare: true}); err != nil {
		return err
	}
	return in.store.Retain(ctx, now, true)
}

// checkClock looks at the clock every second, and records it now and then.
func (in *Ingest) checkClock(lanes []chan []*job) {
	if in.clock.look(in.cfg.Now()) {
		st := in.Clock()
		in.cfg.Logger.Warn("the clock's standing changed", "suspect", st.Suspect, "recorded", st.Recorded)
	}
	if in.clock.due() {
		if err := in.append(&Group{}); err != nil {
			_ = in.refusal(err) // logged; tried again in a second
		}
	}
}

// retain has the store delete what is old, unless the clock is in doubt.
func (in *Ingest) retain(ctx context.Context, all bool) {
	if in.clock.suspect() {
		return
	}
	if err := in.store.Retain(ctx, in.cfg.Now(), all); err != nil && ctx.Err() == nil {
		in.cfg.Logger.Error("retention did not run", "err", err)
	}
}
