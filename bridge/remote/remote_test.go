package remote

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"devicehub/bridge/adapter"
	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
	"devicehub/devices/readings"
)

// mosquitto is a real broker that can be stopped and started.
type mosquitto struct {
	t    testing.TB
	port int
	conf string
	cmd  *exec.Cmd
}

func startMosquitto(t testing.TB) *mosquitto {
	t.Helper()
	if testing.Short() {
		t.Skip("uses Mosquitto")
	}
	if _, err := exec.LookPath("mosquitto"); err != nil {
		t.Fatal("install mosquitto: apt-get install mosquitto mosquitto-clients")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mosquitto{t: t, port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	dir := t.TempDir()
	m.conf = filepath.Join(dir, "mosquitto.conf")
	conf := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\nautosave_interval 1\nmax_queued_messages 0\nmax_inflight_messages 1000\n", m.port, dir)
	if os.Getuid() == 0 {
		conf += "user root\n"
	}
	if err := os.WriteFile(m.conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mosquitto) addr() string { return fmt.Sprint("127.0.0.1:", m.port) }

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command("mosquitto", "-c", m.conf)
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	for range 500 {
		if c, err := net.Dial("tcp", m.addr()); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatal("mosquitto does not listen")
}

func (m *mosquitto) stop() {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Signal(os.Interrupt)
	_ = m.cmd.Wait()
	m.cmd = nil
}

func (m *mosquitto) client(t testing.TB, id string) mqtt.Client {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + m.addr()).SetClientID(id).SetAutoReconnect(false))
	if tok := c.Connect(); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	return c
}

func device(id string) *devices.Device {
	return &devices.Device{ID: devices.ID(id), Kinds: []devices.Kind{devices.KindSensor}, Via: "house", Enabled: true}
}

// bridge runs a Bridge for as long as the test, or until stop.
func bridge(t *testing.T, m *mosquitto, h *adaptertest.Hub, kinds ...string) (b *Bridge, stop func()) {
	t.Helper()
	cfg := Config{Name: "house", URL: "mqtt://" + m.addr(), Trust: true}
	for _, k := range kinds {
		cfg.Adapters = append(cfg.Adapters, adapter.Config{Kind: k})
	}
	b, err := New(cfg, h.Hub)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = b.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	h.WantThat(t, "bridge up", func() bool { return b.Status().Connected })
	return b, stop
}

func TestThroughMosquitto(t *testing.T) {
	m := startMosquitto(t)
	h := adaptertest.New(t, nil, device("k-1"))
	b, _ := bridge(t, m, h)
	h.Want(t, "up house")
	host, port, _ := net.SplitHostPort(m.addr())
	for i, args := range [][]string{{"-t", "hub/v1/k-1/r", "-m", `{"m":"temperature","v":21.5}`, "-q", "1"}, {"-t", "hub/v1/k-1/r/humidity", "-m", "40", "-q", "0"}} {
		if out, err := exec.Command("mosquitto_pub", append([]string{"-h", host, "-p", port}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v %s", err, out)
		}
		h.WantThat(t, "readings", func() bool { return strings.Count(strings.Join(h.Log(), "\n"), "accepted=1") == i+1 })
	}
	if got, want := h.Values("k-1"), `{"humidity":"40 %","temperature":"21.5 °C"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// Commands reach the device at QoS 0, not retained.
	got := make(chan mqtt.Message, 1)
	c := m.client(t, "dev")
	defer c.Disconnect(10)
	c.Subscribe("hub/v1/k-1/cmd", 1, func(_ mqtt.Client, msg mqtt.Message) { got <- msg }).Wait()
	h.WantThat(t, "the command is sent", func() bool { return h.Send("k-1", "identify", nil) })
	if msg := <-got; msg.Retained() || msg.Qos() != 0 || !strings.Contains(string(msg.Payload()), "c-1") {
		t.Errorf("got %s", msg.Payload())
	}
	if s := b.Status(); s.Name != "house" || s.Accepted != 2 || s.Published == 0 {
		t.Errorf("status %+v", s)
	}
}

// The broker is stopped and started under load: what it acknowledged at QoS 1
// arrives, in order, and the bridge says that it was away.
func TestBrokerRestart(t *testing.T) {
	m := startMosquitto(t)
	h := adaptertest.New(t, nil, device("k-1"))
	b, _ := bridge(t, m, h)
	sent := 0
	publish := func(c mqtt.Client, n int) {
		for range n {
			sent++
			tok := c.Publish("hub/v1/k-1/r", 1, false, fmt.Sprintf(`{"boot":"b","s0":%d,"r":[["humidity",%d]]}`, sent, sent%100))
			if !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
				t.Fatalf("publish %d: %v", sent, tok.Error())
			}
		}
	}
	publish(m.client(t, "p1"), 50)
	m.stop()
	h.Want(t, "down house")
	if s := b.Status(); s.Connected || s.Error == "" {
		t.Errorf("status %+v, want disconnected with a reason", s)
	}
	if b.Publish("x", nil, 0, false) {
		t.Error("a message was taken for a broker that is away")
	}
	m.start()
	h.WantThat(t, "back", func() bool { return b.Status().Connected })
	publish(m.client(t, "p2"), 50)
	h.WantThat(t, "everything arrived", func() bool {
		for _, ack := range h.Ingest.AckThrough("k-1") {
			if ack.S == 100 {
				return true
			}
		}
		return false
	})
}

// While the hub is away the broker keeps what is sent at QoS 1.
func TestHubRestart(t *testing.T) {
	m := startMosquitto(t)
	h := adaptertest.New(t, nil, device("k-1"))
	_, stop := bridge(t, m, h)
	stop()
	c := m.client(t, "p")
	var last atomic.Value
	c.Subscribe("hub/v1/_hub/online", 1, func(_ mqtt.Client, msg mqtt.Message) { last.Store(string(msg.Payload())) }).Wait()
	h.WantThat(t, "the hub is offline", func() bool { return last.Load() == "offline" })
	for i := 1; i <= 30; i++ {
		c.Publish("hub/v1/k-1/r", 1, false, fmt.Sprintf(`{"boot":"b","s0":%d,"r":[["temperature",%d]]}`, i, i)).Wait()
	}
	bridge(t, m, h)
	h.WantThat(t, "everything arrived", func() bool {
		a := h.Ingest.AckThrough("k-1")
		return len(a) == 1 && a[0].S == 30
	})
	h.WantThat(t, "the hub is online", func() bool { return last.Load() == "online" })
}

// A hub that stops under load has decided and acknowledged what it took: it does
// not come again, though nothing in it would tell.
func TestHubStopsUnderLoad(t *testing.T) {
	m := startMosquitto(t)
	h := adaptertest.NewOn(t, disk{readings.NewMemory()}, nil, device("k-1"))
	_, stop := bridge(t, m, h)
	const n = 3000
	sent := make(chan error, 1)
	c := m.client(t, "p")
	defer c.Disconnect(10)
	go func() {
		var last mqtt.Token
		for i := range n {
			last = c.Publish("hub/v1/k-1/r", 1, false, fmt.Sprintf(`{"m":"uptime","v":%d}`, i))
			if i%10 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		last.Wait()
		sent <- last.Error()
	}()
	for range 3 {
		time.Sleep(80 * time.Millisecond)
		stop()
		_, stop = bridge(t, m, h)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	h.WantThat(t, "everything arrived", func() bool { return len(h.Sequence(t, "k-1", "uptime")) >= n })
	time.Sleep(100 * time.Millisecond)
	got := h.Sequence(t, "k-1", "uptime")
	for i := range got {
		if got[i] != fmt.Sprint(i) {
			t.Fatalf("reading %d is %s", i, got[i])
		}
	}
}

// What the hub cannot take is not acknowledged: it is the broker's until then.
func TestManualAcknowledgement(t *testing.T) {
	m := startMosquitto(t)
	h := adaptertest.New(t, nil, device("k-1"))
	_, stop := bridge(t, m, h)
	h.Refuse(devices.Refuse(devices.CodePlatformUnavailable, "disk"))
	c := m.client(t, "p")
	for i := 1; i <= 5; i++ {
		c.Publish("hub/v1/k-1/r", 1, false, fmt.Sprintf(`{"boot":"b","s0":%d,"r":[["temperature",%d]]}`, i, i)).Wait()
	}
	h.Want(t, "refused k-1")
	stop() // the hub goes down with nothing stored
	h.Refuse(nil)
	bridge(t, m, h)
	h.WantThat(t, "everything arrived", func() bool {
		a := h.Ingest.AckThrough("k-1")
		return len(a) == 1 && a[0].S == 5
	})
}

func TestURLs(t *testing.T) {
	for in, want := range map[string]string{
		"mqtt://h": "tcp://h:1883", "mqtts://h:9": "ssl://h:9", "ws://h/mqtt": "ws://h/mqtt", "tls://h": "ssl://h:8883", "http://h": "", "h:1883": "", "": "",
	} {
		got, err := brokerURL(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q %v, want %q", in, got, err, want)
		}
	}
	b, err := New(Config{Name: "house", URL: "mqtt://hub:s3cret@h"}, adaptertest.New(t, nil).Hub)
	if err != nil {
		t.Fatal(err)
	}
	if u := b.Status().URL; u != "mqtt://hub:xxxxx@h" {
		t.Errorf("operators see %s", u)
	}
}
