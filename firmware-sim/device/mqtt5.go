package device

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// session5 is a session of MQTT 5, whose acknowledgements say what became of a message.
type session5 struct {
	client *paho.Client
	ended  chan error
	over   sync.Once
}

// receiveMaximum5 is how many commands the device takes before it has acknowledged one.
const receiveMaximum5 = 4

func openMQTT5(ctx context.Context, m *mqtt, conn net.Conn) (session, error) {
	s := &session5{ended: make(chan error, 1)}
	s.client = paho.NewClient(paho.ClientConfig{
		Conn:          packets.NewThreadSafeConn(conn),
		PacketTimeout: mqttTimeout,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			m.message(p.Packet.Topic, p.Packet.Payload, request5(p.Packet.Properties, time.Now()))
			return true, nil
		}},
		OnClientError: s.end,
		OnServerDisconnect: func(d *paho.Disconnect) {
			if no := refusal5(d.ReasonCode); no != nil {
				s.end(no)
				return
			}
			s.end(errLost)
		},
	})
	will, payload := m.will()
	user, password := m.signIn()
	var receiveMaximum uint16 = receiveMaximum5
	ctx, cancel := context.WithTimeout(ctx, mqttTimeout)
	defer cancel()
	ack, err := s.client.Connect(ctx, &paho.Connect{
		ClientID: m.d.cfg.ID, Username: user, UsernameFlag: user != "", Password: []byte(password), PasswordFlag: password != "",
		CleanStart: true, KeepAlive: uint16(mqttKeepAlive.Seconds()),
		WillMessage: &paho.WillMessage{Topic: will, Payload: payload, QoS: 1},
		Properties:  &paho.ConnectProperties{ReceiveMaximum: &receiveMaximum},
	})
	if err != nil && ack != nil {
		if no := refusal5(ack.ReasonCode); no != nil {
			return nil, no
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// request5 reads what stands beside the payload of a message that arrived now.
func request5(p *paho.PublishProperties, now time.Time) (asked request) {
	if p == nil {
		return asked
	}
	if p.MessageExpiry != nil {
		asked.until = now.Add(time.Duration(*p.MessageExpiry) * time.Second)
	}
	asked.answer = answerTo{topic: p.ResponseTopic, correlation: p.CorrelationData}
	return asked
}

// refusal5 is what a reason code stands for (2-domain §8), nil for one that refuses nothing.
func refusal5(code byte) *refusal {
	switch code {
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
	return nil
}

// end tells of the end of the connection, the first time.
func (s *session5) end(err error) { s.over.Do(func() { s.ended <- err }) }

func (s *session5) subscribe(ctx context.Context, filters ...string) error {
	ctx, cancel := context.WithTimeout(ctx, mqttTimeout)
	defer cancel()
	var wanted paho.Subscribe
	for _, f := range filters {
		wanted.Subscriptions = append(wanted.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	_, err := s.client.Subscribe(ctx, &wanted)
	return err
}

func (s *session5) publish(topic string, payload, correlation []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), mqttTimeout)
	defer cancel()
	ack, err := s.client.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: payload,
		Properties: &paho.PublishProperties{CorrelationData: correlation}})
	switch {
	case err == nil:
		return nil
	case ack != nil:
		if no := refusal5(ack.ReasonCode); no != nil {
			return no
		}
	case errors.Is(err, context.DeadlineExceeded):
		return errNoAnswer
	}
	return err
}

func (s *session5) lost() <-chan error { return s.ended }

func (s *session5) close(properly bool) {
	if properly {
		_ = s.client.Disconnect(&paho.Disconnect{}) // of a connection that may be gone
	}
}
