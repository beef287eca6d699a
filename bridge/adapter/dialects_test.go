package adapter_test

import (
	"fmt"
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

// A Zigbee2MQTT that was away is back: its lamps can be switched again, though it
// says nothing of them (availability is off by default), or nothing new.
func TestZigbeeIsBack(t *testing.T) {
	const base = "zigbee2mqtt/"
	for name, back := range map[string]func(t *testing.T, s *adapter.Set){
		"its state": func(t *testing.T, s *adapter.Set) {
			say(t, s, base+"bridge/state", `{"state":"online"}`)
			say(t, s, base+"bridge/devices", zigbeeDevices)
		},
		"its state alone, of an old version": func(t *testing.T, s *adapter.Set) { say(t, s, base+"bridge/state", `online`) },
		"its list":                           func(t *testing.T, s *adapter.Set) { say(t, s, base+"bridge/devices", zigbeeDevices) },
	} {
		for _, announced := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, availability %v", name, announced), func(t *testing.T) {
				bulb := light("bulb", "house", devices.Light{Modes: []devices.LightMode{devices.ModeXY, devices.ModeColorTemp}})
				bulb.Labels = map[string]string{"z2m": "0x0017880001"}
				h := adaptertest.New(t, nil, bulb)
				s, _ := newSet(t, h, true, "z2m")
				say(t, s, base+"bridge/devices", zigbeeDevices, true)
				if announced {
					say(t, s, base+"bulb/availability", `{"state":"online"}`, true)
				}
				say(t, s, base+"bulb", `{"state":"ON"}`)
				on := map[string]any{"on": true}
				if !h.Send("bulb", "set", on) {
					t.Fatal("no command goes to the lamp")
				}
				say(t, s, base+"bridge/state", `{"state":"offline"}`)
				h.Want(t, "offline bulb bridge_down")
				// What the broker has kept of before says nothing new.
				say(t, s, base+"bridge/devices", zigbeeDevices, true)
				if announced {
					say(t, s, base+"bulb/availability", `{"state":"online"}`, true)
				}
				if h.Send("bulb", "set", on) {
					t.Error("a command goes to a lamp behind nothing")
				}
				n := len(h.Log())
				back(t, s)
				if !h.Send("bulb", "set", on) {
					t.Error("no command goes to the lamp")
				}
				want := map[bool]string{false: "unknown bulb", true: "online bulb"}[announced]
				if log := strings.Join(h.Log()[n:], "\n"); !strings.Contains(log, want) {
					t.Errorf("want %s in\n%s", want, log)
				}
			})
		}
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

// A RESULT is the answer to a command if it holds it; others are somebody's at a
// button or a console.
func TestTasmotaAnswers(t *testing.T) {
	on := map[string]any{"on": true}
	for _, x := range []struct {
		name, op string
		params   map[string]any
		result   string
		want     string // the status answered
	}{
		{"its own", "set", on, `{"POWER":"ON"}`, "done"},
		{"of a lamp beside relays", "set", on, `{"POWER1":"ON"}`, "done"},
		{"one of several", "set", map[string]any{"on": true, "brightness": 128.0}, `{"Dimmer":50}`, "done"},
		{"a colour", "set", map[string]any{"hs": []any{120.0, 50.0}}, `{"POWER":"ON","Dimmer":50,"HSBColor":"120,50,50"}`, "done"},
		{"a white", "set", map[string]any{"kelvin": 4000.0}, `{"POWER":"ON","CT":250}`, "done"},
		{"a button", "set", on, `{"Button1":{"Action":"SINGLE"}}`, ""},
		{"a setting of somebody's", "set", on, `{"TelePeriod":60}`, ""},
		{"how it gets there", "set", map[string]any{"on": true, "transition_ms": 500.0}, `{"Fade":"ON"}`, ""},
		{"a whole state", "set", on, `{"Time":"2026-02-16T10:13:52","Uptime":"0T00:10:00","POWER":"OFF","Dimmer":50}`, ""},
		{"unknown to it", "set", on, `{"Command":"Unknown"}`, "failed"},
		{"the state asked for", "refresh", nil, `{"Time":"2026-02-16T10:13:52","Uptime":"0T00:10:00","POWER":"OFF","Dimmer":50}`, "done"},
		{"another", "refresh", nil, `{"POWER":"OFF"}`, ""},
		{"a restart", "restart", nil, `{"Restart":"Restarting"}`, "done"},
	} {
		t.Run(x.name, func(t *testing.T) {
			porch := light("porch", "house", devices.Light{Modes: []devices.LightMode{devices.ModeHS, devices.ModeColorTemp}})
			porch.Labels = map[string]string{"tasmota": "porch"}
			h := adaptertest.New(t, nil, porch)
			s, _ := newSet(t, h, true, "tasmota")
			say(t, s, "tele/porch/LWT", "Online", true)
			if !h.Send("porch", x.op, x.params) {
				t.Fatal("not sent")
			}
			say(t, s, "stat/porch/RESULT", x.result)
			got := ""
			for _, line := range h.Log() {
				if _, a, ok := strings.Cut(line, `answer porch {"cmd_id":"c-1",`); ok {
					got = a
				}
			}
			if !strings.Contains(got, `"status":"`+x.want+`"`) && got+x.want != "" {
				t.Errorf("answered %q, want %q", got, x.want)
			}
			say(t, s, "stat/porch/RESULT", `{"POWER":"ON","Dimmer":50,"HSBColor":"1,2,50","CT":250}`)
			if n := strings.Count(strings.Join(h.Log(), "\n"), "answer porch"); x.want != "" && n != 1 {
				t.Errorf("answered %d times", n)
			}
		})
	}
}

