package device

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"devicehub/hub/hubclient"
)

// mqtt is the link over MQTT 3.1.1. It reconnects itself, rather than paho, so that one back-off rules all transports, and
// so that what was not acknowledged is repeated by the device, which knows its numbers.
type mqtt struct {
	d      *Device
	prefix string // <root>/<id>/

	mu      sync.Mutex
	client  paho.Client
	conn    *tappedConn
	cause   error
	until   time.Time // no reconnect before
	kick    chan struct{}
	booted  string
	wasUp   bool
	half    []net.Conn // abandoned, until the end of run
	workers sync.WaitGroup
}

const mqttTimeout = 15 * time.Second

var errNoAnswer = errors.New("mqtt: no acknowledgement in time")

func newMQTT(d *Device) *mqtt {
	if d.cfg.Backoff == nil {
		d.cfg.Backoff = hubclient.Backoff(100*time.Millisecond, 250*time.Millisecond, 500*time.Millisecond, time.Second, 2*time.Second, 5*time.Second)
	}
	return &mqtt{d: d, prefix: d.cfg.Root + "/" + d.cfg.ID + "/", kick: make(chan struct{}, 1)}
}

func (m *mqtt) run(ctx context.Context) error {
	defer func() {
		m.workers.Wait()
		for _, conn := range m.half {
			conn.Close()
		}
	}()
	for failed := 0; ctx.Err() == nil; {
		began := time.Now()
		err := m.once(ctx, failed+1)
		if ctx.Err() != nil {
			break
		}
		if m.wasUp {
			m.wasUp = false
			m.d.isDown(err)
		}
		m.d.cfg.Log.Debug("mqtt disconnected", "device", m.d.cfg.ID, "err", err)
		if time.Since(began) > 2*time.Second {
			failed = 0
		} else {
			failed++
		}
		wait := m.d.cfg.Backoff(max(failed, 1))
		m.mu.Lock()
		wait = max(wait, time.Until(m.until))
		m.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-m.kick:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// once makes one connection and returns when it is lost.
func (m *mqtt) once(ctx context.Context, attempt int) error {
	lost := make(chan error, 1)
	var tapped atomic.Pointer[tappedConn]
	o := paho.NewClientOptions().AddBroker(m.d.cfg.MQTT.String()).
		SetClientID(m.d.cfg.ID).SetUsername(m.d.cfg.ID).SetPassword(m.d.getToken()).
		SetProtocolVersion(4).SetCleanSession(true).SetAutoReconnect(false).SetConnectRetry(false).
		SetKeepAlive(60*time.Second).SetConnectTimeout(10*time.Second).SetWriteTimeout(10*time.Second).
		SetOrderMatters(true).SetWill(m.prefix+"lwt", `{"boot":"`+m.d.Boot()+`"}`, 1, false).
		SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err }).
		SetCustomOpenConnectionFn(func(u *url.URL, _ paho.ClientOptions) (net.Conn, error) {
			dial := m.d.cfg.Dial
			if dial == nil {
				dial = new(net.Dialer).DialContext
			}
			host := u.Host
			if u.Port() == "" {
				host = net.JoinHostPort(u.Hostname(), "1883")
			}
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			conn, err := dial(ctx, "tcp", host)
			if err != nil {
				return nil, err
			}
			t := &tappedConn{Conn: conn}
			tapped.Store(t)
			return t, nil
		})
	client := paho.NewClient(o)
	began := time.Now()
	if err := wait(ctx, client.Connect()); err != nil {
		client.Disconnect(0)
		m.refused(err)
		return err
	}
	connected := time.Since(began)
	m.mu.Lock()
	m.client, m.conn, m.cause = client, tapped.Load(), nil
	m.mu.Unlock()
	err := m.serve(ctx, client, lost, Up{Attempt: attempt, Connect: connected})
	m.mu.Lock()
	if m.cause != nil {
		err = m.cause
	}
	conn := m.conn
	m.client, m.conn = nil, nil
	m.mu.Unlock()
	if ctx.Err() != nil {
		client.Disconnect(250) // with a DISCONNECT: no will
	} else {
		client.Disconnect(0)
	}
	switch {
	case conn == nil:
	case conn.left.Load():
		m.half = append(m.half, conn.Conn)
	default:
		conn.Conn.Close()
	}
	return err
}

func (m *mqtt) serve(ctx context.Context, client paho.Client, lost <-chan error, up Up) error {
	filters := map[string]byte{m.prefix + "cmd": 1, m.prefix + "sys/down": 1}
	began := time.Now()
	if err := wait(ctx, client.SubscribeMultiple(filters, m.message)); err != nil {
		return err
	}
	up.Join = time.Since(began)
	m.wasUp = true
	m.d.isUp(nil)
	if m.d.cfg.Hooks.Up != nil {
		m.d.cfg.Hooks.Up(up)
	}
	if m.d.light != nil {
		boot := m.d.Boot()
		cause := "sync"
		if m.booted != boot {
			cause, m.booted = "boot", boot
		}
		m.d.welcomed(welcome{}, cause)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-lost:
		return err
	}
}

