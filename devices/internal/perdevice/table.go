// Package perdevice is the machinery of a service that keeps one state per device: states in
// shards, each under its shard's lock; events told in the order in which they were decided; and
// one deadline per device. The service itself is left with its rules.
package perdevice

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/devices"
)

// shards is how many locks a table has.
const shards = 64

// Rules are what a service adds to a Table. Now is required.
type Rules[K ~string, S any] struct {
	// Make fills the state of a key that has none, under its lock. It returns false if there is to
	// be none. Nil leaves the state at its zero value.
	Make func(*Entry[K, S]) bool
	// Due is called for a key whose deadline has come. No lock is held and the deadline is gone:
	// Due sets the next one.
	Due  func(K)
	Feed devices.Feed // gets what is published; may be nil
	Now  func() time.Time
}

// Table keeps one state per key. Make one with New. Safe for concurrent use.
type Table[K ~string, S any] struct {
	rules  Rules[K, S]
	seed   maphash.Seed
	base   time.Time // deadlines are counted from it
	shards [shards]shard[K, S]

	asleep atomic.Int64 // the deadline that Run waits for
	wake   chan struct{}
}

type shard[K ~string, S any] struct {
	first atomic.Int64 // the earliest deadline; written under mu

	mu      sync.Mutex
	entries map[K]*Entry[K, S]
	heap    heap[K, S]
	queue   []devices.Event // decided and not yet told
	spare   []devices.Event // room for the next queue
	telling bool            // a goroutine empties queue
}

// Entry is the state of one key. Its methods and State belong to whoever holds its lock: the
// function that With, Find, Locked or Each was given, while it runs.
type Entry[K ~string, S any] struct {
	Key   K
	State S

	table *Table[K, S]
	shard *shard[K, S]
	gone  bool
	at    int64 // its deadline
	pos   int   // in the heap; -1: it has no deadline
}

// New returns an empty table.
func New[K ~string, S any](r Rules[K, S]) *Table[K, S] {
	t := &Table[K, S]{rules: r, seed: maphash.MakeSeed(), base: r.Now(), wake: make(chan struct{}, 1)}
	t.asleep.Store(working)
	for i := range t.shards {
		t.shards[i].entries = map[K]*Entry[K, S]{}
		t.shards[i].first.Store(never)
	}
	return t
}

func (t *Table[K, S]) shard(key K) *shard[K, S] {
	return &t.shards[maphash.String(t.seed, string(key))%shards]
}

// With calls f with the entry of key, which it makes if need be, and then tells what f published.
// It returns false if there is no entry to be made.
func (t *Table[K, S]) With(key K, f func(*Entry[K, S])) bool {
	sh := t.shard(key)
	sh.mu.Lock()
	defer sh.release(t.rules.Feed)
	e := sh.entries[key]
	if e == nil {
		e = &Entry[K, S]{Key: key, table: t, shard: sh, pos: -1}
		sh.entries[key] = e
		if t.rules.Make != nil && !t.rules.Make(e) {
			e.Delete()
			return false
		}
	}
	f(e)
	return true
}

// Find is With for entries that are there already.
func (t *Table[K, S]) Find(key K, f func(*Entry[K, S])) (found bool) {
	t.Locked(key, func(e *Entry[K, S]) {
		if found = e != nil; found {
			f(e)
		}
	})
	return found
}

// Locked calls f with the lock of key, and with its entry, nil if there is none.
func (t *Table[K, S]) Locked(key K, f func(*Entry[K, S])) {
	sh := t.shard(key)
	sh.mu.Lock()
	defer sh.release(t.rules.Feed)
	f(sh.entries[key])
}

// Each calls f with every entry, in no order. Entries that come or go meanwhile may be missed.
func (t *Table[K, S]) Each(f func(*Entry[K, S])) {
	for i := range t.shards {
		t.shards[i].each(t.rules.Feed, f)
	}
}

func (sh *shard[K, S]) each(feed devices.Feed, f func(*Entry[K, S])) {
	sh.mu.Lock()
	defer sh.release(feed)
	for _, e := range sh.entries {
		f(e)
	}
}

// Publish queues an event about key, whose lock the caller holds. Events of one key are told in
// the order in which they were queued, once the lock is free: the feed may call back. The queue
// holds what was decided since the lock was taken, so it needs no bound of its own.
func (t *Table[K, S]) Publish(key K, e devices.Event) {
	if t.rules.Feed == nil {
		return
	}
	sh := t.shard(key)
	sh.queue = append(sh.queue, e)
}

// release gives up the lock and tells what was queued. While one goroutine does so, others leave
// theirs to it.
func (sh *shard[K, S]) release(feed devices.Feed) {
	if len(sh.queue) == 0 || sh.telling {
		sh.mu.Unlock()
		return
	}
	sh.telling = true
	for len(sh.queue) > 0 {
		batch := sh.queue
		sh.queue = sh.spare[:0]
		sh.mu.Unlock()
		for _, e := range batch {
			feed.Publish(e)
		}
		clear(batch)
		sh.mu.Lock()
		sh.spare = batch
	}
	sh.telling = false
	sh.mu.Unlock()
}

// Outside gives up the lock while f runs, and tells what was published so far. Everything may
// have changed afterwards; the entry may be Gone.
func (e *Entry[K, S]) Outside(f func()) {
	e.shard.release(e.table.rules.Feed)
	defer e.shard.mu.Lock()
	f()
}

// Delete removes the entry with its deadline. What was published is still told.
func (e *Entry[K, S]) Delete() {
	if e.gone {
		return
	}
	e.gone = true
	delete(e.shard.entries, e.Key)
	e.unschedule()
}

// Gone reports whether the entry was deleted.
func (e *Entry[K, S]) Gone() bool { return e.gone }
