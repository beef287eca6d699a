package device

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"devicehub/hub/hubclient"
)

// mqtt is the link over MQTT, 3.1.1 or 5. It reconnects by itself, so that one back-off rules all
// transports, and what was not acknowledged is repeated by the device, which knows its numbers.
type mqtt struct {
	d      *Device
	prefix string // <root>/<id>/
	proto  protocol

	mu      sync.Mutex
	up      *mqttConn // nil: nobody is let in
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

func newMQTT(d *Device, proto protocol) *mqtt {
	if d.cfg.Backoff == nil {
		d.cfg.Backoff = hubclient.Backoff(100*time.Millisecond, 250*time.Millisecond, 500*time.Millisecond, time.Second, 2*time.Second, 5*time.Second)
	}
	return &mqtt{d: d, proto: proto, prefix: d.cfg.Root + "/" + d.cfg.ID + "/", kick: make(chan struct{}, 1)}
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
		if errors.Is(err, ErrLeft) {
			wait = 0
		}
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
	tapped, err := m.dial(ctx)
	if err != nil {
		return err
	}
	conn := newMQTTConn(tapped, m.proto)
	tapped.SetReadDeadline(time.Now().Add(mqttTimeout))
	giveUp := context.AfterFunc(ctx, func() { tapped.SetReadDeadline(time.Unix(1, 0)) })
	user, password := m.signIn()
	will, payload := m.will()
	who := connect{clientID: m.d.cfg.ClientID, user: user, password: password, will: will, willPayload: payload}
	err = conn.open(who)
	if giveUp(); err != nil {
		conn.end(err)
		conn.wg.Wait()
		tapped.Close()
		m.refused(err)
		return err
	}
	m.mu.Lock()
	m.up, m.conn, m.cause = conn, tapped, nil
	m.mu.Unlock()
	err = m.serve(ctx, conn, Up{Attempt: attempt, Connect: time.Since(began)})
	m.mu.Lock()
	if m.cause != nil {
		err = m.cause
	}
	m.up, m.conn = nil, nil
	m.mu.Unlock()
	conn.end(err)
	m.letGo(tapped, errors.Is(err, ErrLeft) || ctx.Err() != nil)
	conn.wg.Wait()
	return err
}

// letGo ends a connection. One that was left is read to its end: a reset could overtake what was
// sent last.
func (m *mqtt) letGo(conn *tappedConn, left bool) {
	switch {
	case conn.left.Load():
		m.half = append(m.half, conn.Conn)
		return
	case !left:
		conn.Conn.Close()
		return
	}
	m.workers.Go(func() {
		if tcp, ok := conn.Conn.(interface{ CloseWrite() error }); ok {
			_ = tcp.CloseWrite() // of a connection that may be gone
		}
		conn.Conn.SetReadDeadline(time.Now().Add(time.Second))
		_, _ = io.Copy(io.Discard, conn.Conn) // until the peer closes, or does not
		conn.Conn.Close()
	})
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

func (m *mqtt) serve(ctx context.Context, conn *mqttConn, up Up) error {
	began := time.Now()
	defer context.AfterFunc(ctx, func() { m.depart(conn) })()
	conn.subscribe(func(err error) {
		if err != nil {
			m.refused(err)
			conn.conn.drop()
			return
		}
		up.Join = time.Since(began)
		m.joined(up)
	}, m.prefix+"cmd", m.prefix+"sys/down")
	return conn.readAll(func(p packet) { m.message(p.topic, p.payload, p.asked) })
}

// joined is the device subscribed. It is called by the goroutine that reads.
func (m *mqtt) joined(up Up) {
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
}

// depart says goodbye, and has the goroutine that reads return.
func (m *mqtt) depart(conn *mqttConn) {
	conn.leave()
	conn.conn.SetReadDeadline(time.Unix(1, 0))
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
// It reports whether there is one.
func (m *mqtt) publish(topic string, payload []byte, then func(error)) bool {
	return m.send(message{topic: m.prefix + topic, payload: payload, qos: 1}, then)
}

func (m *mqtt) send(msg message, then func(error)) bool {
	m.mu.Lock()
	conn := m.up
	m.mu.Unlock()
	if conn == nil {
		return false
	}
	if m.d.cfg.Hooks.Frame != nil {
		m.d.cfg.Hooks.Frame(true, strings.TrimPrefix(msg.topic, m.prefix), msg.payload)
	}
	if n := len(msg.payload); m.d.cfg.Carry != "" && n > 2 && msg.payload[0] == '{' {
		carried := append(bytes.Clone(msg.payload[:n-1]), `,"token":`...)
		msg.payload = append(append(carried, jsonString(m.d.cfg.Carry)...), '}')
	}
	return conn.publish(msg, then)
}

func (m *mqtt) readings(p push, answer func(verdict)) bool {
	msg := message{topic: m.prefix + "r", payload: p.payload, qos: p.form.Delivery.qos()}
	switch p.form.Kind {
	case Bare:
		msg.topic += "/" + p.metric
	case SenML, CBOR:
		msg.topic, msg.contentType = m.prefix+"senml", "application/senml+json" // RFC 8428 §12.3
		if p.form.Kind == CBOR {
			msg.contentType = "application/senml+cbor"
		}
	}
	sent := m.send(msg, func(err error) { answer(readingsVerdict(err, p.n)) })
	switch {
	case !sent:
		answer(verdict{retry: time.Second})
	case msg.qos == 0:
		answer(verdict{decided: true, unheard: true})
	}
	return sent
}

// readingsVerdict is what became of n readings whose PUBLISH was answered so.
func readingsVerdict(err error, n int) verdict {
	var no *refusal
	switch refused := errors.As(err, &no); {
	case err == nil:
		return verdict{decided: true}
	case refused && no.again:
		return verdict{retry: time.Second, code: no.code}
	case refused: // for good, and as a whole
		v := verdict{decided: true, code: no.code, refused: make(map[int]string, n)}
		for i := range n {
			v.refused[i] = no.code
		}
		return v
	}
	return verdict{retry: time.Second, code: "no_answer"}
}

func (m *mqtt) state(payload []byte, taken func()) { m.publish("state", payload, ifTaken(taken)) }

func (m *mqtt) ack(payload []byte, to answerTo, taken func()) {
	if to.topic == "" {
		to.topic = m.prefix + "ack"
	}
	m.send(message{topic: to.topic, payload: payload, qos: 1, correlation: to.correlation}, ifTaken(taken))
}

// ifTaken calls back when a message was acknowledged and not refused.
func ifTaken(taken func()) func(error) {
	return func(err error) {
		if err == nil && taken != nil {
			taken()
		}
	}
}

// raw sends an event of the channel in its MQTT form: readings on r, a bare one on r/<metric>, the
// rest on sys with the key e.
func (m *mqtt) raw(event string, payload []byte) {
	refused := func(err error) {
		var no *refusal
		if errors.As(err, &no) {
			m.d.failed(no.code)
		}
	}
	switch {
	case event == "reading", event == "readings":
		m.publish("r", payload, refused)
	case event == "senml", event == "state", event == "ack", strings.HasPrefix(event, "r/"):
		m.publish(event, payload, refused)
	default:
		body := map[string]json.RawMessage{}
		_ = json.Unmarshal(payload, &body)
		body["e"] = jsonString(event)
		b, _ := json.Marshal(body)
		m.publish("sys", b, refused)
	}
}

// cork holds back what is sent until the device leaves.
func (m *mqtt) cork() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.up != nil {
		m.up.cork()
	}
}

// leave says goodbye, behind all that was sent, and comes back after stay.
func (m *mqtt) leave(stay time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.until = time.Now().Add(stay)
	if conn := m.up; conn != nil {
		if m.cause == nil {
			m.cause = ErrLeft
		}
		m.workers.Go(func() { m.depart(conn) })
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

// will is what the hub hears when the connection is lost: which boot it was of, if the device
// tells.
func (m *mqtt) will() (topic string, payload []byte) {
	if m.d.cfg.NoBoot {
		return m.prefix + "lwt", []byte("gone")
	}
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
