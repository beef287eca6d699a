package hub

import (
	"sync"
)

// registry holds the connections, spread over shards.
type registry [64]struct {
	mu    sync.Mutex
	conns []*Conn
}

func (r *registry) add(c *Conn) {
	sh := &r[c.stripe%uint32(len(r))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c.place = int32(len(sh.conns))
	sh.conns = append(sh.conns, c)
}

func (r *registry) remove(c *Conn) {
	sh := &r[c.stripe%uint32(len(r))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	last := len(sh.conns) - 1
	sh.conns[c.place] = sh.conns[last]
	sh.conns[c.place].place = c.place
	sh.conns[last] = nil
	sh.conns = sh.conns[:last]
}

func (r *registry) all() []*Conn {
	var conns []*Conn
	for i := range r {
		r[i].mu.Lock()
		conns = append(conns, r[i].conns...)
		r[i].mu.Unlock()
	}
	return conns
}
