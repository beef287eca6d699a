package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"
)

// mqttClient speaks MQTT without any of the manners of a library.
type mqttClient struct {
	conn    net.Conn
	r       *bufio.Reader
	version byte // 4: MQTT 3.1.1, or 5
}

// sign says who connects, and how.
type sign struct {
	version            byte // 4 unless given
	id, user, password string
	keep               bool   // the session outlives its connection, for a day in MQTT 5
	will               string // a topic: a retained will of one byte
}

// dialMQTT connects and returns the code of CONNACK; a client only where it is 0.
func dialMQTT(addr string, s sign) (*mqttClient, byte, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, 0, err
	}
	c := &mqttClient{conn: conn, r: bufio.NewReader(conn), version: max(4, s.version)}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(c.connect(s)); err != nil {
		conn.Close()
		return nil, 0, err
	}
	typ, body, err := c.read()
	if err == nil && (typ != 0x20 || len(body) < 2) {
		err = fmt.Errorf("got a packet %#x for CONNACK", typ)
	}
	if err != nil || body[1] != 0 {
		conn.Close()
		if err != nil {
			return nil, 0, err
		}
		return nil, body[1], nil
	}
	return c, 0, conn.SetDeadline(time.Time{})
}

// connect is the CONNECT (MQTT 5 §3.1).
func (c *mqttClient) connect(s sign) []byte {
	flags := byte(0xC0) // user name and password
	if !s.keep {
		flags |= 0x02
	}
	if s.will != "" {
		flags |= 0x24 // a will, to be retained
	}
	b := append(text(nil, "MQTT"), c.version, flags, 0, 60)
	if c.version == 5 {
		if s.keep {
			b = append(b, 5, 0x11, 0, 1, 0x51, 0x80) // Session Expiry Interval
		} else {
			b = append(b, 0)
		}
	}
	b = text(b, s.id)
	if s.will != "" {
		if c.version == 5 {
			b = append(b, 0)
		}
		b = text(text(b, s.will), "x")
	}
	return packet(0x10, text(text(b, s.user), s.password))
}

// publish is a PUBLISH of QoS 0 or 1 with user properties; in MQTT 3.1.1 there are none.
func (c *mqttClient) publish(topic, payload string, qos byte, retain bool, id uint16, properties ...string) []byte {
	head := 0x30 | qos<<1
	if retain {
		head |= 1
	}
	b := text(nil, topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	if c.version == 5 {
		var p []byte
		for _, v := range properties {
			p = text(text(append(p, 0x26), "k"), v)
		}
		b = append(length(b, len(p)), p...)
	}
	return packet(head, append(b, payload...))
}

// subscribe is a SUBSCRIBE to one filter at QoS 1.
func (c *mqttClient) subscribe(filter string, id uint16) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	if c.version == 5 {
		b = append(b, 0)
	}
	return packet(0x82, append(text(b, filter), 1))
}

// ask sends a packet and returns the reason code of its answer, which is of the type given.
func (c *mqttClient) ask(request []byte, typ byte) (byte, error) {
	_ = c.conn.SetDeadline(time.Now().Add(10 * time.Second))
	defer func() { _ = c.conn.SetDeadline(time.Time{}) }()
	if _, err := c.conn.Write(request); err != nil {
		return 0, err
	}
	for {
		got, body, err := c.read()
		if err != nil {
			return 0, err
		}
		if got == typ {
			return c.reason(typ, body), nil
		}
	}
}

// reason is the reason code of an answer, 0 where it has none.
func (c *mqttClient) reason(typ byte, body []byte) byte {
	switch {
	case typ == 0x90 && len(body) > 0:
		return body[len(body)-1] // SUBACK: of the last filter
	case typ == 0xE0 && len(body) > 0:
		return body[0]
	case typ != 0xE0 && len(body) > 2 && c.version == 5:
		return body[2]
	}
	return 0
}

// read returns the next packet, without the flags of its first byte.
func (c *mqttClient) read() (typ byte, body []byte, err error) {
	if typ, err = c.r.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(c.r) // MQTT writes lengths as this does
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, min(n, 8<<20))
	_, err = io.ReadFull(c.r, body)
	return typ & 0xF0, body, err
}

// listen counts what comes until the connection ends.
func (c *mqttClient) listen(seen *tally) {
	for {
		typ, body, err := c.read()
		if err != nil {
			return
		}
		switch typ {
		case 0x40:
			seen.add(fmt.Sprintf("puback %02x", c.reason(typ, body)), 1)
		case 0x90:
			seen.add(fmt.Sprintf("suback %02x", c.reason(typ, body)), 1)
		case 0xE0:
			seen.add(fmt.Sprintf("disconnect %02x", c.reason(typ, body)), 1)
		case 0x30:
			seen.add("delivered", 1)
		}
	}
}

func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func length(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }

func packet(head byte, body []byte) []byte {
	return append(length([]byte{head}, len(body)), body...)
}