// A set and the state that the hub asks for may wait at once: each has its answer.
func TestTasmotaAnswersOfTwo(t *testing.T) {
	porch := light("porch", "house", devices.Light{Modes: []devices.LightMode{devices.ModeBrightness}})
	porch.Labels = map[string]string{"tasmota": "porch"}
	h := adaptertest.New(t, nil, porch)
	s, b := newSet(t, h, true, "tasmota")
	say(t, s, "tele/porch/LWT", "Online", true)
	h.SendAs("porch", "c-1", "refresh", nil)
	h.SendAs("porch", "c-2", "set", map[string]any{"on": true})
	say(t, s, "stat/porch/RESULT", `{"POWER":"ON"}`)
	say(t, s, "stat/porch/RESULT", `{"Time":"2026-02-16T10:13:52","Uptime":"0T00:10:00","POWER":"ON","Dimmer":50}`)
	if got, want := answers(h), "c-2 c-1"; got != want {
		t.Errorf("answered %s, want %s", got, want)
	}
	b.refuse(true)
	if h.SendAs("porch", "c-3", "set", map[string]any{"on": true}) {
		t.Error("sent to a broker that is away")
	}
	b.refuse(false)
	for _, cmd := range []string{"c-4", "c-5", "c-6", "c-7", "c-8", "c-8"} { // the last one twice
		h.SendAs("porch", cmd, "set", map[string]any{"on": true})
	}
	for range 8 {
		say(t, s, "stat/porch/RESULT", `{"POWER":"ON"}`)
	}
	if got, want := answers(h), "c-2 c-1 c-5 c-6 c-7 c-8"; got != want {
		t.Errorf("answered %s, want %s", got, want)
	}
}

// answers are the commands that were answered, in their order.
func answers(h *adaptertest.Hub) string {
	var got []string
	for _, line := range h.Log() {
		if _, a, ok := strings.Cut(line, `answer porch {"cmd_id":"`); ok {
			got = append(got, a[:3])
		}
	}
	return strings.Join(got, " ")
}

// A text that somebody chose for on and off tells nothing.
func TestTasmotaStateText(t *testing.T) {
	porch := light("porch", "house", devices.Light{Modes: []devices.LightMode{devices.ModeBrightness}})
	porch.Labels = map[string]string{"tasmota": "porch"}
	h := adaptertest.New(t, nil, porch)
	s, _ := newSet(t, h, true, "tasmota")
	for _, x := range []struct{ power, want string }{
		{"ON", `"on":true`}, {"OFF", `"on":false`}, {"on", `"on":true`}, {"Off", `"on":false`}, {"EIN", ``}, {"1", ``}, {"", ``},
	} {
		n := len(h.Log())
		say(t, s, "tele/porch/STATE", `{"POWER":"`+x.power+`","Dimmer":50}`)
		want := strings.TrimSuffix(`state porch {"brightness":128,`+x.want, ",") + "}"
		if got := strings.Join(h.Log()[n:], "\n"); !strings.Contains(got, want) {
			t.Errorf("%q: got %s, want %s", x.power, got, want)
		}
	}
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
