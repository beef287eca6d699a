package device

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"devicehub/hub/hubclient"
)

// mqtt is the link over MQTT, 3.1.1 or 5. It reconnects itself, rather than its client library, so that one back-off rules
// all transports, and so that what was not acknowledged is repeated by the device, which knows its numbers.
type mqtt struct {
	d      *Device
	prefix string // <root>/<id>/
	open   func(ctx context.Context, m *mqtt, conn net.Conn) (session, error)

	mu      sync.Mutex
	session session // nil: there is no connection
	conn    *tappedConn
	cause   error
	until   time.Time // no reconnect before
	waiting bool      // before the next attempt
	kick    chan struct{}
	booted  string
	wasUp   bool
	half    []net.Conn // abandoned, until the end of run
	workers sync.WaitGroup
}

// session is one connection that was let in, in either version of the protocol. What arrives goes to mqtt.message.
type session interface {
	subscribe(ctx context.Context, filters ...string) error
	// publish sends with QoS 1 and returns when it is acknowledged. correlation goes with it where the protocol has such a
	// thing. The error is a *refusal, errNoAnswer, or why the connection was lost.
	publish(topic string, payload, correlation []byte) error
	// lost tells, once, why the connection ended.
	lost() <-chan error
	// close ends it, properly with a DISCONNECT, so that the will is not published.
	close(properly bool)
}

// refusal is an answer that says no, with the code of 2-domain §8 for it.
type refusal struct {
	code  string
	again bool // later it may be yes
}

func (r *refusal) Error() string { return "mqtt: refused, " + r.code }

const (
	mqttTimeout   = 15 * time.Second
	mqttKeepAlive = 60 * time.Second
)

var (
	errNoAnswer = errors.New("mqtt: no acknowledgement in time")
	errLost     = errors.New("mqtt: connection lost")
)

func newMQTT(d *Device, open func(context.Context, *mqtt, net.Conn) (session, error)) *mqtt {
	if d.cfg.Backoff == nil {
		d.cfg.Backoff = hubclient.Backoff(100*time.Millisecond, 250*time.Millisecond, 500*time.Millisecond, time.Second, 2*time.Second, 5*time.Second)
	}
	return &mqtt{d: d, open: open, prefix: d.cfg.Root + "/" + d.cfg.ID + "/", kick: make(chan struct{}, 1)}
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
		} else if m.d.cfg.Hooks.Unable != nil {
			m.d.cfg.Hooks.Unable(err)
		}
		m.d.cfg.Log.Debug("mqtt disconnected", "device", m.d.cfg.ID, "err", err)
		if time.Since(began) > 2*time.Second {
			failed = 0
		} else {
			failed++
		}
		wait := m.d.cfg.Backoff(max(failed, 1))
		m.mu.Lock()
		wait, m.waiting = max(wait, time.Until(m.until)), true
		m.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-m.kick:
		case <-t.C:
		}
		t.Stop()
		m.mu.Lock()
		m.waiting = false
		m.mu.Unlock()
	}
	return nil
}

// once makes one connection and returns when it is lost.
func (m *mqtt) once(ctx context.Context, attempt int) error {
	began := time.Now()
	conn, err := m.dial(ctx)
	if err != nil {
		return err
	}
	session, err := m.open(ctx, m, conn)
	if err != nil {
		conn.Close()
		m.refused(err)
		return err
	}
	m.mu.Lock()
	m.session, m.conn, m.cause = session, conn, nil
	m.mu.Unlock()
	err = m.serve(ctx, session, Up{Attempt: attempt, Connect: time.Since(began)})
	m.mu.Lock()
	if m.cause != nil {
		err = m.cause
	}
	m.session, m.conn = nil, nil
	m.mu.Unlock()
	session.close(ctx.Err() != nil)
	if conn.left.Load() {
		m.half = append(m.half, conn.Conn)
	} else {
		conn.Conn.Close()
	}
	return err
}

