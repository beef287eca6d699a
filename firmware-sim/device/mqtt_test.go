package device_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"devicehub/firmware-sim/device"
)

// broker is a plain MQTT broker that shows what devices publish.
type broker struct {
	server *mochi.Server
	url    *url.URL
	mu     sync.Mutex
	got    []string

	messages []string // as got, without what stands beside the payload
}

func newBroker(t *testing.T) *broker {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &broker{server: mochi.New(&mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)}),
		url: &url.URL{Scheme: "mqtt", Host: ln.Addr().String()}}
	if err := b.server.AddHook(new(auth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.server.AddListener(listeners.NewNet("t", ln)); err != nil {
		t.Fatal(err)
	}
	go b.server.Serve()
	t.Cleanup(func() { b.server.Close() })
	b.server.Subscribe("hub/v1/#", 1, func(_ *mochi.Client, _ packets.Subscription, p packets.Packet) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.messages = append(b.messages, p.TopicName+" "+string(p.Payload))
		b.got = append(b.got, p.TopicName+" "+string(p.Properties.CorrelationData)+string(p.Payload))
	})
	return b
}

// wait returns the first message that contains every part.
func (b *broker) wait(t *testing.T, parts ...string) string {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		b.mu.Lock()
		for _, m := range b.got {
			all := true
			for _, p := range parts {
				all = all && strings.Contains(m, p)
			}
			if all {
				b.mu.Unlock()
				return m
			}
		}
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	t.Fatalf("no message with %q among %q", parts, b.got)
	return ""
}

func startMQTT(t *testing.T, b *broker, cfg device.Config) (*device.Device, chan string) {
	t.Helper()
	events := make(chan string, 100)
	cfg.ID, cfg.Token, cfg.MQTT = "lamp", "secret", b.url
	cfg.Hooks.Up = func(device.Up) { events <- "up" }
	cfg.Hooks.Down = func(error) { events <- "down" }
	d, err := device.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	if e := <-events; e != "up" {
		t.Fatalf("first event %s, want up", e)
	}
	return d, events
}

// eachVersion runs a test for both versions of the protocol.
func eachVersion(t *testing.T, f func(t *testing.T, version device.Transport)) {
	for _, version := range []device.Transport{device.MQTT, device.MQTT5} {
		t.Run(string(version), func(t *testing.T) { f(t, version) })
	}
}

func TestMQTT(t *testing.T) { eachVersion(t, testMQTT) }

func testMQTT(t *testing.T, version device.Transport) {
	b := newBroker(t)
	acked := make(chan int, 10)
	d, _ := startMQTT(t, b, device.Config{Transport: version, Sensor: true, Light: &device.LightConfig{}, Hooks: device.Hooks{Acked: func(a device.Ack) { acked <- len(a.Readings) }}})
	b.wait(t, "hub/v1/lamp/state ", `"cause":"boot"`)
	d.Measure("temperature", 21.5, "", time.Now())
	b.wait(t, "hub/v1/lamp/r ", `"m":"temperature","v":21.5`, `"s":1`, d.Boot())
	if n := <-acked; n != 1 {
		t.Errorf("%d acknowledged, want 1", n)
	}
	b.server.Publish("hub/v1/lamp/cmd", []byte(`{"cmd_id":"c1","op":"set","params":{"brightness":9}}`), false, 1)
	b.wait(t, "hub/v1/lamp/ack ", `"cmd_id":"c1","status":"done"`)
	b.wait(t, "hub/v1/lamp/state ", `"brightness":9`, `"cmd":"c1"`)
	b.server.Publish("hub/v1/lamp/sys/down", []byte(`{"e":"ping","n":7}`), false, 1)
	b.wait(t, "hub/v1/lamp/sys ", `"e":"pong"`, `"n":7`)
	b.server.Publish("hub/v1/lamp/sys/down", []byte(`{"e":"token_expiring"}`), false, 1)
	b.wait(t, "hub/v1/lamp/sys ", `"e":"token_refresh"`)
	b.server.Publish("hub/v1/lamp/sys/down", []byte(`{"e":"config","ver":3}`), false, 1)
	b.wait(t, "hub/v1/lamp/sys ", `"config_ver":3`)
}

// A connection that breaks, or goes silent, is noticed at once, and what was measured meanwhile follows.
func TestMQTTComesBack(t *testing.T) { eachVersion(t, testMQTTComesBack) }

