package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// ErrNotKept is the fate of a message that has to be kept and could not be
// written. It may pass.
var ErrNotKept = errors.New("the message cannot be kept at present")

// journal is what is to be written to the store. Changes that are made under
// one hold of the broker's mutex reach the store together, with all that have
// come by the time the commit before is done. An idle journal has no goroutine.
//
// When a commit fails its changes stay, those who wait are told, and it is tried
// again: the store then catches up with what the broker holds.
type journal struct {
	store Store // nil: nothing is kept
	log   *slog.Logger
	mu    *sync.Mutex // the broker's; it guards all below

	changes []Change
	at      map[Key]int // where in changes
	fresh   map[Key]bool
	made    uint64 // changes ever, to see if there were any
	bytes   int    // put ever
	waiting []waiter
	writing bool
	failed  time.Time // when the last commit failed; zero: it did not
	writers sync.WaitGroup
}

// waiter waits for the changes before it. One that is sure waits through
// failures, too.
type waiter struct {
	tell func(error)
	sure bool
}

const (
	commitBytes = 4 << 20     // of changes in one commit of the store, or one change
	retryAfter  = time.Second // a failed commit
)

// put writes a record. fresh says that the store has never seen the key.
func (j *journal) put(k Key, value []byte, fresh bool) {
	if j.store == nil {
		return
	}
	j.made++
	j.bytes += len(value)
	if i, ok := j.at[k]; ok {
		j.changes[i].Value = value
		return
	}
	if j.at == nil {
		j.at, j.fresh = map[Key]int{}, map[Key]bool{}
	}
	if fresh {
		j.fresh[k] = true
	}
	j.at[k] = len(j.changes)
	j.changes = append(j.changes, Change{k, value})
	j.start()
}

// del deletes a record. One that never got as far as the store leaves no trace.
func (j *journal) del(k Key) {
	if j.store == nil {
		return
	}
	j.made++
	i, pending := j.at[k]
	switch {
	case pending && j.fresh[k]:
		j.changes[i] = Change{} // Kind 0: nothing
		delete(j.at, k)
		delete(j.fresh, k)
	case pending:
		j.changes[i].Value = nil
	default:
		j.put(k, nil, false)
	}
}

// wait has tell called, without the lock, once every change made so far is
// durable, or with why it is not.
func (j *journal) wait(tell func(error)) {
	j.waiting = append(j.waiting, waiter{tell: tell})
	j.start()
}

// sure has f called, without the lock, once every change made so far is durable,
// however long that takes.
func (j *journal) sure(f func()) {
	j.waiting = append(j.waiting, waiter{tell: func(error) { f() }, sure: true})
	j.start()
}

// start starts the writer unless it runs, or has just failed. The lock is held.
func (j *journal) start() {
	if j.writing || !j.failed.IsZero() && time.Since(j.failed) < retryAfter {
		return
	}
	j.writing = true
	j.writers.Go(j.write)
}

// again tries a commit that failed again. The lock is held.
func (j *journal) again() {
	if len(j.changes)+len(j.waiting) > 0 {
		j.start()
	}
}

// write commits until nothing is left, or a commit fails.
func (j *journal) write() {
	for {
		j.mu.Lock()
		if len(j.changes)+len(j.waiting) == 0 {
			j.writing = false
			j.mu.Unlock()
			return
		}
		changes, waiting, fresh := j.changes, j.waiting, j.fresh
		j.changes, j.at, j.fresh, j.waiting = nil, nil, nil, nil
		j.mu.Unlock()

		done, err := j.commit(changes)
		j.mu.Lock()
		if err != nil {
			waiting = j.undone(changes[done:], fresh, waiting, err)
		} else if !j.failed.IsZero() {
			j.failed = time.Time{}
			j.log.Info("what the broker keeps is written again")
		}
		j.mu.Unlock()
		for _, w := range waiting {
			w.tell(err)
		}
		if err != nil {
			return
		}
	}
}

// undone takes back what could not be written, and returns who is to be told.
// fresh are the keys that the store had not seen. The lock is held.
func (j *journal) undone(changes []Change, fresh map[Key]bool, waiting []waiter, err error) (told []waiter) {
	if j.failed.IsZero() {
		j.log.Error("what the broker keeps cannot be written: messages that have to be kept are refused", "err", err)
	}
	j.failed, j.writing = time.Now(), false
	newer, at, newest := j.changes, j.at, j.fresh
	j.changes, j.at, j.fresh = nil, map[Key]int{}, map[Key]bool{}
	take := func(c Change, fresh bool) {
		if fresh && c.Value == nil {
			return // it came and went
		}
		if fresh {
			j.fresh[c.Key] = true
		}
		j.at[c.Key] = len(j.changes)
		j.changes = append(j.changes, c)
	}
	for _, c := range changes {
		if _, changed := at[c.Key]; !changed && c.Key.Kind != 0 {
			take(c, fresh[c.Key])
		}
	}
	unseen := map[Key]bool{}
	for _, c := range changes {
		unseen[c.Key] = fresh[c.Key]
	}
	for _, c := range newer {
		if c.Key.Kind != 0 {
			take(c, newest[c.Key] || unseen[c.Key])
		}
	}
	later := j.waiting
	j.waiting = nil
	for _, w := range waiting {
		if w.sure {
			j.waiting = append(j.waiting, w)
		} else {
			told = append(told, w)
		}
	}
	j.waiting = append(j.waiting, later...)
	return told
}

// commit hands the changes to the store, a few megabytes at a time, and returns
// how many it took.
func (j *journal) commit(changes []Change) (done int, err error) {
	size := 0
	part := make([]Change, 0, len(changes))
	flush := func(next int) error {
		if len(part) > 0 {
			if err := j.store.Commit(part); err != nil {
				return fmt.Errorf("%w: %w", ErrNotKept, err)
			}
		}
		part, size, done = part[:0], 0, next
		return nil
	}
	for i, c := range changes {
		if c.Key.Kind == 0 {
			continue
		}
		if size+len(c.Value) > commitBytes && len(part) > 0 {
			if err := flush(i); err != nil {
				return done, err
			}
		}
		part = append(part, c)
		size += len(c.Value)
	}
	return done, flush(len(changes))
}
