package adapter_test

import (
	"strings"
	"testing"
	"time"

	"devicehub/bridge/adapter"
	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
)

// A broker tells what it keeps in any order: a device's availability may come
// before the list that names the device.
func TestZigbeeAvailabilityBeforeTheList(t *testing.T) {
	climate := sensor("climate", "house")
	climate.Labels = map[string]string{"z2m": "0x00158d0001"}
	h := adaptertest.New(t, nil, climate)
	s, _ := newSet(t, h, true, "z2m")
	say(t, s, "zigbee2mqtt/attic/climate/availability", `{"state":"offline"}`, true)
	say(t, s, "zigbee2mqtt/nobody/availability", `{"state":"online"}`, true)
	say(t, s, "zigbee2mqtt/bridge/devices", zigbeeDevices, true)
	h.Want(t, "offline climate connection_lost")
	say(t, s, "zigbee2mqtt/bridge/devices", zigbeeDevices) // says it no second time
	say(t, s, "zigbee2mqtt/attic/climate/availability", `{"state":"online"}`)
	h.Want(t, "online climate")
	if n := strings.Count(strings.Join(h.Log(), "\n"), "offline climate"); n != 1 {
		t.Errorf("offline %d times", n)
	}
	// What has left the network is not to be adopted.
	if met := s.Discovered(); len(met) != 1 {
		t.Fatalf("met %+v", met)
	}
	say(t, s, "zigbee2mqtt/bridge/devices", `[]`)
	if met := s.Discovered(); len(met) != 0 {
		t.Errorf("met %+v", met)
	}
}

// A Zigbee2MQTT that keeps no states tells changes alone.
func TestZigbeePartialState(t *testing.T) {
	bulb := light("bulb", "house", devices.Light{Modes: []devices.LightMode{devices.ModeXY, devices.ModeColorTemp}})
	bulb.Labels = map[string]string{"z2m": "0x0017880001"}
	h := adaptertest.New(t, nil, bulb)
	s, _ := newSet(t, h, true, "z2m")
	say(t, s, "zigbee2mqtt/bridge/devices", zigbeeDevices, true)
	say(t, s, "zigbee2mqtt/bulb", `{"brightness":127,"linkquality":90}`)
	h.Want(t, `state bulb {"brightness":128}`)
}

// A state that is refused takes no readings with it.
func TestZigbeeReadingsBesideARefusedState(t *testing.T) {
	bulb := light("bulb", "house", devices.Light{Modes: []devices.LightMode{devices.ModeXY, devices.ModeColorTemp}})
	bulb.Kinds = append(bulb.Kinds, devices.KindSensor)
	bulb.Labels = map[string]string{"z2m": "0x0017880001"}
	h := adaptertest.New(t, nil, bulb)
	s, _ := newSet(t, h, true, "z2m")
	say(t, s, "zigbee2mqtt/bridge/devices", zigbeeDevices, true)
	h.RefuseCommands(devices.OutOfRange("brightness", 1, 255, ""))
	var got error
	done := make(chan struct{})
	s.Take(adapter.Message{Topic: "zigbee2mqtt/bulb", Payload: []byte(`{"state":"ON","power":4.5}`)}, decided(func(err error) { got = err; close(done) }))
	<-done
	if devices.CodeOf(got) != devices.CodeRange || h.Values("bulb") != `{"power":"4.5 W"}` {
		t.Errorf("%v; got %s", got, h.Values("bulb"))
	}
}

// A lamp has nothing to say before it is told: commands reach it once it is
// adopted, by what was known of it before.
func TestAdoptedDevicesHearCommands(t *testing.T) {
	h := adaptertest.New(t, nil)
	s, b := newSet(t, h, true, "z2m", "tasmota")
	say(t, s, "zigbee2mqtt/bulb/availability", `{"state":"online"}`, true)
	say(t, s, "zigbee2mqtt/bridge/devices", zigbeeDevices, true)
	say(t, s, "tele/porch/LWT", "Online", true)
	say(t, s, "tele/porch/STATE", `{"POWER":"ON","Dimmer":50}`)
	for _, met := range s.Discovered() {
		dev := met.Device.Clone()
		dev.ID, dev.Enabled = devices.ID(strings.NewReplacer("/", "-").Replace(dev.Name)), true
		if err := h.Registry.Create(t.Context(), time.Now(), dev); err != nil {
			t.Fatal(err)
		}
		s.Publish(devices.Event{Device: dev.ID, Name: "device_changed"})
	}
	h.Want(t, "online bulb")
	h.Want(t, "online porch")
	h.Want(t, "connected attic-climate epoch=0") // which announces nothing
	for id, topic := range map[devices.ID]string{"bulb": "zigbee2mqtt/bulb/set ", "porch": "cmnd/porch/Backlog "} {
		h.WantThat(t, "a command on "+topic, func() bool { return h.Send(id, "set", map[string]any{"on": true}) })
		b.wantSent(t, topic)
	}
}

// A sensor that is missing from a message leaves its metric to nobody, and a
// command that Tasmota does not know has failed.
func TestTasmotaNamesAndErrors(t *testing.T) {
	porch := light("porch", "house", devices.Light{Modes: []devices.LightMode{devices.ModeBrightness}})
	porch.Kinds = append(porch.Kinds, devices.KindSensor)
	porch.Labels = map[string]string{"tasmota": "porch"}
	h := adaptertest.New(t, nil, porch)
	s, b := newSet(t, h, true, "tasmota")
	say(t, s, "tele/porch/LWT", "Online", true)
	both := `{"DS18B20-1":{"Temperature":20},"DS18B20-2":{"Temperature":70},"TempUnit":"C"}`
	say(t, s, "tele/porch/SENSOR", both)
	time.Sleep(5 * time.Millisecond)
	say(t, s, "tele/porch/SENSOR", `{"DS18B20-2":{"Temperature":71},"TempUnit":"C"}`)
	if got, want := h.Values("porch"), `{"temperature":"20 °C","temperature_ds18b20_2":"71 °C"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !h.Send("porch", "set", map[string]any{"on": true}) {
		t.Fatal("not sent")
	}
	b.wantSent(t, "cmnd/porch/Backlog ")
	say(t, s, "stat/porch/RESULT", `{"Command":"Unknown"}`)
	h.Want(t, `answer porch {"cmd_id":"c-1","code":"unsupported","status":"failed"}`)
}

// What a device says of the commands under way is heard before they are sent
// again because it is there again.
func TestHeardBeforeItIsConnected(t *testing.T) {
	lamp := light("lamp", "house", devices.Light{Modes: []devices.LightMode{devices.ModeBrightness}})
	h := adaptertest.New(t, nil, lamp)
	s, _ := newSet(t, h, true, "native")
	for _, x := range []struct{ topic, payload, line string }{
		{"state", `{"on":true}`, "state lamp"}, {"ack", `{"cmd_id":"c-1","status":"done"}`, "answer lamp"},
	} {
		n := len(h.Log())
		say(t, s, "hub/v1/lamp/"+x.topic, x.payload)
		log := h.Log()[n:]
		if len(log) != 2 || !strings.HasPrefix(log[0], x.line) || !strings.HasPrefix(log[1], "connected lamp") {
			t.Errorf("%s: got %q", x.topic, log)
		}
		say(t, s, "hub/v1/lamp/lwt", "gone")
	}
}