func testMQTTComesBack(t *testing.T, version device.Transport) {
	b := newBroker(t)
	d, events := startMQTT(t, b, device.Config{Transport: version, Sensor: true})
	for i, end := range []func(time.Duration){d.Drop, d.Abandon, d.Drop} {
		end(100 * time.Millisecond)
		for _, want := range []string{"down", "up"} {
			if want == "up" {
				d.Measure("temperature", float64(i), "", time.Now())
			}
			select {
			case got := <-events:
				if got != want {
					t.Fatalf("round %d: got %s, want %s", i, got, want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("round %d: no %s", i, want)
			}
		}
		for end := time.Now().Add(10 * time.Second); d.Backlog() > 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("round %d: %d readings not acknowledged", i, d.Backlog())
			}
		}
		if got := d.Stage(); got != device.Joined {
			t.Errorf("round %d: stage %d, want joined", i, got)
		}
	}
	d.Drop(time.Hour)
	for end := time.Now().Add(10 * time.Second); d.Stage() != device.Waiting; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("held down: stage %d, want waiting", d.Stage())
		}
	}
}

// answering refuses what is published on r with the reason codes that it is given, one after the other.
type answering struct {
	mochi.HookBase
	codes []packets.Code
}

func (a *answering) ID() string           { return "answering" }
func (a *answering) Provides(b byte) bool { return b == mochi.OnPublish }

func (a *answering) OnPublish(_ *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	if !strings.HasSuffix(pk.TopicName, "/r") || len(a.codes) == 0 {
		return pk, nil
	}
	code := a.codes[0]
	a.codes = a.codes[1:]
	return pk, code
}

// In version 5 the acknowledgement says what became of a reading: later, or never.
func TestMQTT5HeedsReasonCodes(t *testing.T) {
	b := newBroker(t)
	hook := &answering{codes: []packets.Code{packets.ErrQuotaExceeded, packets.ErrPayloadFormatInvalid}}
	if err := b.server.AddHook(hook, nil); err != nil {
		t.Fatal(err)
	}
	refused, acked, errs := make(chan string, 10), make(chan int, 10), make(chan string, 10)
	d, _ := startMQTT(t, b, device.Config{Transport: device.MQTT5, Sensor: true, Hooks: device.Hooks{
		Refused: func(_ device.Reading, code string) { refused <- code },
		Acked:   func(a device.Ack) { acked <- len(a.Readings) },
		Error:   func(code string) { errs <- code },
	}})
	d.Measure("temperature", 1.0, "", time.Now())
	if code := <-errs; code != "rate_limited" {
		t.Errorf("got %s, want rate_limited, and another try", code)
	}
	if code := <-refused; code != "invalid" {
		t.Errorf("got %s, want invalid, for good", code)
	}
	if d.Backlog() != 0 {
		t.Error("what is refused for good is kept")
	}
	d.Measure("temperature", 2.0, "", time.Now())
	if n := <-acked; n != 1 {
		t.Errorf("%d acknowledged, want 1", n)
	}
}

// Over version 5 a command that a broker kept too long is refused, whatever its envelope says, and each answer goes where the
// message says, with its correlation data.
func TestMQTT5HeedsWhatStandsBesideACommand(t *testing.T) {
	b := newBroker(t)
	ran := make(chan string, 10)
	slow := func(*rand.Rand) float64 { return 1500 }
	startMQTT(t, b, device.Config{Transport: device.MQTT5, Light: &device.LightConfig{Ack: slow},
		Hooks: device.Hooks{Ran: func(c device.Command) { ran <- c.ID }}})
	person := b.server.NewClient(nil, "t", "person", true)
	person.Properties.ProtocolVersion = 5
	give := func(id string, p packets.Properties) {
		pk := packets.Packet{ProtocolVersion: 5, FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: 1, Properties: p,
			TopicName: "hub/v1/lamp/cmd", Created: time.Now().Unix(), Payload: []byte(`{"cmd_id":"` + id + `","op":"identify","ttl_ms":60000}`)}
		if err := b.server.InjectPacket(person, pk); err != nil {
			t.Fatal(err)
		}
	}
	give("late", packets.Properties{MessageExpiryInterval: 1, CorrelationData: []byte("c-late")})
	give("good", packets.Properties{MessageExpiryInterval: 60, CorrelationData: []byte("c-good"), ResponseTopic: "hub/v1/lamp/ack/here"})
	give("plain", packets.Properties{})
	b.wait(t, "hub/v1/lamp/ack c-late", `"cmd_id":"late","status":"rejected","code":"expired"`)
	b.wait(t, "hub/v1/lamp/ack/here c-good", `"cmd_id":"good","status":"acked"`)
	b.wait(t, "hub/v1/lamp/ack/here c-good", `"cmd_id":"good","status":"done"`)
	b.wait(t, "hub/v1/lamp/ack ", `"cmd_id":"plain","status":"done"`)
	give("good", packets.Properties{CorrelationData: []byte("c-again")})
	b.wait(t, "hub/v1/lamp/ack c-again", `"cmd_id":"good","status":"done"`)
	if first, second := <-ran, <-ran; first == "late" || second == "late" || len(ran) > 0 {
		t.Errorf("executed %s, %s and %d more, want good and plain alone", first, second, len(ran))
	}
}

