// Package quota counts what each principal asks of the hub, over all its connections and
// transports, and says when it is too much.
//
// A person, a service account or a device is held while it is connected ([Quota.Hold]) and asks
// its [Account] for each event. Strangers are known by their address, and by the name that they
// claim there: [Quota.Judge] is asked before a signature is checked, [Quota.Failed] told of what
// was refused. Nobody who is verified is refused for what another did, whatever they share.
//
// What is counted is bounded itself. An account goes when nobody holds it and all its allowances
// are full again; there are never more of them than there are principals. Of strangers a fixed
// number is remembered; beyond it they share one allowance.
package quota

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/devices"
)

// Class is a kind of thing that is counted by the second.
type Class uint8

const (
	Events   Class = iota // what changes something: commands, shadow updates, pushes of readings
	Reads                 // everything else on a socket: joins, questions, heartbeats
	Calls                 // HTTP
	Connects              // connections and sign-ins
	Messages              // of a service account over MQTT
	Kept                  // bytes of them that are written to the disk
	classes
)

// Place is a kind of thing of which so many may be there at once.
type Place uint8

const (
	Sockets   Place = iota // WebSockets
	LongPolls              // long-poll sessions
	AtOnce                 // HTTP calls under way
	places
)

// Rate is so many a second, and so many at once after a pause. A PerSecond of 0 is no bound.
type Rate struct{ PerSecond, Burst float64 }

// Bounds are what one principal may ask for. A number of places of 0 is no bound.
type Bounds struct {
	Rates  [classes]Rate
	Places [places]int
}

// Limits are all that Quota holds anybody to.
type Limits struct {
	Device Bounds
	Other  Bounds // people and service accounts

	// Checks are the signatures of tokens not seen before that are checked for one address,
	// Failures what one address may have refused under one name.
	Checks, Failures Rate

	DeviceMinute, DeviceDay int64 // bytes that a device may have stored in so long; 0 is no bound
	// Arrivals are the connections that have yet to say whose they are, all and of one address;
	// 0 is no bound.
	Arrivals, ArrivalsPerAddress int
}

// Key names a principal.
type Key struct {
	Kind devices.ActorKind
	Name string
}

// Quota counts for everybody. The nil Quota bounds nothing. Safe for concurrent use.
type Quota struct {
	now      func() time.Time
	limits   atomic.Pointer[Limits]
	seed     maphash.Seed
	shards   [64]shard
	failures Table
	checks   Table
	stored   stored
	arrivals arrivals
	refused  [limitNames]atomic.Int64
}

type shard struct {
	mu       sync.Mutex
	accounts map[Key]*Account
	swept    time.Time
}

// New returns a Quota with limits.
func New(l Limits) *Quota {
	q := &Quota{now: time.Now, seed: maphash.MakeSeed()}
	q.stored.init()
	q.SetLimits(l)
	return q
}

// SetLimits changes the limits, for everybody and at once.
func (q *Quota) SetLimits(l Limits) {
	q.limits.Store(&l)
	q.checks.SetRate(l.Checks)
	q.failures.SetRate(l.Failures)
}

// sweepEvery is how often a shard is looked through for accounts that can go.
const sweepEvery = 10 * time.Second

// Hold returns the account of a principal, which is there until it is released as often as it
// was held.
func (q *Quota) Hold(kind devices.ActorKind, name string) *Account {
	if q == nil {
		return nil
	}
	k := Key{kind, name}
	sh := &q.shards[maphash.Comparable(q.seed, k)%uint64(len(q.shards))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	a := sh.accounts[k]
	if a == nil {
		sh.sweep(q.now())
		a = &Account{q: q, shard: sh, key: k}
		sh.accounts[k] = a
	}
	a.held++
	return a
}

// sweep forgets the accounts that would be the same if they were made anew. The caller holds mu.
func (sh *shard) sweep(now time.Time) {
	if sh.accounts == nil {
		sh.accounts = map[Key]*Account{}
	}
	if now.Sub(sh.swept) < sweepEvery {
		return
	}
	sh.swept = now
	for k, a := range sh.accounts {
		if a.held == 0 && a.full(now) {
			delete(sh.accounts, k)
		}
	}
}

// Len is how many accounts are remembered.
func (q *Quota) Len() int {
	n := 0
	for i := range q.shards {
		q.shards[i].mu.Lock()
		n += len(q.shards[i].accounts)
		q.shards[i].mu.Unlock()
	}
	return n
}

// bounds are those that hold for a kind of principal.
func (l *Limits) bounds(kind devices.ActorKind) *Bounds {
	if kind == devices.ActorDevice {
		return &l.Device
	}
	return &l.Other
}

// limited is the refusal of something that is over a rate or a bound.
func limited(reason string, wait time.Duration) *devices.Error {
	const least, most = 10 * time.Millisecond, 24 * time.Hour
	return devices.Refuse(devices.CodeRateLimited, reason).After(min(most, max(least, wait)))
}

// seconds is s as a duration, however long.
func seconds(s float64) time.Duration {
	if s >= math.MaxInt64/float64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(s * float64(time.Second))
}
