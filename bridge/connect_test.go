package bridge

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"devicehub/bridge/packet"
	"devicehub/devices"
)

func TestConnectRefusals(t *testing.T) {
	door := newDoor()
	door.refuse["off"] = devices.Refuse(devices.CodeDeviceDisabled, "disabled")
	door.refuse["old"] = devices.Refuse(devices.CodeTokenRevoked, "revoked")
	door.refuse["busy"] = devices.Refuse(devices.CodeOverloaded, "later").After(time.Second)
	door.refuse["down"] = devices.Refuse(devices.CodePlatformUnavailable, "down")
	door.refuse["twice"] = devices.Refuse(devices.CodeRateLimited, "two of you").After(5 * time.Second)
	_, addr := start(t, nil, WithDoor(door))
	for _, x := range []struct {
		id         string
		five, four byte
	}{
		{"off", 0x8A, 5}, {"old", 0x87, 5}, {"busy", 0x89, 3}, {"down", 0x88, 3}, {"twice", 0x97, 3},
	} {
		for v, want := range map[byte]byte{packet.V5: x.five, packet.V311: x.four} {
			c := dial(t, addr, v)
			c.send(packet.Connect<<4, c.connectBody(connect{id: "c", user: x.id, password: "pw-" + x.id, clean: true}))
			if b := c.wantType(packet.Connack); b[1] != want || b[0] != 0 {
				t.Errorf("%s, level %d: CONNACK %x, want %02x", x.id, v, b, want)
			}
			c.wantClosed()
		}
	}
}

func TestConnectRules(t *testing.T) {
	_, addr := start(t, nil, WithDoor(newDoor()))
	name := str(nil, "MQTT")
	tail := str(str(str(nil, "x"), "x"), "pw-x")
	for _, x := range []struct {
		name  string
		head  byte
		body  []byte
		reply []byte // CONNACK body, nil for none
	}{
		{"MQTT 3.1 [MQTT-3.1.2-2]", 0x10, append(append(str(nil, "MQIsdp"), 3, 0xC2, 0, 60), tail...), []byte{0, 1}},
		{"level 3 under the new name", 0x10, append(append(name, 3, 0xC2, 0, 60), tail...), []byte{0, 1}},
		{"a version to come", 0x10, append(append(name, 6, 0xC2, 0, 60, 0), tail...), []byte{0, 1}},
		{"another bridge's", 0x10, append(append(str(nil, "MQIsdp"), 0x83, 0xC2, 0, 60), tail...), []byte{0, 1}},
		{"MQTT 5 with a bridge's bit, which is of 3.1.1 alone", 0x10, append(append(name, 0x85, 0xC2, 0, 60, 0), tail...), []byte{0, 1}},
		{"another protocol [MQTT-3.1.2-1]", 0x10, append(append(str(nil, "HTTP"), 4, 0xC2, 0, 60), tail...), nil},
		{"reserved flag [MQTT-3.1.2-3]", 0x10, append(append(name, 4, 0xC3, 0, 60), tail...), nil},
		{"header flags [MQTT-2.2.2-2]", 0x11, append(append(name, 4, 0xC2, 0, 60), tail...), nil},
		{"password without user name [MQTT-3.1.2-22]", 0x10, append(append(name, 4, 0x42, 0, 60), tail...), nil},
		{"will QoS 3 [MQTT-3.1.2-14]", 0x10, append(append(name, 4, 0xDE, 0, 60), tail...), nil},
		{"empty client id to be kept [MQTT-3.1.3-8]", 0x10, append(append(name, 4, 0xC0, 0, 60), str(str(str(nil, ""), "x"), "pw-x")...), []byte{0, 2}},
		{"bytes left over", 0x10, append(append(append(name, 4, 0xC2, 0, 60), tail...), 1), nil},
		{"too short", 0x10, name, nil},
		{"not a CONNECT [MQTT-3.1.0-1]", 0xC0, nil, nil},
		{"too large", 0x10, append(append(append(name, 4, 0xC2, 0, 60), tail...), make([]byte, connectMax)...), nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := dial(t, addr, packet.V311)
			c.send(x.head, x.body)
			if x.reply != nil {
				if b := c.wantType(packet.Connack); !bytes.Equal(b, x.reply) {
					t.Errorf("CONNACK %x, want %x", b, x.reply)
				}
			}
			c.wantClosed()
		})
	}
	five := func(props []byte, want byte) {
		t.Helper()
		c := dial(t, addr, packet.V5)
		c.send(packet.Connect<<4, c.connectBody(connect{id: "x", user: "x", password: "pw-x", clean: true, props: props}))
		if b := c.wantType(packet.Connack); b[1] != want {
			t.Errorf("%x: CONNACK %x, want %02x", props, b, want)
		}
	}
	five([]byte{33, 0, 0}, packet.ProtocolError)           // Receive Maximum 0 (§3.1.2.11.3)
	five([]byte{33, 0, 1, 33, 0, 1}, packet.ProtocolError) // twice
	five([]byte{39, 0, 0, 0, 0}, packet.ProtocolError)     // Maximum Packet Size 0
	five([]byte{23, 2}, packet.ProtocolError)              // neither 0 nor 1
	five([]byte{200, 1}, packet.ProtocolError)             // unknown
	five([]byte{33, 0}, packet.Malformed)                  // cut off
	five(str([]byte{21}, "SCRAM"), packet.BadAuthMethod)   // §4.12
	five([]byte{17, 0, 0, 0, 9, 33, 0, 9, 34, 0, 9}, 0)    // fine
}

