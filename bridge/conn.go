package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/bridge/packet"
	"devicehub/hub/intake"
)

const (
	connectTimeout = 10 * time.Second // from accept to a complete CONNECT, TLS included
	connectMax     = 16 << 10         // bytes of a CONNECT, taken from strangers
	lingerTime     = 500 * time.Millisecond
	lingerBytes    = 256 << 10
	lastWords      = time.Second // to read what a client sent before it went
)

// conn is one connection below what is said on it: packets in, packets out, and
// one way to end.
type conn struct {
	srv      *Server
	nc       net.Conn
	intake   *intake.Intake // of nc; its read deadline is set there
	limits   *Limits
	rd       *packet.Reader
	out      outbox
	writers  sync.WaitGroup
	version  byte
	since    time.Time // when it was accepted
	clientID string    // the beginning of what the client calls itself
	user     string    // of its CONNECT, as it may be logged
	bridge   bool      // the client is a bridge of another broker
	// What the client's CONNECT says of packets to it.
	maxPacket uint32        // bytes; 0 is no bound
	quota     bool          // it was told how many publishes may be under way
	terse     bool          // no reason strings on acknowledgements
	maxIn     int           // bytes of a packet from it, once it is let in
	eager     bool          // the read deadline must not fire in vain
	patient   time.Duration // one and a half times the keep-alive
	heard     time.Time     // when the last packet was complete; the reader's
	paused    atomic.Bool   // the reader reads no more
	broken    atomic.Bool   // nothing can be written, and the reader takes what is left
	drained   func()        // all is written, asked for with whenEmpty
	in        inflight      // publishes that wait for their decision

	mu       sync.Mutex
	ended    bool
	failed   bool // the network is gone: nothing can be written
	ending   ending
	greet    bool            // a CONNACK has been sent: DISCONNECT may follow
	over     chan struct{}   // closed when ended
	parted   chan struct{}   // closed when nothing more comes of it
	onAnswer func(sure bool) // to be told when the client answers that it was replaced; may be nil
}

// ending is why and how a connection ends.
type ending struct {
	reason string // of those that statuses show
	code   byte   // DISCONNECT reason code for MQTT 5; 0 sends none
	text   string // its reason string
	last   []byte // packets to send before it, encoded
	quiet  bool   // the peer closed or the network failed: there is nobody to tell
	clean  bool   // the peer said DISCONNECT: no will
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{srv: s, nc: nc, since: time.Now(), over: make(chan struct{}), parted: make(chan struct{}), limits: s.limits.Load()}
	var src packet.Source
	src, c.intake = source(nc)
	c.rd = packet.NewReader(src, connectMax)
	c.out.init(c.limits.OutboundBytes)
	c.maxIn = c.limits.MaxPacket
	c.in.changed = sync.NewCond(&c.in.mu)
	_, c.eager = nc.(*wsConn)
	return c
}

// end ends the connection for the first reason given. It returns at once, and
// may be called from any goroutine.
func (c *conn) end(e ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	c.ended, c.ending = true, e
	close(c.over)
	c.in.wake()
	if c.greet && !e.quiet {
		c.farewell(e)
	}
	c.out.shut()
	_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second))
	_ = c.intake.SetReadDeadline(time.Now()) // wakes the reader, which closes
}

// farewell appends the last packets. It is called once, with c.mu held, just
// before the outbox closes.
func (c *conn) farewell(e ending) {
	b, ok := c.out.begin()
	if !ok {
		return
	}
	b = append(b, e.last...)
	if c.version == packet.V5 && e.code != 0 {
		pk := packet.Packet{ProtocolVersion: c.version, ReasonCode: e.code}
		pk.FixedHeader.Type = packet.Disconnect
		pk.Properties.ReasonString = e.text
		b = c.encode(b, &pk)
	}
	if start, _ := c.out.commit(b); start {
		c.writers.Go(c.flush)
	}
}

// lost ends the connection because the network failed, or the client has closed it
// and reads no more. What it sent before it went, such as a DISCONNECT, is still
// to be read.
func (c *conn) lost(err error) {
	c.mu.Lock()
	c.failed = true
	c.mu.Unlock()
	c.out.shut()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded): // no progress within the outbound age
		c.srv.stats.slow.Add(1)
		c.end(ending{reason: "slow_consumer", quiet: true})
	case c.paused.Load():
		c.end(ending{reason: "connection_lost", quiet: true})
	default:
		c.broken.Store(true)
		c.deadline(time.Now().Add(lastWords))
	}
}

// deadline sets the read deadline unless the connection has ended.
func (c *conn) deadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		_ = c.intake.SetReadDeadline(t)
	}
}

