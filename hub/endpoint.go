package hub

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/hub/pubsub"
	"devicehub/hub/wire"
)

// Endpoint serves sockets over HTTP and is where the program broadcasts from. It is an
// http.Handler for the paths of its sockets. End it with Drain.
type Endpoint struct {
	log      *slog.Logger
	ps       pubsub.PubSub
	mounts   []*atomic.Pointer[mount]
	fallback http.Handler
	drainBy  drainOptions

	counters counters
	events   names
	wheel    wheel
	sessions sessions
	late     lateSessions
	registry registry
	shares   shares
	next     atomic.Uint32

	mu     sync.Mutex
	closed bool
	tasks  sync.WaitGroup
}

// Option configures an Endpoint.
type Option func(*Endpoint)

// WithLogger sets the logger; without it nothing is logged.
func WithLogger(l *slog.Logger) Option { return func(ep *Endpoint) { ep.log = l } }

// WithPubSub sets what carries broadcasts; without it a pubsub.Local of the endpoint's own does.
func WithPubSub(ps pubsub.PubSub) Option { return func(ep *Endpoint) { ep.ps = ps } }

// WithFallback sets the handler of requests that are for none of the sockets; without it they
// get a 404 "not found".
func WithFallback(h http.Handler) Option { return func(ep *Endpoint) { ep.fallback = h } }

// WithDrain sets how Drain closes connections: so many at a time, the given time apart (half of
// it to one and a half times, at random). The default is 1000 and 100 ms.
func WithDrain(batch int, apart time.Duration) Option {
	return func(ep *Endpoint) { ep.drainBy = drainOptions{max(batch, 1), apart} }
}

// New returns an Endpoint without sockets. It starts nothing.
func New(opts ...Option) *Endpoint {
	ep := &Endpoint{
		log:      slog.New(slog.DiscardHandler),
		fallback: http.HandlerFunc(notFound),
		drainBy:  drainOptions{1000, 100 * time.Millisecond},
	}
	for _, o := range opts {
		o(ep)
	}
	if ep.ps == nil {
		ep.ps = pubsub.NewLocal()
	}
	return ep
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNotFound)
	w.Write([]byte("not found"))
}

// PubSub returns what carries the endpoint's broadcasts.
func (ep *Endpoint) PubSub() pubsub.PubSub { return ep.ps }

// Broadcast sends an event to all who have joined the topic, on all nodes. The payload is
// anything that encodes to a JSON object, or Binary. It returns ErrPayload for JSON text that is
// no object, and ErrPayload, wire.ErrFieldSize or the encoder's error if there was a client to
// encode it for and it could not be.
func (ep *Endpoint) Broadcast(topic, event string, payload any) error {
	return ep.publish(nil, &pubsub.Message{Topic: topic, Event: event, Payload: payload})
}

// BroadcastFrom is Broadcast to all but one subscriber, such as a *Socket.
func (ep *Endpoint) BroadcastFrom(from pubsub.Subscriber, topic, event string, payload any) error {
	return ep.publish(from, &pubsub.Message{Topic: topic, Event: event, Payload: payload})
}

// BroadcastKeyed is Broadcast of a message of which only the newest with the same key matters.
// What that means for a client that is behind is the policy of the topic's route.
func (ep *Endpoint) BroadcastKeyed(topic, event, key string, payload any) error {
	return ep.publish(nil, &pubsub.Message{Topic: topic, Event: event, Payload: payload, Key: key})
}

// LocalBroadcast is Broadcast on this node alone.
func (ep *Endpoint) LocalBroadcast(topic, event string, payload any) error {
	m := &pubsub.Message{Topic: topic, Event: event, Payload: payload}
	return errors.Join(ep.ps.LocalBroadcast(m), encodeError(m))
}

func (ep *Endpoint) publish(from pubsub.Subscriber, m *pubsub.Message) error {
	if noObject(m.Payload) {
		return ErrPayload // channels that intercept would find out too late
	}
	var err error
	if from == nil {
		err = ep.ps.Broadcast(m)
	} else {
		err = ep.ps.BroadcastFrom(from, m)
	}
	if e := encodeError(m); e != nil {
		return e
	}
	return err
}

