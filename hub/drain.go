package hub

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

type drainOptions struct {
	batch int
	apart time.Duration
}

// settle is how long a draining connection may take to handle what it has received and to
// answer what it has promised to.
const settle = time.Second

// Drain closes the endpoint: from now on nobody can connect, and every connection is closed
// with 1012, in batches with random pauses between, so that they do not all come back at once. What
// a connection has received is handled and answered first, within a second. Drain
// returns when everything the endpoint started has ended, or with the cause of ctx when it
// is over, having closed the rest at once. Only a callback that does not return even then
// is left behind.
func (ep *Endpoint) Drain(ctx context.Context) error {
	ep.mu.Lock()
	ep.closed = true
	ep.mu.Unlock()
	conns := ep.registry.all()
	rand.Shuffle(len(conns), func(i, j int) { conns[i], conns[j] = conns[j], conns[i] })
	var drainers sync.WaitGroup
	for len(conns) > 0 {
		n := min(len(conns), ep.drainBy.batch)
		batch := conns[:n]
		conns = conns[n:]
		drainers.Go(func() { drain(ctx, batch) })
		if len(conns) == 0 {
			break
		}
		pause := ep.drainBy.apart/2 + time.Duration(rand.Int64N(int64(ep.drainBy.apart)+1))
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	drainers.Wait()
	for _, c := range ep.registry.all() { // those that were on their way in
		c.close(CloseRestart, "", ErrDrain)
	}
	done := make(chan struct{})
	go func() {
		ep.tasks.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		for _, c := range ep.registry.all() {
			c.abort()
		}
		select {
		case <-done:
		case <-time.After(patience + linger):
		}
		return context.Cause(ctx)
	}
}

// drain closes the connections of one batch, each as soon as it has settled.
func drain(ctx context.Context, conns []*Conn) {
	for _, c := range conns {
		c.draining.Store(true)
	}
	deadline := time.Now().Add(settle)
	for len(conns) > 0 {
		late := ctx.Err() != nil || !time.Now().Before(deadline)
		kept := conns[:0]
		for _, c := range conns {
			if late || c.settled() {
				c.close(CloseRestart, "", ErrDrain)
			} else {
				kept = append(kept, c)
			}
		}
		if conns = kept; len(conns) > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
}

// settled reports whether nothing is being handled and every reference is answered.
func (c *Conn) settled() bool {
	if c.pending.Load() > 0 {
		return false
	}
	c.mu.Lock()
	slots := append([]*slot(nil), c.slots...)
	c.mu.Unlock()
	for _, t := range slots {
		if t.busy() {
			return false
		}
	}
	return true
}

// abort drops the connection without more ado.
func (c *Conn) abort() {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	c.finish(ErrDrain)
	c.breakLocked()
}
