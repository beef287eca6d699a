package quota

import "time"

// bucket is what is left of a Rate, as of at (ns since epoch). The zero value is full.
type bucket struct {
	left float64
	at   int64
}

// fill brings the bucket up to now. Under another rate than before it keeps what is left.
func (b *bucket) fill(r Rate, now int64) {
	most := max(r.Burst, 1)
	if b.at == 0 {
		b.left = most
	} else if dt := now - b.at; dt > 0 {
		b.left = min(most, b.left+float64(dt)/float64(time.Second)*r.PerSecond)
	}
	b.at = now
}

// take takes n, or says how long it is until there are as many. What is more than the bucket
// ever holds is had for a full one.
func (b *bucket) take(r Rate, now int64, n float64) (wait time.Duration, ok bool) {
	if r.PerSecond <= 0 {
		return 0, true
	}
	b.fill(r, now)
	n = min(n, max(r.Burst, 1))
	if b.left < n {
		return seconds((n - b.left) / r.PerSecond), false
	}
	b.left -= n
	return 0, true
}

// full reports whether the bucket is as good as new.
func (b *bucket) full(r Rate, now int64) bool {
	if b.at == 0 || r.PerSecond <= 0 {
		return true
	}
	b.fill(r, now)
	return b.left >= max(r.Burst, 1)
}

// spend takes n that are spent already.
func (b *bucket) spend(r Rate, now int64, n float64) {
	if r.PerSecond > 0 {
		b.fill(r, now)
		b.left -= n
	}
}

// owes is how long it takes to make good what was spent beyond the rate.
func (b *bucket) owes(r Rate, now int64) time.Duration {
	if r.PerSecond <= 0 {
		return 0
	}
	if b.fill(r, now); b.left >= 0 {
		return 0
	}
	return seconds(-b.left / r.PerSecond)
}
