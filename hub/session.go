package hub

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// session is the transport of a long-polling client. What is sent waits in the connection's
// queue for the next poll, whichever connection that comes by. It has no goroutine.
type session struct {
	c      *Conn
	token  string
	addr   string
	posts  chan struct{} // held while a POST is handled
	busy   atomic.Int32  // requests under way
	closed chan struct{} // closed when the connection is closing

	mu       sync.Mutex
	waiter   chan struct{} // the newest poll that waits
	lastPoll time.Time
	closedAt time.Time
	released bool
}

func newSession(c *Conn, addr string) *session {
	token := make([]byte, 24)
	rand.Read(token) // never fails
	s := &session{
		c: c, token: base64.RawURLEncoding.EncodeToString(token), addr: addr,
		posts: make(chan struct{}, 1), closed: make(chan struct{}), lastPoll: time.Now(),
	}
	c.tr = s
	return s
}

func (s *session) name() string       { return "longpoll" }
func (s *session) remoteAddr() string { return s.addr }
func (s *session) gathers() bool      { return false }
func (s *session) hold(bool)          {}

// settle implements transport: a POST that is being handled is waited for.
func (s *session) settle(patience, _ time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case s.posts <- struct{}{}:
		<-s.posts
	case <-s.closed:
	case <-timer.C:
	}
}

// tryWrite implements transport: everything waits for a poll.
func (s *session) tryWrite(entry) (int, error) { return 0, nil }

// wake implements transport.
func (s *session) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiter != nil {
		close(s.waiter)
		s.waiter = nil
	}
}

// lastWords is how long what was sent before a close may still be polled.
const lastWords = 2 * time.Second

// end implements transport. What was sent before may still be polled, for a while.
func (s *session) end(abrupt bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
	default:
		s.closedAt = time.Now()
		close(s.closed)
	}
	waiting := false
	for i := range s.c.out.queue {
		waiting = waiting || s.c.out.queue[i].op != opClose
	}
	if abrupt || !waiting {
		s.release()
		return
	}
	s.c.ep.wheel.again(s, s.closedAt.Add(lastWords))
}

// release forgets the session. The caller holds mu.
func (s *session) release() {
	if s.released {
		return
	}
	s.released = true
	ep := s.c.ep
	ep.late.remember(s)
	ep.sessions.remove(s)
	ep.start(func() {
		s.c.lost(ErrConnectionLost)
		ep.wheel.remove()
		ep.tasks.Done()
	})
}

// ifOver forgets a session that is closing and has nothing left to poll.
func (s *session) ifOver() {
	select {
	case <-s.closed:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.release()
	default:
	}
}

// arrive enters a poll that will wait. The newest gets what comes.
func (s *session) arrive() (waiter chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastPoll = time.Now()
	s.waiter = make(chan struct{})
	return s.waiter
}

func (s *session) leave(waiter chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiter == waiter {
		s.waiter = nil
	}
}

// expiry is how long a session lives without a poll.
func (s *session) expiry() time.Duration { return s.c.mount.opts.window * 3 / 2 }

// due ends a session that is not polled. It is looked at every one and a half windows, as in
// Phoenix, so that a client which pauses after a poll that took a whole one is not lost at once.
func (s *session) due(now time.Time) time.Time {
	s.mu.Lock()
	deadline, released, closing := s.lastPoll.Add(s.expiry()), s.released, !s.closedAt.IsZero()
	if closing {
		deadline = s.closedAt.Add(lastWords)
	}
	s.mu.Unlock()
	if released {
		return time.Time{}
	}
	switch {
	case !now.Before(deadline):
	case closing:
		return deadline
	default:
		return now.Add(s.expiry())
	}
	if !closing {
		s.abandon()
		return time.Time{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
	return time.Time{}
}

// sessions are the long-poll sessions of an endpoint, by token.
type sessions struct {
	mu sync.Mutex
	m  map[string]*session
}

func (l *sessions) add(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = make(map[string]*session)
	}
	l.m[s.token] = s
}

var errSessions = errors.New("too many long-poll sessions, all of them polled")

// evict makes room when there are max sessions: of a few that it looks at, it ends the one that has
// not been polled for longest. One that a poll waits for is in use. A client that opens sessions and
// forgets them thus costs itself, and those who do likewise.
func (l *sessions) evict(max int) error {
	const looks = 16
	l.mu.Lock()
	if len(l.m) < max {
		l.mu.Unlock()
		return nil
	}
	some := make([]*session, 0, looks)
	for _, s := range l.m { // in random order
		if some = append(some, s); len(some) == looks {
			break
		}
	}
	l.mu.Unlock()
	var oldest *session
	var since time.Time
	for _, s := range some {
		if at, parked := s.polled(); !parked && (oldest == nil || at.Before(since)) {
			oldest, since = s, at
		}
	}
	if oldest == nil {
		return errSessions
	}
	oldest.abandon()
	return nil
}

// polled returns when the last poll came, and whether it still waits.
func (s *session) polled() (at time.Time, parked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastPoll, s.waiter != nil
}

// abandon ends a session that is not polled.
func (s *session) abandon() {
	s.c.ep.counters.idleTimeouts.Add(1)
	s.c.close(CloseProtocolError, "", ErrIdleTimeout)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.release()
}

func (l *sessions) remove(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.m, s.token)
}

// find returns the session that a token names on a mount, or nil.
func (l *sessions) find(m *mount, token string) *session {
	if token == "" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.m[token]; s != nil && slices.Equal(s.c.mount.path, m.path) { // m may have been changed
		return s
	}
	return nil
}
