package device_test

import (
	"context"
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
