// Package intake lets the reader of a network connection be asked when it has
// taken everything that had arrived.
//
// A connection that is about to be replaced may hold, unread in its socket, the
// last words of its client, a goodbye among them. Whoever wants to take its place
// asks first, and waits until the reader has come to the end of what is there.
package intake

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// mostTaken bounds what a reader takes, in bytes, before it answers all the same:
// a client that sends without pause has no last words.
const mostTaken = 256 << 10

// Intake is the receiving side of one connection: of TCP, or of TLS over it. Its
// reader calls Aim before each read, when it has handled what it took, and Took or
// Again after it; deadlines are set with SetReadDeadline, and not on the
// connection. Settle, Close and SetReadDeadline may be called from any goroutine.
type Intake struct {
	nc  net.Conn
	raw syscall.RawConn // of the socket; nil where there is none to look at

	asked atomic.Bool
	held  atomic.Bool

	mu       sync.Mutex
	deadline time.Time // as it was set
	waiters  []chan struct{}
	steps    int  // of the reader, since somebody waits
	taken    int  // bytes since then
	vain     int  // reads since then, one after the other, that found nothing in time
	empty    bool // nothing had arrived when the last read was aimed
	over     bool
}

// New returns the intake of a connection.
func New(nc net.Conn) *Intake {
	i := &Intake{nc: nc}
	below := nc
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok { // TLS
		below = t.NetConn()
	}
	if sc, ok := below.(syscall.Conn); ok {
		i.raw, _ = sc.SyscallConn()
	}
	return i
}

// SetReadDeadline sets the deadline of the reader.
func (i *Intake) SetReadDeadline(t time.Time) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.deadline = t
	if len(i.waiters) > 0 && (t.IsZero() || time.Now().Before(t)) {
		return nil // the reader sets it when it has answered
	}
	return i.nc.SetReadDeadline(t)
}

// Hold says that the reader waits for something else than the network, or no longer
// does.
func (i *Intake) Hold(held bool) { i.held.Store(held) }

// Settle waits until the reader, having taken and handled everything that had
// arrived, comes back for more; or until there will be nothing more, or over is
// closed. One that is held up is given patience, and one that waits for nothing but
// its turn on a busy machine at most most.
func (i *Intake) Settle(over <-chan struct{}, patience, most time.Duration) {
	done := i.ask()
	end := time.Now().Add(most)
	tick := time.NewTicker(max(patience, time.Millisecond))
	defer tick.Stop()
	for seen := 0; ; {
		select {
		case <-done:
			return
		case <-over:
			return
		case now := <-tick.C:
			i.mu.Lock()
			steps := i.steps
			i.mu.Unlock()
			if steps == seen && i.held.Load() || now.After(end) {
				return
			}
			seen = steps
		}
	}
}

// ask wakes the reader, and returns what it closes when it has taken everything.
func (i *Intake) ask() <-chan struct{} {
	done := make(chan struct{})
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.over {
		close(done)
		return done
	}
	i.waiters = append(i.waiters, done)
	i.steps, i.taken, i.vain, i.empty = 0, 0, 0, false
	i.asked.Store(true)
	_ = i.nc.SetReadDeadline(past)
	return done
}

var past = time.Unix(1, 0)

const (
	readWithin = 50 * time.Millisecond // for what has arrived; half a TLS record is nothing
	mostVain   = 3
)

// Aim is called by the reader before each read.
func (i *Intake) Aim() {
	if !i.asked.Load() {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.waiters) == 0 {
		return
	}
	i.steps++
	if i.taken > mostTaken || i.vain >= mostVain {
		i.answer()
		return
	}
	if i.empty = !i.arrived(); i.empty {
		// One more read, which does not wait: TLS may hold what has left the socket.
		_ = i.nc.SetReadDeadline(past)
		return
	}
	due := time.Now().Add(readWithin)
	if !i.deadline.IsZero() && i.deadline.Before(due) {
		due = i.deadline
	}
	_ = i.nc.SetReadDeadline(due)
}

// Took is called by the reader when a read returned n bytes, or an error that is
// not Again's.
func (i *Intake) Took(n int) {
	if !i.asked.Load() {
		return
	}
	i.mu.Lock()
	i.taken += n
	i.vain = 0
	i.mu.Unlock()
}

// Again is called by the reader when a read returned nothing but err. It reports
// whether that was of no consequence for the connection, and to read again.
func (i *Intake) Again(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.deadline.IsZero() && !time.Now().Before(i.deadline) {
		return false
	}
	switch {
	case len(i.waiters) == 0: // answered meanwhile
		_ = i.nc.SetReadDeadline(i.deadline)
	case i.empty:
		i.answer()
	default:
		i.vain++
	}
	return true
}

// answer lets those go who wait, and restores the deadline. The lock is held.
func (i *Intake) answer() {
	i.release()
	_ = i.nc.SetReadDeadline(i.deadline)
}

func (i *Intake) release() {
	for _, w := range i.waiters {
		close(w)
	}
	i.waiters = nil
	i.asked.Store(false)
}

// Close says that nothing more will be read, or that nobody is to wait for it.
func (i *Intake) Close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.over = true
	i.release()
}

// Conn is a connection whose reads are an intake's, for a reader that knows
// nothing of it.
type Conn struct {
	net.Conn
	*Intake
}

// Wrap makes the reads of nc its intake's.
func Wrap(nc net.Conn) *Conn { return &Conn{nc, New(nc)} }

// NetConn is the connection that was wrapped.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Read reads from the connection.
func (c *Conn) Read(b []byte) (int, error) {
	for {
		c.Aim()
		n, err := c.Conn.Read(b)
		if n == 0 && err != nil && c.Again(err) {
			continue
		}
		c.Took(n)
		return n, err
	}
}

// SetReadDeadline sets the deadline of reads.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.Intake.SetReadDeadline(t) }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.Intake.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.Intake.Close()
	return c.Conn.Close()
}

// CloseWrite closes the sending side, where the connection has one.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Listener wraps the connections of another.
type Listener struct{ net.Listener }

// Accept waits for the next connection and wraps it.
func (l Listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return Wrap(nc), nil
}
