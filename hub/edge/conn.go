package edge

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a connection that a Listener accepted. While nobody sets a write deadline, a write ends
// with os.ErrDeadlineExceeded when the other side takes nothing for the gate's TakeWithin.
type Conn struct {
	net.Conn // of TCP
	gate     *Gate
	fd       int  // its number when it was accepted
	proxy    bool // the peer is a trusted proxy
	proxied  bool // and begins with a header
	client   net.Addr
	secure   bool
	end      sync.Once
	own      atomic.Bool // a write deadline was set from outside; changed with mu held

	mu    sync.Mutex
	guest Guest
	due   time.Time // the gate's write deadline, if it is set
	shown bool      // somebody has the descriptor
}

// Sockets read and write the descriptor themselves where they find one.
var _ syscall.Conn = (*Conn)(nil)

// Of returns the Conn below a connection, such as one of TLS, or nil.
func Of(nc net.Conn) *Conn {
	for {
		if c, ok := nc.(*Conn); ok {
			return c
		}
		above, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		nc = above.NetConn()
	}
}

// RemoteAddr is the client's address, as far as the peer or its header say.
func (c *Conn) RemoteAddr() net.Addr {
	if c.client != nil {
		return c.client
	}
	return c.Conn.RemoteAddr()
}

// Relayed reports whether a proxy has said who the client is.
func (c *Conn) Relayed() bool { return c != nil && c.client != nil }

// Secure reports whether the client came by TLS as far as the proxy, by the proxy's word.
func (c *Conn) Secure() bool { return c != nil && c.secure }

// Known says that the client has said whose the connection is. It may be called more than once, and
// of nil.
func (c *Conn) Known() {
	if c == nil {
		return
	}
	if g := c.counted(); g != nil {
		g.Known()
	}
}

// Anew says that the connection is nobody's again, as when a request over it was answered.
func (c *Conn) Anew() {
	if c == nil {
		return
	}
	if g := c.counted(); g != nil {
		g.Anew()
	}
}

// readHeader reads the proxy's header.
func (c *Conn) readHeader() error {
	_ = c.Conn.SetReadDeadline(time.Now().Add(headerWithin))
	h, err := ReadHeader(c.Conn)
	if err != nil {
		return err
	}
	if h.Source.IsValid() {
		c.client, c.proxy = net.TCPAddrFromAddrPort(h.Source), false
	}
	c.secure = h.Secure
	return c.Conn.SetReadDeadline(time.Time{})
}

// arrive has the connection counted.
func (c *Conn) arrive() {
	if c.gate.Arrive == nil {
		return
	}
	g := c.gate.Arrive(c.RemoteAddr().String(), c.proxy, c.abort)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.guest = g
}

// counted is how the connection is counted, or nil.
func (c *Conn) counted() Guest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.guest
}

// abort ends the connection, with whatever was still to be sent. It does not wait: a connection is
// closed when whoever reads or writes has taken note.
func (c *Conn) abort() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	go c.Close()
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.end.Do(func() {
		if g := c.counted(); g != nil {
			g.Leave()
		}
	})
	return c.Conn.Close()
}

// SetWriteDeadline sets the deadline of writes; with the zero time, that of the gate holds.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if c.own.Load() && !t.IsZero() {
		return c.Conn.SetWriteDeadline(t)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own.Store(!t.IsZero())
	c.due = time.Time{}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.Conn.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// lease sees to it that a write has the gate's time at least, and a third more at most, so that not
// each has to move the deadline. It reports false when one was set from outside, which stays.
func (c *Conn) lease() bool {
	if c.own.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.own.Load() {
		return false
	}
	within := c.gate.takeWithin()
	if now := time.Now(); c.due.Sub(now) < within {
		c.due = now.Add(within + within/3)
		_ = c.Conn.SetWriteDeadline(c.due)
	}
	return true
}

// release takes the gate's deadline away where it could pass unseen: who writes to the descriptor
// would find that it has.
func (c *Conn) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shown && !c.own.Load() && !c.due.IsZero() {
		c.due = time.Time{}
		_ = c.Conn.SetWriteDeadline(c.due)
	}
}

// Write writes b. What is taken of it moves the gate's deadline.
func (c *Conn) Write(b []byte) (n int, err error) {
	for {
		ours := c.lease()
		m, err := c.Conn.Write(b[n:])
		if n += m; ours && m > 0 && errors.Is(err, os.ErrDeadlineExceeded) && n < len(b) {
			continue
		}
		if ours {
			c.release()
		}
		return n, err
	}
}

// ReadFrom copies from r, each part with its own deadline.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{c}, r) }

// CloseWrite closes the sending side.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// SyscallConn gives access to the descriptor. What is read and written there is what Read and Write
// would, without the gate's deadline.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	c.mu.Lock()
	c.shown = true
	c.mu.Unlock()
	c.release()
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
