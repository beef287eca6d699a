package deadline

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestRunFiresInOrderOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New[int]()
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var got []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			q.Run(ctx, time.Now, func(int) { got = append(got, time.Since(start)) })
		}()
		q.Sooner(1, start.Add(3*time.Second))
		synctest.Wait()
		q.Sooner(2, start.Add(time.Second))
		q.Sooner(1, start.Add(2*time.Second))
		q.Sooner(1, start.Add(time.Minute)) // later: does not move it
		time.Sleep(10 * time.Second)
		synctest.Wait()
		cancel()
		<-done
		if want := []time.Duration{time.Second, 2 * time.Second}; !slices.Equal(got, want) {
			t.Errorf("fired at %v, want %v", got, want)
		}
	})
}

// TestQueueAgainstMap holds the heap against a plain map of deadlines.
func TestQueueAgainstMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	q, model := New[int](), map[int]time.Time{}
	base := time.Unix(0, 0)
	for range 20000 {
		key, at := r.IntN(200), base.Add(time.Duration(r.IntN(1000)))
		switch r.IntN(4) {
		case 0, 1:
			q.Sooner(key, at)
			if old, ok := model[key]; !ok || at.Before(old) {
				model[key] = at
			}
		case 2:
			q.Remove(key)
			delete(model, key)
		case 3:
			got, ok := q.Pop(at)
			earliest, any := time.Time{}, false
			for _, m := range model {
				if !any || m.Before(earliest) {
					earliest, any = m, true
				}
			}
			if want := any && !earliest.After(at); ok != want {
				t.Fatalf("pop at %v: got %v, want %v", at, ok, want)
			}
			if ok {
				if !model[got].Equal(earliest) {
					t.Fatalf("popped %v of %v, want the earliest %v", got, model[got], earliest)
				}
				delete(model, got)
			}
		}
		if q.Len() != len(model) {
			t.Fatalf("len %d, want %d", q.Len(), len(model))
		}
	}
}
