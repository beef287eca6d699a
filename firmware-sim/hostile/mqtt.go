package hostile

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	packets5 "github.com/eclipse/paho.golang/packets"
	packets3 "github.com/eclipse/paho.mqtt.golang/packets"

	"devicehub/firmware-sim/profile"
)

// mqttClient is who connects over MQTT.
type mqttClient struct {
	id, user, password string
	expiry             uint32 // s, of the session; MQTT 5
}

// message is a PUBLISH at QoS 1. The property is a user property, of MQTT 5.
type message struct {
	topic    string
	payload  []byte
	retain   bool
	property string
}

// inFlight is how many messages of a party may be unacknowledged; the hub may allow fewer.
const inFlight = 16

// mqttLink is one connection of a party over MQTT.
type mqttLink struct {
	p     *party
	conn  net.Conn
	v5    bool
	slots chan struct{}
	ended chan struct{} // closed when nothing more is read
	last  uint16

	mu   sync.Mutex
	sent map[uint16]time.Time
}

// openMQTT signs in; code is why the hub did not let it in.
func (p *party) openMQTT(ctx context.Context, who mqttClient) (c *mqttLink, code string, err error) {
	conn, err := p.overMQTT(ctx)
	if err != nil {
		return nil, "", err
	}
	c = &mqttLink{
		p: p, conn: conn, v5: p.Transport != "mqtt", sent: map[uint16]time.Time{},
		slots: make(chan struct{}, inFlight), ended: make(chan struct{}),
	}
	if err := c.connect(who); err != nil {
		conn.Close()
		return nil, "", err
	}
	in := bufio.NewReader(conn)
	conn.SetReadDeadline(time.Now().Add(15 * time.Second))
	code, err = c.connack(in)
	if err != nil || code != "" {
		conn.Close()
		return nil, code, err
	}
	conn.SetReadDeadline(time.Time{})
	go func() {
		defer close(c.ended)
		c.read(in)
	}()
	return c, "", c.listen()
}

// listen asks for what a hub tells a device of MQTT 3.1.1, whose acknowledgements say nothing.
func (c *mqttLink) listen() error {
	if c.v5 || c.p.By() != profile.ByDevice {
		return nil
	}
	p := packets3.NewControlPacket(packets3.Subscribe).(*packets3.SubscribePacket)
	p.MessageID, p.Topics, p.Qoss = 1, []string{"hub/v1/" + c.p.ID + "/sys/down"}, []byte{0}
	c.last = 1
	return p.Write(c.conn)
}

// unopened counts a connection that did not come about.
func (p *party) unopened(ctx context.Context, code string) {
	if code == "" {
		p.ended(ctx)
	} else {
		p.tally.refused("connect:" + code)
	}
}

func (c *mqttLink) connect(who mqttClient) (err error) {
	if c.v5 {
		_, err = (&packets5.Connect{
			ProtocolName: "MQTT", ProtocolVersion: 5, CleanStart: true, KeepAlive: 60, ClientID: who.id,
			UsernameFlag: who.user != "", Username: who.user,
			PasswordFlag: who.password != "", Password: []byte(who.password),
			Properties: &packets5.Properties{SessionExpiryInterval: &who.expiry},
		}).WriteTo(c.conn)
		return err
	}
	p := packets3.NewControlPacket(packets3.Connect).(*packets3.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion, p.CleanSession, p.Keepalive = "MQTT", 4, true, 60
	p.ClientIdentifier, p.UsernameFlag, p.Username = who.id, who.user != "", who.user
	p.PasswordFlag, p.Password = who.password != "", []byte(who.password)
	return p.Write(c.conn)
}

// connack reads the answer to CONNECT, and takes over the bounds that it names.
func (c *mqttLink) connack(in *bufio.Reader) (code string, err error) {
	if !c.v5 {
		p, err := packets3.ReadPacket(in)
		if err != nil {
			return "", err
		}
		if ack, ok := p.(*packets3.ConnackPacket); ok && ack.ReturnCode != 0 {
			return fmt.Sprintf("mqtt_%d", ack.ReturnCode), nil
		}
		return "", nil
	}
	p, err := packets5.ReadPacket(in)
	if err != nil {
		return "", err
	}
	ack, ok := p.Content.(*packets5.Connack)
	if !ok {
		return "", io.ErrUnexpectedEOF
	}
	if ack.ReasonCode >= 0x80 {
		return fmt.Sprintf("mqtt_%#x", ack.ReasonCode), nil
	}
	if ack.Properties != nil && ack.Properties.ReceiveMaximum != nil {
		c.slots = make(chan struct{}, min(inFlight, int(*ack.Properties.ReceiveMaximum)))
	}
	return "", nil
}

// publish sends a message once the hub has acknowledged enough of those before. It reports whether
// the connection stands.
func (c *mqttLink) publish(ctx context.Context, m message) (stands bool) {
	began := time.Now()
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		c.p.tally.waited(time.Since(began))
		return false
	case <-c.ended:
		return false
	}
	c.p.tally.tried()
	for c.last++; c.last == 0; c.last++ {
	}
	c.mu.Lock()
	c.sent[c.last] = time.Now()
	c.mu.Unlock()
	err := c.write(m)
	c.p.tally.waited(time.Since(began))
	return err == nil
}

