package groupcommit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

// disk is a store with transactions that take their time, fail, and are counted. What a part puts
// is there once its transaction has ended well.
type disk struct {
	took time.Duration

	mu      sync.Mutex
	fail    error
	kept    map[string]int
	commits int
	parts   []int // of each transaction
}

type tx map[string]int

type txKey struct{}

func (d *disk) writer() *Writer {
	d.kept = map[string]int{}
	return &Writer{Transact: d.transact}
}

func (d *disk) transact(ctx context.Context, parts []func(context.Context) error) []error {
	errs := make([]error, len(parts))
	all := tx{}
	for i, f := range parts {
		mine := tx{}
		if errs[i] = f(context.WithValue(ctx, txKey{}, mine)); errs[i] == nil {
			maps.Copy(all, mine)
		}
	}
	time.Sleep(d.took)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail != nil {
		for i := range errs {
			errs[i] = d.fail
		}
		return errs
	}
	maps.Copy(d.kept, all)
	d.commits++
	d.parts = append(d.parts, len(parts))
	return errs
}

func put(key string, v int) func(context.Context) error {
	return func(ctx context.Context) error { ctx.Value(txKey{}).(tx)[key] = v; return nil }
}

func (d *disk) got(key string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kept[key]
}

func (d *disk) all() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.kept)
}

func (d *disk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.commits
}

func (d *disk) setFail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = err
}

// service is a source that writes one number, the newest.
type service struct {
	*Source
	key    string
	within time.Duration

	mu      sync.Mutex
	n       int
	dirty   bool
	settled []error
}

func (d *disk) service(w *Writer, key string, within time.Duration) *service {
	s := &service{key: key, within: within}
	s.Source = w.Source(func() Part {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.dirty {
			return Part{}
		}
		s.dirty = false
		return Part{Write: put(s.key, s.n), Settle: s.settle}
	})
	return s
}

func (s *service) settle(err error) {
	s.mu.Lock()
	s.settled = append(s.settled, err)
	s.dirty = s.dirty || err != nil
	s.mu.Unlock()
}

func (s *service) set(n int) {
	s.mu.Lock()
	s.n = n
	first := !s.dirty
	s.dirty = true
	s.mu.Unlock()
	if first {
		s.Due(s.within)
	}
}

func running(ss ...*service) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, s := range ss {
		wg.Go(func() {
			s.Run(ctx)
			_ = s.Flush(context.WithoutCancel(ctx))
		})
	}
	synctest.Wait()
	return func() { cancel(); wg.Wait() }
}

// Jobs that come while a transaction runs share the next one.
func TestJobsShareATransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{took: time.Second}
		w := d.writer()
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if err := w.Do(t.Context(), put(fmt.Sprint(i), 1+i)); err != nil {
					t.Error(err)
				}
				if d.got(fmt.Sprint(i)) != 1+i {
					t.Errorf("%d: answered before it was kept", i)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if d.count() != 2 || time.Since(began) != 2*time.Second {
			t.Errorf("got %d transactions in %v, want 2 in 2s", d.count(), time.Since(began))
		}
	})
}

// A part that fails takes no other with it.
func TestAFailureIsOnesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{took: time.Second}
		w := d.writer()
		bad := errors.New("bad")
		var wg sync.WaitGroup
		var failed atomic.Int64
		for i := range 10 {
			wg.Go(func() {
				f := put(fmt.Sprint(i), 1)
				if i == 7 {
					f = func(context.Context) error { return bad }
				}
				if err := w.Do(t.Context(), f); errors.Is(err, bad) {
					failed.Add(1)
				} else if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if failed.Load() != 1 || len(d.kept) != 9 {
			t.Errorf("%d failed, %d kept, want 1 and 9", failed.Load(), len(d.kept))
		}
	})
}

// What is due is written in one transaction, with a job or when its time has come.
func TestWhatIsDueIsWrittenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := d.writer()
		a, b, late := d.service(w, "a", 40*time.Millisecond), d.service(w, "b", 60*time.Millisecond), d.service(w, "late", time.Minute)
		defer running(a, b, late)()
		for _, s := range []*service{a, b, late} {
			s.set(1)
			s.set(2)
		}
		if err := w.Do(t.Context(), put("job", 1)); err != nil {
			t.Fatal(err)
		}
		if d.got("a") != 0 {
			t.Error("a was written at once, and may change again")
		}
		time.Sleep(39 * time.Millisecond)
		if d.count() != 1 {
			t.Errorf("got %d transactions before anything was due, want 1", d.count())
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if d.got("a") != 2 || d.got("b") != 2 || d.got("late") != 0 || d.count() != 2 {
			t.Errorf("got %v in %d transactions, want a and b in the second", d.all(), d.count())
		}
		time.Sleep(time.Minute)
		if d.got("late") != 2 || d.count() != 3 {
			t.Errorf("got %v in %d transactions, want late in the third", d.all(), d.count())
		}
		a.set(3)
		time.Sleep(30 * time.Millisecond)
		if err := w.Do(t.Context(), put("job", 2)); err != nil || d.got("a") != 3 || d.count() != 4 {
			t.Errorf("got %v in %d transactions, want a with the job", d.all(), d.count())
		}
	})
}

// What a source says is from before what a job of the same transaction does, and does not undo it.
func TestJobsHaveTheLastWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := d.writer()
		s := d.service(w, "k", time.Minute)
		defer running(s)()
		s.set(1)
		time.Sleep(45 * time.Second)
		if err := w.Do(t.Context(), put("k", 2)); err != nil || d.got("k") != 2 || d.count() != 1 || d.parts[0] != 2 {
			t.Errorf("got %v in transactions of %v parts, want the job's in one of two", d.all(), d.parts)
		}
	})
}

