package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/bridge/broker"
	"devicehub/devices"
	"devicehub/devices/connects"
)

// Config is how the listener listens and what it allows.
type Config struct {
	Listen    string // TCP address; empty is off
	TLSListen string
	WSListen  string // WebSocket; over TLS where TLS is set
	TLS       *tls.Config

	Root                  string        // of the topics, without a slash at either end
	MaxPacket             int           // bytes, fixed header included
	ServicePacket         int           // the same for service accounts, if it is more
	InFlight              int           // publishes of one client that wait for their decision; Receive Maximum
	Window                int           // messages to one device that are unacknowledged, commands at most one of them
	OutboundBytes         int           // not yet written, per connection
	OutboundAge           time.Duration // how long a write may make no progress
	MaxKeepAlive          time.Duration // 0 and what is longer counts as this
	AlwaysServerKeepAlive bool          // say the keep-alive in every CONNACK, not only a changed one
	VagueRefusals         bool          // SUBACK 0x80 instead of 0x87, for clients that know no other
	MaxConnections        int
	Sessions              broker.Options // of service accounts
}

// Default is the Config of the documentation, listening nowhere.
func Default() Config {
	return Config{
		Root: "hub/v1", MaxPacket: 64 << 10, ServicePacket: 4 << 20, InFlight: 512, Window: 16, OutboundBytes: 256 << 10, OutboundAge: 10 * time.Second,
		MaxKeepAlive: 300 * time.Second, MaxConnections: 100_000,
		Sessions: broker.DefaultOptions(),
	}
}

// Option gives a Server what it works with.
type Option func(*Server)

// WithDoor lets devices in through d. Without one every user name is a service
// account's.
func WithDoor(d Door) Option { return func(s *Server) { s.door = d } }

// WithAccounts lets service accounts in.
func WithAccounts(a Accounts) Option { return func(s *Server) { s.accounts = a } }

// WithLogger sets where is logged; the default is nowhere.
func WithLogger(l *slog.Logger) Option { return func(s *Server) { s.log = l } }

// WithAudit records what devices tried and may not.
func WithAudit(a devices.Auditor) Option { return func(s *Server) { s.auditor = a } }

// WithStore keeps in st what the broker has to keep beyond the process. Load
// reads it.
func WithStore(st broker.Store) Option { return func(s *Server) { s.store = st } }

// WithRefusals sets where is logged who was not let in, and whose connection was
// ended for what it sent; the default is the logger.
func WithRefusals(l *connects.Log) Option { return func(s *Server) { s.refusals = l } }

// WithListen has the addresses opened by listen instead of net.Listen. A connection of it that has
// a method Known is told when it is known whose it is; what it costs until then is the listener's
// business.
func WithListen(listen func(addr string) (net.Listener, error)) Option {
	return func(s *Server) { s.open = listen }
}

// Limits are the bounds that change while the hub runs, for connections made
// from then on.
type Limits struct {
	MaxPacket     int
	OutboundBytes int
	OutboundAge   time.Duration
	Broker        broker.Limits
}

// SetLimits changes the limits. Those of the broker hold at once.
func (s *Server) SetLimits(l Limits) {
	s.limits.Store(&l)
	s.broker.SetLimits(l.Broker)
}

// Server is the hub's MQTT listener.
type Server struct {
	cfg      Config
	topics   topics
	door     Door
	accounts Accounts
	auditor  devices.Auditor
	log      *slog.Logger
	broker   *broker.Broker
	store    broker.Store // nil: the broker keeps nothing beyond the process
	refusals *connects.Log
	open     func(addr string) (net.Listener, error)
	stats    counters
	owed     debts
	limits   atomic.Pointer[Limits]

	grantsMu sync.Mutex
	grants   map[broker.Owner]*grant

	mu        sync.Mutex
	memories  map[devices.ID]*memory
	online    map[devices.ID]string // what stands on <root>/<id>/online
	conns     map[*conn]struct{}
	services  map[*service]struct{}
	clients   map[clientKey]*service
	noticing  int // connections that were replaced, and are watched
	draining  bool
	listeners []listener
	handlers  sync.WaitGroup // one per connection
}

