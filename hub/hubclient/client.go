package hubclient

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"devicehub/hub/wire"
)

// A Client keeps one connection to a Phoenix socket, and its channels joined. Its methods may be called from any
// goroutine, and from callbacks.
type Client struct {
	cfg Config
	url *url.URL

	mu       sync.Mutex
	running  bool
	closed   bool // Close was called, or Run has ended
	waiting  bool // before the next attempt
	conn     transport
	cause    error         // why this side ended conn
	openedAt time.Time     // of conn
	holdTill time.Time     // no reconnect before
	kick     chan struct{} // wakes the wait before a reconnect
	stop     context.CancelFunc
	ref      uint64
	channels []*Channel
	pending  map[uint64]*push // sent and unanswered, by ref

	via    Transport
	proven bool // this WebSocket path has answered a heartbeat once

	heartbeatAt  time.Time // when the next is due, zero when none is
	heartbeatRef uint64    // 0: answered
	provenBy     time.Time

	out      []frame // waiting to be written
	writing  bool
	abandons []transport // half-open on purpose, until Run ends

	timer  *time.Timer
	wakeAt time.Time // zero: not armed

	calls   []func() // callbacks to be run, in order
	calling bool
	quiet   sync.Cond // signalled when calling ends
	wg      sync.WaitGroup
}

// New returns a client that does nothing until Run. The error is about cfg.
func New(cfg Config) (*Client, error) {
	cfg, u, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, url: u, via: cfg.Transport, kick: make(chan struct{}, 1)}
	c.quiet.L = &c.mu
	return c, nil
}

// Run connects, and reconnects, until ctx is done or Close is called; then it closes in order and returns nil. It returns
// a *CloseError when the server closed with 1000, which asks a Phoenix client to stay away. No goroutine of the client
// outlives it. It may be called once.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.running {
		c.mu.Unlock()
		return errors.New("hubclient: Run was called before")
	}
	c.running = true
	caller := ctx
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer c.stop()
	c.mu.Unlock()
	defer c.finish()
	defer context.AfterFunc(caller, c.Close)()

	for failed := 0; ; {
		err := c.once(ctx, failed+1)
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil
		}
		lived := !c.openedAt.IsZero() && time.Since(c.openedAt) >= 2*time.Second
		c.openedAt = time.Time{}
		if c.cfg.OnClose != nil {
			c.calls = append(c.calls, func() { c.cfg.OnClose(err) })
		}
		c.unlock()
		c.cfg.Log.Debug("disconnected", "url", c.url.Redacted(), "err", err)

		if e, ok := errors.AsType[*CloseError](err); ok && e.Code == 1000 {
			return err
		}
		if lived {
			failed = 0
		}
		if !errors.Is(err, errFellBack) {
			c.pause(ctx, c.delay(failed+1, err))
		}
		if !lived {
			failed++
		}
	}
}

// delay is how long to stay away after a connection ended or failed with err.
func (c *Client) delay(n int, err error) time.Duration {
	d := c.cfg.ReconnectAfter(n)
	if e, ok := errors.AsType[*RefusedError](err); ok && e.RetryAfter > 0 {
		d = max(d, e.RetryAfter+d/2)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if held := time.Until(c.holdTill); held > 0 {
		d = max(d, held)
	}
	return d
}

func (c *Client) pause(ctx context.Context, d time.Duration) {
	c.wait(true)
	defer c.wait(false)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-c.kick:
	case <-t.C:
	}
}

func (c *Client) wait(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = yes
}

// once makes one connection and serves it to its end.
func (c *Client) once(ctx context.Context, n int) error {
	c.mu.Lock()
	via, judged := c.via, c.cfg.Fallback > 0 && c.via == WebSocket && !c.proven
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := c.cfg.Timeout
	if judged {
		limit = c.cfg.Fallback
	}
	expired := time.AfterFunc(limit, cancel)
	began := time.Now()
	t, err := c.open(ctx, via)
	expired.Stop()
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case judged:
			c.via = LongPoll
			return fmt.Errorf("%w: %v", errFellBack, err)
		case via == LongPoll && c.cfg.Transport == WebSocket:
			c.via = WebSocket // the fallback did not open either: begin anew
		}
		return err
	}
	return c.serve(t, Opened{Transport: via, Attempt: n, Connect: time.Since(began)}, judged)
}