// dial connects to the broker.
func (m *mqtt) dial(ctx context.Context) (*tappedConn, error) {
	dial := m.d.cfg.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	u := m.d.cfg.MQTT
	secure := u.Scheme == "mqtts" || u.Scheme == "ssl"
	host := u.Host
	if u.Port() == "" {
		port := "1883"
		if secure {
			port = "8883"
		}
		host = net.JoinHostPort(u.Hostname(), port)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	conn, err := dial(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	if secure {
		over := tls.Client(conn, &tls.Config{ServerName: u.Hostname()})
		if err := over.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		conn = over
	}
	return &tappedConn{Conn: conn}, nil
}

func (m *mqtt) serve(ctx context.Context, session session, up Up) error {
	began := time.Now()
	if err := session.subscribe(ctx, m.prefix+"cmd", m.prefix+"sys/down"); err != nil {
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
	case err := <-session.lost():
		return err
	}
}

// refused heeds a connection that was not let in.
func (m *mqtt) refused(err error) {
	var no *refusal
	if !errors.As(err, &no) {
		return
	}
	m.d.failed(no.code)
	if !no.again {
		m.away(30 * time.Second)
	}
}

func (m *mqtt) away(stay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if until := time.Now().Add(stay); until.After(m.until) {
		m.until = until
	}
}

// message handles what the hub sends.
func (m *mqtt) message(topic string, payload []byte, asked request) {
	topic = strings.TrimPrefix(topic, m.prefix)
	if m.d.cfg.Hooks.Frame != nil {
		m.d.cfg.Hooks.Frame(false, topic, payload)
	}
	if topic == "cmd" {
		m.d.command(payload, asked)
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
	m.publishTo(answerTo{topic: m.prefix + topic}, payload, then)
}

func (m *mqtt) publishTo(to answerTo, payload []byte, then func(error)) {
	m.mu.Lock()
	session := m.session
	m.mu.Unlock()
	if session == nil {
		return
	}
	if m.d.cfg.Hooks.Frame != nil {
		m.d.cfg.Hooks.Frame(true, strings.TrimPrefix(to.topic, m.prefix), payload)
	}
	if n := len(payload); m.d.cfg.Carry != "" && n > 2 && payload[0] == '{' {
		carried := append(bytes.Clone(payload[:n-1]), `,"token":`...)
		payload = append(append(carried, jsonString(m.d.cfg.Carry)...), '}')
	}
	m.workers.Go(func() {
		err := session.publish(to.topic, payload, to.correlation)
		if then != nil {
			then(err)
		}
	})
}

func (m *mqtt) readings(payload []byte, n int, answer func(verdict)) {
	m.publish("r", payload, func(err error) {
		var no *refusal
		switch refused := errors.As(err, &no); {
		case err == nil:
			answer(verdict{decided: true})
		case refused && no.again:
			answer(verdict{retry: time.Second, code: no.code})
		case refused: // for good, and as a whole
			v := verdict{decided: true, code: no.code, refused: make(map[int]string, n)}
			for i := range n {
				v.refused[i] = no.code
			}
			answer(v)
		case errors.Is(err, errNoAnswer):
			answer(verdict{retry: time.Second, code: "no_answer"})
		default:
			answer(verdict{retry: time.Second})
		}
	})
}

func (m *mqtt) state(payload []byte) { m.publish("state", payload, nil) }

func (m *mqtt) ack(payload []byte, to answerTo) {
	if to.topic == "" {
		to.topic = m.prefix + "ack"
	}
	m.publishTo(to, payload, nil)
}

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

// signIn is who the device is to the broker.
func (m *mqtt) signIn() (user, password string) {
	if u := m.d.cfg.MQTT.User; u != nil {
		password, _ := u.Password()
		return u.Username(), password
	}
	if m.d.cfg.Bridged {
		return "", ""
	}
	return m.d.cfg.ID, m.d.getToken()
}

// will is what the hub hears when the connection is lost: which boot it was of.
func (m *mqtt) will() (topic string, payload []byte) {
	return m.prefix + "lwt", []byte(`{"boot":"` + m.d.Boot() + `"}`)
}

// garbage is a PUBLISH with both QoS bits set, which is none (MQTT 3.1.1 and 5, §3.3.1.2).
func (m *mqtt) garbage() {
	m.mu.Lock()
	conn := m.conn
	m.mu.Unlock()
	if conn != nil {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		conn.Write([]byte{0x36, 0x02, 0x00, 0x00})
	}
}