type listener struct {
	net.Listener
	kind string // tcp, tls or ws
}

// New returns a Server that does not listen yet.
func New(cfg Config, opts ...Option) (*Server, error) {
	s := &Server{cfg: cfg, topics: topics{cfg.Root}, log: slog.New(slog.DiscardHandler),
		open:     func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) },
		memories: map[devices.ID]*memory{}, online: map[devices.ID]string{}, conns: map[*conn]struct{}{}, grants: map[broker.Owner]*grant{}}
	for _, o := range opts {
		o(s)
	}
	if s.refusals == nil {
		s.refusals = &connects.Log{Logger: s.log}
	}
	if !validRoot(cfg.Root) {
		return nil, fmt.Errorf("mqtt root %q is not a topic such as hub/v1", cfg.Root)
	}
	if cfg.TLSListen != "" && cfg.TLS == nil {
		return nil, errors.New("mqtt over TLS needs a certificate")
	}
	s.broker = broker.New(cfg.Sessions, broker.WithStore(s.store), broker.WithLogger(s.log),
		broker.WithRights(func(o broker.Owner) broker.Rights { return s.grantOf(o) }))
	s.SetLimits(Limits{cfg.MaxPacket, cfg.OutboundBytes, cfg.OutboundAge, cfg.Sessions.Limits})
	return s, nil
}

// Load reads what the broker has kept. It is called before anything is served.
func (s *Server) Load() error { return s.broker.Load() }

// Close writes what the broker still has to keep, after Run.
func (s *Server) Close() error { return s.broker.Close() }

// Broker is the small broker of the service accounts, on which the hub itself
// publishes and subscribes.
func (s *Server) Broker() *broker.Broker { return s.broker }

// Listen opens the configured addresses. The error names the one that cannot be
// had.
func (s *Server) Listen() error {
	for _, l := range []struct{ kind, addr string }{{"tcp", s.cfg.Listen}, {"tls", s.cfg.TLSListen}, {"ws", s.cfg.WSListen}} {
		if l.addr == "" {
			continue
		}
		ln, err := s.open(l.addr)
		if err != nil {
			for _, open := range s.listeners {
				_ = open.Close()
			}
			s.listeners = nil
			return fmt.Errorf("mqtt listen %s: %w", l.addr, err)
		}
		if l.kind == "tls" || l.kind == "ws" && s.cfg.TLS != nil {
			ln = tls.NewListener(ln, s.cfg.TLS)
		}
		s.listeners = append(s.listeners, listener{ln, l.kind})
	}
	return nil
}

// Addr is the address that a kind of listener (tcp, tls, ws) has, or nil.
func (s *Server) Addr(kind string) net.Addr {
	for _, l := range s.listeners {
		if l.kind == kind {
			return l.Addr()
		}
	}
	return nil
}

// Run serves what Listen opened, or opens it first, until ctx is done. Then
// every client is sent away with "server shutting down", in jittered batches
// within drain, and Run returns when the last is gone.
func (s *Server) Run(ctx context.Context) error {
	if s.listeners == nil {
		if err := s.Listen(); err != nil {
			return err
		}
	}
	s.sayHub("online")
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		wg.Go(func() {
			serve := s.Serve
			if l.kind == "ws" {
				serve = s.ServeWebSocket
			}
			if err := serve(ctx, l.Listener); err != nil {
				errs <- fmt.Errorf("mqtt %s: %w", l.kind, err)
				cancel()
			}
		})
	}
	wg.Go(func() { s.tend(ctx) })
	<-ctx.Done()
	wg.Wait()
	close(errs)
	return <-errs
}

// drainTime is over how long clients are sent away.
const drainTime = 2 * time.Second

