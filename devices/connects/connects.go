// Package connects bounds how often one address may connect, and how often it
// may fail to, whichever transport it comes by.
package connects

import (
	"net/netip"
	"sync"
	"time"

	"devicehub/devices"
)

// Limiter gives every address one second's worth of connects and of failures
// at once, and as many a second after that. The zero value bounds nothing.
// Safe for concurrent use.
type Limiter struct {
	mu              sync.Mutex
	connects, fails float64 // a second; 0 is no bound
	known           map[netip.Prefix]*allowance
	swept           time.Time
}

// allowance is what an address has left, as of at.
type allowance struct {
	connects, fails float64
	at              time.Time
}

// maxAddresses are remembered; beyond them strangers share one allowance.
const maxAddresses = 1 << 16

// Set sets the bounds, connects and failed connects a second and address.
func (l *Limiter) Set(connects, fails float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.connects, l.fails = connects, fails
	l.known = nil
}

// Allow takes one connect from the address's allowance. The error is
// rate_limited, with the time to wait.
func (l *Limiter) Allow(addr string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.of(key(addr), time.Now())
	switch {
	case l.connects > 0 && a.connects < 1:
		return devices.Refuse(devices.CodeRateLimited, "too many connects from this address").After(wait(1-a.connects, l.connects))
	case l.fails > 0 && a.fails < 1:
		return devices.Refuse(devices.CodeRateLimited, "too many failed connects from this address").After(wait(1-a.fails, l.fails))
	}
	a.connects--
	return nil
}

func wait(missing, perSecond float64) time.Duration {
	return max(time.Millisecond, time.Duration(missing/perSecond*float64(time.Second)))
}

// Failed counts a connect that was refused for its token or password.
func (l *Limiter) Failed(addr string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(key(addr), time.Now()).fails--
}

// of is the address's allowance, filled up to now.
func (l *Limiter) of(k netip.Prefix, now time.Time) *allowance {
	if l.known == nil {
		l.known = map[netip.Prefix]*allowance{}
	}
	if now.Sub(l.swept) > 10*time.Second {
		l.swept = now
		for k, a := range l.known {
			if now.Sub(a.at) > 2*time.Second {
				delete(l.known, k)
			}
		}
	}
	a := l.known[k]
	if a == nil && len(l.known) >= maxAddresses {
		k = netip.Prefix{}
		a = l.known[k]
	}
	if a == nil {
		a = &allowance{l.connects, l.fails, now}
		l.known[k] = a
	}
	if dt := now.Sub(a.at).Seconds(); dt > 0 {
		a.connects = min(l.connects, a.connects+dt*l.connects)
		a.fails = min(l.fails, a.fails+dt*l.fails)
		a.at = now
	}
	return a
}

// key is what counts as one address: an IPv4 address, or the /64 that an IPv6
// host may choose its address from.
func key(addr string) netip.Prefix {
	ap, err := netip.ParseAddrPort(addr)
	ip := ap.Addr()
	if err != nil {
		if ip, err = netip.ParseAddr(addr); err != nil {
			return netip.Prefix{}
		}
	}
	ip = ip.Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits)
	return p
}
