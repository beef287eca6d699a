package device

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// tappedConn is a connection that can be abandoned: the program sees it end, the peer sees it stand, silent.
type tappedConn struct {
	net.Conn
	left   atomic.Bool
	broken atomic.Bool
	stalls atomic.Int64 // unix ns; until then nothing is read
}

var (
	errAbandoned = errors.New("connection abandoned")
	errDropped   = errors.New("connection dropped")

	// ErrLeft is why a connection has ended that the device has closed in order.
	ErrLeft = errors.New("the device has left")
)

// drop breaks the connection with a reset, as a device does that lost its power and came back.
func (c *tappedConn) drop() {
	c.broken.Store(true)
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Conn.Close()
}

func (c *tappedConn) abandon() {
	c.left.Store(true)
	c.Conn.SetReadDeadline(time.Unix(1, 0))
}

func (c *tappedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for time.Now().UnixNano() < c.stalls.Load() && !c.left.Load() {
		time.Sleep(50 * time.Millisecond)
	}
	if c.left.Load() {
		return 0, errAbandoned
	}
	if err != nil && c.broken.Load() {
		return n, errDropped // paho takes net.ErrClosed for an end that it made itself, and does not tell
	}
	return n, err
}

func (c *tappedConn) Write(b []byte) (int, error) {
	if c.left.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// Close leaves an abandoned connection open: it is for the link to end it.
func (c *tappedConn) Close() error {
	if c.left.Load() {
		return nil
	}
	return c.Conn.Close()
}
