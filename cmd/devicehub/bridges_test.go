package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// mosquitto is a real broker, the foreign one.
type mosquitto struct {
	t    *testing.T
	addr string
	conf string
	cmd  *exec.Cmd
}

func startMosquitto(t *testing.T) *mosquitto {
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
	m := &mosquitto{t: t, addr: l.Addr().String(), conf: filepath.Join(t.TempDir(), "mosquitto.conf")}
	l.Close()
	_, port, _ := net.SplitHostPort(m.addr)
	conf := "listener " + port + " 127.0.0.1\nallow_anonymous true\n"
	if os.Getuid() == 0 {
		conf += "user root\n"
	}
	write(t, m.conf, conf)
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command("mosquitto", "-c", m.conf)
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	for range 500 {
		if c, err := net.Dial("tcp", m.addr); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatal("mosquitto does not listen")
}

func (m *mosquitto) stop() {
	if m.cmd != nil {
		_ = m.cmd.Process.Signal(os.Interrupt)
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

// mqttClient is somebody on a broker.
type mqttClient struct {
	mqtt.Client
	t    *testing.T
	got  chan mqtt.Message
	name string
}

func dialMQTT(t *testing.T, addr, user, password string) *mqttClient {
	t.Helper()
	c := &mqttClient{t: t, got: make(chan mqtt.Message, 1000), name: user}
	c.Client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(fmt.Sprintf("t-%d", time.Now().UnixNano())).
		SetUsername(user).SetPassword(password).SetAutoReconnect(false).SetOrderMatters(true).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { c.got <- m }))
	if tok := c.Connect(); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		t.Fatalf("connect as %q: %v", user, tok.Error())
	}
	t.Cleanup(func() { c.Disconnect(100) })
	return c
}

func (c *mqttClient) say(topic, payload string, retain bool) {
	c.t.Helper()
	if tok := c.Publish(topic, 1, retain, payload); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		c.t.Fatalf("publish %s: %v", topic, tok.Error())
	}
}

func (c *mqttClient) hear(filter string) {
	c.t.Helper()
	if tok := c.Subscribe(filter, 1, nil); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
		c.t.Fatalf("subscribe %s: %v", filter, tok.Error())
	}
}

func (c *mqttClient) want(topic string) string {
	c.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case m := <-c.got:
			if m.Topic() == topic {
				return string(m.Payload())
			}
		case <-timeout:
			c.t.Fatalf("%s hears nothing on %s", c.name, topic)
		}
	}
}

// state is a device's availability.
func (r *running) state(id string) string {
	r.t.Helper()
	var d struct{ Status struct{ State string } }
	r.call("GET", "/api/v1/devices/"+id, nil, 200, &d)
	return d.Status.State
}

func (r *running) value(id, metric string) any {
	r.t.Helper()
	var l struct {
		Metrics map[string]struct{ V any }
	}
	r.call("GET", "/api/v1/devices/"+id+"/latest", nil, 200, &l)
	return l.Metrics[metric].V
}

const zigbeeDevices = `[{"ieee_address":"0x00158d0001","type":"EndDevice","friendly_name":"attic/climate","definition":{"model":"WSDCGQ11LM","vendor":"Aqara","description":"climate",
 "exposes":[{"type":"numeric","name":"temperature","property":"temperature","unit":"°C","access":1}]}}]`