// tap counts what is written to a connection, and keeps it.
type tap struct {
	net.Conn
	mu     *sync.Mutex
	writes *[]string
}

func (c tap) Write(b []byte) (int, error) {
	c.mu.Lock()
	*c.writes = append(*c.writes, string(b))
	c.mu.Unlock()
	return c.Conn.Write(b)
}

// CloseWrite shows that the connection has one.
func (c tap) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

func tapped(mu *sync.Mutex, writes *[]string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return tap{conn, mu, writes}, nil
	}
}

// Every form goes to its topic as what it is, with every quality of service.
func TestMQTTForms(t *testing.T) { eachVersion(t, testMQTTForms) }

func testMQTTForms(t *testing.T, version device.Transport) {
	for _, tt := range []struct {
		kind device.Kind
		want string // topic and payload of a broker
	}{
		{device.Object, `hub/v1/lamp/r {"m":"temperature","v":21.5}`},
		{device.Batch, `hub/v1/lamp/r {"r":[["temperature",21.5]]}`},
		{device.SenML, `hub/v1/lamp/senml [{"n":"temperature","v":21.5}]`},
		{device.CBOR, "hub/v1/lamp/senml \x81\xa2\x00\x6btemperature\x02\xfb@5\x80\x00\x00\x00\x00\x00"},
		{device.Bare, `hub/v1/lamp/r/temperature 21.5`},
	} {
		for delivery := range device.ExactlyOnce + 1 {
			b := newBroker(t)
			style := device.Style{Untimed: true, Plain: true}
			style.Kinds[tt.kind], style.QoS[delivery] = 1, 1
			acked, sent := make(chan int, 10), make(chan device.Form, 10)
			d, _ := startMQTT(t, b, device.Config{Transport: version, Sensor: true, Style: style, Hooks: device.Hooks{
				Acked: func(a device.Ack) { acked <- len(a.Readings) },
				Sent:  func(rs []device.Reading) { sent <- rs[0].Form },
			}})
			for range 3 { // the alias, where there is one, is given and then used
				d.Measure("temperature", 21.5, "", time.Now())
			}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				b.mu.Lock()
				n := 0
				for _, m := range b.messages {
					if m == tt.want {
						n++
					}
				}
				others := len(b.messages) - n
				b.mu.Unlock()
				if n == 3 && others == 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("kind %d: %d messages %q and %d others, want 3; %q", tt.kind, n, tt.want, others, b.messages)
				}
			}
			if f := <-sent; f.Kind != tt.kind || f.Delivery != delivery {
				t.Errorf("sent as %+v, want kind %d, delivery %d", f, tt.kind, delivery)
			}
			for n := 0; delivery != device.AtMostOnce && n < 3; n += <-acked {
			}
			if len(acked) > 0 || d.Backlog() > 0 {
				t.Errorf("kind %d, delivery %d: %d acknowledged more, %d kept", tt.kind, delivery, len(acked), d.Backlog())
			}
		}
	}
}

// announcing says in a CONNACK that topics may have aliases.
type announcing struct{ mochi.HookBase }

func (*announcing) ID() string           { return "announcing" }
func (*announcing) Provides(b byte) bool { return b == mochi.OnPacketEncode }

func (*announcing) OnPacketEncode(_ *mochi.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type == packets.Connack {
		pk.Properties.TopicAliasMaximum = 10
	}
	return pk
}

