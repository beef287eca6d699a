package identity

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/quota"
)

// Hashing a password takes a core and memory, so that few hashes run at once and few wait.
const (
	maxHashes    = 2
	maxHashQueue = 32
)

// hashesAtOnce leaves a small machine a core for its devices.
func hashesAtOnce() int {
	if runtime.GOMAXPROCS(0) <= 2 {
		return 1
	}
	return maxHashes
}

// standing is how much speaks for somebody who gives a password. The better is served first, and
// takes the place of the worse when there is none left.
type standing uint8

const (
	proven   standing = iota // who is signed in, or has been under this name at this address
	clean                    // a person's name and an address without a failure lately
	doubtful                 // everybody else
	standings
)

// hashQueue gives out the turns of hashing.
type hashQueue struct {
	mu      sync.Mutex
	most    int // at once
	running int
	waiting [standings][]*turn // those that came first in front
}

// turn is somebody who waits: true comes when it is theirs, false when they have to give way.
type turn struct{ ready chan bool }

// enter waits for a turn, which leave ends. The errors are overloaded and that of ctx.
func (q *hashQueue) enter(ctx context.Context, st standing) error {
	q.mu.Lock()
	if q.running < q.most {
		q.running++
		q.mu.Unlock()
		return nil
	}
	if !q.room(st) {
		q.mu.Unlock()
		return tooManySignIns()
	}
	t := &turn{ready: make(chan bool, 1)}
	q.waiting[st] = append(q.waiting[st], t)
	q.mu.Unlock()
	select {
	case mine := <-t.ready:
		if !mine {
			return tooManySignIns()
		}
		return nil
	case <-ctx.Done():
		q.abandon(t, st)
		return context.Cause(ctx)
	}
}

// room reports whether there is a place to wait, and has the last of a worse standing make one. The
// caller holds mu.
func (q *hashQueue) room(st standing) bool {
	n := 0
	for _, w := range q.waiting {
		n += len(w)
	}
	if n < maxHashQueue {
		return true
	}
	for worse := standings - 1; worse > st; worse-- {
		if last := len(q.waiting[worse]) - 1; last >= 0 {
			q.waiting[worse][last].ready <- false
			q.waiting[worse] = q.waiting[worse][:last]
			return true
		}
	}
	return false
}

// abandon gives up a turn that was waited for.
func (q *hashQueue) abandon(t *turn, st standing) {
	q.mu.Lock()
	i := slices.Index(q.waiting[st], t)
	if i >= 0 {
		q.waiting[st] = slices.Delete(q.waiting[st], i, i+1)
	}
	q.mu.Unlock()
	if i < 0 && <-t.ready {
		q.leave()
	}
}

// leave ends a turn and gives it to the next.
func (q *hashQueue) leave() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for st, w := range q.waiting {
		if len(w) > 0 {
			q.waiting[st] = w[1:]
			w[0].ready <- true
			return
		}
	}
	q.running--
}

func tooManySignIns() error {
	return devices.Refuse(devices.CodeOverloaded, "too many people sign in at once").After(time.Second)
}

// hashed runs f, which hashes a password, when its turn comes. It refuses with overloaded when too
// many wait already.
func (s *Service) hashed(ctx context.Context, st standing, f func()) error {
	if err := s.hashing.enter(ctx, st); err != nil {
		return err
	}
	defer s.hashing.leave()
	f()
	return nil
}

// repute remembers where sign-ins failed lately, and where they succeeded.
type repute struct {
	failed quota.Table // names, addresses and IPv6 sites
	good   quota.Table // names at addresses
}

const (
	failedFor = 10 * time.Minute
	goodFor   = 30 * 24 * time.Hour
	maxGood   = 4096
)

func (r *repute) init() {
	once := func(d time.Duration) quota.Rate { return quota.Rate{PerSecond: 1 / d.Seconds(), Burst: 1} }
	r.failed.SetRate(once(failedFor))
	r.good.Max = maxGood
	r.good.SetRate(once(goodFor))
}

// of is the standing of a sign-in; known says that there is such a person. It counts as failed until
// settle says that it was not, so that many at once gain nothing.
func (r *repute) of(now time.Time, o devices.Origin, name string, known bool) (st standing, settle func(right bool)) {
	addr := quota.Address(o.Addr)
	both := quota.Stranger{Addr: addr, Name: name}
	keys := []quota.Stranger{{Name: name}}
	if !o.Shared { // that of a proxy says nothing of its clients
		keys = append(keys, quota.Stranger{Addr: addr})
		if site := quota.Site(o.Addr); site != "" {
			keys = append(keys, quota.Stranger{Addr: site})
		}
	}
	st = clean
	var took []quota.Stranger
	for _, k := range keys {
		if _, ok := r.failed.Take(k, now); ok {
			took = append(took, k)
		} else {
			st = doubtful
		}
	}
	switch {
	case known && !r.good.Full(both, now):
		st = proven
	case !known:
		st = doubtful
	}
	return st, func(right bool) {
		for _, k := range took {
			r.failed.Give(k, now)
		}
		if right {
			r.good.Take(both, now)
		}
	}
}
