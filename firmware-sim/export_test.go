package sim

import "time"

// SetGrace shortens what a run may take after its load.
func (s *Sim) SetGrace(d time.Duration) { s.grace = d }

// AtEndOfLoad calls f when the load has ended, before devices settle.
func (s *Sim) AtEndOfLoad(f func()) { s.atEndOfLoad = f }
