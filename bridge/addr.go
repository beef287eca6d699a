package bridge

import (
	"net/netip"
	"sync"
	"time"
)

// addresses bounds connects and failed sign-ins by address: one bucket of one
// second's worth for each, forgotten once it is full again.
type addresses struct {
	connects, fails float64 // per second; 0 is no bound

	mu    sync.Mutex
	known map[netip.Addr]*buckets
	swept time.Time
}

type buckets struct {
	connects, fails float64
	at              time.Time
}

const maxAddresses = 1 << 16

// of is the address's buckets, filled up to now. Beyond maxAddresses the rest
// share one.
func (a *addresses) of(addr netip.Addr, now time.Time) *buckets {
	if a.known == nil {
		a.known = map[netip.Addr]*buckets{}
	}
	if now.Sub(a.swept) > 10*time.Second {
		a.swept = now
		for k, b := range a.known {
			if now.Sub(b.at) > 2*time.Second {
				delete(a.known, k)
			}
		}
	}
	b := a.known[addr]
	if b == nil && len(a.known) >= maxAddresses {
		addr = netip.Addr{}
		b = a.known[addr]
	}
	if b == nil {
		b = &buckets{connects: a.connects, fails: a.fails, at: now}
		a.known[addr] = b
	}
	if dt := now.Sub(b.at).Seconds(); dt > 0 {
		b.connects = min(a.connects, b.connects+dt*a.connects)
		b.fails = min(a.fails, b.fails+dt*a.fails)
		b.at = now
	}
	return b
}

// connect takes a connect from the address's allowance.
func (a *addresses) connect(addr netip.Addr, now time.Time) bool {
	if a.connects <= 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.of(addr, now)
	if b.connects < 1 {
		return false
	}
	b.connects--
	return true
}

// mayFail reports whether the address may still fail a sign-in.
func (a *addresses) mayFail(addr netip.Addr, now time.Time) bool {
	if a.fails <= 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.of(addr, now).fails >= 1
}

// fail counts a failed sign-in.
func (a *addresses) fail(addr netip.Addr, now time.Time) {
	if a.fails <= 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of(addr, now).fails--
}
