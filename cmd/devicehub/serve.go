package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"devicehub/devices"
	"devicehub/devices/httpapi"
	"devicehub/devices/identity"
	"devicehub/hub"
	"devicehub/hub/edge"
)

const (
	drainWithin = 15 * time.Second // until every client is told to go
	flushWithin = 15 * time.Second // until requests under way are answered
)

// serve runs the hub until ctx ends.
func serve(ctx context.Context, p *Process) (err error) {
	a, err := assemble(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	ballast := make([]byte, ballastBytes)
	defer runtime.KeepAlive(ballast)
	s := &server{assembly: a}
	if err := s.listen(); err != nil {
		return errors.Join(err, s.closeListeners())
	}
	s.welcome()
	debug.FreeOSMemory() // of what starting took
	return s.run(ctx)
}

// ballastBytes is memory that counts as live and is never touched, and so never resident: it spares
// a heap that is still small a collection every few megabytes while a fleet comes back.
const ballastBytes = 16 << 20

// server is a running hub: the assembly with its listeners.
type server struct {
	*assembly
	certs *Certificates
	http  net.Listener
	admin net.Listener
	mqtt  *mqttServer // nil when it is off
}

// listen opens every address, so that one that cannot be had ends serve before
// anything runs.
func (s *server) listen() (err error) {
	cfg := s.Config
	if s.certs, err = OpenCertificates(cfg.HTTP.TLS, s.Data.Join("tls"), publicHosts(cfg.HTTP), s.Log); err != nil {
		return err
	}
	web, err := s.gate.Listen(cfg.HTTP.Listen, edge.Proxies{Trusted: trusted(cfg.HTTP.TrustedProxies), Header: cfg.HTTP.ProxyProtocol})
	if err != nil {
		return listenError("http.listen", cfg.HTTP.Listen, err)
	}
	s.http = web
	if s.certs != nil {
		s.http = tls.NewListener(s.http, s.certs.HTTP())
	}
	if s.admin, err = s.Data.ListenAdmin(); err != nil {
		return err
	}
	if s.mqtt, err = newMQTTServer(s.assembly, s.certs); err != nil {
		return err
	}
	return s.openBridges()
}

func (s *server) closeListeners() error {
	var errs []error
	for _, l := range []net.Listener{s.http, s.admin} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// listenError says what to do about an address that cannot be had.
func listenError(key, addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %s is in use by another program; stop it or choose another address with --%s", key, addr, key)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: this user may not listen on %s; choose a port above 1023 with --%s", key, addr, key)
	}
	return fmt.Errorf("%s: %w; choose another address with --%s", key, err, key)
}

