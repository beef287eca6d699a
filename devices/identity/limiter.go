package identity

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"devicehub/devices"
)

// limiter slows the guessing of passwords. An address may fail so often a
// minute, whatever names it tries; beyond that it is refused. A name may be
// failed so often a minute, from wherever; beyond that the addresses that
// failed it are refused, and every other address waits nameDelay for its answer:
// a delay, never a lock-out.
//
// An attempt counts as failed until it has succeeded, so that many at once gain
// nothing.
type limiter struct {
	mu      sync.Mutex
	perAddr float64 // a minute
	perName float64
	addrs   map[string]*bucket
	names   map[string]*bucket
	pairs   map[string]*bucket // address and name
}

// bucket holds how many failures are left, as of at.
type bucket struct {
	left float64
	at   time.Time
}

const (
	nameDelay      = 2 * time.Second
	maxLimiterKeys = 1 << 14 // of each map; when full of fresh ones, strangers share one bucket
	sharedKey      = "*"
)

// SetLoginLimits changes how many failed logins a minute are borne per address
// and per name; 0 means the default, 30 and 10.
func (s *Service) SetLoginLimits(perAddress, perName int) {
	if perAddress <= 0 {
		perAddress = 30
	}
	if perName <= 0 {
		perName = 10
	}
	s.limiter.mu.Lock()
	defer s.limiter.mu.Unlock()
	s.limiter.perAddr, s.limiter.perName = float64(perAddress), float64(perName)
}

// begin takes one failure from the address's and the name's budget. It returns
// how long the attempt has to wait, or a rate_limited error. succeeded gives
// back what was taken.
func (l *limiter) begin(now time.Time, addr, name string) (wait time.Duration, succeeded func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	addr = addressKey(addr)
	a := take(&l.addrs, addr, now, l.perAddr)
	if a.left < 1 {
		return 0, nil, tooMany(a, l.perAddr)
	}
	n := take(&l.names, name, now, l.perName)
	p := take(&l.pairs, addr+"\x00"+name, now, l.perName)
	if n.left < 1 {
		if p.left < l.perName { // it is one of those that failed
			return 0, nil, tooMany(n, l.perName)
		}
		wait = nameDelay
	}
	a.left--
	p.left--
	n.left = max(0, n.left-1)
	return wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		a.left, p.left, n.left = min(a.left+1, l.perAddr), min(p.left+1, l.perName), min(n.left+1, l.perName)
	}, nil
}

// take returns the bucket of key, refilled as of now.
func take(m *map[string]*bucket, key string, now time.Time, perMinute float64) *bucket {
	if *m == nil {
		*m = map[string]*bucket{}
	}
	b := (*m)[key]
	if b == nil {
		if len(*m) >= maxLimiterKeys {
			forgetFull(*m, now, perMinute)
		}
		if len(*m) >= maxLimiterKeys {
			key = sharedKey
			b = (*m)[key]
		}
	}
	if b == nil {
		b = &bucket{left: perMinute, at: now}
		(*m)[key] = b
		return b
	}
	b.left = min(perMinute, b.left+max(0, now.Sub(b.at).Minutes())*perMinute)
	b.at = now
	return b
}

func forgetFull(m map[string]*bucket, now time.Time, perMinute float64) {
	for k, b := range m {
		if b.left+now.Sub(b.at).Minutes()*perMinute >= perMinute {
			delete(m, k)
		}
	}
}

func tooMany(b *bucket, perMinute float64) error {
	after := time.Duration((1 - b.left) / perMinute * float64(time.Minute))
	return devices.Refuse(devices.CodeRateLimited, "too many failed sign-ins").After(max(after, time.Second))
}

// addressKey is the address, or for IPv6 its /64: what one customer has.
func addressKey(addr string) string {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return addr
	}
	if ip = ip.Unmap(); ip.Is6() {
		if p, err := ip.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// pause waits, unless ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
