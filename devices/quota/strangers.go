package quota

import (
	"cmp"
	"net/netip"
	"sync"
	"time"
)

// Stranger is somebody whom nobody has verified: an address, and the name that is claimed there.
type Stranger struct{ Addr, Name string }

// Table remembers what each of many has left of one rate. It remembers a bounded number; beyond it
// the others share one allowance. The zero value is ready. Safe for concurrent use.
type Table struct {
	// Max is how many are remembered, set before the first use; 0 is MaxStrangers.
	Max int

	mu    sync.Mutex
	rate  Rate
	known map[Stranger]*bucket
	swept time.Time
}

// MaxStrangers is how many a Table remembers of those who may claim any name.
const MaxStrangers = 1 << 16

// SetRate changes the rate, for everybody and at once.
func (t *Table) SetRate(r Rate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rate = r
}

// Take takes one, or says how long it is until there is one.
func (t *Table) Take(s Stranger, now time.Time) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rate.PerSecond <= 0 {
		return 0, true
	}
	return t.of(s, now).take(t.rate, now.UnixNano(), 1)
}

// Left is Take that takes nothing.
func (t *Table) Left(s Stranger, now time.Time) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.known[s]
	if b == nil || t.rate.PerSecond <= 0 {
		return 0, true
	}
	if wait, ok = b.take(t.rate, now.UnixNano(), 1); ok {
		b.left++
	}
	return wait, ok
}

// Full reports whether nothing was taken that has not come back.
func (t *Table) Full(s Stranger, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.known[s]
	return b == nil || b.full(t.rate, now.UnixNano())
}

// Give gives back one that was taken.
func (t *Table) Give(s Stranger, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.known[s]; b != nil {
		b.fill(t.rate, now.UnixNano())
		b.left = min(b.left+1, max(t.rate.Burst, 1))
	}
}

// Len is how many are remembered.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.known)
}

// of is the stranger's bucket. The caller holds mu.
func (t *Table) of(s Stranger, now time.Time) *bucket {
	if t.known == nil {
		t.known = map[Stranger]*bucket{}
	}
	b := t.known[s]
	if b != nil {
		return b
	}
	most := cmp.Or(t.Max, MaxStrangers)
	if since := now.Sub(t.swept); since >= sweepEvery || len(t.known) >= most && since >= time.Second {
		t.swept = now
		for k, b := range t.known {
			if b.full(t.rate, now.UnixNano()) {
				delete(t.known, k)
			}
		}
	}
	if len(t.known) >= most {
		s = Stranger{}
		b = t.known[s]
	}
	if b == nil {
		b = new(bucket)
		t.known[s] = b
	}
	return b
}

// Judge is asked before the signature of a token that was not seen before is checked, with the
// peer's address and the name of the principal that the token claims, "" if there is none of that
// name. The error is rate_limited: the address has had too many checked, or too many refused
// under that name.
func (q *Quota) Judge(addr, name string) error {
	if q == nil {
		return nil
	}
	at, now := Address(addr), q.now()
	if wait, ok := q.failures.Left(Stranger{at, name}, now); !ok {
		q.count(LimitFailures)
		return tooManyFailures(wait)
	}
	if wait, ok := q.checks.Take(Stranger{Addr: at}, now); !ok {
		q.count(LimitChecks)
		return limited("too many new tokens from this address", wait)
	}
	return nil
}

// Failed is told that somebody at an address was refused under a name. When that was too often,
// the error is what to answer in the place of the refusal: rate_limited.
func (q *Quota) Failed(addr, name string) error {
	if q == nil {
		return nil
	}
	if wait, ok := q.failures.Take(Stranger{Address(addr), name}, q.now()); !ok {
		q.count(LimitFailures)
		return tooManyFailures(wait)
	}
	return nil
}

func tooManyFailures(wait time.Duration) error {
	return limited("too many failed connects from this address", wait)
}

// Address is what counts as one address, with or without a port: an IPv4 address, or the /64 that
// an IPv6 host may choose its address from. Anything else stands for itself.
func Address(addr string) string {
	ip, ok := parse(addr)
	switch {
	case !ok:
		return addr
	case ip.Is6():
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}

// Site is the /48 that an IPv6 address is in, which is what a customer of an internet provider may
// have all to himself; "" for anything else.
func Site(addr string) string {
	if p, err := netip.ParsePrefix(addr); err == nil { // as Address returns it
		addr = p.Addr().String()
	}
	if ip, ok := parse(addr); ok && ip.Is6() {
		return netip.PrefixFrom(ip, 48).Masked().String()
	}
	return ""
}

// parse reads an address with or without a port.
func parse(addr string) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(addr)
	ip := ap.Addr()
	if err != nil {
		if ip, err = netip.ParseAddr(addr); err != nil {
			return netip.Addr{}, false
		}
	}
	return ip.Unmap().WithZone(""), true
}
