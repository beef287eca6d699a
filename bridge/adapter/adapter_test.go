package adapter_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"devicehub/bridge/adapter"
	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
	"devicehub/devices/lights"
)

// bus keeps what is published.
type bus struct {
	mu   sync.Mutex
	sent []string
	down bool
}

func (*bus) Name() string { return "house" }

func (b *bus) Publish(topic string, payload []byte, qos byte, retain bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.down {
		return false
	}
	b.sent = append(b.sent, fmt.Sprintf("%s %s qos=%d retain=%v", topic, payload, qos, retain))
	return true
}

func (b *bus) refuse(all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.down = all
}

func (b *bus) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sent
	b.sent = nil
	return s
}

// wantSent waits for a message that begins so.
func (b *bus) wantSent(t *testing.T, prefix string) (msg string) {
	t.Helper()
	for range 500 {
		b.mu.Lock()
		for _, s := range b.sent {
			if strings.HasPrefix(s, prefix) {
				msg = s
			}
		}
		b.mu.Unlock()
		if msg != "" {
			return msg
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("nothing on %s; sent %v", prefix, b.take())
	return ""
}

func newSet(t *testing.T, h *adaptertest.Hub, trust bool, kinds ...string) (*adapter.Set, *bus) {
	t.Helper()
	b := &bus{}
	var list []adapter.Config
	for _, k := range kinds {
		list = append(list, adapter.Config{Kind: k})
	}
	s, err := adapter.NewSet(h.Hub, b, trust, list)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { <-done })
	s.Up()
	return s, b
}

// decided is called when a message is, and wants what may be taken later to be.
type decided func(error)

func (decided) Again(error) bool    { return true }
func (d decided) Decided(err error) { d(err) }

// say gives the adapters a message and waits until it is decided.
func say(t *testing.T, s *adapter.Set, topic, payload string, retained ...bool) {
	t.Helper()
	done := make(chan struct{})
	if !s.Take(adapter.Message{Topic: topic, Payload: []byte(payload), Retained: len(retained) > 0}, decided(func(error) { close(done) })) {
		t.Fatal("no room")
	}
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatalf("%s: not decided", topic)
	}
}

func sensor(id string, via string) *devices.Device {
	return &devices.Device{ID: devices.ID(id), Kinds: []devices.Kind{devices.KindSensor}, Via: via, Enabled: true}
}

func light(id, via string, l devices.Light) *devices.Device {
	return &devices.Device{ID: devices.ID(id), Kinds: []devices.Kind{devices.KindLight}, Via: via, Enabled: true, Light: &l}
}

