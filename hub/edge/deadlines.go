package edge

import (
	"context"
	"net"
	"net/http"
	"time"
)

type connKey struct{}

// WithConn lets requests know their connection: for the ConnContext of an http.Server.
func WithConn(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, Of(nc))
}

// ConnState has a connection wait for somebody again when its requests are answered: for the
// ConnState of an http.Server.
func ConnState(nc net.Conn, state http.ConnState) {
	if state == http.StateIdle {
		Of(nc).Anew()
	}
}

// ConnOf is the connection of a request that came in through a Listener, or nil.
func ConnOf(r *http.Request) *Conn {
	c, _ := r.Context().Value(connKey{}).(*Conn)
	return c
}

// Deadlines ends streams of HTTP/2 whose client takes nothing for TakeWithin. It has windows of its
// own for each, so that a stream may stand still on a connection that does not.
func Deadlines(next http.Handler, within time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor < 2 {
			next.ServeHTTP(w, r)
			return
		}
		s := &stream{w, http.NewResponseController(w), within}
		next.ServeHTTP(s, r)
		s.lease() // for what is sent when the handler is done
	})
}

// streamChunk is what must be taken within the deadline.
const streamChunk = 32 << 10

type stream struct {
	http.ResponseWriter
	rc     *http.ResponseController
	within time.Duration
}

func (s *stream) lease() { _ = s.rc.SetWriteDeadline(time.Now().Add(s.within)) }

func (s *stream) Write(b []byte) (n int, err error) {
	for {
		s.lease()
		m, err := s.ResponseWriter.Write(b[n:min(len(b), n+streamChunk)])
		if n += m; err != nil || n >= len(b) {
			return n, err
		}
	}
}

// FlushError sends what was written.
func (s *stream) FlushError() error {
	s.lease()
	return s.rc.Flush()
}

// Unwrap lets http.ResponseController reach the connection.
func (s *stream) Unwrap() http.ResponseWriter { return s.ResponseWriter }
