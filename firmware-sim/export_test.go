package sim

import "time"

// SetGrace shortens what a run may take after its load.
func (s *Sim) SetGrace(d time.Duration) { s.grace = d }