func TestNative(t *testing.T) {
	lamp := light("lamp", "house", devices.Light{Modes: []devices.LightMode{devices.ModeRGB}})
	h := adaptertest.New(t, nil, sensor("k-1", "house"), sensor("other", "attic"), sensor("near", "direct"), lamp)
	s, b := newSet(t, h, true, "native")
	say(t, s, "hub/v1/k-1/r", `{"m":"temperature","v":21.5,"boot":"b1","s":1}`)
	say(t, s, "hub/v1/k-1/r", `{"r":[["humidity",40]]}`)
	say(t, s, "hub/v1/k-1/r/co2", `700`)
	say(t, s, "hub/v1/k-1/senml", `[{"n":"pressure","u":"hPa","v":1000}]`)
	if got, want := h.Values("k-1"), `{"co2":"700 ppm","humidity":"40 %","pressure":"1000 hPa","temperature":"21.5 °C"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	say(t, s, "hub/v1/lamp/state", `{"on":true}`)
	say(t, s, "hub/v1/lamp/ack", `{"cmd_id":"x","status":"done"}`)
	h.Want(t, `state lamp {"on":true}`)
	h.Want(t, `answer lamp {"cmd_id":"x","status":"done"}`)
	if !h.Send("lamp", "set", map[string]any{"on": true}) {
		t.Fatal("the command was not sent")
	}
	cmd := b.wantSent(t, "hub/v1/lamp/cmd ")
	if !strings.HasSuffix(cmd, "qos=0 retain=false") || !strings.Contains(cmd, `"cmd_id":"c-1"`) {
		t.Errorf("got %s", cmd)
	}
	// A bridge speaks only for its own devices.
	n := len(h.Log())
	for _, id := range []string{"other", "near", "nobody", "UPPER"} {
		say(t, s, "hub/v1/"+id+"/r", `{"m":"temperature","v":1}`)
		say(t, s, "hub/v1/"+id+"/state", `{"on":true}`)
	}
	if l := h.Log()[n:]; len(l) > 0 {
		t.Errorf("taken for others: %v", l)
	}
	if got := s.Stats(); got.Foreign != 4 || got.Refused != 8 {
		t.Errorf("counted %+v", got)
	}
	// A retained command is dropped, counted and audited; the hub's own comes back unseen.
	say(t, s, "hub/v1/lamp/cmd", `{"op":"set"}`, true)
	h.Want(t, "audit bridge:house mqtt.retained device:lamp retained_command")
	before := s.Looped()
	say(t, s, "hub/v1/lamp/cmd", strings.TrimSuffix(strings.TrimPrefix(cmd, "hub/v1/lamp/cmd "), " qos=0 retain=false"))
	if s.Looped() != before+1 {
		t.Error("the hub's own message was not known")
	}
	// The will of another boot comes late.
	say(t, s, "hub/v1/k-1/lwt", `{"boot":"b0"}`)
	say(t, s, "hub/v1/k-1/lwt", `{"boot":"b1"}`)
	h.Want(t, "offline k-1 connection_lost")
	if n := strings.Count(strings.Join(h.Log(), "\n"), "offline k-1"); n != 1 {
		t.Errorf("offline %d times", n)
	}
}

func TestBridgeTokens(t *testing.T) {
	h := adaptertest.New(t, nil, sensor("k-1", "house"), sensor("k-2", "house"))
	s, _ := newSet(t, h, false, "native")
	say(t, s, "hub/v1/k-1/r", `{"m":"temperature","v":1}`)
	say(t, s, "hub/v1/k-1/r", `{"m":"temperature","v":1,"token":"bridge-k-2"}`)
	say(t, s, "hub/v1/k-1/r/temperature", `1`)
	if l := h.Values("k-1"); l != "{}" {
		t.Errorf("taken without its token: %s", l)
	}
	say(t, s, "hub/v1/k-1/r", `{"m":"temperature","v":2,"token":"bridge-k-1"}`)
	if l := h.Values("k-1"); l != `{"temperature":"2 °C"}` {
		t.Errorf("got %s", l)
	}
}

// What cannot be taken now is given again, in order, and not acknowledged before.
func TestRetryKeepsOrder(t *testing.T) {
	h := adaptertest.New(t, nil, sensor("k-1", "house"), sensor("k-2", "house"))
	s, _ := newSet(t, h, true, "native")
	h.Refuse(devices.Refuse(devices.CodeOverloaded, "full").After(20 * time.Millisecond))
	var mu sync.Mutex
	var acked []string
	for i := range 5 {
		for _, id := range []string{"k-1", "k-2"} {
			name := fmt.Sprint(id, "/", i)
			s.Take(adapter.Message{Topic: "hub/v1/" + id + "/r", Payload: fmt.Appendf(nil, `{"m":"temperature","v":%d}`, i)}, decided(func(error) {
				mu.Lock()
				acked = append(acked, name)
				mu.Unlock()
			}))
		}
	}
	time.Sleep(50 * time.Millisecond)
	mu.Lock()
	if len(acked) > 0 {
		t.Errorf("acknowledged while refused: %v", acked)
	}
	mu.Unlock()
	h.Refuse(nil)
	h.WantThat(t, "all acknowledged", func() bool { mu.Lock(); defer mu.Unlock(); return len(acked) == 10 })
	for _, id := range []string{"k-1", "k-2"} {
		mine := slices.DeleteFunc(slices.Clone(acked), func(s string) bool { return !strings.HasPrefix(s, id) })
		if !slices.IsSorted(mine) {
			t.Errorf("out of order: %v", mine)
		}
	}
	if l := h.Values("k-1"); l != `{"temperature":"4 °C"}` {
		t.Errorf("got %s", l)
	}
}

// What cannot be taken does not pile up: neither many messages nor large ones.
func TestWaitingIsBounded(t *testing.T) {
	h := adaptertest.New(t, nil, sensor("k-1", "house"))
	s, _ := newSet(t, h, true, "native")
	h.Refuse(devices.Refuse(devices.CodeOverloaded, "full").After(time.Minute))
	large := append([]byte(`{"m":"temperature","v":1}`), bytes.Repeat([]byte(" "), 4<<20)...)
	taken := 0
	for taken < 100 && s.Take(adapter.Message{Topic: "hub/v1/k-1/r", Payload: large}, decided(func(error) {})) {
		taken++
	}
	if taken != 15 {
		t.Errorf("%d messages of 4 MiB wait", taken)
	}
	if s.Waiting() != taken {
		t.Errorf("%d wait, want %d", s.Waiting(), taken)
	}
}

// golden compares with testdata/name; UPDATE=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE") != "" {
		_ = os.MkdirAll("testdata", 0o755)
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// pretty is a message's topic, flags and payload as JSON on lines.
func pretty(t *testing.T, msg string) string {
	t.Helper()
	topic, rest, _ := strings.Cut(msg, " ")
	i := strings.LastIndex(rest, " qos=")
	var v any
	if err := json.Unmarshal([]byte(rest[:i]), &v); err != nil {
		t.Fatal(err, msg)
	}
	b, _ := json.MarshalIndent(v, "", "  ")
	return topic + rest[i:] + "\n" + string(b) + "\n"
}

func TestHomeAssistantDiscovery(t *testing.T) {
	lamp := light("kitchen-lamp", "direct", devices.Light{Modes: []devices.LightMode{devices.ModeRGB, devices.ModeColorTemp}, MinKelvin: 2200, MaxKelvin: 6500, Effects: []string{"blink"}})
	lamp.Kinds = append(lamp.Kinds, devices.KindSensor)
	lamp.Name, lamp.Manufacturer, lamp.Model, lamp.Firmware, lamp.Area = "Kitchen lamp", "Acme", "L1", "1.4.2", "kitchen"
	lamp.Metrics = []devices.Metric{
		{Name: "power", Class: "power", Unit: "W", Type: devices.TypeFloat, StateClass: devices.Measurement, ExpectedIntervalS: 60, Precision: 0.1},
		{Name: "energy", Class: "energy", Unit: "kWh", Type: devices.TypeFloat, StateClass: devices.TotalIncreasing, Precision: 0.001},
		{Name: "motion", Class: "motion", Type: devices.TypeBool},
		{Name: "mode", Type: devices.TypeString},
	}
	h := adaptertest.New(t, nil, lamp)
	h.Version, h.URL = "0.3.0", "https://hub.local"
	h.SetState("kitchen-lamp", lights.Fields{"on": true, "brightness": 128.0, "mode": "rgb", "rgb": []any{255.0, 120.0, 0.0}, "effect": "none"})
	s, b := newSet(t, h, true, "ha_out")
	golden(t, "ha_discovery.txt", pretty(t, b.wantSent(t, "homeassistant/device/hub_kitchen-lamp/config ")))
	golden(t, "ha_light.txt", pretty(t, b.wantSent(t, "hub/v1/kitchen-lamp/ha/light ")))
	if got, want := b.wantSent(t, "hub/v1/kitchen-lamp/online "), "hub/v1/kitchen-lamp/online online qos=1 retain=true"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// Commands, as Home Assistant sends them.
	for in, want := range map[string]string{
		`{"state":"ON"}`: `{"on":true}`, `{"state":"OFF","transition":2.5}`: `{"on":false,"transition_ms":2500}`,
		`{"state":"ON","brightness":77}`:                         `{"brightness":77,"on":true}`,
		`{"state":"ON","color":{"r":1,"g":2,"b":3}}`:             `{"on":true,"rgb":[1,2,3]}`,
		`{"state":"ON","color":{"r":1,"g":2,"b":3,"c":4,"w":5}}`: `{"on":true,"rgb":[1,2,3,4,5]}`,
		`{"state":"ON","color":{"h":300.5,"s":70}}`:              `{"hs":[300.5,70],"on":true}`,
		`{"state":"ON","color":{"x":0.3,"y":0.4}}`:               `{"on":true,"xy":[0.3,0.4]}`,
		`{"state":"ON","color_temp":3000,"effect":"blink"}`:      `{"effect":"blink","kelvin":3000,"on":true}`,
	} {
		say(t, s, "hub/v1/kitchen-lamp/ha/light/set", in)
		h.Want(t, "issue bridge:house kitchen-lamp set "+want)
	}
	n := len(h.Log())
	say(t, s, "hub/v1/kitchen-lamp/ha/light/set", `{"state":"ON"}`, true)
	if l := h.Log()[n:]; len(l) != 1 || !strings.HasPrefix(l[0], "audit bridge:house mqtt.retained") {
		t.Errorf("a retained command: %v", l)
	}
	// A reading is told, a deleted device is taken back.
	b.take()
	b.down = false
	s.Publish(devices.Event{Device: "kitchen-lamp", Name: "state"})
	b.wantSent(t, "hub/v1/kitchen-lamp/ha/light ")
	if err := h.Registry.Delete(t.Context(), "kitchen-lamp", time.Now()); err != nil {
		t.Fatal(err)
	}
	s.Publish(devices.Event{Device: "kitchen-lamp", Name: "device_changed"})
	if got, want := b.wantSent(t, "homeassistant/device/hub_kitchen-lamp/config "), "homeassistant/device/hub_kitchen-lamp/config  qos=1 retain=true"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is no longer so is taken back: a component by its platform alone, a device
// that was deleted while the broker was away, and what the broker keeps of both
// (bridge/adapter/homeassistant.md).
func TestHomeAssistantForgets(t *testing.T) {
	plug := sensor("plug", "direct")
	plug.Metrics = []devices.Metric{{Name: "power", Type: devices.TypeFloat, Class: "power", Unit: "W"}, {Name: "extra", Type: devices.TypeFloat, Class: "pressure", Unit: "mmHg"}}
	h := adaptertest.New(t, nil, plug)
	s, b := newSet(t, h, true, "ha_out")
	const config = "homeassistant/device/hub_plug/config "
	first := b.wantSent(t, config)
	if !strings.Contains(first, `"dev_cla":"power"`) || strings.Count(first, "dev_cla") != 1 || !strings.Contains(first, `"unit_of_meas":"mmHg"`) {
		t.Errorf("a unit that the class does not have would throw all away: %s", first)
	}
	b.take()
	if _, err := h.Registry.Update(t.Context(), "plug", func(d *devices.Device) error {
		d.Metrics = []devices.Metric{{Name: "extra", Type: devices.TypeBool}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s.Publish(devices.Event{Device: "plug", Name: "device_changed"})
	b.wantSent(t, "hub/v1/plug/ha/power  ")
	var sent []string
	h.WantThat(t, "two messages", func() bool {
		for _, m := range b.take() {
			if strings.HasPrefix(m, config) {
				sent = append(sent, m)
			}
		}
		return len(sent) == 2
	})
	if !strings.Contains(sent[0], `"power":{"p":"sensor"}`) || !strings.Contains(sent[0], `"extra":{"p":"sensor"}`) ||
		strings.Contains(sent[1], "power") || !strings.Contains(sent[1], `"p":"binary_sensor"`) {
		t.Errorf("got %q", sent)
	}
	// An earlier run of the hub left these; one is another hub's.
	left := func(id, root string) {
		say(t, s, "homeassistant/device/hub_"+id+"/config", `{"dev":{},"o":{"name":"devicehub"},"cmps":{"old":{"p":"sensor"}},"availability":[{"topic":"`+root+`/_hub/online"}]}`, true)
	}
	left("theirs", "hub/v2")
	left("plug", "hub/v1")
	h.WantThat(t, "the old component taken away", func() bool {
		return slices.ContainsFunc(b.take(), func(m string) bool {
			return strings.HasPrefix(m, config) && strings.Contains(m, `"old":{"p":"sensor"}`)
		})
	})
	left("gone", "hub/v1")
	for _, topic := range []string{"homeassistant/device/hub_gone/config", "hub/v1/gone/online", "hub/v1/gone/ha/old"} {
		if m := b.wantSent(t, topic+" "); m != topic+"  qos=1 retain=true" {
			t.Errorf("got %s", m)
		}
	}
	for _, m := range b.take() {
		if strings.Contains(m, "theirs") {
			t.Errorf("another hub's device is touched: %s", m)
		}
	}
	// What the broker had no room for is said when it has.
	b.take()
	b.refuse(true)
	h.SetStatus(devices.Status{State: devices.Offline})
	s.Publish(devices.Event{Device: "plug", Name: "status"})
	time.Sleep(20 * time.Millisecond)
	b.refuse(false)
	if m := b.wantSent(t, "hub/v1/plug/online "); m != "hub/v1/plug/online offline qos=1 retain=true" {
		t.Errorf("got %s", m)
	}
	// More events than the queue holds: all is said anew.
	b.take()
	for range 20_000 {
		s.Publish(devices.Event{Device: "plug", Name: "status"})
	}
	b.wantSent(t, config)
}

// A command is decided when it is in the command log, and never kept for later.
func TestHomeAssistantCommandsAreDecided(t *testing.T) {
	h := adaptertest.New(t, nil, light("lamp", "direct", devices.Light{Modes: []devices.LightMode{devices.ModeBrightness}}))
	s, _ := newSet(t, h, true, "ha_out")
	give := func(payload string) error {
		t.Helper()
		got := make(chan error, 1)
		if !s.Take(adapter.Message{Topic: "hub/v1/lamp/ha/light/set", Payload: []byte(payload)}, decided(func(err error) { got <- err })) {
			t.Fatal("no room")
		}
		return <-got
	}
	if err := give(`{"state":"ON"}`); err != nil {
		t.Error(err)
	}
	if err := give(`{"state":"DIM"}`); devices.CodeOf(err) != devices.CodeInvalid {
		t.Errorf("got %v", err)
	}
	h.RefuseCommands(devices.Refuse(devices.CodePlatformUnavailable, "disk"))
	if err := give(`{"state":"OFF"}`); devices.CodeOf(err) != devices.CodeExpired {
		t.Errorf("got %v", err)
	}
}

// later is a feed that is set after what publishes to it was made.
type later struct {
	mu sync.Mutex
	f  devices.Feed
}

func (l *later) Publish(e devices.Event) {
	l.mu.Lock()
	f := l.f
	l.mu.Unlock()
	if f != nil {
		f.Publish(e)
	}
}

func TestHomeAssistantReadings(t *testing.T) {
	feed := &later{}
	h := adaptertest.New(t, feed, sensor("k-1", "house"))
	s, b := newSet(t, h, true, "native", "ha_out")
	feed.mu.Lock()
	feed.f = s
	feed.mu.Unlock()
	b.wantSent(t, "homeassistant/device/hub_k-1/config ")
	b.take()
	say(t, s, "hub/v1/k-1/r", `{"m":"temperature","v":21.5}`)
	msg := b.wantSent(t, "hub/v1/k-1/ha/temperature ")
	if !strings.Contains(msg, `"v":21.5`) || !strings.HasSuffix(msg, "retain=true") {
		t.Errorf("got %s", msg)
	}
	if c := b.wantSent(t, "homeassistant/device/hub_k-1/config "); !strings.Contains(c, `"unit_of_meas":"°C"`) {
		t.Errorf("a new metric is not announced: %s", c)
	}
}

const zigbeeDevices = `[
 {"ieee_address":"0x00124b0001","type":"Coordinator","friendly_name":"Coordinator","definition":null},
 {"ieee_address":"0x00158d0001","type":"EndDevice","friendly_name":"attic/climate","software_build_id":"3000-0001",
  "definition":{"model":"WSDCGQ11LM","vendor":"Aqara","description":"climate","exposes":[
   {"type":"numeric","name":"temperature","property":"temperature","unit":"°C","access":1},
   {"type":"numeric","name":"humidity","property":"humidity","unit":"%","access":1},
   {"type":"numeric","name":"pressure","property":"pressure","unit":"hPa","access":1},
   {"type":"numeric","name":"voltage","property":"voltage","unit":"mV","access":1},
   {"type":"numeric","name":"linkquality","property":"linkquality","unit":"lqi","access":1}]}},
 {"ieee_address":"0x0017880001","type":"Router","friendly_name":"bulb",
  "definition":{"model":"9290012573A","vendor":"Philips","description":"bulb","exposes":[
   {"type":"light","features":[
    {"type":"binary","name":"state","property":"state","access":7},
    {"type":"numeric","name":"brightness","property":"brightness","value_min":0,"value_max":254,"access":7},
    {"type":"numeric","name":"color_temp","property":"color_temp","unit":"mired","value_min":153,"value_max":500,"access":7},
    {"type":"composite","name":"color_xy","property":"color","features":[]}]}]}}]`

func TestZigbee2MQTT(t *testing.T) {
	bulb := light("bulb", "house", devices.Light{Modes: []devices.LightMode{devices.ModeXY, devices.ModeColorTemp}})
	bulb.Labels = map[string]string{"z2m": "0x0017880001"}
	h := adaptertest.New(t, nil, bulb)
	s, b := newSet(t, h, true, "z2m")
	say(t, s, "zigbee2mqtt/bridge/devices", zigbeeDevices, true)
	met := s.Discovered()
	if len(met) != 1 || met[0].Adopt != "house/z2m/0x00158d0001" || met[0].Device.Model != "WSDCGQ11LM" {
		t.Fatalf("met %+v", met)
	}
	say(t, s, "zigbee2mqtt/attic/climate", `{"temperature":21.5}`) // nobody adopted it
	climate := met[0].Device.Clone()
	climate.ID, climate.Enabled = "attic-climate", true
	if err := h.Registry.Create(t.Context(), time.Now(), climate); err != nil {
		t.Fatal(err)
	}
	say(t, s, "zigbee2mqtt/attic/climate", `{"temperature":21.53,"humidity":40.1,"pressure":997.2,"voltage":3005,"linkquality":120}`)
	if got, want := h.Values("attic-climate"), `{"humidity":"40.1 %","pressure":"997.2 hPa","temperature":"21.53 °C","voltage":"3.005 V"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(s.Discovered()) != 0 {
		t.Error("still to be adopted")
	}
	h.Want(t, "connected attic-climate epoch=0") // no availability topic: the link is unknown
	say(t, s, "zigbee2mqtt/bulb/availability", `{"state":"online"}`, true)
	say(t, s, "zigbee2mqtt/bulb", `{"state":"ON","brightness":127,"color_mode":"xy","color":{"x":0.41,"y":0.52},"color_temp":300}`)
	h.Want(t, `state bulb {"brightness":128,"mode":"xy","on":true,"xy":[0.41,0.52]}`)
	say(t, s, "zigbee2mqtt/bulb", `{"state":"ON","brightness":254,"color_mode":"color_temp","color":{"x":0.41,"y":0.52},"color_temp":250}`)
	h.Want(t, `state bulb {"brightness":255,"kelvin":4000,"mode":"color_temp","on":true}`)
	say(t, s, "zigbee2mqtt/bulb", `{"state":"OFF","brightness":0}`)
	h.Want(t, `state bulb {"on":false}`)
	for _, x := range []struct {
		params map[string]any
		want   string
	}{
		{map[string]any{"on": true, "brightness": 255.0}, `{"brightness":254,"state":"ON"}`},
		{map[string]any{"on": true, "brightness": 1.0, "transition_ms": 1500.0}, `{"brightness":1,"state":"ON","transition":1.5}`},
		{map[string]any{"kelvin": 4000.0}, `{"color_temp":250}`},
		{map[string]any{"xy": []any{0.1, 0.2}}, `{"color":{"x":0.1,"y":0.2}}`},
		{map[string]any{"rgb": []any{1.0, 2.0, 3.0}}, `{"color":{"b":3,"g":2,"r":1}}`},
	} {
		b.take()
		if !h.Send("bulb", "set", x.params) {
			t.Fatal("not sent")
		}
		if got, want := b.wantSent(t, "zigbee2mqtt/bulb/set "), "zigbee2mqtt/bulb/set "+x.want+" qos=1 retain=false"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	h.Want(t, "forwarded bulb c-1")
	b.take()
	h.Send("bulb", "refresh", nil)
	b.wantSent(t, `zigbee2mqtt/bulb/get {"brightness":"","color":"","color_temp":"","state":""}`)
	h.Send("bulb", "restart", nil)
	h.Want(t, `"status":"rejected"`)
	say(t, s, "zigbee2mqtt/bulb/set", `{"state":"ON"}`, true)
	h.Want(t, "audit bridge:house mqtt.retained topic:zigbee2mqtt/bulb/set")
	say(t, s, "zigbee2mqtt/bulb/availability", `{"state":"offline"}`)
	h.Want(t, "offline bulb connection_lost")
	say(t, s, "zigbee2mqtt/bridge/state", `{"state":"offline"}`)
	h.Want(t, "offline bulb bridge_down")
	say(t, s, "zigbee2mqtt/bulb", `{"state":"ON"`)
	say(t, s, "zigbee2mqtt/bridge/devices", `{"not":"a list"}`)
}

func TestTasmota(t *testing.T) {
	h := adaptertest.New(t, nil)
	s, b := newSet(t, h, true, "tasmota")
	say(t, s, "tele/porch/LWT", "Online", true)
	say(t, s, "tele/porch/STATE", `{"Time":"2026-02-16T10:13:52","POWER":"ON","Dimmer":50,"HSBColor":"120,100,50","CT":250,"Fade":"OFF"}`)
	say(t, s, "tele/porch/SENSOR", `{"Time":"2026-02-16T10:13:52","ENERGY":{"Total":1.234,"Power":12,"Voltage":231}}`)
	met := s.Discovered()
	if len(met) != 1 || met[0].Adopt != "house/tasmota/porch" || met[0].Device.Light == nil || len(met[0].Device.Light.Modes) != 2 || len(met[0].Device.Kinds) != 2 {
		t.Fatalf("met %+v", met)
	}
	porch := met[0].Device.Clone()
	porch.ID, porch.Enabled = "porch", true
	if err := h.Registry.Create(t.Context(), time.Now(), porch); err != nil {
		t.Fatal(err)
	}
	say(t, s, "tele/porch/LWT", "Online", true)
	h.Want(t, "online porch")
	h.Want(t, "connected porch epoch=1")
	say(t, s, "tele/porch/STATE", `{"Time":"2026-02-16T10:13:52","POWER":"ON","Dimmer":50,"HSBColor":"120,100,50","CT":250}`)
	h.Want(t, `state porch {"brightness":128,"hs":[120,100],"mode":"hs","on":true}`)
	say(t, s, "stat/porch/RESULT", `{"POWER":"OFF","Dimmer":100,"HSBColor":"0,0,100","CT":250}`)
	h.Want(t, `state porch {"brightness":255,"kelvin":4000,"mode":"color_temp","on":false}`)
	say(t, s, "tele/porch/SENSOR", `{"Time":"2026-02-16T10:13:52","ENERGY":{"Total":1.234,"Power":12,"Voltage":231},"DS18B20":{"Temperature":68.0},"BMP280":{"Temperature":71.6,"Pressure":1000.5},"PressureUnit":"hPa","TempUnit":"F"}`)
	if got, want := h.Values("porch"), `{"energy":"1.234 kWh","power":"12 W","pressure":"1000.5 hPa","temperature":"22 °C","voltage":"231 V"}`; !strings.HasPrefix(got[1:], want[1:len(want)-1]) && got != want {
		// temperature_ds18b20 is undeclared and kept with the unit that it came in
		var m map[string]string
		_ = json.Unmarshal([]byte(got), &m)
		delete(m, "temperature_ds18b20")
		if b, _ := json.Marshal(m); string(b) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for _, x := range []struct {
		params map[string]any
		want   string
	}{
		{map[string]any{"on": true, "brightness": 128.0}, `Dimmer 50;Power ON`},
		{map[string]any{"on": false, "transition_ms": 2000.0}, `Fade 1;Speed 4;Power OFF`},
		{map[string]any{"kelvin": 4000.0}, `CT 250`},
		{map[string]any{"hs": []any{120.4, 99.6}}, `HSBColor1 120;HSBColor2 100`},
		{map[string]any{"rgb": []any{0.0, 0.0, 255.0}}, `HSBColor1 240;HSBColor2 100`},
	} {
		b.take()
		if !h.Send("porch", "set", x.params) {
			t.Fatal("not sent")
		}
		if got, want := b.wantSent(t, "cmnd/porch/Backlog "), "cmnd/porch/Backlog "+x.want+" qos=1 retain=false"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	say(t, s, "stat/porch/RESULT", `{"POWER":"ON","Dimmer":50,"HSBColor":"240,100,50"}`)
	h.Want(t, `answer porch {"cmd_id":"c-1","status":"done"}`)
	say(t, s, "cmnd/porch/POWER", "ON", true)
	h.Want(t, "audit bridge:house mqtt.retained topic:cmnd/porch/POWER")
	say(t, s, "tele/porch/LWT", "Offline")
	h.Want(t, "offline porch connection_lost")
}

// Scales round-trip where the coarser one can tell (devices/README.md#lights).
func TestScales(t *testing.T) {
	for dev := 1; dev <= 254; dev++ {
		if got := lights.ToScale(lights.FromScale(dev, 254), 254); got != dev {
			t.Errorf("Zigbee brightness %d comes back as %d", dev, got)
		}
	}
	for dev := 1; dev <= 100; dev++ {
		if got := lights.ToScale(lights.FromScale(dev, 100), 100); got != dev {
			t.Errorf("Tasmota dimmer %d comes back as %d", dev, got)
		}
	}
	for m := 153; m <= 500; m++ {
		if got := lights.Mireds(lights.FromMireds(m)); math.Abs(float64(got-m)) > 0 {
			t.Errorf("%d mireds come back as %d", m, got)
		}
	}
}

// A stranger's messages do no harm.
func FuzzHandle(f *testing.F) {
	f.Add("zigbee2mqtt/bridge/devices", []byte(zigbeeDevices), true)
	f.Add("tele/porch/SENSOR", []byte(`{"A":{"Temperature":1},"TempUnit":1}`), false)
	f.Add("hub/v1/k-1/r", []byte(`{"m":"t","v":1}`), false)
	f.Add("hub/v1/k-1/ha/light/set", []byte(`{"state":"ON","color":{"r":1e99}}`), false)
	f.Fuzz(func(t *testing.T, topic string, payload []byte, retained bool) {
		porch := light("porch", "house", devices.Light{Modes: []devices.LightMode{devices.ModeHS}})
		porch.Labels = map[string]string{"tasmota": "porch"}
		h := adaptertest.New(t, nil, sensor("k-1", "house"), porch)
		b := &bus{}
		s, err := adapter.NewSet(h.Hub, b, true, []adapter.Config{{Kind: "native"}, {Kind: "ha_out"}, {Kind: "z2m"}, {Kind: "tasmota"}})
		if err != nil {
			t.Fatal(err)
		}
		s.Take(adapter.Message{Topic: topic, Payload: payload, Retained: retained}, decided(func(error) {}))
		_ = s.Discovered()
	})
}

// A foreign name that would make a topic with a wildcard is not met, and nothing
// is published on such a topic: a broker ends the connection for that.
func TestNamesWithWildcards(t *testing.T) {
	h := adaptertest.New(t, nil)
	s, _ := newSet(t, h, true, "z2m")
	say(t, s, "zigbee2mqtt/bridge/devices", strings.Replace(zigbeeDevices, `"friendly_name":"bulb"`, `"friendly_name":"a/+/#"`, 1), true)
	for _, d := range s.Discovered() {
		if strings.ContainsAny(d.Device.Name, "+#") {
			t.Errorf("met %q", d.Device.Name)
		}
	}
	if n := len(s.Discovered()); n != 1 {
		t.Errorf("met %d, want the other one", n)
	}
}
