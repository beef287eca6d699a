package identity

import (
	"context"
	"fmt"
	"maps"
	"time"

	"devicehub/devices/internal/groupcommit"
)

// learnedAfter is how long what was learned in passing may be behind on disk: when
// tokens and sessions were last used.
const learnedAfter = 10 * time.Minute

// learned is what is not on disk yet of it.
type learned struct {
	used    []Credential
	touched map[string]int64 // sid -> last use
}

// learned says that there is something to be written behind, if there is. It needs
// s.mu.
func (s *Service) learned() {
	if len(s.dirty)+len(s.touched) > 0 {
		s.behind.Due(learnedAfter)
	}
}

// takeLearned leaves it for later while somebody changes anything: that may be of
// the same, and newer.
func (s *Service) takeLearned() groupcommit.Part {
	if !s.writing.TryLock() {
		s.behind.Due(time.Second)
		return groupcommit.Part{}
	}
	l := s.collect()
	if len(l.used)+len(l.touched) == 0 {
		s.writing.Unlock()
		return groupcommit.Part{}
	}
	return groupcommit.Part{
		Write: func(ctx context.Context) error { return s.write(ctx, l) },
		Settle: func(err error) {
			defer s.writing.Unlock()
			if err != nil {
				s.log.Error("last uses not written", "err", err)
			}
			s.kept(l, err)
		},
	}
}

// flush writes what was learned, and waits for those who change anything.
func (s *Service) flush(ctx context.Context) error {
	if err := s.behind.Flush(ctx); err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	l := s.collect()
	err := s.write(ctx, l)
	s.kept(l, err)
	return err
}

// collect needs s.writing.
func (s *Service) collect() learned {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := learned{used: make([]Credential, 0, len(s.dirty)), touched: s.touched}
	for id := range s.dirty {
		l.used = append(l.used, *s.creds[id])
	}
	s.touched = map[string]int64{}
	for sid, at := range l.touched {
		ses := s.sessions[sid]
		if ses == nil {
			delete(l.touched, sid)
			continue
		}
		next := *ses
		next.LastUsedAt = max(at, ses.LastUsedAt)
		s.sessions[sid] = &next
	}
	return l
}

func (s *Service) write(ctx context.Context, l learned) error {
	if len(l.used) > 0 {
		if err := s.store.PutCredentials(ctx, l.used, nil, nil); err != nil {
			return fmt.Errorf("store device credentials: %w", err)
		}
	}
	if len(l.touched) > 0 {
		if err := s.store.TouchSessions(ctx, l.touched); err != nil {
			return fmt.Errorf("store sessions: %w", err)
		}
	}
	return nil
}

// kept forgets what is on disk. It needs s.writing.
func (s *Service) kept(l learned, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.learned()
	if err != nil {
		maps.Copy(l.touched, s.touched)
		s.touched = l.touched
		return
	}
	for i := range l.used {
		c, put := s.creds[l.used[i].Device], &l.used[i]
		if c.NewBoot == put.NewBoot && c.MinGen == put.MinGen && c.UsedAt == put.UsedAt && c.PrevUsedAt == put.PrevUsedAt {
			delete(s.dirty, c.Device)
		}
	}
}