func TestBridgeToAForeignBroker(t *testing.T) {
	broker := startMosquitto(t)
	r := runHub(t, func(c *Config) {
		c.MQTT.Bridges = []BridgeConfig{
			{Name: "house", URL: "mqtt://" + broker.addr, Trust: "topic", Adapters: []AdapterConfig{{Kind: "z2m"}}},
			{Name: "field", URL: "mqtt://" + broker.addr, Root: "site7/hub"},
		}
	})
	var list struct {
		Bridges []struct {
			Name      string
			Connected bool
			Adapters  []string
		}
	}
	r.wait("both bridges", func() bool {
		r.call("GET", "/api/v1/bridges", nil, 200, &list)
		return len(list.Bridges) == 2 && list.Bridges[0].Connected && list.Bridges[1].Connected
	})
	if list.Bridges[0].Name != "house" || list.Bridges[0].Adapters[0] != "z2m" || list.Bridges[1].Adapters[0] != "native" {
		t.Errorf("got %+v", list)
	}
	other := dialMQTT(t, broker.addr, "", "")

	// What an adapter meets is discovered, adopted and then heard.
	other.say("zigbee2mqtt/bridge/devices", zigbeeDevices, true)
	var met struct {
		Discovered []struct{ Adopt, Bridge string }
	}
	r.wait("the discovery", func() bool {
		r.call("GET", "/api/v1/discovered", nil, 200, &met)
		return len(met.Discovered) == 1
	})
	if got := met.Discovered[0]; got.Adopt != "house/z2m/0x00158d0001" || got.Bridge != "house" {
		t.Errorf("got %+v", got)
	}
	var made struct{ Device struct{ Via, Model string } }
	r.call("POST", "/api/v1/devices", map[string]any{"id": "attic-climate", "adopt": met.Discovered[0].Adopt}, 201, &made)
	if made.Device.Via != "house" || made.Device.Model != "WSDCGQ11LM" {
		t.Errorf("got %+v", made)
	}
	r.call("GET", "/api/v1/discovered", nil, 200, &met)
	if len(met.Discovered) != 0 {
		t.Errorf("still discovered: %+v", met)
	}
	other.say("zigbee2mqtt/attic/climate", `{"temperature":21.53}`, false)
	r.wait("the reading", func() bool { return r.value("attic-climate", "temperature") == 21.53 })

	// Where the broker vouches for nobody, each message carries a bridge token.
	r.device(map[string]any{"id": "probe", "kinds": []string{"sensor"}, "via": "field"})
	var tok struct{ Token string }
	r.call("POST", "/api/v1/devices/probe/tokens", map[string]any{"mode": "issue", "bridge": "field"}, 201, &tok)
	follow, err := r.tracer.Follow("probe")
	if err != nil {
		t.Fatal(err)
	}
	defer follow.Stop()
	other.say("site7/hub/probe/r", `{"m":"temperature","v":99}`, false)
	other.say("site7/hub/probe/r", fmt.Sprintf(`{"m":"temperature","v":3.5,"token":%q}`, tok.Token), false)
	r.wait("the reading with a token", func() bool { return r.value("probe", "temperature") == 3.5 })
	r.wait("the trace", func() bool { return len(follow.Lines()) > 2 })
	if l := <-follow.Lines(); l.Transport != "bridge:field" || l.Event != "connect" {
		t.Errorf("got %+v", l)
	}
	if l := <-follow.Lines(); l.Transport != "bridge:field" || l.Event != "readings" || strings.Contains(string(l.Payload), tok.Token) {
		t.Errorf("got %+v", l)
	}

	text := r.text("/metrics")
	for _, want := range []string{`devicehub_bridge_connected{bridge="field"} 1`, `devicehub_bridge_device_messages_total{bridge="field",outcome="refused"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}

	// A broker that is away is seen, and comes back.
	broker.stop()
	r.wait("the bridges to be down", func() bool {
		r.call("GET", "/api/v1/bridges", nil, 200, &list)
		return !list.Bridges[0].Connected && !list.Bridges[1].Connected
	})
	r.call("GET", "/readyz", nil, 200, nil) // that is no fault of the hub's
	r.wait("the device behind it to be offline", func() bool { return r.state("probe") == "offline" })
	broker.start()
	r.wait("the bridges to be back", func() bool {
		r.call("GET", "/api/v1/bridges", nil, 200, &list)
		return list.Bridges[0].Connected && list.Bridges[1].Connected
	})
	if strings.Contains(r.log.String(), tok.Token) {
		t.Error("a token stands in the log")
	}
}

func TestDialectsOnTheHubsOwnBroker(t *testing.T) {
	r := runHub(t)
	addr := r.mqtt.Addr("tcp").String()
	var list struct{ Bridges []map[string]any }
	r.call("GET", "/api/v1/bridges", nil, 200, &list)
	if len(list.Bridges) != 0 {
		t.Errorf("dialects are awake without anybody to speak them: %v", list)
	}
	var acc struct{ Token string }
	r.call("POST", "/api/v1/apitokens", map[string]any{"name": "porch", "rights": []string{"read"}, "topics": []string{"tele/#", "stat/#", "cmnd/#"}}, 201, &acc)
	r.wait("the dialect", func() bool {
		r.call("GET", "/api/v1/bridges", nil, 200, &list)
		return len(list.Bridges) == 1
	})
	if b, _ := json.Marshal(list.Bridges[0]["adapters"]); string(b) != `["tasmota"]` || list.Bridges[0]["name"] != "embedded" {
		t.Errorf("got %v", list)
	}
	plug := dialMQTT(t, addr, "service:porch", acc.Token)
	var met struct {
		Discovered []struct{ Adopt string }
	}
	r.wait("the discovery", func() bool {
		plug.say("tele/porch/SENSOR", `{"Time":"2026-02-16T10:13:52","ENERGY":{"Total":1.234,"Power":12,"Voltage":231}}`, false)
		r.call("GET", "/api/v1/discovered", nil, 200, &met)
		return len(met.Discovered) == 1
	})
	r.call("POST", "/api/v1/devices", map[string]any{"id": "porch", "kinds": []string{"sensor"}, "adopt": met.Discovered[0].Adopt}, 201, nil)
	plug.say("tele/porch/SENSOR", `{"Time":"2026-02-16T10:13:52","ENERGY":{"Total":1.234,"Power":13,"Voltage":231}}`, false)
	r.wait("the reading", func() bool { return r.value("porch", "power") == 13.0 })

	// Home Assistant is shown the devices once an account may hear of them, and
	// no longer those that are deleted.
	r.device(map[string]any{"id": "lamp", "kinds": []string{"light"}, "light": map[string]any{"modes": []string{"brightness"}}})
	r.call("POST", "/api/v1/apitokens", map[string]any{"name": "ha", "rights": []string{"read", "command"}, "topics": []string{"homeassistant/#", "hub/v1/+/ha/#", "hub/v1/+/online"}}, 201, &acc)
	ha := dialMQTT(t, addr, "service:ha", acc.Token)
	ha.hear("homeassistant/#")
	if got := ha.want("homeassistant/device/hub_lamp/config"); !strings.Contains(got, `"light"`) {
		t.Errorf("got %s", got)
	}
	r.call("DELETE", "/api/v1/devices/lamp", nil, http.StatusNoContent, nil)
	if got := ha.want("homeassistant/device/hub_lamp/config"); got != "" {
		t.Errorf("a deleted device is still announced: %s", got)
	}
}

func TestABridgeThatCannotBe(t *testing.T) {
	for name, row := range map[string]struct {
		bridge BridgeConfig
		want   string
	}{
		"the hub's own name": {BridgeConfig{Name: "embedded", URL: "mqtt://a"}, "mqtt.bridges[0].name"},
		"no CA file":         {BridgeConfig{Name: "a", URL: "mqtts://a", CA: "/nowhere/ca.pem"}, "/nowhere/ca.pem"},
	} {
		cfg := Default()
		cfg.MQTT.Bridges = []BridgeConfig{row.bridge}
		cfg.fillBridges()
		s := &server{assembly: &assembly{Process: &Process{Config: cfg}}}
		if err := s.openBridges(); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %s named", name, err, row.want)
		}
	}
}

func TestFiltersThatOverlap(t *testing.T) {
	for _, row := range []struct {
		a, b string
		want bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/c", false}, {"a/+", "a/b", true}, {"a/#", "a/b/c", true}, {"a/#", "a", true},
		{"#", "x/y", true}, {"a/+/c", "+/b/+", true}, {"a/+/c", "+/b/d", false}, {"a", "a/b", false}, {"+", "a/b", false},
		{"tele/#", "tele/+/LWT", true}, {"homeassistant/status", "homeassistant/#", true},
	} {
		if got := overlap(row.a, row.b); got != row.want || overlap(row.b, row.a) != got {
			t.Errorf("%s and %s: got %t, want %t", row.a, row.b, got, row.want)
		}
	}
}