// What cannot be written is tried again, and is there in the end.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{fail: errors.New("full")}
		w := d.writer()
		s := d.service(w, "s", 40*time.Millisecond)
		stop := running(s)
		s.set(1)
		if err := w.Do(t.Context(), put("job", 1)); err == nil {
			t.Error("a job of a transaction that failed: no error")
		}
		if err := s.Flush(t.Context()); err == nil {
			t.Error("flush to a disk that fails: no error")
		}
		time.Sleep(5 * time.Second)
		d.setFail(nil)
		time.Sleep(time.Second)
		synctest.Wait()
		s.mu.Lock()
		if n := len(s.settled); d.got("s") != 1 || n < 5 || n > 8 {
			t.Errorf("got %v after %d tries", d.all(), n)
		}
		s.mu.Unlock()
		s.set(2)
		stop()
		if d.got("s") != 2 {
			t.Error("the last was not written")
		}
	})
}

// Nobody is kept waiting by a context that ended, and nothing is unsure: what was not begun is
// not written.
func TestWithdraw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{took: time.Second}
		w := d.writer()
		var wg sync.WaitGroup
		wg.Go(func() { _ = w.Do(t.Context(), put("first", 1)) })
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := w.Do(short, put("second", 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		longer, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		if err := w.Do(longer, put("third", 1)); err != nil || d.got("third") != 1 {
			t.Errorf("one that was being written: got %v", err)
		}
		wg.Wait()
		if d.got("second") != 0 {
			t.Error("what was taken back was written")
		}
	})
}

func TestWaitingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{took: time.Second}
		w := d.writer()
		var wg sync.WaitGroup
		var refused atomic.Int64
		for range maxWaiting + 100 {
			wg.Go(func() {
				err := w.Do(t.Context(), put("x", 1))
				if devices.CodeOf(err) == devices.CodeOverloaded {
					refused.Add(1)
				} else if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := refused.Load(); n == 0 || n > 100 {
			t.Errorf("%d refused, want up to 100", n)
		}
		for _, n := range d.parts {
			if n > maxJobs {
				t.Errorf("a transaction of %d parts, want at most %d", n, maxJobs)
			}
		}
	})
}

// After a transaction the next one lingers, so that the disk is not at work all the time.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{}
		w := d.writer()
		w.Linger = func() time.Duration { return 10 * time.Millisecond }
		began := time.Now()
		for range 3 {
			if err := w.Do(t.Context(), put("x", 1)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 20*time.Millisecond {
			t.Errorf("three one after the other took %v, want 20ms", took)
		}
		time.Sleep(time.Second)
		began = time.Now()
		if err := w.Do(t.Context(), put("x", 1)); err != nil || time.Since(began) != 0 {
			t.Errorf("after a pause: %v %v, want it at once", err, time.Since(began))
		}
	})
}

// TestAgainstModel has services and jobs come and go at random, on a disk that fails at times.
// Whatever Do or Flush has answered for is kept, what failed is not, and in the end all is there.
func TestAgainstModel(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			d := &disk{took: 3 * time.Millisecond}
			w := d.writer()
			if seed%2 == 1 {
				w.Linger = func() time.Duration { return 2 * time.Millisecond }
			}
			var ss []*service
			for i := range 4 {
				ss = append(ss, d.service(w, fmt.Sprint("s", i), time.Duration(10*(i+1))*time.Millisecond))
			}
			stop := running(ss...)
			var wg sync.WaitGroup
			for g := range 5 {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(seed, uint64(g)))
					for i := range 60 {
						switch r.IntN(4) {
						case 0:
							key := fmt.Sprint("j", g)
							before := d.got(key)
							err := w.Do(t.Context(), put(key, i+1))
							if got := d.got(key); err == nil && got != i+1 || err != nil && got != before {
								t.Errorf("job: %v, and kept is %d after %d", err, got, before)
							}
						case 1:
							if g < len(ss) {
								ss[g].set(1000 + i)
							}
						case 2:
							if g < len(ss) && r.IntN(3) == 0 {
								if err := ss[g].Flush(t.Context()); err == nil && d.got(ss[g].key) != ss[g].n {
									t.Errorf("flushed: got %d, want %d", d.got(ss[g].key), ss[g].n)
								}
							}
						case 3:
							if g == 4 && r.IntN(4) == 0 {
								d.setFail([]error{nil, nil, errors.New("no")}[r.IntN(3)])
							}
						}
						time.Sleep(time.Duration(r.IntN(8000)) * time.Microsecond)
					}
				})
			}
			wg.Wait()
			d.setFail(nil)
			stop()
			for _, s := range ss {
				if d.got(s.key) != s.n {
					t.Errorf("%s: got %d, want %d", s.key, d.got(s.key), s.n)
				}
			}
		})
	}
}

// The zero value writes at once.
func TestZeroWriter(t *testing.T) {
	var w Writer
	n := 0
	if err := w.Do(t.Context(), func(context.Context) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("got %d %v", n, err)
	}
	s := w.Source(func() Part { return Part{Write: func(context.Context) error { n++; return nil }} })
	s.Due(time.Hour)
	if err := s.Flush(t.Context()); err != nil || n != 2 {
		t.Errorf("got %d %v", n, err)
	}
}

// After a panic of one the others go on.
func TestPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(Writer)
		func() {
			defer func() { _ = recover() }()
			_ = w.Do(t.Context(), func(context.Context) error { panic("a bug") })
		}()
		if err := w.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Error(err)
		}
	})
}