// next reads one packet. The error says how the connection ends.
func (c *conn) next() (head byte, body []byte, err error) {
	if c.paused.Load() {
		c.settle()
		return 0, nil, errPaused
	}
	if !c.rd.Buffered() {
		c.settle()
		defer c.working()
	}
	for {
		head, body, err = c.rd.Next()
		if err == nil {
			c.heard = time.Now()
			if c.eager && !c.broken.Load() {
				c.deadline(c.heard.Add(c.patient))
			}
			c.srv.stats.packetsIn.Add(1)
			return head, body, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || c.isOver() {
			return 0, nil, err
		}
		switch {
		case c.paused.Load():
			return 0, nil, errPaused
		case c.broken.Load():
			return 0, nil, net.ErrClosed
		}
		// The deadline is moved only when it fires: a timer less for each packet.
		due := c.heard.Add(c.patient)
		if !time.Now().Before(due) {
			return 0, nil, errSilent
		}
		c.deadline(due)
	}
}

var (
	errSilent = errors.New("nothing heard within one and a half times the keep-alive")
	errPaused = errors.New("not to be read from")
)

// pause makes the reader send the client away instead of reading on.
func (c *conn) pause() {
	c.paused.Store(true)
	c.deadline(time.Now())
}

func (c *conn) addr() string { return c.nc.RemoteAddr().String() }

// transport is how the client is connected: tcp, tls or ws.
func (c *conn) transport() string {
	switch c.nc.(type) {
	case *wsConn:
		return "ws"
	case *tls.Conn:
		return "tls"
	}
	return "tcp"
}

func (c *conn) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// endFor ends the connection for an error of next.
func (c *conn) endFor(err error) {
	var broken *packet.Error
	var ne net.Error
	switch {
	case errors.Is(err, errSilent):
		c.srv.stats.timeouts.Add(1)
		c.end(ending{reason: "heartbeat_timeout", code: packet.KeepAliveTimeout})
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, &ne):
		c.end(ending{reason: "connection_lost", quiet: true})
	case errors.As(err, &broken):
		c.breach(broken.Code, broken.What)
	default:
		c.breach(packet.CodeOf(err), err.Error())
	}
}

// breach ends the connection of a client that breaks the specification. One of
// MQTT 3.1.1 is not told why: the log is.
func (c *conn) breach(code byte, what string) {
	c.srv.stats.malformed.Add(1)
	c.srv.refusals.Warn("mqtt connection ended", c.addr(), hex(code), "user", c.user, "reason", what)
	c.end(ending{reason: "protocol_error", code: code, text: what})
}

// hex is a reason code as people know it.
func hex(code byte) string { return fmt.Sprintf("0x%02X", code) }

// close is the reader's last act: what is still to be said is written, and the
// peer is given a moment to read it. Closing at once, with bytes unread, would
// reset the connection and take the farewell with it.
func (c *conn) close() {
	c.end(ending{reason: "connection_lost", quiet: true}) // unless it has ended, with another reason
	c.intake.Close()
	c.settle()
	c.out.mu.Lock()
	for c.out.writing {
		c.out.idle.Wait()
	}
	c.out.mu.Unlock()
	c.writers.Wait()
	c.mu.Lock()
	linger := c.ended && !c.ending.quiet && !c.failed
	replaced := c.ending.code == packet.SessionTakenOver && c.onAnswer != nil
	c.mu.Unlock()
	if linger {
		c.seeOff(replaced)
	}
	_ = c.nc.Close()
	c.rd.Close()
}

// serve runs one connection to its end.
func (c *conn) serve(ctx context.Context) {
	defer c.close()
	c.patient, c.heard = connectTimeout, time.Now()
	c.deadline(c.heard.Add(c.patient))
	if p := c.greeted(ctx); p != nil {
		defer c.part(p)
		c.rd.SetMax(c.maxIn)
		c.run(p)
	}
}

// peer is who is at the other end of a connection, once signed in.
type peer interface {
	// handle takes one packet, which is valid during the call only. An error
	// ends the connection.
	handle(pk *packet.Packet) error
	// gone is called once, by the reader, when the connection has ended.
	gone()
}

func (c *conn) greeted(ctx context.Context) peer {
	defer c.contain()
	return c.connect(ctx)
}

func (c *conn) run(p peer) {
	defer c.contain()
	for !c.isOver() {
		head, body, err := c.next()
		if errors.Is(err, errPaused) {
			c.sendAway()
			return
		}
		if err == nil {
			pk := packet.Get()
			if err = packet.Decode(pk, head, body, c.version); err == nil {
				err = p.handle(pk)
			}
			packet.Put(pk)
		}
		if err != nil {
			c.endFor(err)
		}
	}
}

// contain ends the connection whose packets made the hub panic, and no other.
func (c *conn) contain() {
	if r := recover(); r != nil {
		c.srv.stats.panics.Add(1)
		c.srv.log.Error("mqtt connection failed", "err", fmt.Sprint(r), "stack", string(debug.Stack()))
		c.end(ending{reason: "kicked", code: packet.Unspecified})
	}
}
