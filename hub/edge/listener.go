package edge

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Listener accepts connections of TCP. Each is a *Conn.
type Listener struct {
	tcp  *net.TCPListener
	gate *Gate
	from Proxies

	start  sync.Once
	come   chan *Conn
	failed chan error // why there is no further one
	closed chan struct{}
	shut   sync.Once
}

// Proxies are those that a listener stands behind.
type Proxies struct {
	Trusted Trusted
	// Header says that connections from Trusted begin with a PROXY header, before TLS. From
	// elsewhere it is no more than bytes that no protocol knows.
	Header bool
}

// headerWithin is how long a proxy may take for its header.
const headerWithin = 5 * time.Second

// Listen opens an address.
func (g *Gate) Listen(addr string, from Proxies) (*Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &Listener{tcp: ln.(*net.TCPListener), gate: g, from: from, come: make(chan *Conn), failed: make(chan error, 1), closed: make(chan struct{})}, nil
}

// Addr is the address that the listener has.
func (l *Listener) Addr() net.Addr { return l.tcp.Addr() }

// Close ends the listener, and with it the connections that Accept has not returned.
func (l *Listener) Close() error {
	l.shut.Do(func() { close(l.closed) })
	return l.tcp.Close()
}

// Accept waits for a connection. The error is that of a listener that was closed: whatever else
// goes wrong is waited out.
func (l *Listener) Accept() (net.Conn, error) {
	if !l.from.Header {
		for {
			nc, err := l.next()
			if err != nil {
				return nil, err
			}
			if c := l.wrap(nc); c != nil {
				c.arrive()
				return c, nil
			}
		}
	}
	l.start.Do(func() { go l.run() })
	select {
	case c := <-l.come:
		return c, nil
	case err := <-l.failed:
		l.failed <- err
		return nil, err
	}
}

// run accepts, so that a proxy which is slow with its header holds up no other connection.
func (l *Listener) run() {
	for {
		nc, err := l.next()
		if err != nil {
			l.failed <- err
			return
		}
		if c := l.wrap(nc); c != nil {
			go l.introduce(c)
		}
	}
}

// introduce reads a connection's header, if it has one, and hands it to Accept.
func (l *Listener) introduce(c *Conn) {
	if c.proxied {
		stop := make(chan struct{})
		go func() {
			select {
			case <-l.closed:
				_ = c.Close()
			case <-stop:
			}
		}()
		err := c.readHeader()
		close(stop)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				l.gate.warn("a trusted proxy sent no PROXY header", "proxy", host(c.Conn.RemoteAddr()), "listener", l.Addr().String(), "err", err)
			}
			_ = c.Close()
			return
		}
	}
	c.arrive()
	select {
	case l.come <- c:
	case <-l.closed:
		_ = c.Close()
	}
}

// next waits for a connection. While there are no descriptors it makes room and tries again.
func (l *Listener) next() (*net.TCPConn, error) {
	for pause := time.Duration(0); ; {
		nc, err := l.tcp.AcceptTCP()
		if err == nil {
			return nc, nil
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if scarce(err) {
			l.gate.makeRoom()
		}
		l.gate.warn("connections cannot be accepted", "listener", l.Addr().String(), "err", err)
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		select {
		case <-time.After(pause):
		case <-l.closed:
		}
	}
}

// scarce reports whether accept failed for want of what connections take.
func scarce(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// wrap makes a connection one of this listener's, or closes it and returns nil when there are too
// few descriptors left.
func (l *Listener) wrap(nc *net.TCPConn) *Conn {
	c := &Conn{Conn: nc, gate: l.gate, fd: -1}
	if raw, err := nc.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { c.fd = int(fd) })
	}
	if !l.gate.admit(c.fd) {
		l.gate.warn("a connection was turned away: too few file descriptors are left", "listener", l.Addr().String(), "files", l.gate.Files)
		_ = nc.SetLinger(0)
		_ = nc.Close()
		runtime.Gosched() // for those that end
		return nil
	}
	if ap, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil && l.from.Trusted.Has(ap.Addr()) {
		c.proxy = true
		c.proxied = l.from.Header
	}
	return c
}

// host is an address without its port.
func host(a net.Addr) string {
	if ap, err := netip.ParseAddrPort(a.String()); err == nil {
		return ap.Addr().Unmap().String()
	}
	return a.String()
}
