package main

import (
	"strings"
	"testing"
)

const zigbeeBulb = `[{"ieee_address":"0x0017880001","type":"Router","friendly_name":"bulb","definition":{"model":"9290012573A","vendor":"Philips","description":"bulb",
 "exposes":[{"type":"light","features":[{"type":"binary","name":"state","property":"state","access":7},{"type":"numeric","name":"brightness","property":"brightness","value_min":0,"value_max":254,"access":7}]}]}}]`

// A lamp behind a Zigbee2MQTT that says nothing of its devices' availability, as
// is its default: it can be switched again once Zigbee2MQTT is back.
func TestZigbeeLampIsSwitchedAfterARestart(t *testing.T) {
	broker := startMosquitto(t)
	r := runHub(t, func(c *Config) {
		c.MQTT.Bridges = []BridgeConfig{{Name: "house", URL: "mqtt://" + broker.addr, Trust: "topic", Adapters: []AdapterConfig{{Kind: "z2m"}}}}
	})
	z := dialMQTT(t, broker.addr, "", "")
	z.hear("zigbee2mqtt/bulb/set")
	z.say("zigbee2mqtt/bridge/devices", zigbeeBulb, true)
	r.wait("the discovery", func() bool {
		var met struct{ Discovered []struct{ Adopt string } }
		r.call("GET", "/api/v1/discovered", nil, 200, &met)
		return len(met.Discovered) == 1
	})
	r.call("POST", "/api/v1/devices", map[string]any{"id": "bulb", "adopt": "house/z2m/0x0017880001"}, 201, nil)
	z.say("zigbee2mqtt/bulb", `{"state":"ON"}`, false)
	r.wait("the lamp's state", func() bool { return r.state("bulb") == "data_only" })

	command := func(want int) (warning string) {
		t.Helper()
		var rc struct{ Warning string }
		r.call("POST", "/api/v1/devices/bulb/commands", map[string]any{"op": "set", "params": map[string]any{"on": true}}, want, &rc)
		return rc.Warning
	}
	z.say("zigbee2mqtt/bridge/state", `{"state":"offline"}`, true)
	r.wait("the lamp to be away", func() bool { return r.state("bulb") == "offline" })
	command(409)

	z.say("zigbee2mqtt/bridge/state", `{"state":"online"}`, true)
	z.say("zigbee2mqtt/bridge/devices", zigbeeBulb, true)
	r.wait("the lamp to be back", func() bool { return r.state("bulb") == "data_only" })
	if got := command(202); !strings.Contains(got, "data_only") {
		t.Errorf("warning %q, want the status named", got)
	}
	if got := z.want("zigbee2mqtt/bulb/set"); got != `{"state":"ON"}` {
		t.Errorf("got %s", got)
	}
}