func (c *mqttLink) write(m message) (err error) {
	if c.v5 {
		p := packets5.Publish{PacketID: c.last, QoS: 1, Retain: m.retain, Topic: m.topic, Payload: m.payload,
			Properties: &packets5.Properties{}}
		if m.property != "" {
			p.Properties.User = []packets5.User{{Key: "pad", Value: m.property}}
		}
		_, err = p.WriteTo(c.conn)
		return err
	}
	p := packets3.NewControlPacket(packets3.Publish).(*packets3.PublishPacket)
	p.MessageID, p.Qos, p.Retain, p.TopicName, p.Payload = c.last, 1, m.retain, m.topic, m.payload
	return p.Write(c.conn)
}

// read takes answers until the connection ends.
func (c *mqttLink) read(in *bufio.Reader) {
	for {
		id, code, acks, err := c.next(in)
		switch {
		case err != nil:
			return
		case code != "":
			c.p.tally.refused(code)
		case acks:
			c.p.tally.taken()
		}
		if acks {
			c.acknowledged(id)
		}
	}
}

// next reads a packet: an acknowledgement, or why the hub ends the connection, or another.
func (c *mqttLink) next(in *bufio.Reader) (id uint16, code string, acks bool, err error) {
	if !c.v5 {
		p, err := packets3.ReadPacket(in)
		switch p := p.(type) {
		case *packets3.PubackPacket:
			return p.MessageID, "", err == nil, err
		case *packets3.PublishPacket:
			return 0, toldCode(p.Payload), false, err
		}
		return 0, "", false, err
	}
	p, err := packets5.ReadPacket(in)
	if err != nil {
		return 0, "", false, err
	}
	switch p := p.Content.(type) {
	case *packets5.Puback:
		if p.ReasonCode >= 0x80 {
			code = fmt.Sprintf("mqtt_%#x", p.ReasonCode)
		}
		return p.PacketID, code, true, nil
	case *packets5.Disconnect:
		if p.ReasonCode >= 0x80 {
			code = fmt.Sprintf("mqtt_%#x", p.ReasonCode)
		}
	}
	return 0, code, false, nil
}

// toldCode is the code of an error that a hub tells on sys/down, "" of something else.
func toldCode(payload []byte) string {
	var said struct {
		E    string `json:"e"`
		Code string `json:"code"`
	}
	if json.Unmarshal(payload, &said) != nil || said.E != "error" && said.E != "disconnect" {
		return ""
	}
	return said.Code
}

func (c *mqttLink) acknowledged(id uint16) {
	c.mu.Lock()
	at, known := c.sent[id]
	delete(c.sent, id)
	c.mu.Unlock()
	if !known {
		return
	}
	<-c.slots
	if c.p.Answered != nil {
		c.p.Answered(time.Since(at))
	}
}

// close ends the connection, and notes whether the hub had ended it before.
func (c *mqttLink) close(ctx context.Context) {
	select {
	case <-c.ended:
		c.p.ended(ctx)
	default:
	}
	c.conn.Close()
	<-c.ended
}
