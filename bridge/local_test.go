package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"devicehub/bridge/adapter"
	"devicehub/bridge/adapter/adaptertest"
	"devicehub/bridge/packet"
	"devicehub/devices"
	"devicehub/devices/lights"
	"devicehub/devices/readings"
)

// runAdapters runs adapters on the hub's own broker for the length of the test.
func runAdapters(t *testing.T, srv *Server, h *adaptertest.Hub, kinds ...string) {
	t.Helper()
	var list []adapter.Config
	for _, k := range kinds {
		list = append(list, adapter.Config{Kind: k})
	}
	set, err := srv.NewAdapters(h.Hub, list)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); srv.RunAdapters(ctx, set) }()
	t.Cleanup(func() { cancel(); <-done })
	h.Want(t, "up embedded")
}

// Home Assistant and Zigbee2MQTT on the hub's own broker, with nothing beside it.
func TestAdaptersOnTheHubsOwnBroker(t *testing.T) {
	lamp := &devices.Device{ID: "lamp", Kinds: []devices.Kind{devices.KindLight}, Enabled: true, Via: devices.ViaDirect, Light: &devices.Light{Modes: []devices.LightMode{devices.ModeBrightness}}}
	climate := &devices.Device{ID: "climate", Kinds: []devices.Kind{devices.KindSensor}, Enabled: true, Via: LocalName, Labels: map[string]string{"z2m": "0x01"}}
	h := adaptertest.New(t, nil, lamp, climate)
	h.SetState("lamp", lights.Fields{"on": true, "brightness": 10.0, "mode": "brightness"})
	srv, addr := start(t, nil, WithDoor(newDoor()), WithAccounts(fakeAccounts{
		"ha": {Filters: []string{"homeassistant/#", "hub/v1/_hub/online", "hub/v1/+/online", "hub/v1/+/ha/#"}, MayCommand: func(id devices.ID) bool { return id == "lamp" }},
		"z":  {Filters: []string{"zigbee2mqtt/#"}},
	}))
	runAdapters(t, srv, h, "ha_out", "z2m")

	connectAs := func(v byte, name string) *raw {
		c := dial(t, addr, v)
		c.send(packet.Connect<<4, c.connectBody(connect{id: name, user: "service:" + name, password: "pw", clean: true}))
		if b := c.wantType(packet.Connack); b[1] != 0 {
			t.Fatalf("CONNACK %x", b)
		}
		return c
	}
	z := connectAs(packet.V311, "z")
	z.send(packet.Publish<<4|2|1, z.publishBody("zigbee2mqtt/bridge/devices", `[{"ieee_address":"0x01","friendly_name":"c","definition":{"model":"m","vendor":"v","exposes":[{"name":"temperature","property":"temperature","unit":"°C"}]}}]`, 1, 1))
	z.wantType(packet.Puback)
	z.publish("zigbee2mqtt/c", `{"temperature":19.5}`, 1, 2)
	z.wantType(packet.Puback)
	h.WantThat(t, "the reading", func() bool { return h.Values("climate") == `{"temperature":"19.5 °C"}` })

	time.Sleep(50 * time.Millisecond) // Home Assistant comes later, and finds all retained
	ha := connectAs(packet.V5, "ha")
	ha.subscribe(0, "homeassistant/#", "hub/v1/+/ha/#", "hub/v1/+/online")
	got := map[string]string{}
	for _, m := range ha.collect(200 * time.Millisecond) {
		if !m.retain {
			t.Errorf("%s is not retained", m.topic)
		}
		got[m.topic] = m.payload
	}
	if got["hub/v1/lamp/ha/light"] != `{"brightness":10,"color_mode":"brightness","state":"ON"}` || got["hub/v1/lamp/online"] != "online" || got["hub/v1/_hub/online"] != "online" {
		t.Errorf("got %v", got)
	}
	var d struct {
		Cmps map[string]map[string]any `json:"cmps"`
	}
	if err := json.Unmarshal([]byte(got["homeassistant/device/hub_lamp/config"]), &d); err != nil || d.Cmps["light"]["cmd_t"] != "hub/v1/lamp/ha/light/set" {
		t.Errorf("got %v", got)
	}
	ha.publish("hub/v1/lamp/ha/light/set", `{"state":"OFF"}`, 1, 1)
	h.Want(t, `issue bridge:embedded lamp set {"on":false}`)
	if b := ha.wantAck(); len(b) != 2 {
		t.Errorf("PUBACK %x", b)
	}
	for _, x := range []struct {
		topic string
		head  byte
	}{{"hub/v1/climate/ha/light/set", 2}, {"hub/v1/lamp/ha/light/set", 3}} { // not its device; retained
		ha.send(packet.Publish<<4|x.head, ha.publishBody(x.topic, `{"state":"ON"}`, 1, 2))
		if b := ha.wantAck(); len(b) < 3 || b[2] != packet.NotAuthorized {
			t.Errorf("%s: PUBACK %x", x.topic, b)
		}
	}
	if l := strings.Join(h.Log(), "\n"); strings.Contains(l, `{"on":true}`) {
		t.Errorf("a command was taken that should not have been:\n%s", l)
	}
}