func TestConnack(t *testing.T) {
	_, addr := start(t, nil, WithDoor(newDoor()))
	for _, x := range []struct{ keepAlive, want uint16 }{{0, 300}, {301, 300}, {60, 0}, {300, 0}} {
		c := dial(t, addr, packet.V5)
		c.send(packet.Connect<<4, c.connectBody(connect{user: "d", password: "pw-d", keepAlive: x.keepAlive, props: []byte{17, 0xFF, 0xFF, 0xFF, 0xFF}}))
		b := c.wantType(packet.Connack)
		pk := packet.Packet{ProtocolVersion: packet.V5}
		pk.FixedHeader.Type = packet.Connack
		if err := pk.ConnackDecode(b); err != nil || pk.ReasonCode != 0 {
			t.Fatal(err, b)
		}
		p := pk.Properties
		if p.ServerKeepAlive != x.want || p.ServerKeepAliveFlag != (x.want != 0) {
			t.Errorf("keep-alive %d: Server Keep Alive %d, want %d", x.keepAlive, p.ServerKeepAlive, x.want)
		}
		if p.AssignedClientID != "d" || p.MaximumPacketSize != 65536 || p.ReceiveMaximum == 0 || !p.RetainAvailableFlag || p.RetainAvailable != 0 || p.SessionExpiryInterval != 86400 {
			t.Errorf("properties %+v", p)
		}
	}
}

// A newer connection takes over; the older hears why.
func TestTakeover(t *testing.T) {
	versions(t, func(t *testing.T, v byte) {
		door := newDoor()
		_, addr := start(t, nil, WithDoor(door))
		old := dial(t, addr, v)
		old.device("d-1", connect{id: "one", clean: true, will: "hub/v1/d-1/lwt", willPayload: `{"boot":"b"}`})
		old.subscribe(1, "hub/v1/d-1/sys/down")
		next := dial(t, addr, v)
		next.device("d-1", connect{id: "two", clean: true}) // another client id is the same session
		if m := old.message(); m.payload != `{"e":"disconnect","by_epoch":2,"code":"replaced","reason":"a newer connection took over"}` {
			t.Errorf("got %s", m.payload)
		}
		if v == packet.V5 {
			if b := old.wantType(packet.Disconnect); b[0] != packet.SessionTakenOver {
				t.Errorf("reason code %02x", b[0])
			}
		}
		old.wantClosed()
		next.send(packet.Pingreq<<4, nil)
		next.want(packet.Pingresp << 4)
	})
}

