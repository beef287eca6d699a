package device

import (
	"bufio"
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"devicehub/hub/poison"
)

// protocol is one version of MQTT: packets to bytes and back.
type protocol interface {
	connect(to *bytes.Buffer, c connect) error
	subscribe(to *bytes.Buffer, id uint16, filters []string) error
	// publish leaves the topic out where only an alias is given.
	publish(to *bytes.Buffer, id, alias uint16, m message) error
	// short is a packet of which there is nothing to say but its kind and its id: an
	// acknowledgement, PINGREQ, DISCONNECT.
	short(to *bytes.Buffer, kind byte, id uint16) error
	read(from *bufio.Reader) (packet, error)
	// refusal is what the code of a packet stands for, nil if it refuses nothing.
	refusal(p packet) *refusal
}

// The kinds of packets (MQTT 3.1.1 and 5, §2.2.1 and §2.1.2).
const (
	kindConnack    = 2
	kindPublish    = 3
	kindPuback     = 4
	kindPubrec     = 5
	kindPubrel     = 6
	kindPubcomp    = 7
	kindSuback     = 9
	kindPingreq    = 12
	kindPingresp   = 13
	kindDisconnect = 14
)

// connect is who the device is to a broker.
type connect struct {
	clientID, user, password string
	will                     string
	willPayload              []byte
}

// message is a PUBLISH to be sent. Correlation data and content type go with it where the protocol
// has such things.
type message struct {
	topic       string
	payload     []byte
	qos         byte
	correlation []byte
	contentType string
}

// packet is what a broker sent.
type packet struct {
	kind    byte
	id      uint16
	qos     byte
	code    byte // of an acknowledgement; of a SUBACK the worst
	topic   string
	payload []byte
	asked   request // what came beside a PUBLISH
	window  int     // CONNACK: how many publishes may be unacknowledged; 0: any number
	aliases uint16  // CONNACK: how many topics may have one
}

// refusal is an answer that says no, with the hub's code for it.
type refusal struct {
	code  string
	again bool // later it may be yes
}

func (r *refusal) Error() string { return "mqtt: refused, " + r.code }

const (
	mqttTimeout   = 15 * time.Second
	mqttKeepAlive = 60 * time.Second
	mqttTick      = 5 * time.Second
	maxUnsent     = 1 << 20 // bytes; a connection that does not take them is given up
)

var (
	errNoAnswer = errors.New("mqtt: no acknowledgement in time")
	errLost     = errors.New("mqtt: connection lost")
	errStuck    = errors.New("mqtt: the broker does not read")
)

// mqttConn is one connection. What it is given goes out in its order, and in one segment as far as
// it was given together.
type mqttConn struct {
	conn  *tappedConn
	proto protocol
	in    *bufio.Reader
	wg    sync.WaitGroup // whoever writes

	mu       sync.Mutex
	out      *bytes.Buffer // nil: nothing is to be written
	writing  bool
	corked   bool
	closed   error // why it has ended
	lastID   uint16
	pending  map[uint16]pending
	held     []heldMessage // beyond the window
	window   int
	aliases  map[string]uint16
	maxAlias uint16
	wrote    time.Time
	pinged   time.Time // zero: no answer is awaited
	timer    *time.Timer
}

// pending waits for an acknowledgement.
type pending struct {
	since time.Time
	done  func(error) // nil, or only until it was called
}

type heldMessage struct {
	m    message
	done func(error)
}

var outBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func newMQTTConn(conn *tappedConn, proto protocol) *mqttConn {
	return &mqttConn{
		conn:    conn,
		proto:   proto,
		in:      bufio.NewReaderSize(conn, 512),
		pending: map[uint16]pending{},
		wrote:   time.Now(),
	}
}

