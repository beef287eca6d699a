package quota

import (
	"sync"
	"time"

	"devicehub/devices"
)

// Account is what one principal has left, over all its connections. The nil Account bounds
// nothing. Safe for concurrent use.
type Account struct {
	q     *Quota
	shard *shard
	key   Key
	held  int // guarded by shard.mu

	mu    sync.Mutex
	left  [classes]bucket
	borne [classes]bucket // refusals before it is cut off
	there [places]int
}

// Release ends what Hold began.
func (a *Account) Release() {
	if a == nil {
		return
	}
	a.shard.mu.Lock()
	a.held--
	a.shard.mu.Unlock()
}

// full reports whether a new account would be the same. The caller holds shard.mu.
func (a *Account) full(now time.Time) bool {
	b := a.q.limits.Load().bounds(a.key.Kind)
	a.mu.Lock()
	defer a.mu.Unlock()
	for c := range a.left {
		if r := b.Rates[c]; !a.left[c].full(r, now.UnixNano()) || !a.borne[c].full(borne(r), now.UnixNano()) {
			return false
		}
	}
	return true
}

// borne is how many refusals a principal may cause under a rate: ten times as many as it may
// have taken, and at once what a mistaken program sends before it is told.
func borne(r Rate) Rate { return Rate{10 * r.PerSecond, max(1000, 20*r.PerSecond)} }

// Allow takes one of a class. The error is rate_limited, with the time to wait. cut says that
// it has been refused so often that it is to be cut off.
func (a *Account) Allow(c Class) (cut bool, err error) {
	if a == nil {
		return false, nil
	}
	return a.AllowAt(a.q.now(), c, 1)
}

// AllowAt is Allow at a time that the caller has looked up, for what costs as much as n.
func (a *Account) AllowAt(now time.Time, c Class, n float64) (cut bool, err error) {
	if a == nil {
		return false, nil
	}
	r := a.q.limits.Load().bounds(a.key.Kind).Rates[c]
	a.mu.Lock()
	wait, ok := a.left[c].take(r, now.UnixNano(), n)
	if !ok {
		_, bears := a.borne[c].take(borne(r), now.UnixNano(), 1)
		cut = !bears
	}
	a.mu.Unlock()
	if ok {
		return false, nil
	}
	a.q.count(classLimit[c])
	if cut {
		a.q.count(LimitCutOff)
	}
	return cut, limited(classReason[c], wait)
}

// Wait is how long the sender of one more of a class has to be held up, at most a second. It is
// for what cannot be refused.
func (a *Account) Wait(c Class) time.Duration {
	if a == nil {
		return 0
	}
	r := a.q.limits.Load().bounds(a.key.Kind).Rates[c]
	a.mu.Lock()
	defer a.mu.Unlock()
	wait, ok := a.left[c].take(r, a.q.now().UnixNano(), 1)
	if ok {
		return 0
	}
	a.left[c].left-- // owed: those who wait at the same time wait for one after the other
	a.q.count(classLimit[c])
	return min(wait, time.Second)
}

// Spend counts n of a class that is spent already. Owes is how long it takes to make good what was
// spent beyond the rate, at most a minute.
func (a *Account) Spend(c Class, n int) {
	if a == nil {
		return
	}
	r := a.q.limits.Load().bounds(a.key.Kind).Rates[c]
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left[c].spend(r, a.q.now().UnixNano(), float64(n))
	a.left[c].left = max(a.left[c].left, -r.PerSecond*time.Minute.Seconds())
}

func (a *Account) Owes(c Class) time.Duration {
	if a == nil {
		return 0
	}
	r := a.q.limits.Load().bounds(a.key.Kind).Rates[c]
	a.mu.Lock()
	defer a.mu.Unlock()
	wait := a.left[c].owes(r, a.q.now().UnixNano())
	if wait > 0 {
		a.q.count(classLimit[c])
	}
	return wait
}

// Enter takes a place, which leave gives back. The error is rate_limited.
func (a *Account) Enter(p Place) (leave func(), err error) {
	if a == nil {
		return func() {}, nil
	}
	most := a.q.limits.Load().bounds(a.key.Kind).Places[p]
	a.mu.Lock()
	full := most > 0 && a.there[p] >= most
	if !full {
		a.there[p]++
	}
	a.mu.Unlock()
	if full {
		a.q.count(placeLimit[p])
		return nil, limited(placeReason[p], placeWait[p])
	}
	return func() {
		a.mu.Lock()
		a.there[p]--
		a.mu.Unlock()
	}, nil
}

// Once holds an account for as long as f runs.
func (q *Quota) Once(kind devices.ActorKind, name string, f func(*Account) error) error {
	a := q.Hold(kind, name)
	defer a.Release()
	return f(a)
}

var classReason = [classes]string{
	Events: "too many events", Reads: "too many requests", Calls: "too many calls", Connects: "too many connections in a short time", Messages: "too many messages", Kept: "too much to keep",
}

var placeReason = [places]string{
	Sockets: "too many sockets are open", LongPolls: "too many long-poll sessions are open", AtOnce: "too many calls are under way",
}

// placeWait is when a place that is taken may be free: a long-poll session that was left behind
// is missed after a while.
var placeWait = [places]time.Duration{Sockets: 10 * time.Second, LongPolls: 15 * time.Second, AtOnce: time.Second}
