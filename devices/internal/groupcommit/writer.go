// Package groupcommit brings what several services have to keep to the disk in transactions that
// they share.
//
// What somebody waits for is a job ([Writer.Do]): it is in the next transaction. What may be
// behind is a source ([Writer.Source]): it says by when it has to be written, and is asked for
// what there is when that time has come, or somewhat earlier if a transaction is on its way
// anyway. So a command that is written takes the state of its device with it.
package groupcommit

import (
	"context"
	"errors"
	"sync"
	"time"

	"devicehub/devices"
)

const (
	maxWaiting = 8192 // jobs; beyond them they are refused
	maxJobs    = 256  // of one transaction
)

// Writer makes the transactions of one store, one at a time, in the goroutines of those who need
// them. The zero value is for a store in memory: it writes at once and without transactions. Safe
// for concurrent use.
type Writer struct {
	// Transact runs every part in one transaction and returns what became of each: a part that
	// fails takes no other with it. It is set before the first use, as is Linger.
	Transact func(ctx context.Context, parts []func(context.Context) error) []error
	// Linger is how long after a transaction the next one waits for company; nil is not at all.
	Linger func() time.Duration

	once sync.Once
	lead chan struct{} // held by who makes a transaction

	mu      sync.Mutex
	jobs    []*job
	sources []*Source // those that run
	ended   time.Time // when the last transaction did
}

var errBroken = errors.New("the transaction broke")

// job is what somebody waits for.
type job struct {
	write func(context.Context) error
	done  chan error // has room for what became of it
}

func (w *Writer) leading() chan struct{} {
	w.once.Do(func() { w.lead = make(chan struct{}, 1) })
	return w.lead
}

// Do has f run in the next transaction, and returns when that is durable or f has failed. f gets
// the context of the transaction, which does not end with ctx: ctx bounds the wait until f begins.
// The error is that of f or of the transaction, overloaded when too many wait, or the cause of
// ctx. f may run again when the transaction broke for another's sake. It must not call Do.
func (w *Writer) Do(ctx context.Context, f func(context.Context) error) error {
	j := &job{write: f, done: make(chan error, 1)}
	w.mu.Lock()
	if len(w.jobs) >= maxWaiting {
		w.mu.Unlock()
		return devices.Refuse(devices.CodeOverloaded, "too many changes wait for the disk").After(time.Second)
	}
	w.jobs = append(w.jobs, j)
	w.mu.Unlock()
	for {
		select {
		case err := <-j.done:
			return err
		case w.leading() <- struct{}{}:
			w.led(func() {
				if len(j.done) == 0 {
					w.pause(ctx)
					w.commit(nil)
				}
			})
		case <-ctx.Done():
			if w.withdraw(j) {
				return context.Cause(ctx)
			}
			return <-j.done // it is being written
		}
	}
}

// led runs f and gives up the lead, which the caller has.
func (w *Writer) led(f func()) {
	defer func() { <-w.lead }()
	f()
}

// withdraw takes back a job that no transaction has taken.
func (w *Writer) withdraw(j *job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.jobs {
		if w.jobs[i] == j {
			w.jobs = append(w.jobs[:i], w.jobs[i+1:]...)
			return true
		}
	}
	return false
}

// pause lets company come.
func (w *Writer) pause(ctx context.Context) {
	if w.Linger == nil {
		return
	}
	w.mu.Lock()
	rest := w.Linger() - time.Since(w.ended)
	w.mu.Unlock()
	if rest <= 0 {
		return
	}
	t := time.NewTimer(rest)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// commit makes one transaction of what waits, and of force whether or not its time has come. The
// caller leads.
func (w *Writer) commit(force *Source) {
	jobs, sources := w.take(force)
	answered := 0
	defer func() { // after a panic nobody waits for ever
		for _, j := range jobs[answered:] {
			j.done <- errBroken
		}
	}()
	parts := make([]func(context.Context) error, 0, len(jobs)+len(sources))
	// Sources go first: what they say is from before what the jobs do.
	asked := sources
	sources = sources[:0]
	for _, s := range asked {
		if s.ask() {
			sources = append(sources, s)
			parts = append(parts, s.part.Write)
		}
	}
	for _, j := range jobs {
		parts = append(parts, j.write)
	}
	if len(parts) == 0 {
		return
	}
	errs := w.transact(parts)
	w.mu.Lock()
	w.ended = time.Now()
	w.mu.Unlock()
	for i, s := range sources {
		s.wrote(errs[i])
	}
	for i, j := range jobs {
		j.done <- errs[len(sources)+i]
		answered++
	}
}

// take removes from what waits what the next transaction is to hold.
func (w *Writer) take(force *Source) ([]*job, []*Source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.jobs), maxJobs)
	jobs := append([]*job(nil), w.jobs[:n]...)
	clear(w.jobs[:n])
	if w.jobs = w.jobs[n:]; len(w.jobs) == 0 {
		w.jobs = nil
	}
	var sources []*Source
	now := time.Now()
	for _, s := range w.sources {
		if s != force && !s.taken && !s.latest.IsZero() && !s.earliest.After(now) {
			sources = append(sources, s)
		}
	}
	if force != nil {
		sources = append(sources, force)
	}
	for _, s := range sources {
		s.taken, s.urgent, s.latest = true, false, time.Time{}
	}
	return jobs, sources
}

func (w *Writer) transact(parts []func(context.Context) error) []error {
	// What is taken is written, whoever it was that led: nobody's context ends it.
	ctx := context.Background()
	if w.Transact != nil {
		return w.Transact(ctx, parts)
	}
	errs := make([]error, len(parts))
	for i, f := range parts {
		errs[i] = f(ctx)
	}
	return errs
}