// wait waits for a token of paho's.
func wait(ctx context.Context, t paho.Token) error {
	timer := time.NewTimer(mqttTimeout)
	defer timer.Stop()
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errors.New("mqtt: no answer in time")
	}
}

// refused heeds a CONNACK that says no (MQTT 3.1.1 §3.2.2.3).
func (m *mqtt) refused(err error) {
	s := err.Error()
	switch {
	case strings.Contains(s, "not Authorized"), strings.Contains(s, "bad user name"):
		m.d.failed("unauthorized")
		m.away(30 * time.Second)
	case strings.Contains(s, "server Unavailable"):
		m.d.failed("platform_unavailable")
	}
}

func (m *mqtt) away(stay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if until := time.Now().Add(stay); until.After(m.until) {
		m.until = until
	}
}

func (m *mqtt) message(_ paho.Client, msg paho.Message) {
	payload := msg.Payload()
	topic := strings.TrimPrefix(msg.Topic(), m.prefix)
	if m.d.cfg.Hooks.Frame != nil {
		m.d.cfg.Hooks.Frame(false, topic, payload)
	}
	if topic == "cmd" {
		m.d.command(payload)
		return
	}
	var said struct {
		Event string `json:"e"`
		Code  string `json:"code"`
		Token string `json:"token"`
	}
	if json.Unmarshal(payload, &said) != nil {
		m.d.failed("malformed_message")
		return
	}
	switch said.Event {
	case "ping":
		m.raw("pong", m.d.pong(payload))
	case "config":
		m.raw("info", m.d.configured(payload))
	case "token_expiring":
		m.raw("token_refresh", []byte("{}"))
	case "token":
		m.d.setToken(said.Token)
	case "error":
		m.d.failed(said.Code)
	case "disconnect":
		m.d.dismissed(payload, m.away)
	}
}

// publish sends with QoS 1; then, if not nil, hears whether it was acknowledged on this connection.
func (m *mqtt) publish(topic string, payload []byte, then func(error)) {
	m.mu.Lock()
	client := m.client
	m.mu.Unlock()
	if client == nil {
		return
	}
	if m.d.cfg.Hooks.Frame != nil {
		m.d.cfg.Hooks.Frame(true, topic, payload)
	}
	m.workers.Go(func() {
		t := client.Publish(m.prefix+topic, 1, false, payload)
		var err error
		select {
		case <-t.Done():
			err = t.Error()
		case <-time.After(mqttTimeout):
			err = errNoAnswer
		}
		if then != nil {
			then(err)
		}
	})
}

func (m *mqtt) readings(payload []byte, _ int, answer func(verdict)) {
	m.publish("r", payload, func(err error) {
		switch {
		case err == nil:
			answer(verdict{decided: true})
		case errors.Is(err, errNoAnswer):
			answer(verdict{retry: time.Second, code: "no_answer"})
		default:
			answer(verdict{retry: time.Second})
		}
	})
}

func (m *mqtt) state(payload []byte) { m.publish("state", payload, nil) }
func (m *mqtt) ack(payload []byte)   { m.publish("ack", payload, nil) }

// raw sends an event of the channel in its MQTT form: readings on r, the rest on sys with the key e.
func (m *mqtt) raw(event string, payload []byte) {
	switch event {
	case "reading", "readings":
		m.publish("r", payload, nil)
	case "senml", "state", "ack":
		m.publish(event, payload, nil)
	default:
		body := map[string]json.RawMessage{}
		_ = json.Unmarshal(payload, &body)
		body["e"] = jsonString(event)
		b, _ := json.Marshal(body)
		m.publish("sys", b, nil)
	}
}

func (m *mqtt) drop(stay time.Duration) {
	m.end(stay, errDropped, (*tappedConn).drop)
}

func (m *mqtt) abandon(stay time.Duration) {
	m.end(stay, errAbandoned, (*tappedConn).abandon)
}

func (m *mqtt) end(stay time.Duration, cause error, how func(*tappedConn)) {
	m.mu.Lock()
	m.until = time.Now().Add(stay)
	conn := m.conn
	if conn != nil {
		m.cause = cause
	}
	m.mu.Unlock()
	if conn != nil {
		how(conn)
	}
}

func (m *mqtt) reconnect() {
	m.mu.Lock()
	m.until = time.Time{}
	m.mu.Unlock()
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// stall keeps the goroutine that reads busy.
func (m *mqtt) stall(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.stalls.Store(time.Now().Add(d).UnixNano())
	}
}

// garbage is a PUBLISH with both QoS bits set, which is none (MQTT 3.1.1 §3.3.1.2).
func (m *mqtt) garbage() {
	m.mu.Lock()
	conn := m.conn
	m.mu.Unlock()
	if conn != nil {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		conn.Write([]byte{0x36, 0x02, 0x00, 0x00})
	}
}