// encodeError returns why m could not be encoded, if it was tried.
func encodeError(m *pubsub.Message) error {
	for _, slot := range [...]int{memoV1, memoV2} {
		if e, ok := m.Peek(slot).(*encoded); ok && e.err != nil && e.err != wire.ErrBinary {
			return e.err
		}
	}
	return nil
}

// Disconnect closes every connection with the id, on all nodes, with 1001. Clients with valid
// credentials come back; to keep one out, the ConnectFunc must refuse it.
func (ep *Endpoint) Disconnect(id string) {
	if err := ep.publish(nil, &pubsub.Message{Topic: id, Event: "disconnect", Payload: struct{}{}}); err != nil {
		ep.log.Error("disconnect", "id", id, "err", err)
	}
}

func (ep *Endpoint) logCrash(what, topic string, err error) {
	var p *PanicError
	if errors.As(err, &p) {
		ep.log.Error(what, "topic", topic, "err", err, "stack", string(p.Stack))
		return
	}
	ep.log.Error(what, "topic", topic, "err", err)
}

var errClosed = errors.New("endpoint is closed")

// begin counts a task that Drain waits for. It fails when the endpoint is closed.
func (ep *Endpoint) begin() error {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.closed {
		return errClosed
	}
	ep.tasks.Add(1)
	return nil
}

// start runs f in a goroutine. The caller holds a task.
func (ep *Endpoint) start(f func()) {
	ep.tasks.Add(1)
	go func() {
		defer ep.tasks.Done()
		f()
	}()
}

// newConn returns a connection that is let in; its transport, set by the caller, owns one task. It
// listens for its id's disconnect from now on, before its client can know that it is in.
func (ep *Endpoint) newConn(m *mount, a *admission) *Conn {
	c := &Conn{
		ep: ep, mount: m, version: a.version, ctx: a.ctx, base: a.base, cancel: a.cancel, id: a.id,
		binary: true, stripe: ep.next.Add(1), share: ep.shares.join(a.id),
	}
	c.ended.Add(1)
	c.forget = func() {}
	if c.id != "" {
		c.forget = ep.ps.Subscribe(c.id, &idSubscriber{c})
	}
	c.lastSeen.Store(time.Now().UnixNano())
	return c
}

// add enters a connection whose transport is set, and calls OnOpen. When it fails the
// connection is closing.
func (ep *Endpoint) add(c *Conn) error {
	ep.counters.connects.Add(1)
	ep.live(c).Add(1)
	ep.registry.add(c)
	return c.open()
}

func (ep *Endpoint) remove(c *Conn) {
	ep.live(c).Add(-1)
	ep.registry.remove(c)
	ep.shares.leave(c.id, c.share)
}

func (ep *Endpoint) live(c *Conn) *atomic.Int64 {
	switch c.tr.name() {
	case "websocket":
		return &ep.counters.webSockets
	case "longpoll":
		return &ep.counters.longPolls
	}
	return &ep.counters.inMemory
}

// registry holds the connections, spread over shards.
type registry [64]struct {
	mu    sync.Mutex
	conns []*Conn
}

func (r *registry) add(c *Conn) {
	sh := &r[c.stripe%uint32(len(r))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	c.place = int32(len(sh.conns))
	sh.conns = append(sh.conns, c)
}

func (r *registry) remove(c *Conn) {
	sh := &r[c.stripe%uint32(len(r))]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	last := len(sh.conns) - 1
	sh.conns[c.place] = sh.conns[last]
	sh.conns[c.place].place = c.place
	sh.conns[last] = nil
	sh.conns = sh.conns[:last]
}

func (r *registry) all() []*Conn {
	var conns []*Conn
	for i := range r {
		r[i].mu.Lock()
		conns = append(conns, r[i].conns...)
		r[i].mu.Unlock()
	}
	return conns
}

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
