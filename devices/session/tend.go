package session

import (
	"time"

	"devicehub/devices/identity"
)

// tend is done for every session once a minute.
func (s *Session) tend(now time.Time) {
	if s.watchToken(now) && s.Epoch() != 0 {
		s.ping(now)
	}
}

func (s *Session) ping(now time.Time) {
	kinds := s.topics()
	if len(kinds) == 0 {
		return
	}
	s.mu.Lock()
	s.pingN++
	n := s.pingN
	s.pinged = now
	s.mu.Unlock()
	s.send(kinds[0], "ping", map[string]int64{"n": n})
}

// watchToken ends the session when its token is no longer good, and warns of
// the end. It reports whether the session goes on. What is due before every
// session's next turn is looked for every second.
func (s *Session) watchToken(now time.Time) bool {
	p := s.Principal()
	if err := s.door.Identity.Check(p); err != nil {
		s.door.expires(s, false)
		s.endFor(err)
		return false
	}
	if p.Exp.IsZero() || p.Expired {
		return true
	}
	due := p.Exp
	if warn := p.Exp.Add(-p.Exp.Sub(p.IssuedAt) / 5); now.Before(warn) {
		due = warn
	} else {
		s.warn(p, now)
	}
	s.door.expires(s, due.Sub(now) < 2*turns*time.Second)
	return true
}

// warn says, once, that the token ends. A device that does not hear it yet is told
// when it does.
func (s *Session) warn(p identity.Principal, now time.Time) {
	kinds := s.topics()
	s.mu.Lock()
	tell := !s.warned && len(kinds) > 0
	s.mu.Unlock()
	if tell && s.send(kinds[0], "token_expiring", map[string]int64{"expires_at": p.Exp.UnixMilli(), "in_ms": p.Exp.Sub(now).Milliseconds()}) {
		s.mu.Lock()
		s.warned = true
		s.mu.Unlock()
	}
}
