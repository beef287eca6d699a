package broker

import (
	"strings"
	"time"

	"devicehub/bridge/packet"
)

// Message is one application message. It is shared by all who receive it and
// never changed.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	Props   Props
	Expires time.Time // zero: never
	Stored  bool      // in an inline subscriber's hands: kept from before it subscribed

	lasts time.Duration // a will's expiry, which begins when it is published
}

// Props are the properties of MQTT 5 that go with a message to its receivers.
type Props struct {
	PayloadFormat     byte
	PayloadFormatFlag bool
	ContentType       string
	ResponseTopic     string
	CorrelationData   []byte
	User              []UserProperty
}

// UserProperty is one of any number of pairs.
type UserProperty struct{ Key, Value string }

func (m *Message) expired(now time.Time) bool { return !m.Expires.IsZero() && !now.Before(m.Expires) }

// letter is a message inside the broker, with what becomes of it there. The
// broker's mutex guards all but the message.
type letter struct {
	Message
	by      *account // whose publish it was
	bytes   int      // what it takes; 0: not counted yet
	id      uint64   // its record in the store
	records int      // that name it; 0: it is not in the store
}

// cost is what the message takes, counted once.
func (m *letter) cost() int {
	if m.bytes == 0 {
		m.bytes = m.size()
	}
	return m.bytes
}

// message takes a publish out of its packet, whose memory it does not share.
func message(pk *packet.Packet, now time.Time) *letter {
	m := &letter{Message: Message{
		Topic: strings.Clone(pk.TopicName), Payload: append([]byte(nil), pk.Payload...), QoS: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain,
	}}
	m.Props, m.Expires = props(&pk.Properties, now)
	return m
}

// Will takes the will out of a CONNECT. Its expiry runs from its publication.
func Will(pk *packet.Packet, now time.Time) *Message {
	c := &pk.Connect
	m := &Message{Topic: strings.Clone(c.WillTopic), Payload: append([]byte(nil), c.WillPayload...), QoS: c.WillQos, Retain: c.WillRetain}
	m.Props, _ = props(&c.WillProperties, now)
	m.lasts = time.Duration(c.WillProperties.MessageExpiryInterval) * time.Second
	return m
}

func props(p *packet.Properties, now time.Time) (Props, time.Time) {
	out := Props{
		PayloadFormat: p.PayloadFormat, PayloadFormatFlag: p.PayloadFormatFlag,
		ContentType: strings.Clone(p.ContentType), ResponseTopic: strings.Clone(p.ResponseTopic),
	}
	if len(p.CorrelationData) > 0 {
		out.CorrelationData = append([]byte(nil), p.CorrelationData...)
	}
	for _, u := range p.User {
		out.User = append(out.User, UserProperty{strings.Clone(u.Key), strings.Clone(u.Val)})
	}
	var expires time.Time
	if p.MessageExpiryInterval > 0 {
		expires = now.Add(time.Duration(p.MessageExpiryInterval) * time.Second)
	}
	return out, expires
}