// open signs in and returns when the broker has let the device in, or the connection's read
// deadline has passed.
func (c *mqttConn) open(who connect) error {
	c.mu.Lock()
	err := c.put(func(b *bytes.Buffer) error { return c.proto.connect(b, who) })
	c.unlock()
	if err != nil {
		return err
	}
	p, err := c.proto.read(c.in)
	switch {
	case err != nil:
		return err
	case p.kind != kindConnack:
		return errLost
	}
	if no := c.proto.refusal(p); no != nil {
		return no
	}
	c.conn.SetReadDeadline(time.Time{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.window, c.maxAlias = p.window, p.aliases
	c.timer = time.AfterFunc(mqttTick, c.tick)
	return nil
}

// readAll gives what arrives to hear, one message after the other, until the connection ends, and
// says why it did.
func (c *mqttConn) readAll(hear func(packet)) error {
	for {
		p, err := c.proto.read(c.in)
		if err != nil {
			return err
		}
		switch p.kind {
		case kindPublish:
			hear(p)
			if p.qos > 0 {
				c.send(func(b *bytes.Buffer) error { return c.proto.short(b, kindPuback, p.id) })
			}
		case kindPuback, kindPubrec, kindPubcomp, kindSuback:
			c.acknowledged(p)
		case kindPingresp:
			c.mu.Lock()
			c.pinged = time.Time{}
			c.mu.Unlock()
		case kindDisconnect:
			if no := c.proto.refusal(p); no != nil {
				return no
			}
			return errLost
		}
	}
}

// acknowledged tells whoever waits what became of a packet. A PUBREC that takes a message decides
// it (MQTT 5 §4.3.3): what follows is for the broker to forget its id.
func (c *mqttConn) acknowledged(p packet) {
	no := c.proto.refusal(p)
	c.mu.Lock()
	w, known := c.pending[p.id]
	done := w.done
	if !known {
		c.mu.Unlock()
		return
	}
	if p.kind == kindPubrec && no == nil {
		c.pending[p.id] = pending{since: time.Now()}
		_ = c.put(func(b *bytes.Buffer) error { return c.proto.short(b, kindPubrel, p.id) }) // a packet of four bytes
	} else {
		delete(c.pending, p.id)
		c.release()
	}
	c.unlock()
	switch {
	case done == nil:
	case no != nil:
		done(no)
	default:
		done(nil)
	}
}

// subscribe asks for topics; done hears what came of it.
func (c *mqttConn) subscribe(done func(error), filters ...string) {
	c.mu.Lock()
	defer c.unlock()
	id := c.id(done)
	_ = c.put(func(b *bytes.Buffer) error { return c.proto.subscribe(b, id, filters) }) // of topics that are some
}

// publish sends a message. At QoS 0 done is not called. It reports whether there still is a
// connection.
func (c *mqttConn) publish(m message, done func(error)) bool {
	c.mu.Lock()
	defer c.unlock()
	if c.closed != nil {
		return false
	}
	if m.qos > 0 && c.window > 0 && len(c.pending) >= c.window {
		c.held = append(c.held, heldMessage{m, done})
		return true
	}
	c.publishNow(m, done)
	return true
}

// publishNow sends a message. The lock is held.
func (c *mqttConn) publishNow(m message, done func(error)) {
	id := uint16(0)
	if m.qos > 0 {
		id = c.id(done)
	}
	alias := c.alias(&m)
	_ = c.put(func(b *bytes.Buffer) error { return c.proto.publish(b, id, alias, m) }) // into memory
}

// alias is the one of a message's topic, 0 without. A topic that the broker knows by its alias is
// left out.
func (c *mqttConn) alias(m *message) uint16 {
	if a := c.aliases[m.topic]; a > 0 {
		m.topic = ""
		return a
	}
	if len(c.aliases) >= int(c.maxAlias) || !measures(m.topic) {
		return 0
	}
	if c.aliases == nil {
		c.aliases = map[string]uint16{}
	}
	a := uint16(len(c.aliases) + 1)
	c.aliases[m.topic] = a
	return a
}

// measures reports whether a topic is one of readings, which come often.
func measures(topic string) bool {
	return strings.HasSuffix(topic, "/r") || strings.HasSuffix(topic, "/senml") || strings.Contains(topic, "/r/")
}

// release sends what was held back. The lock is held.
func (c *mqttConn) release() {
	for len(c.held) > 0 && (c.window == 0 || len(c.pending) < c.window) {
		h := c.held[0]
		if c.held = c.held[1:]; len(c.held) == 0 {
			c.held = nil
		}
		c.publishNow(h.m, h.done)
	}
}

// id takes a packet identifier that is free. The lock is held.
func (c *mqttConn) id(done func(error)) uint16 {
	for {
		c.lastID++
		if _, used := c.pending[c.lastID]; !used && c.lastID != 0 {
			c.pending[c.lastID] = pending{time.Now(), done}
			return c.lastID
		}
	}
}

func (c *mqttConn) send(write func(*bytes.Buffer) error) {
	c.mu.Lock()
	defer c.unlock()
	_ = c.put(write) // into memory
}

// put appends a packet to what is to be written. The lock is held.
func (c *mqttConn) put(write func(*bytes.Buffer) error) error {
	if c.closed != nil {
		return c.closed
	}
	if c.out == nil {
		c.out = outBuffers.Get().(*bytes.Buffer)
		c.out.Reset()
	}
	if c.out.Len() > maxUnsent {
		c.closed = errStuck
		c.conn.drop()
		return errStuck
	}
	c.wrote = time.Now()
	return write(c.out)
}

// unlock releases the lock and has written what was put.
func (c *mqttConn) unlock() {
	if c.out != nil && !c.writing && !c.corked && c.closed == nil {
		c.writing = true
		c.wg.Go(c.write)
	}
	c.mu.Unlock()
}

// write writes until nothing is left.
func (c *mqttConn) write() {
	for {
		c.mu.Lock()
		b := c.out
		if b == nil || c.corked || c.closed != nil && c.closed != ErrLeft {
			c.writing = false
			c.mu.Unlock()
			return
		}
		c.out = nil
		c.mu.Unlock()
		c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, err := c.conn.Write(b.Bytes())
		poison.Bytes(b.Bytes())
		outBuffers.Put(b)
		if err != nil {
			c.end(err)
		}
	}
}

// cork holds back what is put until the connection is left, so that it goes in one piece.
func (c *mqttConn) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = c.closed == nil
}

// leave says goodbye, and returns when that was written, or could not be.
func (c *mqttConn) leave() {
	c.mu.Lock()
	_ = c.put(func(b *bytes.Buffer) error { return c.proto.short(b, kindDisconnect, 0) }) // two bytes
	c.corked = false
	c.unlock()
	c.end(ErrLeft)
	c.wg.Wait()
}

// end notes why the connection has ended, the first time.
func (c *mqttConn) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed == nil {
		c.closed = why
	}
	if c.timer != nil {
		c.timer.Stop()
	}
}

// tick gives up what is not acknowledged in time, and keeps the connection alive.
func (c *mqttConn) tick() {
	now := time.Now()
	var late []func(error)
	c.mu.Lock()
	if c.closed != nil {
		c.mu.Unlock()
		return
	}
	for _, id := range slices.Sorted(maps.Keys(c.pending)) {
		if w := c.pending[id]; now.Sub(w.since) > mqttTimeout {
			delete(c.pending, id)
			late = append(late, w.done)
		}
	}
	c.release()
	switch {
	case !c.pinged.IsZero() && now.Sub(c.pinged) > mqttTimeout:
		c.conn.drop()
	case c.pinged.IsZero() && now.Sub(c.wrote) > mqttKeepAlive-2*mqttTick:
		c.pinged = now
		_ = c.put(func(b *bytes.Buffer) error { return c.proto.short(b, kindPingreq, 0) }) // two bytes
	}
	c.timer.Reset(mqttTick)
	c.unlock()
	for _, done := range late {
		if done != nil {
			done(errNoAnswer)
		}
	}
}
