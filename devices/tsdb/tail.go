package tsdb

import (
	"sync"

	"devicehub/devices/readings"
	"devicehub/devices/tsdb/ingestlog"
)

// ErrGone is returned by Tail for a position that the log has let go.
var ErrGone = ingestlog.ErrGone

// pins keep the log for those who still read it, and tell them of more.
type pins struct {
	mu   sync.Mutex
	at   map[string]uint64
	more chan struct{} // closed with the next group; nil while nobody waits
}

func (p *pins) tell() {
	p.mu.Lock()
	if p.more != nil {
		close(p.more)
		p.more = nil
	}
	p.mu.Unlock()
}

// Pin keeps the log from pos on, under the name of who reads it, until the pin
// is moved or taken away.
func (s *Store) Pin(name string, pos uint64) error {
	s.pins.mu.Lock()
	s.pins.at[name] = pos
	s.pins.mu.Unlock()
	return s.releaseLog()
}

// Unpin takes a pin away.
func (s *Store) Unpin(name string) error {
	s.pins.mu.Lock()
	delete(s.pins.at, name)
	s.pins.mu.Unlock()
	return s.releaseLog()
}

// releaseLog deletes the log that neither a flush nor a pin needs.
func (s *Store) releaseLog() error {
	s.mu.RLock()
	pos := s.pos
	s.mu.RUnlock()
	s.pins.mu.Lock()
	for _, at := range s.pins.at {
		pos = min(pos, at)
	}
	s.pins.mu.Unlock()
	return s.log.Release(pos)
}

// Grown returns a channel that is closed when the next group is in the log.
func (s *Store) Grown() <-chan struct{} {
	s.pins.mu.Lock()
	defer s.pins.mu.Unlock()
	if s.pins.more == nil {
		s.pins.more = make(chan struct{})
	}
	return s.pins.more
}

// LogBounds are the position of the oldest frame in the log and that behind
// the newest. A position is about a byte.
func (s *Store) LogBounds() (first, end uint64) { return s.log.Bounds() }

// Tail calls f with the readings in the log from pos on, a frame at a time,
// until f returns false or the end is reached; at is when the push came. It
// returns the position to go on from: behind the last frame that f took whole.
// Readings of devices that were erased since are left out. ErrGone says that
// the log no longer goes back to pos.
func (s *Store) Tail(pos uint64, f func(r []readings.Stored, at int64) bool) (uint64, error) {
	r := groupReader{book: s.book}
	var failed error
	next, err := s.log.Read(pos, func(fr ingestlog.Frame) bool {
		more := true
		if fr.Type != frameGroup {
			return true
		}
		failed = r.read(fr.Body, func(_ uint64, e *readings.Entry) {
			if !e.Forget && len(e.Items) > 0 {
				more = f(e.Items, e.At) && more
			}
		})
		if failed != nil {
			return false
		}
		pos = fr.Next
		return more
	})
	if failed != nil {
		return pos, failed
	}
	if err != nil {
		return max(pos, next), err
	}
	return max(pos, next), nil
}