func publicHosts(cfg HTTPConfig) []string {
	var hosts []string
	if host := hostOf(cfg.PublicURL); host != "" {
		hosts = append(hosts, host)
	}
	if host, _, err := net.SplitHostPort(cfg.Listen); err == nil && host != "" {
		if ip, err := netip.ParseAddr(host); err != nil || !ip.IsUnspecified() {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

func hostOf(url string) string {
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		return ""
	}
	host, _, _ := strings.Cut(rest, "/")
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return host
}

// url is where a browser on this machine finds the dashboard.
func (s *server) url() string {
	if s.Config.HTTP.PublicURL != "" {
		return s.Config.HTTP.PublicURL
	}
	scheme := "http"
	if s.certs != nil {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(s.http.Addr().String())
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// welcome tells the operator what is said once.
func (s *server) welcome() {
	if where := s.firstPasswordIs(); where != "" {
		fmt.Fprintf(s.Out, "\nThis hub is new. Sign in at %s as %q. %s\n\n", s.url(), identity.FirstUser, where)
	}
	if s.certs != nil && s.certs.Fingerprint != "" {
		fmt.Fprintf(s.Out, "The certificate is self-signed; its SHA-256 fingerprint is\n    %s\n", s.certs.Fingerprint)
	}
	if s.certs == nil && s.Config.HTTP.InsecureLogin == httpapi.InsecureAny {
		s.Log.Warn("people may sign in over plain HTTP from anywhere; set http.tls.mode or http.insecure_login")
	}
}

// run serves until ctx ends: then nothing new is let in, every client is told
// to go, and what was accepted is flushed.
func (s *server) run(ctx context.Context) error {
	// Clients go first and services last, so what clients still say is kept.
	services, stopServices := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServices()
	stopped := make(chan error, 1)
	go func() { stopped <- s.assembly.run(services) }()

	public := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
	public.ConnContext, public.ConnState = edge.WithConn, edge.ConnState
	admin := &http.Server{Handler: asOwner(s.api), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}

	listeners, stopListeners := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopListeners(nil)
	serving := make(chan error, 1)
	go func() {
		serving <- together(listeners, s.Log, map[string]func(context.Context) error{
			"http":         func(ctx context.Context) error { return s.serveHTTP(ctx, public, s.http) },
			"admin socket": func(ctx context.Context) error { return s.serveAdmin(ctx, admin, s.admin) },
			"mqtt":         s.mqtt.run,
			"bridges":      s.bridges.run,
			"certificates": s.certs.Run,
			"reload":       s.reload,
		})
	}()
	s.accepting.Store(true)
	s.Log.Info("the hub is ready", "url", s.url(), "mqtt", s.mqtt.addr(), "devices", s.registry.Len(), "data", s.Data.Path())

	var failed error
	select {
	case failed = <-stopped: // a service that cannot go on takes the hub down
		stopped <- nil
		stopListeners(failed)
	case <-ctx.Done():
		s.accepting.Store(false)
		s.Log.Info("the hub is stopping", "drain_delay", s.Config.HTTP.DrainDelay)
		failed = s.linger(stopped, serving)
	case failed = <-serving:
		serving <- nil
	}
	s.accepting.Store(false)
	stopListeners(nil)
	failed = errors.Join(failed, <-serving)
	stopServices()
	return errors.Join(failed, <-stopped)
}

// linger goes on for the drain delay, while the hub says that it is not ready: who sends clients
// here takes a while to see it.
func (s *server) linger(stopped, serving chan error) error {
	delay := time.NewTimer(s.Config.HTTP.DrainDelay.Duration())
	defer delay.Stop()
	select {
	case err := <-stopped:
		stopped <- nil
		return err
	case err := <-serving:
		serving <- nil
		return err
	case <-delay.C:
		return nil
	}
}

// serveHTTP answers until ctx ends, then sends the sockets' clients away and waits for the
// requests under way.
func (s *server) serveHTTP(ctx context.Context, srv *http.Server, l net.Listener) error {
	srv.RegisterOnShutdown(s.api.Leave)
	return s.endpoint.Serve(ctx, l, hub.WithServer(srv), hub.WithBeforeDrain(s.door.Goodbye), hub.WithGrace(drainWithin, flushWithin))
}

// serveAdmin answers until ctx ends, and then for as long as the requests under way take within
// flushWithin.
func (s *server) serveAdmin(ctx context.Context, srv *http.Server, l net.Listener) error {
	srv.RegisterOnShutdown(s.api.Leave)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWithin)
	defer cancel()
	err := srv.Shutdown(flush)
	if errors.Is(err, context.DeadlineExceeded) {
		s.Log.Warn("requests took too long; remaining requests closed")
		err = srv.Close()
	}
	<-done
	return err
}

// reload takes over limits and the audit's bounds that were changed while the hub runs.
func (s *server) reload(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case cfg := <-s.Reloads:
			s.applyLimits(cfg.Limits)
			s.audit.SetBounds(cfg.Audit.bounds())
			s.mqtt.setLimits(cfg.Limits)
			s.bridges.setLimits(cfg.Limits)
		}
	}
}

// asOwner makes requests those of the owner of the data folder, who alone can
// reach the admin socket.
func asOwner(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(httpapi.WithActor(r.Context(), devices.CLI(), "cli")))
	})
}

// openHub opens the stores for one command while no hub runs.
func openHub(ctx context.Context, p *Process) (http.Handler, func() error, error) {
	a, err := assemble(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	if a.setup.Created {
		if where := a.firstPasswordIs(); where != "" {
			fmt.Fprintf(p.Out, "This data folder is new. %s\n", where)
		}
	}
	services, stop := context.WithCancel(context.WithoutCancel(ctx))
	stopped := make(chan error, 1)
	go func() { stopped <- a.run(services) }()
	return asOwner(a.api), func() error {
		stop()
		return errors.Join(<-stopped, a.close())
	}, nil
}