func TestEndCodes(t *testing.T) {
	door := newDoor()
	_, addr := start(t, nil, WithDoor(door))
	for code, want := range map[devices.Code]byte{
		devices.CodeTokenRevoked: 0x87, devices.CodeTokenExpired: 0x87, devices.CodeDeviceDisabled: 0x8A, devices.CodeRateLimited: 0x96, devices.CodeReplaced: 0x8E,
	} {
		c := dial(t, addr, packet.V5)
		c.device("d-1", connect{clean: true})
		begun := time.Now()
		door.session(t, "d-1").link.End(code, "because", 0)
		if b := c.wantType(packet.Disconnect); b[0] != want || !strings.Contains(string(b), string(code)) {
			t.Errorf("%s: DISCONNECT %q, want %02x", code, b, want)
		}
		c.wantClosed()
		if d := time.Since(begun); d > time.Second {
			t.Errorf("%s took %v", code, d)
		}
	}
}

func TestEnds(t *testing.T) {
	door := newDoor()
	srv, addr := start(t, nil, WithDoor(door))
	t.Run("clean", func(t *testing.T) {
		c := dial(t, addr, packet.V311)
		c.device("clean", connect{clean: true})
		c.send(packet.Disconnect<<4, nil)
		door.wantClosed(t, "clean client_close")
	})
	t.Run("lost", func(t *testing.T) {
		c := dial(t, addr, packet.V311)
		c.device("lost", connect{clean: true})
		c.nc.Close()
		door.wantClosed(t, "lost connection_lost")
	})
	for name, x := range map[string]struct {
		head byte
		body []byte
		code byte
	}{
		"second CONNECT [MQTT-3.1.0-2]": {0x10, dial(t, addr, packet.V5).connectBody(connect{id: "x"}), packet.ProtocolError},
		"QoS 3 [MQTT-3.3.1-4]":          {0x36, str(nil, "hub/v1/x/r"), packet.Malformed},
		"wildcard in a topic":           {0x30, append(str(nil, "hub/v1/+/r"), 0), packet.Malformed},
		"packet id 0":                   {0x32, append(str(nil, "hub/v1/x/r"), 0, 0, 0), packet.ProtocolError},
		"SUBSCRIBE without flags":       {0x80, []byte{0, 1, 0}, packet.Malformed},
		"SUBSCRIBE without options":     {0x82, str([]byte{0, 1, 0}, "a"), packet.Malformed},
		"SUBSCRIBE without filters":     {0x82, []byte{0, 1, 0}, packet.ProtocolError},
		"a server's packet":             {0xD0, nil, packet.ProtocolError},
		"packet type 0":                 {0x00, nil, packet.ProtocolError},
		"alias out of range":            {0x30, append(str(nil, "hub/v1/x/r"), 3, 35, 0, 17), packet.InvalidTopicAlias},
		"alias 0":                       {0x30, append(str(nil, "hub/v1/x/r"), 3, 35, 0, 0), packet.InvalidTopicAlias},
		"unknown alias":                 {0x30, append(str(nil, ""), 3, 35, 0, 3), packet.ProtocolError},
		"no topic":                      {0x30, append(str(nil, ""), 0), packet.ProtocolError},
		"too large":                     {0x30, make([]byte, 70000), packet.TooLarge},
		"retained at QoS 0":             {0x31, append(str(nil, "hub/v1/x/r"), 0), packet.RetainNotSupported},
		"invalid UTF-8":                 {0x30, append(str(nil, "hub/v1/\xff/r"), 0), packet.Malformed},
		"not ours to send":              {0xF0, []byte{0x18, 0}, packet.ProtocolError},
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr, packet.V5)
			c.device("x", connect{clean: true})
			c.send(x.head, x.body)
			if b := c.wantType(packet.Disconnect); b[0] != x.code {
				t.Errorf("DISCONNECT %02x, want %02x", b[0], x.code)
			}
			c.wantClosed()
			door.wantClosed(t, "x protocol_error")
		})
	}
	t.Run("remaining length of five bytes", func(t *testing.T) {
		c := dial(t, addr, packet.V5)
		c.device("x", connect{clean: true})
		_, _ = c.nc.Write([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01})
		if b := c.wantType(packet.Disconnect); b[0] != packet.Malformed {
			t.Errorf("DISCONNECT %02x", b[0])
		}
	})
	if n := srv.Stats().Panics; n != 0 {
		t.Errorf("%d panics", n)
	}
}

