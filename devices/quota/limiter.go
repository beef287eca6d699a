package quota

import (
	"sync"
	"time"
)

// Limiter holds to a Rate the one thing that it stands in; a [Table] does so for many things by
// their keys. Make one with NewLimiter. Safe for concurrent use.
type Limiter struct {
	mu   sync.Mutex
	rate Rate
	left bucket
}

// NewLimiter returns a Limiter with a rate, nothing of which is taken.
func NewLimiter(r Rate) *Limiter { return &Limiter{rate: r} }

// Take takes one, or says how long it is until there is one.
func (l *Limiter) Take(now time.Time) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.left.take(l.rate, now.UnixNano(), 1)
}

// Reserve takes one even if there is none left, and says how long to wait for it: those who wait at
// the same time wait for one after the other.
func (l *Limiter) Reserve(now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait, ok := l.left.take(l.rate, now.UnixNano(), 1)
	if !ok {
		l.left.left--
	}
	return wait
}

// Spend takes n that are spent already.
func (l *Limiter) Spend(now time.Time, n float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left.fill(l.rate, now.UnixNano())
	l.left.left -= n
}

// Overspent reports whether more was spent than the rate gives.
func (l *Limiter) Overspent(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left.fill(l.rate, now.UnixNano())
	return l.rate.PerSecond > 0 && l.left.left < 0
}
