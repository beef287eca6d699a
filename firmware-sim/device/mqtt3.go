package device

import (
	"context"
	"net"
	"net/url"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

// session3 is a session of MQTT 3.1.1, whose acknowledgement says nothing but that it is one: what is refused for good is
// acknowledged, too, and told on sys/down.
type session3 struct {
	m      *mqtt
	client paho.Client
	ended  chan error
}

func openMQTT3(ctx context.Context, m *mqtt, conn net.Conn) (session, error) {
	s := &session3{m: m, ended: make(chan error, 1)}
	will, payload := m.will()
	user, password := m.signIn()
	s.client = paho.NewClient(paho.NewClientOptions().AddBroker(m.d.cfg.MQTT.String()).
		SetClientID(m.d.cfg.ID).SetUsername(user).SetPassword(password).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).
		SetKeepAlive(mqttKeepAlive).SetConnectTimeout(10*time.Second).SetWriteTimeout(10*time.Second).
		SetOrderMatters(true).SetBinaryWill(will, payload, 1, false).
		SetConnectionLostHandler(func(_ paho.Client, err error) { s.ended <- err }).
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return conn, nil }))
	if err := s.wait(ctx, s.client.Connect()); err != nil {
		s.client.Disconnect(0)
		return nil, refusal3(err)
	}
	return s, nil
}

// refusal3 reads a CONNACK that says no (MQTT 3.1.1 §3.2.2.3) out of paho's error.
func refusal3(err error) error {
	switch s := err.Error(); {
	case strings.Contains(s, "not Authorized"), strings.Contains(s, "bad user name"):
		return &refusal{code: "unauthorized"}
	case strings.Contains(s, "server Unavailable"):
		return &refusal{code: "platform_unavailable", again: true}
	}
	return err
}

// wait waits for a token of paho's.
func (s *session3) wait(ctx context.Context, t paho.Token) error {
	timer := time.NewTimer(mqttTimeout)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errNoAnswer
	}
}

func (s *session3) subscribe(ctx context.Context, filters ...string) error {
	wanted := make(map[string]byte, len(filters))
	for _, f := range filters {
		wanted[f] = 1
	}
	return s.wait(ctx, s.client.SubscribeMultiple(wanted, func(_ paho.Client, msg paho.Message) { s.m.message(msg.Topic(), msg.Payload(), request{}) }))
}

func (s *session3) publish(topic string, payload, _ []byte) error {
	return s.wait(context.Background(), s.client.Publish(topic, 1, false, payload))
}

func (s *session3) lost() <-chan error { return s.ended }

func (s *session3) close(properly bool) {
	if properly {
		s.client.Disconnect(250)
	} else {
		s.client.Disconnect(0)
	}
}
