package sim_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// inVirtualTime runs a test in a bubble, where a second takes no longer than the work that is done
// in it: however busy the machine is, neither the fleet nor the hub is late.
func inVirtualTime(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// A bubble begins in 2000, when no clock is taken for set.
		time.Sleep(time.Until(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)))
		t.Cleanup(func() { time.Sleep(5 * time.Minute) }) // for those who still wait for something
		f(t)
	})
}

// network is one without a kernel: its connections are buffers, so that whoever waits for it waits
// in virtual time.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
}

func (n *network) listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners == nil {
		n.listeners = map[string]*listener{}
	}
	if n.listeners[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: address(addr), Err: syscall.EADDRINUSE}
	}
	l := &listener{network: n, addr: address(addr), conns: make(chan net.Conn, 1024), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l != nil {
		here, there := pipe(addr)
		select {
		case l.conns <- there:
			return here, nil
		case <-l.closed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address(addr), Err: syscall.ECONNREFUSED}
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

type listener struct {
	network *network
	addr    address
	conns   chan net.Conn
	once    sync.Once
	closed  chan struct{}
}

func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		delete(l.network.listeners, string(l.addr))
		close(l.closed)
	})
	return nil
}

// buffered is how much a direction holds that was not read.
const buffered = 256 << 10

// stream is one direction of a connection.
type stream struct {
	mu            sync.Mutex
	change        *sync.Cond
	data          []byte
	ended, broken bool // by the writer: no more comes; by the reader: nobody reads
}

// conn is one end of a connection.
type conn struct {
	in, out     *stream
	here, there address
	read, write limit
}

func pipe(addr string) (client, server *conn) {
	up, down := newStream(), newStream()
	client = &conn{in: down, out: up, here: "127.0.0.1:50000", there: address(addr)}
	server = &conn{in: up, out: down, here: address(addr), there: "127.0.0.1:50000"}
	client.read.of, client.write.of, server.read.of, server.write.of = down, up, up, down
	return client, server
}

func newStream() *stream {
	s := new(stream)
	s.change = sync.NewCond(&s.mu)
	return s
}

func (c *conn) Read(b []byte) (int, error) {
	s := c.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.broken:
			return 0, net.ErrClosed
		case c.read.passed():
			return 0, os.ErrDeadlineExceeded
		case len(s.data) > 0:
			n := copy(b, s.data)
			if s.data = s.data[n:]; len(s.data) == 0 {
				s.data = nil
			}
			s.change.Broadcast()
			return n, nil
		case s.ended:
			return 0, io.EOF
		case len(b) == 0:
			return 0, nil
		}
		s.change.Wait()
	}
}

func (c *conn) Write(b []byte) (n int, err error) {
	s := c.out
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.ended:
			return n, net.ErrClosed
		case s.broken:
			return n, syscall.EPIPE
		case c.write.passed():
			return n, os.ErrDeadlineExceeded
		}
		room := min(buffered-len(s.data), len(b))
		s.data = append(s.data, b[:room]...)
		n, b = n+room, b[room:]
		s.change.Broadcast()
		if len(b) == 0 {
			return n, nil
		}
		s.change.Wait()
	}
}

// Close ends both directions; what was written can still be read.
func (c *conn) Close() error {
	c.out.set(func(s *stream) { s.ended = true })
	c.in.set(func(s *stream) { s.broken, s.data = true, nil })
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.here }
func (c *conn) RemoteAddr() net.Addr { return c.there }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
func (c *conn) SetReadDeadline(t time.Time) error  { return c.read.set(t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.write.set(t) }

func (s *stream) set(f func(*stream)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
	s.change.Broadcast()
}

// limit is until when a direction is waited for. It is guarded by the direction's lock.
type limit struct {
	of    *stream
	at    time.Time
	timer *time.Timer
}

func (l *limit) passed() bool { return !l.at.IsZero() && !time.Now().Before(l.at) }

func (l *limit) set(t time.Time) error {
	l.of.set(func(s *stream) {
		if l.timer != nil {
			l.timer.Stop()
			l.timer = nil
		}
		if l.at = t; !t.IsZero() {
			l.timer = time.AfterFunc(time.Until(t), func() { s.set(func(*stream) {}) })
		}
	})
	return nil
}

// A connection has what programs rely on: an order, a bound, deadlines, an end.
func TestNetwork(t *testing.T) {
	inVirtualTime(t, func(t *testing.T) {
		var n network
		if _, err := n.dial(t.Context(), "tcp", "127.0.0.1:1"); err == nil {
			t.Error("somebody listens")
		}
		l, err := n.listen("127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		a, err := n.dial(t.Context(), "tcp", "127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		b, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		a.SetDeadline(began.Add(time.Second))
		if n, err := a.Write(make([]byte, buffered+1)); n != buffered || err != os.ErrDeadlineExceeded {
			t.Errorf("a full buffer: %d bytes, %v", n, err)
		}
		if _, err := a.Read(make([]byte, 1)); err != os.ErrDeadlineExceeded || time.Since(began) != time.Second {
			t.Errorf("nothing to read: %v after %v", err, time.Since(began))
		}
		a.Close()
		if all, err := io.ReadAll(b); len(all) != buffered || err != nil {
			t.Errorf("after the end: %d bytes, %v", len(all), err)
		}
		if _, err := b.Write([]byte{1}); err != syscall.EPIPE {
			t.Errorf("to nobody: %v", err)
		}
		l.Close()
	})
}