func (c *Client) serve(t transport, opened Opened, judged bool) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		t.drop()
		return ErrClosed
	}
	now := time.Now()
	c.conn, c.cause, c.openedAt = t, nil, now
	c.heartbeatRef, c.heartbeatAt, c.provenBy = 0, time.Time{}, time.Time{}
	if t.name() == WebSocket {
		// The first comes early, so that those who opened together part.
		c.heartbeatAt = now.Add(c.cfg.Heartbeat - Backoff(c.cfg.Heartbeat/3)(1))
		if judged {
			c.provenBy = now.Add(c.cfg.Fallback)
			c.beat(now)
		}
		c.wakeBy(c.heartbeatAt)
		c.wakeBy(c.provenBy)
	}
	if c.cfg.OnOpen != nil {
		c.calls = append(c.calls, func() { c.cfg.OnOpen(opened) })
	}
	for _, ch := range c.channels {
		ch.tries = 0
		c.join(ch)
	}
	c.unlock()
	c.cfg.Log.Debug("connected", "url", c.url.Redacted(), "transport", t.name())

	err := c.readAll(t)
	c.mu.Lock()
	if c.cause != nil {
		err = c.cause
	}
	if judged && !c.proven && !c.closed {
		c.via = LongPoll
		err = fmt.Errorf("%w: %v", errFellBack, err)
	}
	c.mu.Unlock()
	if err != errAbandoned {
		t.drop()
	}
	c.mu.Lock()
	c.disconnected()
	for c.writing {
		c.quiet.Wait()
	}
	c.unlock()
	return err
}

func (c *Client) readAll(t transport) error {
	for {
		data, binary, err := t.read()
		if err != nil {
			return err
		}
		if c.cfg.Observe != nil {
			c.cfg.Observe(Frame{Binary: binary, Data: data})
		}
		var m wire.Message
		if binary {
			err = wire.DecodeServer(&m, data)
		} else {
			err = c.cfg.Version.DecodeText(&m, data)
		}
		if err != nil {
			return err
		}
		c.receive(&m)
	}
}

// disconnected gives up what hung on the connection. The lock is held.
func (c *Client) disconnected() {
	t := c.conn
	c.conn, c.out = nil, nil
	c.heartbeatAt, c.provenBy = time.Time{}, time.Time{}
	if c.cause == errAbandoned && t.name() == WebSocket {
		c.abandons = append(c.abandons, t)
	}
	for _, ch := range c.channels {
		c.broken(ch, ErrDisconnected)
		ch.rejoinAt = time.Time{} // the next open joins
	}
	for ref, p := range c.pending {
		delete(c.pending, ref)
		c.answer(p, Reply{}, ErrDisconnected)
	}
	c.pending = nil
}

// finish releases everything once Run is over.
func (c *Client) finish() {
	c.mu.Lock()
	c.closed = true
	for _, ch := range c.channels {
		c.closeChannel(ch, ErrClosed)
	}
	if c.timer != nil && c.timer.Stop() {
		c.wg.Done()
	}
	c.wakeAt = time.Time{}
	abandons := c.abandons
	c.unlock()
	for _, t := range abandons {
		t.drop()
	}
	c.wg.Wait()
	c.mu.Lock()
	for c.calling {
		c.quiet.Wait()
	}
	c.mu.Unlock()
}

// Close ends the client: what was pushed before is written, the connection is closed with 1000, and Run returns.
func (c *Client) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	c.cause = ErrClosed
	t, idle, stop := c.conn, !c.writing, c.stop
	c.unlock()
	if stop != nil {
		stop()
	}
	if t != nil && idle {
		t.close(1000, "")
	}
}

// Drop breaks the connection abruptly, without a close frame, and stays away for at least stay before it reconnects.
// Without a connection it only sets that time.
func (c *Client) Drop(stay time.Duration) { c.end(stay, errDropped, transport.drop) }

// Abandon stops reading and writing and leaves the TCP connection standing, as a device does that lost its power or its
// network; the server must find out by itself. The client reconnects after stay.
func (c *Client) Abandon(stay time.Duration) { c.end(stay, errAbandoned, transport.abandon) }

func (c *Client) end(stay time.Duration, cause error, how func(transport)) {
	c.mu.Lock()
	c.holdTill = time.Now().Add(stay)
	t := c.conn
	if t != nil && c.cause == nil {
		c.cause = cause
	}
	var oldest transport
	if cause == errAbandoned && len(c.abandons) >= 4 {
		oldest, c.abandons = c.abandons[0], c.abandons[1:]
	}
	c.mu.Unlock()
	if oldest != nil {
		oldest.drop()
	}
	if t != nil {
		how(t)
	}
}

// Reconnect cuts short the wait before the next attempt.
func (c *Client) Reconnect() {
	c.mu.Lock()
	c.holdTill = time.Time{}
	c.mu.Unlock()
	c.wake()
}

func (c *Client) wake() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Connected returns the transport of the connection that stands, or "".
func (c *Client) Connected() Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return ""
	}
	return c.conn.name()
}

// Waiting reports whether the client lets time pass before its next attempt to connect.
func (c *Client) Waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting
}

// unlock releases the lock and runs the callbacks that have gathered, unless another goroutine is at it already: so they
// run one at a time and in order, and may use the client.
func (c *Client) unlock() {
	if c.calling || len(c.calls) == 0 {
		c.mu.Unlock()
		return
	}
	c.calling = true
	for len(c.calls) > 0 {
		calls := c.calls
		c.calls = nil
		c.mu.Unlock()
		for _, f := range calls {
			f()
		}
		c.mu.Lock()
	}
	c.calling = false
	c.quiet.Broadcast()
	c.mu.Unlock()
}
