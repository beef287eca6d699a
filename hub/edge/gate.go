// Package edge is where connections come in from the network. Its listeners count those that have
// yet to say whose they are, keep a few file descriptors back from them, read what a proxy says of
// its client, and end connections whose other side takes nothing of what is written.
package edge

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Guest is a connection as it is counted.
type Guest interface {
	Known() // it has said whose it is
	Anew()  // it waits for somebody again, who may be another
	Leave() // it has ended
}

// Gate is what the listeners of a process have in common.
type Gate struct {
	// Arrive counts a connection from an address until it is known or leaves, and may end
	// others; free says that its address does not bound it. Nil counts nothing.
	Arrive func(addr string, free bool, shut func()) Guest
	// MakeRoom ends a connection that is not known, if there is one. It is given with Arrive.
	MakeRoom func() bool

	// Files is how many descriptors the process may have, Spare how many of them are kept
	// back. With no more than those left, a connection that is not known ends for each that
	// comes; a few of Spare are for those that come. 0 is no bound.
	Files, Spare int

	// TakeWithin is how long a connection may take nothing of what is written to it; 0 is
	// 30 s.
	TakeWithin time.Duration
	Logger     *slog.Logger

	mu     sync.Mutex
	logged map[string]time.Time
}

// fewMore are those of Spare that new connections may take. When everybody else is known, they are
// what is left for whoever asks whether the hub is well.
const fewMore = 16

// TakeWithin is the TakeWithin of a Gate that says none.
const TakeWithin = 30 * time.Second

func (g *Gate) takeWithin() time.Duration {
	if g.TakeWithin > 0 {
		return g.TakeWithin
	}
	return TakeWithin
}

// admit reports whether a connection of a descriptor may come in. The system gives the lowest
// that is free, so that the number of a new one says how many are in use. What is ended for it
// takes a moment to let go of its own.
func (g *Gate) admit(fd int) bool {
	if g.Files == 0 || fd < g.Files-g.Spare {
		return true
	}
	g.makeRoom()
	return fd < g.Files-g.Spare+min(fewMore, g.Spare/2)
}

func (g *Gate) makeRoom() bool { return g.MakeRoom != nil && g.MakeRoom() }

// warn logs a message at most once a minute.
func (g *Gate) warn(msg string, attrs ...any) {
	if g.Logger == nil {
		return
	}
	now := time.Now()
	g.mu.Lock()
	last, said := g.logged[msg]
	if g.logged == nil {
		g.logged = map[string]time.Time{}
	}
	write := !said || now.Sub(last) >= time.Minute
	if write {
		g.logged[msg] = now
	}
	g.mu.Unlock()
	if write {
		g.Logger.Warn(msg, attrs...)
	}
}

// Trusted are the addresses of proxies.
type Trusted []netip.Prefix

// Has reports whether ip is one of them.
func (t Trusted) Has(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(ip) })
}