// Serve accepts MQTT connections on ln, which it closes, until ctx is done and
// the last connection is gone. TLS is ln's business.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	var pause time.Duration
	for {
		nc, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				s.drain()
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			// Out of file descriptors, or a connection reset before it was
			// accepted: it may pass.
			if pause == 0 {
				s.log.Warn("mqtt accept failed", "err", err)
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		s.accept(ctx, nc)
	}
}

// accept serves one connection on a goroutine of its own.
func (s *Server) accept(ctx context.Context, nc net.Conn) {
	c, ok := s.admit(nc)
	if !ok {
		s.stats.throttled.Add(1)
		_ = nc.Close()
		return
	}
	go func() {
		defer s.release(c)
		c.serve(ctx)
	}()
}

func (s *Server) admit(nc net.Conn) (*conn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || len(s.conns) >= s.cfg.MaxConnections {
		return nil, false
	}
	c := newConn(s, nc)
	s.conns[c] = struct{}{}
	s.handlers.Add(1)
	s.stats.accepted.Add(1)
	return c, true
}

func (s *Server) release(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.handlers.Done()
}

// drain sends every client away and waits for the last.
func (s *Server) drain() {
	s.mu.Lock()
	first := !s.draining
	s.draining = true
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	if first {
		s.sayHub("offline")
		const batch = 100
		step := drainTime / time.Duration(len(all)/batch+1)
		for i, c := range all {
			if i > 0 && i%batch == 0 {
				time.Sleep(rand.N(step))
			}
			c.goodbye()
		}
	}
	s.handlers.Wait()
}

// tend forgets sessions that have run out, and looks again at service accounts.
func (s *Server) tend(ctx context.Context) {
	const perMinute = 300
	tick := time.NewTicker(time.Minute / perMinute)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.broker.Expire(now)
			if n%perMinute != 0 {
				continue
			}
			s.mu.Lock()
			for id, m := range s.memories {
				if m.owner == nil && now.After(m.until) {
					delete(s.memories, id)
				}
			}
			s.mu.Unlock()
			s.owed.expire(now)
			s.CheckAccounts()
		}
	}
}

// sayHub publishes the hub's own availability.
func (s *Server) sayHub(word string) {
	if s.door != nil {
		_ = s.broker.Publish(broker.Message{Topic: s.topics.hubOnline(), Payload: []byte(word), QoS: 1, Retain: true})
	}
}

// Forget drops what is remembered of a device that was deleted.
func (s *Server) Forget(id devices.ID) {
	s.mu.Lock()
	delete(s.memories, id)
	delete(s.online, id)
	s.mu.Unlock()
	s.owed.forget(id)
	_ = s.broker.Publish(broker.Message{Topic: s.topics.of(id, onOnline), QoS: 1, Retain: true}) // an empty payload clears it
}

// SetOnline publishes the hub's own word on whether a device is reachable, as a
// retained message on <root>/<id>/online.
func (s *Server) SetOnline(id devices.ID, online bool) {
	word := "offline"
	if online {
		word = "online"
	}
	s.mu.Lock()
	same := s.online[id] == word
	s.online[id] = word
	s.mu.Unlock()
	if same {
		return
	}
	_ = s.broker.Publish(broker.Message{Topic: s.topics.of(id, onOnline), Payload: []byte(word), QoS: 1, Retain: true})
}

// audit records what a device tried and may not.
func (s *Server) audit(id devices.ID, action string, code devices.Code) {
	s.record("device:"+string(id), action, code)
}

func (s *Server) record(actor, action string, code devices.Code) {
	if s.auditor == nil {
		return
	}
	s.auditor.Record(devices.Origin{Via: devices.OverMQTT.Via()}, devices.AuditEntry{
		Actor: actor, Via: devices.OverMQTT.Via(), Action: action, Target: actor, Outcome: "refused", Code: code,
	})
}

func validRoot(root string) bool {
	return broker.ValidTopic(root) && root[0] != '/' && root[len(root)-1] != '/' && root[0] != '$'
}

var _ http.Handler = (*Server)(nil)
