package device

import (
	"bufio"
	"bytes"
	"fmt"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// mqtt5 is MQTT 5, whose acknowledgements say what became of a message.
type mqtt5 struct{}

// receiveMaximum5 is how many commands the device takes before it has acknowledged one.
const receiveMaximum5 = 4

func (mqtt5) connect(to *bytes.Buffer, c connect) error {
	var receiveMaximum uint16 = receiveMaximum5
	p := packets.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, CleanStart: true, KeepAlive: uint16(mqttKeepAlive.Seconds()),
		ClientID: c.clientID, UsernameFlag: c.user != "", Username: c.user,
		PasswordFlag: c.password != "", Password: []byte(c.password),
		WillFlag: true, WillQOS: 1, WillTopic: c.will, WillMessage: c.willPayload,
		WillProperties: &packets.Properties{}, Properties: &packets.Properties{ReceiveMaximum: &receiveMaximum},
	}
	_, err := p.WriteTo(to)
	return err
}

func (mqtt5) subscribe(to *bytes.Buffer, id uint16, filters []string) error {
	p := packets.Subscribe{PacketID: id, Properties: &packets.Properties{}}
	for _, f := range filters {
		p.Subscriptions = append(p.Subscriptions, packets.SubOptions{Topic: f, QoS: 1})
	}
	_, err := p.WriteTo(to)
	return err
}

func (mqtt5) publish(to *bytes.Buffer, id, alias uint16, m message) error {
	p := packets.Publish{PacketID: id, QoS: m.qos, Topic: m.topic, Payload: m.payload,
		Properties: &packets.Properties{CorrelationData: m.correlation, ContentType: m.contentType}}
	if alias > 0 {
		p.Properties.TopicAlias = &alias
	}
	_, err := p.WriteTo(to)
	return err
}

func (mqtt5) short(to *bytes.Buffer, kind byte, id uint16) error {
	cp := packets.NewControlPacket(kind)
	switch p := cp.Content.(type) {
	case *packets.Puback:
		p.PacketID = id
	case *packets.Pubrel:
		p.PacketID = id
	}
	_, err := cp.WriteTo(to)
	return err
}

func (mqtt5) read(from *bufio.Reader) (packet, error) {
	cp, err := packets.ReadPacket(from)
	if err != nil {
		return packet{}, err
	}
	switch p := cp.Content.(type) {
	case *packets.Connack:
		return connack5(p), nil
	case *packets.Publish:
		return packet{kind: kindPublish, id: p.PacketID, qos: p.QoS, topic: p.Topic, payload: p.Payload,
			asked: request5(p.Properties, time.Now())}, nil
	case *packets.Puback:
		return packet{kind: kindPuback, id: p.PacketID, code: p.ReasonCode}, nil
	case *packets.Pubrec:
		return packet{kind: kindPubrec, id: p.PacketID, code: p.ReasonCode}, nil
	case *packets.Pubcomp:
		return packet{kind: kindPubcomp, id: p.PacketID}, nil
	case *packets.Suback:
		return packet{kind: kindSuback, id: p.PacketID, code: worst(p.Reasons)}, nil
	case *packets.Pingresp:
		return packet{kind: kindPingresp}, nil
	case *packets.Disconnect:
		return packet{kind: kindDisconnect, code: p.ReasonCode}, nil
	}
	return packet{}, nil
}

// connack5 reads the bounds of a connection (MQTT 5 §3.2.2.3).
func connack5(p *packets.Connack) packet {
	out := packet{kind: kindConnack, code: p.ReasonCode}
	if p.Properties == nil {
		return out
	}
	if n := p.Properties.ReceiveMaximum; n != nil {
		out.window = int(*n)
	}
	if n := p.Properties.TopicAliasMaximum; n != nil {
		out.aliases = *n
	}
	return out
}

// request5 reads what stands beside the payload of a message that arrived now.
func request5(p *packets.Properties, now time.Time) (asked request) {
	if p == nil {
		return asked
	}
	if p.MessageExpiry != nil {
		asked.until = now.Add(time.Duration(*p.MessageExpiry) * time.Second)
	}
	asked.answer = answerTo{topic: p.ResponseTopic, correlation: p.CorrelationData}
	return asked
}

// refusal is what a reason code stands for.
func (mqtt5) refusal(p packet) *refusal {
	switch p.code {
	case 0x83, 0x88:
		return &refusal{code: "platform_unavailable", again: true}
	case 0x89:
		return &refusal{code: "overloaded", again: true}
	case 0x96, 0x97, 0x9F:
		return &refusal{code: "rate_limited", again: true}
	case 0x87:
		return &refusal{code: "unauthorized"}
	case 0x8A:
		return &refusal{code: "device_disabled"}
	case 0x8B:
		return &refusal{code: "server_drain", again: true}
	case 0x8E:
		return &refusal{code: "replaced"}
	case 0x95:
		return &refusal{code: "too_large"}
	case 0x99:
		return &refusal{code: "invalid"}
	case 0x9A:
		return &refusal{code: "retained_command"}
	}
	if p.code >= 0x80 { // MQTT 5 §2.4
		return &refusal{code: fmt.Sprintf("mqtt_%#x", p.code), again: true}
	}
	return nil
}
