package sim

import (
	"fmt"
	"sync"
	"time"
)

// weather tells the times in which some do harm from those in which all is quiet, so that what good
// devices notice of harm can be told from what they notice of faults.
type weather struct {
	mu      sync.Mutex
	harms   int // in force
	faults  int
	harmAt  time.Time // when the first of those in force began, or the last one ended
	faultAt time.Time // when the last one ended
}

const (
	gathering = time.Second     // until harm is felt
	clearing  = 5 * time.Second // until nothing is felt of harm or a fault that is over
)

// hostile notes harm until the function that it returns is called.
func (w *weather) hostile() (over func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.harms++; w.harms == 1 {
		w.harmAt = time.Now()
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.harms--; w.harms == 0 {
			w.harmAt = time.Now()
		}
	}
}

// fault notes a fault, likewise.
func (w *weather) fault() (over func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.faults, w.faultAt = w.faults-1, time.Now()
	}
}

// at is the histogram of what was due at a moment and has just been answered, "" for neither.
func (w *weather) at(due time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.faults > 0 || due.Sub(w.faultAt) < clearing:
	case w.harms > 0 && due.Sub(w.harmAt) >= gathering:
		return ackHostile
	case w.harms == 0 && due.Sub(w.harmAt) >= clearing:
		return ackQuiet
	}
	return ""
}

const (
	ackHostile = "ack_hostile_ms"
	ackQuiet   = "ack_quiet_ms"

	// leastAcks is how many acknowledgements it takes in either weather to compare them.
	leastAcks = 200
	// unfelt is what nobody feels, in ms: a lower percentile is taken for it.
	unfelt = 10
)

// acknowledged notes a push that a good device had acknowledged, in the weather of that time.
func (s *Sim) acknowledged(u *unit, due time.Time) {
	if len(s.profile.Hostile) == 0 || u.group.Misbehave.Bad() {
		return
	}
	name := s.weather.at(due)
	if name == "" || !s.faults.quietSince(due.Add(-clearing)) || !s.faults.takes() {
		return
	}
	s.stats.record(name, time.Since(due))
}

// Noticed says in words what good devices noticed of those who meant harm.
func (r *Report) Noticed() string {
	factor, why := r.Harm()
	if why != "" {
		return "What good devices noticed of them is not known: " + why + "."
	}
	return fmt.Sprintf("99 %% of good devices' acknowledgements took %.2f times as long as in quiet.", factor)
}

// Harm is by what factor good devices' acknowledgements took longer while some did harm than when
// all was quiet: of the 99th percentiles, each 10 ms at least. why says why that is not known.
func (r *Report) Harm() (factor float64, why string) {
	at := func(name string) (float64, int64) {
		p99, ok := r.percentile(name, 99)
		if !ok {
			return 0, 0
		}
		return max(p99, unfelt), r.hist[name].TotalCount()
	}
	harmed, n := at(ackHostile)
	quiet, m := at(ackQuiet)
	if n < leastAcks || m < leastAcks {
		return 0, fmt.Sprintf("%d acknowledgements beside harm and %d without are too few to compare", n, m)
	}
	return harmed / quiet, ""
}
