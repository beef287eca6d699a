package hub

import (
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/hub/logbound"
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

// WithLogger sets the logger, slog.Default() by default: a channel that crashes is to be heard of.
// What clients do wrong is logged too, with their address under "remote" and, once they are let in,
// their id under "id": but a few lines a minute, and short ones, see package logbound.
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
		log:      slog.Default(),
		fallback: http.HandlerFunc(notFound),
		drainBy:  drainOptions{1000, 100 * time.Millisecond},
	}
	for _, o := range opts {
		o(ep)
	}
	if ep.ps == nil {
		ep.ps = pubsub.NewLocal()
	}
	ep.log = slog.New(logbound.New(ep.log.Handler()))
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

func (c *Conn) logCrash(what, topic string, err error) {
	facts := []any{"topic", topic, "err", err, "id", c.id, "remote", c.RemoteAddr()}
	var p *PanicError
	if errors.As(err, &p) {
		facts = append(facts, "stack", string(p.Stack))
	}
	c.ep.log.Error(what, facts...)
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

func (ep *Endpoint) isClosed() bool {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.closed
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