// What an account says to an adapter is acknowledged when the readings are in the
// store (devices/README.md#readings): not before, and with the code of the refusal.
func TestAdaptersAcknowledgeWhenDurable(t *testing.T) {
	t.Parallel()
	ack := map[byte]byte{1: packet.Puback, 2: packet.Pubrec}
	versions(t, func(t *testing.T, v byte) {
		h := adaptertest.New(t, nil, &devices.Device{ID: "climate", Kinds: []devices.Kind{devices.KindSensor}, Enabled: true, Via: LocalName, Labels: map[string]string{"tasmota": "c"}})
		srv, addr := start(t, nil, WithDoor(newDoor()), WithAccounts(fakeAccounts{"all": {Filters: []string{"tele/#"}}}))
		runAdapters(t, srv, h, "tasmota")
		sensor := func(v string) string { return `{"DS18B20":{"Temperature":` + v + `},"TempUnit":"C"}` }

		for qos := byte(1); qos <= 2; qos++ {
			c := dial(t, addr, v)
			c.service("c", connect{clean: true})
			h.Refuse(devices.Refuse(devices.CodePlatformUnavailable, "disk").After(20 * time.Millisecond))
			c.publish("tele/c/SENSOR", sensor("20.5"), qos, 7)
			c.publish("tele/other/SENSOR", sensor("1"), qos, 8) // nobody's: there is nothing to wait for
			if b := c.wantType(ack[qos]); b[1] != 8 {
				t.Fatalf("QoS %d: acknowledged %x before it was stored", qos, b)
			}
			if qos == 2 { // the same again is the same, and has no answer either
				c.send(packet.Publish<<4|2<<1|8, c.publishBody("tele/c/SENSOR", sensor("20.5"), 2, 7))
			}
			c.wantQuiet(100 * time.Millisecond)
			h.Refuse(nil)
			for range qos {
				if b := c.wantType(ack[qos]); b[1] != 7 || len(b) > 2 {
					t.Errorf("QoS %d: got %x", qos, b)
				}
			}
			if got := h.Values("climate"); got != `{"temperature":"20.5 °C"}` {
				t.Errorf("got %s", got)
			}
			c.leave()
		}
	})
}

// slowDisk is a store whose commits take 5 ms, and are counted.
type slowDisk struct {
	*readings.Memory
	commits *atomic.Int64
}

func (d slowDisk) Append(g *readings.Group) error {
	d.commits.Add(1)
	time.Sleep(5 * time.Millisecond)
	return d.Memory.Append(g)
}

