package bridge

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"devicehub/bridge/packet"
	"devicehub/devices"
)

// How a connection begins and ends is what the device's status says (devices/README.md#presence).
func TestPresence(t *testing.T) {
	t.Parallel()
	h := startHub(t)
	token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
	versions(t, func(t *testing.T, v byte) {
		epoch := h.liveness.Status("d").Epoch
		online := func(o connect) *raw {
			t.Helper()
			c := dial(t, h.addr, v)
			o.id, o.user, o.password, o.clean = "any", "d", token, true
			c.send(packet.Connect<<4, c.connectBody(o))
			if b := c.wantType(packet.Connack); b[1] != 0 {
				t.Fatalf("CONNACK %x", b)
			}
			h.wantState(t, "d", devices.Online, "")
			s := h.liveness.Status("d")
			if s.Epoch <= epoch {
				t.Errorf("epoch %d after %d", s.Epoch, epoch)
			}
			epoch = s.Epoch
			return c
		}
		c := online(connect{})
		c.send(packet.Disconnect<<4, nil)
		h.wantState(t, "d", devices.Offline, "client_close")
		c = online(connect{will: "hub/v1/d/lwt", willPayload: `{"boot":"b-1"}`})
		c.nc.Close()
		h.wantState(t, "d", devices.Offline, "connection_lost")
		c = online(connect{keepAlive: 1})
		begun := time.Now()
		h.wantState(t, "d", devices.Offline, "heartbeat_timeout")
		if d := time.Since(begun); d < time.Second { // one and a half times the keep-alive
			t.Errorf("given up after %v", d)
		}
		c.nc.Close()
		c = online(connect{})
		c.send(packet.Publish<<4|6, nil) // QoS 3
		h.wantState(t, "d", devices.Offline, "protocol_error")

		old := online(connect{})
		next := online(connect{})
		if v == packet.V5 {
			if b := old.wantType(packet.Disconnect); b[0] != packet.SessionTakenOver {
				t.Errorf("DISCONNECT %02x", b[0])
			}
		}
		old.wantClosed()
		time.Sleep(20 * time.Millisecond)
		if s := h.liveness.Status("d"); s.State != devices.Online || s.Epoch != epoch { // the end of the older epoch is no news
			t.Errorf("status %+v", s)
		}
		next.send(packet.Disconnect<<4, nil)
		h.wantState(t, "d", devices.Offline, "client_close")
	})
}

// What a device says on sys, with the hub behind it (devices/PROTOCOL.md#mqtt).
func TestSysEvents(t *testing.T) {
	h := startHub(t)
	token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
	c := h.connect(t, packet.V311, "d", token)
	c.subscribe(1, "hub/v1/d/sys/down")
	n := uint16(0)
	say := func(format string, a ...any) {
		t.Helper()
		n++
		c.publish("hub/v1/d/sys", fmt.Sprintf(format, a...), 1, n)
	}
	answer := func() (e map[string]any) {
		t.Helper()
		for {
			head, b := c.read()
			if head>>4 != packet.Publish {
				continue // the PUBACK, before or after
			}
			m := c.parse(head, b)
			if m.topic != "hub/v1/d/sys/down" || m.retain || json.Unmarshal([]byte(m.payload), &e) != nil {
				t.Fatalf("got %+v", m)
			}
			c.puback(m.id)
			return e
		}
	}
	say(`{"e":"time_req"}`)
	if e := answer(); e["e"] != "time" || e["server_time"] == nil {
		t.Errorf("got %v", e)
	}
	say(`{"e":"token_refresh"}`)
	if e := answer(); e["e"] != "token" || e["token"] != nil || e["gen"] == nil { // its own is young enough
		t.Errorf("got %v", e)
	}
	say(`{"e":"info","fw":"2.1"}`)
	h.wantStatus(t, "d", func(devices.Status) bool { d, _ := h.registry.Get("d"); return d.Firmware == "2.1" })
	say(`{"e":"nonsense"}`)
	if e := answer(); e["e"] != "error" || e["code"] != "invalid" || e["topic"] != "hub/v1/d/sys" {
		t.Errorf("got %v", e)
	}
	say(`{"e":"sleep","awake_at":%d}`, time.Now().Add(time.Minute).UnixMilli())
	h.wantStatus(t, "d", func(s devices.Status) bool { return s.State == devices.Sleeping })
}

func (h *wholeHub) wantStatus(t *testing.T, id devices.ID, ok func(devices.Status) bool) {
	t.Helper()
	for range 300 {
		if ok(h.liveness.Status(id)) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("status %+v", h.liveness.Status(id))
}
