package groupcommit

import (
	"context"
	"sync"
	"time"
)

// Part is what a source has to write.
type Part struct {
	// Write writes it; nil is nothing. It may run again, like a job.
	Write func(context.Context) error
	// Settle is told what became of it, in the goroutine of Run or Flush and before the source is
	// asked again. After an error it is asked again a second later, or when it is due at once.
	Settle func(error)
	// More says that not all was taken: the rest is for the next transaction.
	More bool
}

// Source is somebody who writes behind. Everything but Run and Flush may be called with any lock
// held that take does not need.
type Source struct {
	w    *Writer
	take func() Part
	wake chan struct{}
	part Part // owned by who leads, then by who settles

	settling sync.Mutex // held by who settles

	// Guarded by w.mu.
	earliest, latest time.Time // of its next transaction; latest is zero: nothing is due
	urgent           bool      // somebody waits for it
	retry            time.Time // after a failure: nothing that is not urgent before then
	taken            bool      // until it is settled
	written          bool      // and not yet settled
	err              error
}

// Source returns a source of writes. take is called, with no lock of the Writer held, for what is
// to be written now. It must not wait for a job of this Writer, nor for a lock of somebody who may
// wait for one, or for such a lock in his turn: nobody waits for a job with a device's lock held.
func (w *Writer) Source(take func() Part) *Source {
	return &Source{w: w, take: take, wake: make(chan struct{}, 1)}
}

// retryAfter is when what could not be written is tried again.
const retryAfter = time.Second

// Due says that there is something to write, at the latest after within. It is written with an
// earlier transaction if half of that time has passed: what changes again until then is written
// once. With 0 somebody waits for it.
func (s *Source) Due(within time.Duration) {
	now := time.Now()
	s.w.mu.Lock()
	s.urgent = s.urgent || within == 0
	latest := now.Add(within)
	if within > 0 && latest.Before(s.retry) {
		latest = s.retry
	}
	sooner := s.latest.IsZero() || latest.Before(s.latest)
	if sooner {
		s.earliest, s.latest = latest.Add(-within/2), latest
	}
	s.w.mu.Unlock()
	if sooner {
		s.rouse()
	}
}

func (s *Source) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run writes what is due until ctx ends. What is due then waits for Flush.
func (s *Source) Run(ctx context.Context) {
	s.w.add(s)
	defer s.w.remove(s)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		s.settle()
		wait := s.wait()
		if wait <= 0 {
			select {
			case <-ctx.Done():
			case <-s.wake:
			case s.w.leading() <- struct{}{}:
				s.w.led(func() {
					if s.wait() <= 0 {
						s.w.pause(ctx)
						s.w.commit(nil)
					}
				})
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-s.wake:
		case <-timer.C:
		}
	}
}

func (w *Writer) add(s *Source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sources = append(w.sources, s)
}

func (w *Writer) remove(s *Source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.sources {
		if w.sources[i] == s {
			w.sources = append(w.sources[:i:i], w.sources[i+1:]...)
			return
		}
	}
}

// wait is how long the source has time.
func (s *Source) wait() time.Duration {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.taken || s.latest.IsZero() {
		return time.Hour
	}
	return time.Until(s.latest)
}

// Flush writes at once what is due, however late it may be written. It returns the error of that,
// or the cause of ctx.
func (s *Source) Flush(ctx context.Context) error {
	for {
		s.settle()
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case s.w.leading() <- struct{}{}:
		}
		var again bool
		var err error
		s.w.led(func() { again, err = s.flush() })
		s.settle()
		if err != nil || !again {
			return err
		}
	}
}

// flush writes what is due. It reports whether there is more to do. The caller leads.
func (s *Source) flush() (again bool, err error) {
	s.w.mu.Lock()
	taken, due := s.taken, !s.latest.IsZero()
	s.w.mu.Unlock()
	if taken || !due {
		return taken, nil // taken: another transaction had it, and it is not settled yet
	}
	s.w.commit(s)
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.part.More, s.err
}

// ask has the service say what there is to write. The caller leads.
func (s *Source) ask() bool {
	s.part = s.take()
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.err = nil
	if s.part.Write == nil {
		s.taken = false
		return false
	}
	if s.part.More {
		s.earliest = time.Now()
		s.latest = s.earliest
	}
	return true
}

// wrote keeps what became of the part until it is settled.
func (s *Source) wrote(err error) {
	s.w.mu.Lock()
	s.written, s.err = true, err
	s.w.mu.Unlock()
	s.rouse()
}

// settle tells the service what became of what was written last.
func (s *Source) settle() {
	s.settling.Lock()
	defer s.settling.Unlock()
	s.w.mu.Lock()
	written, err := s.written, s.err
	s.w.mu.Unlock()
	if !written {
		return
	}
	if s.part.Settle != nil {
		s.part.Settle(err)
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.written, s.taken, s.retry = false, false, time.Time{}
	if err == nil {
		return
	}
	s.retry = time.Now().Add(retryAfter)
	if !s.urgent && s.latest.Before(s.retry) {
		s.earliest, s.latest = s.retry, s.retry
	}
}