// A client of MQTT 5 that sends more than Receive Maximum is sent away.
func TestReceiveMaximumIsKept(t *testing.T) {
	door := newDoor()
	door.decide = func(heard, func(any, error)) {}
	_, addr := start(t, func(c *Config) { c.InFlight = 3 }, WithDoor(door))
	c := dial(t, addr, packet.V5)
	c.device("d", connect{clean: true})
	for i := range uint16(4) {
		c.publish("hub/v1/d/r", "{}", 1, i+1)
	}
	if b := c.wantType(packet.Disconnect); b[0] != packet.ReceiveMaxExceeded {
		t.Errorf("DISCONNECT %02x", b[0])
	}
	// One of 3.1.1 cannot know: it is not read from until there is room.
	replies := make(chan func(any, error), 10)
	door.mu.Lock()
	door.decide = func(_ heard, reply func(any, error)) { replies <- reply }
	door.mu.Unlock()
	c = dial(t, addr, packet.V311)
	c.device("e", connect{clean: true})
	for i := range uint16(5) {
		c.publish("hub/v1/e/r", "{}", 1, i+1)
	}
	for range 5 {
		(<-replies)(nil, nil)
		c.wantType(packet.Puback)
	}
}

// Whom the door finds too many is told so, and counted.
func TestThrottled(t *testing.T) {
	accounts := limitedAccounts{}
	srv, addr := start(t, nil, WithAccounts(accounts))
	c := dial(t, addr, packet.V5)
	c.send(packet.Connect<<4, c.connectBody(connect{id: "s", user: "service:s", password: "pw", clean: true}))
	if b := c.wantType(packet.Connack); b[1] != packet.QuotaExceeded {
		t.Errorf("CONNACK %02x, want quota exceeded", b[1])
	}
	if n := srv.Stats().Throttled; n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
}

// limitedAccounts finds that everybody comes too often.
type limitedAccounts struct{ fakeAccounts }

func (limitedAccounts) SignIn(string, string, string) (Account, error) {
	return Account{}, devices.Refuse(devices.CodeRateLimited, "too many").After(time.Second)
}

// A reader that waits for a decision which does not come still ends.
func TestEndWhileFull(t *testing.T) {
	door := newDoor()
	door.decide = func(heard, func(any, error)) {}
	_, addr := start(t, func(c *Config) { c.InFlight = 2 }, WithDoor(door))
	for qos := range byte(2) {
		c := dial(t, addr, packet.V311)
		c.device("d", connect{clean: true})
		for i := range uint16(5) {
			c.publish("hub/v1/d/r", "{}", qos, i+1)
		}
		s := door.session(t, "d")
		time.Sleep(20 * time.Millisecond)
		s.link.End(devices.CodeTokenRevoked, "revoked", 0)
		c.wantClosed()
		if r := <-s.closed; r != "kicked" { // the session knows better why
			t.Errorf("reason %s", r)
		}
	}
	if n := len(door.heard); n != 4 {
		t.Errorf("heard %d, want 4: not more than may be in flight", n)
	}
}

// Floods end with the connection that they come on.
func TestFloods(t *testing.T) {
	door := newDoor()
	door.decide = func(_ heard, reply func(any, error)) {
		reply(nil, devices.Refuse(devices.CodeRateLimited, "too many").After(time.Millisecond))
	}
	_, addr := start(t, nil, WithDoor(door))
	for name, flood := range map[string]func(c *raw, i int){
		"pings":           func(c *raw, _ int) { _, _ = c.nc.Write([]byte{packet.Pingreq << 4, 0}) },
		"foreign topics":  func(c *raw, _ int) { _, _ = c.nc.Write(frame(0x30, c.publishBody("hub/v1/x/r", "", 0, 0))) },
		"events":          func(c *raw, _ int) { _, _ = c.nc.Write(frame(0x30, c.publishBody("hub/v1/d/r", "", 0, 0))) },
		"QoS 2, unclosed": func(c *raw, i int) { _, _ = c.nc.Write(frame(0x34, c.publishBody("hub/v1/d/r", "", 2, uint16(i+1)))) },
	} {
		t.Run(name, func(t *testing.T) {
			c := dial(t, addr, packet.V5)
			c.device("d", connect{clean: true})
			go func() {
				for i := range 5000 {
					flood(c, i)
				}
			}()
			for {
				h, b := c.read()
				if h>>4 == packet.Disconnect {
					if b[0] != packet.RateTooHigh {
						t.Errorf("DISCONNECT %02x", b[0])
					}
					return
				}
			}
		})
	}
}

