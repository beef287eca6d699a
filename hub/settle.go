package hub

import (
	"encoding/binary"
	"sync"
	"time"
)

// Settle waits until what the client has sent is handled, as far as it has arrived by now, and
// reports whether the connection is over: the client's goodbye may be among it. What is handled
// need not be answered yet. A connection that is held up, by a full inbox, is given patience, and
// any other at most most. A callback of the connection must not call it.
func (c *Conn) Settle(patience, most time.Duration) (over bool) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	c.tr.settle(patience, most)
	for wait := 50 * time.Microsecond; c.busy(); wait = min(2*wait, 5*time.Millisecond) {
		select {
		case <-time.After(wait):
		case <-c.base.Done():
			return true
		case <-timer.C:
			return false
		}
	}
	return c.base.Err() != nil
}

// busy reports whether anything is being handled on any topic.
func (c *Conn) busy() bool {
	c.mu.Lock()
	slots := append([]*slot(nil), c.slots...)
	c.mu.Unlock()
	for _, t := range slots {
		if t.busy() {
			return true
		}
	}
	return false
}

// OnAnswer has f called when the client, told that the hub has closed the connection, answers:
// with a close frame, or with one more request of its long-poll session. Its peer was still there
// then. echoed says that it answered with the code that it was told, and so cannot have meant
// anything else. It is for WithOnOpen; the last f is called.
func (c *Conn) OnAnswer(f func(echoed bool)) { c.onAnswer.Store(&f) }

// answered tells of the client's answer to our close, with the body of its close frame.
func (c *Conn) answered(body []byte) {
	if f := c.onAnswer.Load(); f != nil {
		(*f)(len(body) >= 2 && int32(binary.BigEndian.Uint16(body)) == c.closeCode.Load())
	}
}

// lateSessions are long-poll sessions that the program has closed, by token, for as long as their
// clients may not know it.
type lateSessions struct {
	mu sync.Mutex
	m  map[string]lateSession
}

type lateSession struct {
	c     *Conn
	until time.Time
}

const (
	lateFor = time.Minute
	maxLate = 1024
)

// remember keeps a session that is gone, if the program closed it, with a code of its own
// (RFC 6455 §7.4.2), and wants to hear of its client.
func (l *lateSessions) remember(s *session) {
	if s.c.onAnswer.Load() == nil || s.c.closeCode.Load() < 3000 {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.m) >= maxLate {
		for token, old := range l.m {
			if now.After(old.until) {
				delete(l.m, token)
			}
		}
	}
	if len(l.m) >= maxLate {
		return
	}
	if l.m == nil {
		l.m = make(map[string]lateSession)
	}
	l.m[s.token] = lateSession{s.c, now.Add(lateFor)}
}

// heard tells the session that a request came with its token.
func (l *lateSessions) heard(token string) {
	l.mu.Lock()
	s, ok := l.m[token]
	delete(l.m, token)
	l.mu.Unlock()
	if ok && time.Now().Before(s.until) {
		s.c.answered(nil)
	}
}