// Over version 5 a topic that is used again has an alias (§3.3.2.3.4): it is written out once a
// connection.
func TestMQTT5Aliases(t *testing.T) {
	b := newBroker(t)
	if err := b.server.AddHook(new(announcing), nil); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var writes []string
	style := device.Style{Untimed: true, Plain: true}
	style.Kinds[device.Bare] = 1
	d, _ := startMQTT(t, b, device.Config{Transport: device.MQTT5, Sensor: true, Style: style, Dial: tapped(&mu, &writes)})
	for range 5 {
		d.Measure("temperature", 21.5, "", time.Now())
		d.Measure("humidity", 50.0, "", time.Now())
	}
	for end := time.Now().Add(10 * time.Second); d.Backlog() > 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
	mu.Lock()
	defer mu.Unlock()
	all := strings.Join(writes, "")
	for _, topic := range []string{"hub/v1/lamp/r/temperature", "hub/v1/lamp/r/humidity"} {
		if n := strings.Count(all, topic); n != 1 {
			t.Errorf("%s is written %d times, want once", topic, n)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.messages); n != 10 {
		t.Errorf("the broker heard %d messages, want 10", n)
	}
}

// A device that leaves sends what it has and its goodbye in one piece, in that order, and is back
// when it said; its will is not published. Nothing of what it sent at most once is missing.
func TestMQTTLeaves(t *testing.T) { eachVersion(t, testMQTTLeaves) }

func testMQTTLeaves(t *testing.T, version device.Transport) {
	b := newBroker(t)
	var mu sync.Mutex
	var writes []string
	style := device.Style{Plain: true}
	style.QoS[device.AtMostOnce] = 1
	var down []error
	cfg := device.Config{Transport: version, Sensor: true, Style: style, Dial: tapped(&mu, &writes), Backoff: func(int) time.Duration { return time.Hour }}
	events := make(chan string, 100)
	cfg.ID, cfg.Token, cfg.MQTT = "lamp", "secret", b.url
	cfg.Hooks.Up = func(device.Up) { events <- "up" }
	cfg.Hooks.Down = func(err error) { down = append(down, err); events <- "down" }
	d, err := device.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	if e := <-events; e != "up" {
		t.Fatalf("first event %s", e)
	}
	boot := d.Boot()
	const rounds = 20
	for i := range rounds {
		d.Leave(30*time.Millisecond, i%2 == 0, func() { // this broker takes one that is back sooner for another
			for j := range 3 {
				d.Measure("temperature", float64(10*i+j), "", time.Now())
			}
		})
		for _, want := range []string{"down", "up"} {
			select {
			case got := <-events:
				if got != want {
					t.Fatalf("round %d: got %s, want %s", i, got, want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("round %d: no %s", i, want)
			}
		}
		if !errors.Is(down[i], device.ErrLeft) {
			t.Errorf("round %d: ended with %v, want that it was left", i, down[i])
		}
	}
	b.wait(t, "hub/v1/lamp/r ", `"v":192`)
	b.mu.Lock()
	for _, m := range b.messages {
		if strings.HasPrefix(m, "hub/v1/lamp/lwt") {
			t.Errorf("a will was published: %s", m)
		}
	}
	if n := len(b.messages); n != 3*rounds {
		t.Errorf("the broker heard %d messages, want %d", n, 3*rounds)
	}
	b.mu.Unlock()
	mu.Lock()
	defer mu.Unlock()
	whole := 0
	for _, w := range writes {
		if strings.Contains(w, `"v":`) && (strings.HasSuffix(w, "\xe0\x00") || strings.HasSuffix(w, "\xe0\x02\x00\x00")) && strings.Count(w, `"v":`) == 3 {
			whole++
		}
	}
	if whole != rounds {
		t.Errorf("%d of %d times three readings and the goodbye left in one piece", whole, rounds)
	}
	if d.Boot() == boot {
		t.Error("no new boot")
	}
}

// What waits beyond the broker's receive maximum is sent when there is room again (MQTT 5 §4.9).
func TestMQTT5KeepsToTheWindow(t *testing.T) {
	b := newBroker(t)
	b.server.Options.Capabilities.ReceiveMaximum = 2
	acked := make(chan int, 200)
	style := device.Style{QoS: [3]float64{device.ExactlyOnce: 1}}
	d, _ := startMQTT(t, b, device.Config{Transport: device.MQTT5, Sensor: true, InFlight: 50, Style: style, Hooks: device.Hooks{Acked: func(a device.Ack) { acked <- len(a.Readings) }}})
	for i := range 100 {
		d.Measure("temperature", float64(i), "", time.Now())
	}
	for n := 0; n < 100; {
		select {
		case k := <-acked:
			n += k
		case <-time.After(10 * time.Second):
			t.Fatalf("%d of 100 acknowledged", n)
		}
	}
}