// A client that does not read harms only itself.
func TestSlowConsumer(t *testing.T) {
	door := newDoor()
	srv, addr := start(t, func(c *Config) { c.OutboundBytes = 32 << 10; c.OutboundAge = 300 * time.Millisecond }, WithDoor(door))
	c := dial(t, addr, packet.V311)
	_ = c.nc.(*net.TCPConn).SetReadBuffer(4096)
	c.device("slow", connect{clean: true})
	c.subscribe(0, "hub/v1/slow/sys/down")
	s := door.session(t, "slow")
	big := map[string]string{"x": strings.Repeat("x", 8<<10)}
	for range 2000 {
		if !s.link.Tell("config", big) {
			break
		}
	}
	door.wantClosed(t, "slow slow_consumer")
	if srv.Stats().Slow == 0 {
		t.Error("not counted")
	}
}

func TestShutdown(t *testing.T) {
	door := newDoor()
	cfg := Default()
	cfg.Listen = "127.0.0.1:0"
	srv, err := New(cfg, WithDoor(door))
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- srv.Run(ctx) }()
	c := dial(t, srv.Addr("tcp").String(), packet.V5)
	c.device("d", connect{clean: true})
	cancel()
	if b := c.wantType(packet.Disconnect); b[0] != packet.ShuttingDown {
		t.Errorf("DISCONNECT %02x", b[0])
	}
	c.wantClosed()
	if err := <-done; err != nil {
		t.Error(err)
	}
	door.wantClosed(t, "d server_drain")
	if _, err := net.Dial("tcp", srv.Addr("tcp").String()); err == nil {
		t.Error("still listening")
	}
}

func TestPortInUse(t *testing.T) {
	_, addr := start(t, nil)
	cfg := Default()
	cfg.Listen = addr
	srv, _ := New(cfg)
	if err := srv.Listen(); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v, want an error that names %s", err, addr)
	}
}

// The clients of programs: TLS and WebSocket through the Eclipse client.
func TestTransports(t *testing.T) {
	door := newDoor()
	conf := certificate(t)
	srv, _ := start(t, func(c *Config) { c.TLSListen, c.TLS = "127.0.0.1:0", conf }, WithDoor(door))
	plain, _ := start(t, nil, WithDoor(door))
	for name, url := range map[string]string{
		"tcp": "tcp://" + plain.Addr("tcp").String(), "tls": "ssl://" + srv.Addr("tls").String(),
		"ws": "ws://" + plain.Addr("ws").String() + "/mqtt", "wss": "wss://" + srv.Addr("ws").String(),
	} {
		t.Run(name, func(t *testing.T) {
			id := devices.ID("d-" + name)
			got := make(chan string, 10)
			o := mqtt.NewClientOptions().AddBroker(url).SetClientID("any").SetUsername(string(id)).SetPassword("pw-" + string(id)).
				SetTLSConfig(&tls.Config{InsecureSkipVerify: true}).SetAutoReconnect(false)
			c := mqtt.NewClient(o)
			wait := func(tok mqtt.Token) {
				t.Helper()
				if !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
					t.Fatal(tok.Error())
				}
			}
			wait(c.Connect())
			defer c.Disconnect(100)
			wait(c.Subscribe("hub/v1/"+string(id)+"/cmd", 1, func(_ mqtt.Client, m mqtt.Message) { got <- string(m.Payload()) }))
			wait(c.Publish("hub/v1/"+string(id)+"/r", 1, false, strings.Repeat("x", 20000)))
			s := door.session(t, id)
			<-s.listened
			s.link.Command(command("c-"+name, time.Minute))
			if m := <-got; !strings.Contains(m, "c-"+name) {
				t.Errorf("got %s", m)
			}
		})
	}
}

