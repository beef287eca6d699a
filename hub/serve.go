package hub

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// ServeOption configures Endpoint.Serve.
type ServeOption func(*serving)

// serving is one run of Serve.
type serving struct {
	ep           *Endpoint
	srv          *http.Server
	beforeDrain  func()
	drain, flush time.Duration
}

// WithServer sets the HTTP server that serves. Its Handler has to hand requests for the sockets to
// the Endpoint; without one it is the Endpoint. Without this option it is a server with limits for
// headers and idle connections, for whose other pages there is WithFallback.
func WithServer(srv *http.Server) ServeOption { return func(s *serving) { s.srv = srv } }

// WithBeforeDrain sets a function that is called when the program is to stop, while every client is
// still connected and the listener open. It must return before long.
func WithBeforeDrain(f func()) ServeOption { return func(s *serving) { s.beforeDrain = f } }

// WithGrace sets how long clients have to be sent away and, after them, requests that are under way
// have to be answered. What remains then is closed, which is logged. Both are 15 s by default.
func WithGrace(drain, flush time.Duration) ServeOption {
	return func(s *serving) { s.drain, s.flush = drain, flush }
}

// Serve serves on l until ctx is done. Then it goes away in good order: the function of
// WithBeforeDrain is called, the listener is closed, the clients are sent away (Drain), and what
// other requests are under way is answered (http.Server.Shutdown). When it returns, everything that
// it and the Endpoint have started has ended; the Endpoint cannot be used again. The error is that
// of a listener which failed; the same is done after one.
func (ep *Endpoint) Serve(ctx context.Context, l net.Listener, opts ...ServeOption) error {
	s := &serving{ep: ep, beforeDrain: func() {}, drain: 15 * time.Second, flush: 15 * time.Second}
	for _, o := range opts {
		o(s)
	}
	if s.srv == nil {
		s.srv = &http.Server{
			ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
			ErrorLog: slog.NewLogLogger(ep.log.Handler(), slog.LevelDebug),
		}
	}
	if s.srv.Handler == nil {
		s.srv.Handler = ep
	}
	served := make(chan error, 1)
	go func() { served <- s.srv.Serve(l) }()
	select {
	case err := <-served:
		s.leave(context.WithoutCancel(ctx), l)
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	case <-ctx.Done():
		s.leave(context.WithoutCancel(ctx), l)
		<-served
		return nil
	}
}

// ListenAndServe is Serve on a TCP address.
func (ep *Endpoint) ListenAndServe(ctx context.Context, addr string, opts ...ServeOption) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return ep.Serve(ctx, l, opts...)
}

// leave goes away in the order that Serve tells.
func (s *serving) leave(ctx context.Context, l net.Listener) {
	s.beforeDrain()
	_ = l.Close() // nothing new comes in while the clients are sent away
	drain, cancel := context.WithTimeout(ctx, s.drain)
	defer cancel()
	if err := s.ep.Drain(drain); err != nil {
		s.ep.log.Warn("drain timed out; remaining connections closed", "err", err)
	}
	flush, cancel := context.WithTimeout(ctx, s.flush)
	defer cancel()
	err := s.srv.Shutdown(flush)
	if errors.Is(err, context.DeadlineExceeded) {
		s.ep.log.Warn("requests took too long; remaining requests closed")
		_ = s.srv.Close() // the listener, whose error this is, was closed above
	}
}