// What an account says of one device is under way together, as what a device says
// of itself is: a commit holds many of its messages.
func TestAdaptersShareCommits(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, v byte) {
		plug := &devices.Device{ID: "plug", Kinds: []devices.Kind{devices.KindSensor}, Enabled: true, Via: LocalName, Labels: map[string]string{"tasmota": "p"}}
		var commits atomic.Int64
		h := adaptertest.NewOn(t, slowDisk{readings.NewMemory(), &commits}, nil, plug)
		srv, addr := start(t, nil, WithDoor(newDoor()), WithAccounts(fakeAccounts{"all": {Filters: []string{"tele/#"}}}))
		runAdapters(t, srv, h, "tasmota")
		c := dial(t, addr, v)
		c.service("c", connect{clean: true})
		const rounds, n = 4, 500 // of 512 that may be unacknowledged
		for r := range rounds {
			for i := range n {
				c.publish("tele/p/SENSOR", fmt.Sprintf(`{"ENERGY":{"Power":%d}}`, r*n+i), 1, uint16(i+1))
			}
			for range n {
				c.wantType(packet.Puback)
			}
		}
		if got := commits.Load(); got > rounds*n/4 {
			t.Errorf("%d messages took %d commits, want many to share one", rounds*n, got)
		}
		for i, got := range h.Sequence(t, "plug", "power") {
			if want := fmt.Sprint(i); got != want {
				t.Fatalf("reading %d is %s", i, got)
			}
		}
	})
}

// A store that stays away: the account hears that it has to send again, in MQTT 5
// by the reason code, in 3.1.1 by being sent away without an acknowledgement.
func TestAdaptersWithoutAStore(t *testing.T) {
	t.Parallel()
	versions(t, func(t *testing.T, v byte) {
		t.Parallel()
		h := adaptertest.New(t, nil, &devices.Device{ID: "climate", Kinds: []devices.Kind{devices.KindSensor}, Enabled: true, Via: LocalName, Labels: map[string]string{"tasmota": "c"}})
		srv, addr := start(t, nil, WithDoor(newDoor()), WithAccounts(fakeAccounts{"all": {Filters: []string{"tele/#"}}}))
		runAdapters(t, srv, h, "tasmota")
		h.Refuse(devices.Refuse(devices.CodePlatformUnavailable, "disk").After(20 * time.Millisecond))
		c := dial(t, addr, v)
		c.service("c", connect{clean: true})
		begun := time.Now()
		c.publish("tele/c/SENSOR", `{"DS18B20":{"Temperature":21},"TempUnit":"C"}`, 1, 9)
		if v == packet.V311 {
			c.wantClosed()
		} else if h, b, err := c.readErr(12 * time.Second); err != nil || h>>4 != packet.Puback || len(b) < 3 || b[2] != packet.ImplementationError {
			t.Errorf("got %02x %x, %v", h, b, err)
		}
		if d := time.Since(begun); d > stallMax+time.Second {
			t.Errorf("told after %v", d)
		}
	})
}

// A final refusal is an answer: the store has judged.
func TestAdaptersRefuseForGood(t *testing.T) {
	h := adaptertest.New(t, nil, &devices.Device{ID: "climate", Kinds: []devices.Kind{devices.KindSensor}, Enabled: true, Via: LocalName, Labels: map[string]string{"tasmota": "c"}})
	srv, addr := start(t, nil, WithDoor(newDoor()), WithAccounts(fakeAccounts{"all": {Filters: []string{"tele/#", "hub/v1/+/ha/#"}}}))
	runAdapters(t, srv, h, "tasmota")
	c := dial(t, addr, packet.V5)
	c.service("c", connect{clean: true})
	h.Refuse(devices.Refuse(devices.CodeRange, "too hot"))
	for qos, typ := range map[byte]byte{1: packet.Puback, 2: packet.Pubrec} {
		c.publish("tele/c/SENSOR", `{"DS18B20":{"Temperature":1e9},"TempUnit":"C"}`, qos, 1)
		if b := c.wantType(typ); len(b) < 3 || b[2] != packet.PayloadInvalid {
			t.Errorf("QoS %d: got %x", qos, b)
		}
	}
	// A retained command is refused as a will too.
	w := dial(t, addr, packet.V5)
	w.send(packet.Connect<<4, w.connectBody(connect{id: "w", user: "service:all", password: "pw", clean: true, will: "hub/v1/lamp/ha/light/set", willPayload: `{"state":"ON"}`, willRetain: true}))
	if b := w.wantType(packet.Connack); b[1] != packet.RetainNotSupported {
		t.Errorf("CONNACK %x", b)
	}
}

// wantAck reads up to a PUBACK.
func (c *raw) wantAck() []byte {
	c.t.Helper()
	for {
		if h, b := c.read(); h>>4 == packet.Puback {
			return b
		}
	}
}