func certificate(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// pipes is a listener of connections in memory, for virtual time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p pipes) Close() error   { close(p.done); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// virtual runs f against a server in virtual time.
func virtual(t *testing.T, door Door, f func(t *testing.T, dial func(version byte) *raw)) {
	synctest.Test(t, func(t *testing.T) {
		srv, err := New(Default(), WithDoor(door))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ln := pipes{make(chan net.Conn), make(chan struct{})}
		done := make(chan error)
		go func() { done <- srv.Serve(ctx, ln) }()
		f(t, func(version byte) *raw {
			a, b := net.Pipe()
			ln.conns <- b
			t.Cleanup(func() { a.Close() })
			return &raw{t: t, nc: a, version: version}
		})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// [MQTT-3.1.2-22], and devices/PROTOCOL.md#mqtt: 0 and what is over 300 s count as 300 s.
func TestKeepAlive(t *testing.T) {
	for _, x := range []struct {
		asked uint16
		after time.Duration
	}{{60, 90 * time.Second}, {0, 450 * time.Second}, {1000, 450 * time.Second}, {300, 450 * time.Second}} {
		door := newDoor()
		virtual(t, door, func(t *testing.T, dial func(byte) *raw) {
			c := dial(packet.V5)
			c.device("d", connect{clean: true, keepAlive: x.asked})
			s := door.session(t, "d")
			if s.arrival.OfflineAfter != x.after {
				t.Errorf("offline after %v, want %v", s.arrival.OfflineAfter, x.after)
			}
			for range 3 { // pings keep it alive
				time.Sleep(x.after - time.Second)
				c.send(packet.Pingreq<<4, nil)
				c.want(packet.Pingresp << 4)
			}
			begun := time.Now()
			h, b, err := c.readErr(2 * x.after)
			if err != nil || h>>4 != packet.Disconnect || b[0] != packet.KeepAliveTimeout {
				t.Fatalf("got %02x %x %v", h, b, err)
			}
			if d := time.Since(begun); d != x.after {
				t.Errorf("keep-alive %d: given up after %v, want %v", x.asked, d, x.after)
			}
			c.nc.Close()
			if r := <-s.closed; r != "heartbeat_timeout" {
				t.Errorf("reason %s", r)
			}
		})
	}
}

func TestSilentStranger(t *testing.T) {
	virtual(t, newDoor(), func(t *testing.T, dial func(byte) *raw) {
		c := dial(packet.V311)
		begun := time.Now()
		if _, _, err := c.readErr(time.Minute); err == nil {
			t.Fatal("got a packet")
		}
		if d := time.Since(begun); d != connectTimeout {
			t.Errorf("closed after %v", d)
		}
	})
}

// devices/PROTOCOL.md#mqtt: no PUBACK for what may succeed later, and gone within ten seconds.
func TestStall(t *testing.T) {
	for after, want := range map[time.Duration]time.Duration{0: time.Second, 3 * time.Second: 3 * time.Second, time.Hour: stallMax} {
		door := newDoor()
		door.decide = func(_ heard, reply func(any, error)) {
			reply(nil, devices.Refuse(devices.CodeOverloaded, "full").After(after))
		}
		virtual(t, door, func(t *testing.T, dial func(byte) *raw) {
			c := dial(packet.V311)
			c.device("d", connect{clean: true})
			c.publish("hub/v1/d/r", "{}", 1, 1)
			begun := time.Now()
			if h, b, err := c.readErr(time.Minute); err == nil {
				t.Fatalf("got %02x %x", h, b)
			}
			if d := time.Since(begun); d != want {
				t.Errorf("retry after %v: sent away after %v, want %v", after, d, want)
			}
			if n := len(door.heard); n != 1 {
				t.Errorf("heard %d", n)
			}
		})
	}
}
