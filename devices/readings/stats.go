package readings

import (
	"sync"
	"sync/atomic"

	"devicehub/devices"
)

// stats counts since the start.
type stats struct {
	accepted, late, dup, pushes, refusedPushes, groups atomic.Int64
	mu                                                 sync.Mutex
	rejected                                           map[devices.Code]int64
}

func (s *stats) count(r *Result) {
	s.pushes.Add(1)
	s.accepted.Add(int64(r.Accepted))
	s.late.Add(int64(r.Late))
	s.dup.Add(int64(r.Dup))
	if len(r.Rejected) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rejected == nil {
		s.rejected = map[devices.Code]int64{}
	}
	for i := range r.Rejected {
		s.rejected[r.Rejected[i].Err.Code]++
	}
}

// Stats is a snapshot of what went through since the start, and what waits.
type Stats struct {
	Accepted, Late, Dup int64
	Rejected            map[devices.Code]int64
	Pushes              int64 // judged
	RefusedPushes       int64 // too large, overloaded, or the store would not have them
	Groups              int64
	Waiting             int // readings in the queue, late ones included
	WaitingBackfill     int
}

// Stats returns a snapshot.
func (in *Ingest) Stats() Stats {
	s := Stats{Accepted: in.stats.accepted.Load(), Late: in.stats.late.Load(), Dup: in.stats.dup.Load(), Pushes: in.stats.pushes.Load(),
		RefusedPushes: in.stats.refusedPushes.Load(), Groups: in.stats.groups.Load(), Rejected: map[devices.Code]int64{}}
	in.stats.mu.Lock()
	for c, n := range in.stats.rejected {
		s.Rejected[c] = n
	}
	in.stats.mu.Unlock()
	in.mu.Lock()
	s.Waiting, s.WaitingBackfill = in.liveN+in.backN, in.backN
	in.mu.Unlock()
	return s
}
