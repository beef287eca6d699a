package device

import (
	"bufio"
	"bytes"
	"strings"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// mqtt3 is MQTT 3.1.1, whose acknowledgement says nothing but that it is one: what is refused for
// good is acknowledged, too, and told on sys/down.
type mqtt3 struct{}

func (mqtt3) connect(to *bytes.Buffer, c connect) error {
	p := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
	p.ProtocolName, p.ProtocolVersion, p.CleanSession, p.Keepalive = "MQTT", 4, true, uint16(mqttKeepAlive.Seconds())
	p.ClientIdentifier = c.clientID
	p.UsernameFlag, p.Username = c.user != "", c.user
	p.PasswordFlag, p.Password = c.password != "", []byte(c.password)
	p.WillFlag, p.WillQos, p.WillTopic, p.WillMessage = true, 1, c.will, c.willPayload
	return p.Write(to)
}

func (mqtt3) subscribe(to *bytes.Buffer, id uint16, filters []string) error {
	p := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
	p.MessageID, p.Topics = id, filters
	for range filters {
		p.Qoss = append(p.Qoss, 1)
	}
	return p.Write(to)
}

func (mqtt3) publish(to *bytes.Buffer, id, _ uint16, m message) error {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload, p.Qos, p.MessageID = m.topic, m.payload, m.qos, id
	return p.Write(to)
}

func (mqtt3) short(to *bytes.Buffer, kind byte, id uint16) error {
	switch p := packets.NewControlPacket(kind).(type) {
	case *packets.PubackPacket:
		p.MessageID = id
		return p.Write(to)
	case *packets.PubrelPacket:
		p.MessageID = id
		return p.Write(to)
	default: // PINGREQ, DISCONNECT
		return p.Write(to)
	}
}

func (mqtt3) read(from *bufio.Reader) (packet, error) {
	cp, err := packets.ReadPacket(from)
	if err != nil {
		return packet{}, err
	}
	switch p := cp.(type) {
	case *packets.ConnackPacket:
		return packet{kind: kindConnack, code: p.ReturnCode}, nil
	case *packets.PublishPacket:
		return packet{kind: kindPublish, id: p.MessageID, qos: p.Qos, topic: p.TopicName, payload: p.Payload}, nil
	case *packets.PubackPacket:
		return packet{kind: kindPuback, id: p.MessageID}, nil
	case *packets.PubrecPacket:
		return packet{kind: kindPubrec, id: p.MessageID}, nil
	case *packets.PubcompPacket:
		return packet{kind: kindPubcomp, id: p.MessageID}, nil
	case *packets.SubackPacket:
		return packet{kind: kindSuback, id: p.MessageID, code: worst(p.ReturnCodes)}, nil
	case *packets.PingrespPacket:
		return packet{kind: kindPingresp}, nil
	}
	return packet{}, nil
}

// worst is the greatest of the codes, 0 without any.
func worst(codes []byte) (code byte) {
	for _, c := range codes {
		code = max(code, c)
	}
	return code
}

// refusal reads a CONNACK (MQTT 3.1.1 §3.2.2.3) or a SUBACK (§3.9.3) that says no.
func (mqtt3) refusal(p packet) *refusal {
	switch {
	case p.kind == kindSuback && p.code == 0x80:
		return &refusal{code: "forbidden"}
	case p.kind != kindConnack || p.code == 0:
		return nil
	case p.code == 4, p.code == 5: // bad user name or password, not authorized
		return &refusal{code: "unauthorized"}
	case p.code == 3: // server unavailable
		return &refusal{code: "platform_unavailable", again: true}
	}
	return &refusal{code: strings.ReplaceAll(packets.ConnackReturnCodes[p.code], " ", "_"), again: true}
}
