package sim

import (
	"context"
	"time"
)

// SetGrace shortens what a run may take after its load.
func (s *Sim) SetGrace(d time.Duration) { s.grace = d }

// AtEndOfLoad calls f when the load has ended, before devices settle.
func (s *Sim) AtEndOfLoad(f func()) { s.atEndOfLoad = f }

// Wish has the goroutine of the schedule do something.
func (s *Sim) Wish(do func()) { s.wish(context.Background(), func(time.Time) { do() }) }
