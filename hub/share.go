package hub

import (
	"sync"
	"sync/atomic"
)

// share counts what waits for and from all connections with one id, in bytes.
type share struct {
	out, in atomic.Int64
	conns   int // guarded by shares.mu

	waiting atomic.Int32 // readers that wait for room
	mu      sync.Mutex
	room    chan struct{} // closed when there may be room
}

// shares are those of the ids that are connected.
type shares struct {
	mu sync.Mutex
	m  map[string]*share
}

// join returns the share of an id; without one a connection has its own.
func (l *shares) join(id string) *share {
	if id == "" {
		return new(share)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.m == nil {
		l.m = make(map[string]*share)
	}
	s := l.m[id]
	if s == nil {
		s = new(share)
		l.m[id] = s
	}
	s.conns++
	return s
}

func (l *shares) leave(id string, s *share) {
	if id == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.conns--; s.conns == 0 {
		delete(l.m, id)
	}
}

// enter counts n bytes from the client, and waits while there are too many; a message that is
// alone always has room. It reports false when done was closed first.
func (s *share) enter(n, most int64, done <-chan struct{}) bool {
	if s.fits(n, most) {
		return true
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	for {
		s.mu.Lock()
		if s.room == nil {
			s.room = make(chan struct{})
		}
		room := s.room
		s.mu.Unlock()
		if s.fits(n, most) { // what left before room was there did not close it
			return true
		}
		select {
		case <-room:
		case <-done:
			return false
		}
	}
}

func (s *share) fits(n, most int64) bool {
	for {
		in := s.in.Load()
		if in > 0 && in+n > most {
			return false
		}
		if s.in.CompareAndSwap(in, in+n) {
			return true
		}
	}
}

// left says that n bytes from the client were handled.
func (s *share) left(n int64) {
	s.in.Add(-n)
	if s.waiting.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room != nil {
		close(s.room)
		s.room = nil
	}
}

// fairOutbound is what may wait for a connection whatever waits for the others with its id.
const fairOutbound = 16 << 10

// waits counts n bytes more, or less, that wait for the client. The caller holds out.mu.
func (c *Conn) waits(n int) {
	c.out.bytes += n
	c.share.out.Add(int64(n))
}

// excess is by how many bytes too much would wait for the client with n more. The caller holds
// out.mu.
func (c *Conn) excess(n int) int {
	o := &c.mount.opts
	over := c.out.bytes + n - o.outboundBytes
	if c.out.bytes+n > fairOutbound {
		over = max(over, int(c.share.out.Load())+n-o.sharedOut)
	}
	return over
}
