package bridge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"devicehub/bridge/packet"
)

// raw is a client that says exactly what it is told to.
type raw struct {
	t       testing.TB
	nc      net.Conn
	version byte
	id      uint16
}

func dial(t testing.TB, addr string, version byte) *raw {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return &raw{t: t, nc: nc, version: version}
}

func str(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func frame(head byte, body []byte) []byte {
	b := []byte{head}
	n := len(body)
	for n >= 128 {
		b = append(b, byte(n)|128)
		n >>= 7
	}
	return append(append(b, byte(n)), body...)
}

func (c *raw) send(head byte, body []byte) {
	c.t.Helper()
	if _, err := c.nc.Write(frame(head, body)); err != nil {
		c.t.Fatal(err)
	}
}

type connect struct {
	id, user, password string
	clean              bool
	keepAlive          uint16
	will               string // topic
	willPayload        string
	willRetain         bool
	props              []byte // v5
}

func (c *raw) connectBody(o connect) []byte {
	b := str(nil, "MQTT")
	flags := byte(0)
	if o.clean {
		flags |= 2
	}
	if o.will != "" {
		flags |= 4
	}
	if o.willRetain {
		flags |= 0x20
	}
	if o.user != "" {
		flags |= 0x80
	}
	if o.password != "" {
		flags |= 0x40
	}
	b = append(b, c.version, flags, byte(o.keepAlive>>8), byte(o.keepAlive))
	if c.version == packet.V5 {
		b = append(append(b, byte(len(o.props))), o.props...)
	}
	b = str(b, o.id)
	if o.will != "" {
		if c.version == packet.V5 {
			b = append(b, 0)
		}
		b = str(str(b, o.will), o.willPayload)
	}
	if o.user != "" {
		b = str(b, o.user)
	}
	if o.password != "" {
		b = str(b, o.password)
	}
	return b
}

// read returns the next packet; a zero type when the connection ends.
func (c *raw) read() (head byte, body []byte) {
	c.t.Helper()
	head, body, err := c.readErr(5 * time.Second)
	if err != nil {
		c.t.Fatalf("reading: %v", err)
	}
	return head, body
}

func (c *raw) readErr(d time.Duration) (byte, []byte, error) {
	_ = c.nc.SetReadDeadline(time.Now().Add(d))
	var h [1]byte
	if _, err := io.ReadFull(c.nc, h[:]); err != nil {
		return 0, nil, err
	}
	n, shift := 0, 0
	for {
		var l [1]byte
		if _, err := io.ReadFull(c.nc, l[:]); err != nil {
			return 0, nil, err
		}
		n |= int(l[0]&127) << shift
		if shift += 7; l[0]&128 == 0 {
			break
		}
	}
	body := make([]byte, n)
	_, err := io.ReadFull(c.nc, body)
	return h[0], body, err
}

func (c *raw) want(head byte, body ...byte) {
	c.t.Helper()
	h, b := c.read()
	if h != head || !bytes.Equal(b, body) {
		c.t.Fatalf("got packet %02x %x, want %02x %x", h, b, head, body)
	}
}

// wantType reads a packet of the type and returns its body.
func (c *raw) wantType(typ byte) []byte {
	c.t.Helper()
	h, b := c.read()
	if h>>4 != typ {
		c.t.Fatalf("got packet %02x %q, want type %d", h, b, typ)
	}
	return b
}

func (c *raw) wantClosed() {
	c.t.Helper()
	h, b, err := c.readErr(12 * time.Second)
	if err == nil {
		c.t.Fatalf("got packet %02x %x, want the connection closed", h, b)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatal("the connection stays open")
	}
}

func (c *raw) wantQuiet(d time.Duration) {
	c.t.Helper()
	h, b, err := c.readErr(d)
	if err == nil {
		c.t.Fatalf("got packet %02x %q, want none", h, b)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("got %v, want an open connection", err)
	}
}

// device connects as a device and wants to be let in.
func (c *raw) device(id string, o connect) (connack []byte) {
	c.t.Helper()
	o.user, o.password = id, "pw-"+id
	if o.id == "" {
		o.id = id
	}
	c.send(packet.Connect<<4, c.connectBody(o))
	connack = c.wantType(packet.Connack)
	if connack[1] != 0 {
		c.t.Fatalf("CONNACK %x, want success", connack)
	}
	return connack
}

func (c *raw) publishBody(topic, payload string, qos byte, id uint16, props ...byte) []byte {
	b := str(nil, topic)
	if qos > 0 {
		b = append(b, byte(id>>8), byte(id))
	}
	if c.version == packet.V5 {
		b = append(append(b, byte(len(props))), props...)
	}
	return append(b, payload...)
}

func (c *raw) publish(topic, payload string, qos byte, id uint16) {
	c.t.Helper()
	c.send(packet.Publish<<4|qos<<1, c.publishBody(topic, payload, qos, id))
}

// subscribe returns the reason codes.
func (c *raw) subscribe(qos byte, filters ...string) []byte {
	c.t.Helper()
	c.id++
	b := []byte{byte(c.id >> 8), byte(c.id)}
	if c.version == packet.V5 {
		b = append(b, 0)
	}
	for _, f := range filters {
		b = append(str(b, f), qos)
	}
	c.send(packet.Subscribe<<4|2, b)
	b = c.wantType(packet.Suback)
	if c.version == packet.V5 {
		return b[3:]
	}
	return b[2:]
}

type delivered struct {
	topic, payload string
	qos            byte
	retain, dup    bool
	id             uint16
	props          packet.Properties
}

// message reads a PUBLISH.
func (c *raw) message() delivered {
	c.t.Helper()
	h, b := c.read()
	if h>>4 != packet.Publish {
		c.t.Fatalf("got packet %02x %q, want a PUBLISH", h, b)
	}
	return c.parse(h, b)
}

func (c *raw) parse(h byte, b []byte) delivered {
	c.t.Helper()
	pk := packet.Packet{ProtocolVersion: c.version}
	if err := pk.FixedHeader.Decode(h); err != nil {
		c.t.Fatal(err)
	}
	if err := pk.PublishDecode(b); err != nil {
		c.t.Fatal(err)
	}
	return delivered{pk.TopicName, string(pk.Payload), pk.FixedHeader.Qos, pk.FixedHeader.Retain, pk.FixedHeader.Dup, pk.PacketID, pk.Properties}
}

func (c *raw) puback(id uint16) {
	c.t.Helper()
	c.send(packet.Puback<<4, []byte{byte(id >> 8), byte(id)})
}
