// Package deadline keeps one point in time per key and says which have come.
// A service with a hundred thousand devices has one Queue and one goroutine in
// Run instead of a timer per device.
package deadline

import (
	"context"
	"sync"
	"time"
)

// Queue holds at most one deadline per key. Make one with New. Safe for
// concurrent use.
type Queue[K comparable] struct {
	mu   sync.Mutex
	heap []entry[K]
	pos  map[K]int
	wake chan struct{}
}

type entry[K comparable] struct {
	at  time.Time
	key K
}

// New returns an empty queue.
func New[K comparable]() *Queue[K] {
	return &Queue[K]{pos: map[K]int{}, wake: make(chan struct{}, 1)}
}

// Sooner gives the key a deadline unless it already has an earlier one. The
// owner looks again when it fires and sets the next: moving a deadline to a
// later time therefore costs nothing.
func (q *Queue[K]) Sooner(key K, at time.Time) {
	q.mu.Lock()
	i, ok := q.pos[key]
	switch {
	case !ok:
		i = len(q.heap)
		q.heap = append(q.heap, entry[K]{at, key})
		q.pos[key] = i
		i = q.up(i)
	case at.Before(q.heap[i].at):
		q.heap[i].at = at
		i = q.up(i)
	default:
		i = -1
	}
	q.mu.Unlock()
	if i == 0 {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
}

// Remove forgets the key.
func (q *Queue[K]) Remove(key K) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i, ok := q.pos[key]; ok {
		q.remove(i)
	}
}

// Len is the number of deadlines.
func (q *Queue[K]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.heap)
}

// Pop removes and returns a key whose deadline is not after now, the earliest
// first.
func (q *Queue[K]) Pop(now time.Time) (key K, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.heap) == 0 || q.heap[0].at.After(now) {
		return key, false
	}
	key = q.heap[0].key
	q.remove(0)
	return key, true
}

// Next is the earliest deadline.
func (q *Queue[K]) Next() (at time.Time, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.heap) == 0 {
		return at, false
	}
	return q.heap[0].at, true
}

// Run calls fire, one at a time, for every key whose deadline has come, until
// ctx ends. fire may use the queue.
func (q *Queue[K]) Run(ctx context.Context, now func() time.Time, fire func(K)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		if key, ok := q.Pop(now()); ok {
			fire(key)
			continue
		}
		wait := time.Hour
		if at, ok := q.Next(); ok {
			wait = max(0, min(wait, at.Sub(now())))
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-timer.C:
		}
	}
}

func (q *Queue[K]) remove(i int) {
	last := len(q.heap) - 1
	delete(q.pos, q.heap[i].key)
	if i != last {
		q.heap[i] = q.heap[last]
		q.pos[q.heap[i].key] = i
	}
	q.heap[last] = entry[K]{}
	q.heap = q.heap[:last]
	if i != last {
		q.down(q.up(i))
	}
}

func (q *Queue[K]) up(i int) int {
	for i > 0 {
		p := (i - 1) / 2
		if !q.heap[i].at.Before(q.heap[p].at) {
			break
		}
		q.swap(i, p)
		i = p
	}
	return i
}

func (q *Queue[K]) down(i int) {
	for {
		c := 2*i + 1
		if c >= len(q.heap) {
			return
		}
		if c+1 < len(q.heap) && q.heap[c+1].at.Before(q.heap[c].at) {
			c++
		}
		if !q.heap[c].at.Before(q.heap[i].at) {
			return
		}
		q.swap(i, c)
		i = c
	}
}

func (q *Queue[K]) swap(i, j int) {
	q.heap[i], q.heap[j] = q.heap[j], q.heap[i]
	q.pos[q.heap[i].key], q.pos[q.heap[j].key] = i, j
}
