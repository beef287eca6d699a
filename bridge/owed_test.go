package bridge

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"devicehub/bridge/packet"
	"devicehub/devices"
	"devicehub/devices/identity"
)

// down reads what the device is told on sys/down, acknowledging it if ack says so,
// and skipping pings, acknowledgements and the events that skip names.
func (c *raw) down(ack bool, skip ...string) (e map[string]any) {
	c.t.Helper()
	for {
		head, b := c.read()
		if head>>4 != packet.Publish {
			continue
		}
		m := c.parse(head, b)
		e = nil
		if !strings.HasSuffix(m.topic, "/sys/down") {
			c.t.Fatalf("got %+v", m)
		}
		if err := json.Unmarshal([]byte(m.payload), &e); err != nil {
			c.t.Fatalf("%s: %v", m.payload, err)
		}
		if m.qos > 0 && (ack || e["e"] == "ping") {
			c.puback(m.id)
		}
		skipped := e["e"] == "ping"
		for _, s := range skip {
			skipped = skipped || e["e"] == s
		}
		if !skipped {
			return e
		}
	}
}

// nothing wants nothing on sys/down but pings.
func (c *raw) nothing() {
	c.t.Helper()
	for deadline := time.Now().Add(100 * time.Millisecond); time.Now().Before(deadline); {
		head, b, err := c.readErr(time.Until(deadline))
		if err != nil {
			return
		}
		if m := c.parse(head, b); head>>4 == packet.Publish && !strings.Contains(m.payload, `"ping"`) {
			c.t.Errorf("got %+v, want nothing", m)
		}
	}
}

// keepSession is a connect whose session outlives the connection.
func keepSession(v byte, id, token string) connect {
	o := keep(v)
	o.id, o.user, o.password = id, id, token
	return o
}

func (h *wholeHub) configure(t *testing.T, id devices.ID, config string) {
	t.Helper()
	if _, err := h.registry.Update(t.Context(), id, func(d *devices.Device) error {
		d.Config = []byte(config)
		d.ConfigVer++
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Settings that changed while the device was away reach it: after its SUBSCRIBE, with
// the session that it resumes, and when it names others; and again until it has
// acknowledged them.
func TestConfigReachesADeviceThatWasAway(t *testing.T) {
	versions(t, func(t *testing.T, v byte) {
		h := startHub(t)
		token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
		const down = "hub/v1/d/sys/down"
		want := func(c *raw, ack bool, interval, ver float64) {
			t.Helper()
			if e := c.down(ack); e["e"] != "config" || e["interval"] != interval || e["ver"] != ver {
				t.Fatalf("got %v, want interval %v of version %v", e, interval, ver)
			}
		}
		leave := func(c *raw) {
			t.Helper()
			c.send(packet.Disconnect<<4, nil)
			c.wantClosed()
		}
		clean := connect{id: "d", user: "d", password: token, clean: true}

		c := dial(t, h.addr, v).in(clean)
		c.subscribe(1, down) // nothing is set
		c.nothing()
		leave(c)

		h.configure(t, "d", `{"interval":30}`)
		c = dial(t, h.addr, v).in(clean)
		c.nothing() // it does not listen yet
		c.subscribe(1, down)
		want(c, true, 30, 1)
		c.subscribe(1, down)
		c.nothing() // once is enough
		leave(c)

		c = dial(t, h.addr, v).in(keepSession(v, "d", token))
		c.subscribe(1, down)
		want(c, true, 30, 1) // a new session knows nothing
		leave(c)
		h.configure(t, "d", `{"interval":40}`)
		c = dial(t, h.addr, v).in(keepSession(v, "d", token))
		want(c, false, 40, 2) // the session is resumed, and this is not acknowledged
		leave(c)
		c = dial(t, h.addr, v).in(keepSession(v, "d", token))
		want(c, true, 40, 2)
		leave(c)
		c = dial(t, h.addr, v).in(keepSession(v, "d", token))
		c.nothing() // it knows
		c.publish("hub/v1/d/sys", `{"e":"info","config_ver":1}`, 0, 0)
		want(c, true, 40, 2) // or thinks so
		c.publish("hub/v1/d/sys", `{"e":"info","config_ver":1}`, 0, 0)
		c.nothing() // it will not have it: no endless talk
		c.subscribe(1, down)
		c.nothing()
		h.configure(t, "d", `{"interval":50}`)
		want(c, true, 50, 3) // a change while it is here
		c.publish("hub/v1/d/sys", `{"e":"info","config_ver":3}`, 0, 0)
		h.wantStatus(t, "d", func(devices.Status) bool { d, _ := h.registry.Get("d"); return d.ConfigAckVer == 3 })
		c.nothing()
		leave(c)
		c = dial(t, h.addr, v).in(keepSession(v, "d", token))
		c.subscribe(1, down) // a device that subscribes again may have forgotten all
		want(c, true, 50, 3)
	})
}

// A token that was refreshed in band is told until the device has it.
func TestRefreshedTokenIsToldUntilAcknowledged(t *testing.T) {
	versions(t, func(t *testing.T, v byte) {
		h := startHub(t)
		ttl := time.Hour
		made, err := h.identity.CreateDevices(t.Context(), devices.CLI(), devices.Origin{Via: "cli"},
			[]*devices.Device{{ID: "d", Kinds: []devices.Kind{devices.KindSensor}, Enabled: true, Via: devices.ViaDirect}}, identity.TokenOptions{TTL: &ttl})
		if err != nil {
			t.Fatal(err)
		}
		old := made[0].Token.Token
		connectWith := func(token string) *raw {
			c := dial(t, h.addr, v).in(connect{id: "d", user: "d", password: token, clean: true})
			c.subscribe(1, "hub/v1/d/sys/down")
			return c
		}
		if _, err := h.identity.RotateKey(t.Context(), devices.CLI(), devices.Origin{Via: "cli"}); err != nil {
			t.Fatal(err) // so that the device's own has to be replaced
		}
		c := connectWith(old)
		time.Sleep(1100 * time.Millisecond) // tokens end at whole seconds
		c.publish("hub/v1/d/sys", `{"e":"token_refresh"}`, 0, 0)
		first := c.down(false)
		if first["e"] != "token" || first["token"] == old {
			t.Fatalf("got %v", first)
		}
		c.nc.Close() // and it did not come to write it down
		c = connectWith(old)
		if again := c.down(true); !reflect.DeepEqual(again, first) {
			t.Errorf("got %v, want %v again", again, first)
		}
		c.send(packet.Disconnect<<4, nil)
		c.wantClosed()
		c = connectWith(old)
		c.nothing() // acknowledged
		c.publish("hub/v1/d/sys", `{"e":"token_refresh"}`, 0, 0)
		lost := c.down(false)
		c.nc.Close()
		c = connectWith(lost["token"].(string)) // the acknowledgement alone was lost
		c.nothing()
		c.nc.Close()
		c = connectWith(old)
		c.nothing() // forgotten since
	})
}

// Whatever is refused of a message is told, also one item of a batch, whatever the
// version and QoS.
func TestWhatIsRefusedIsTold(t *testing.T) {
	versions(t, func(t *testing.T, v byte) {
		for qos := range byte(3) {
			t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
				h := startHub(t)
				token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
				c := h.connect(t, v, "d", token)
				c.subscribe(1, "hub/v1/d/sys/down")
				n := uint16(0)
				say := func(topic, payload string) {
					n++
					c.publish("hub/v1/d/"+topic, payload, qos, n)
				}
				say("r", `{"r":[["temperature",21.5],["temperature","warm"],["humidity",40,{"u":"V"}],["humidity",41]]}`)
				e := c.down(true)
				if e["e"] != "error" || e["topic"] != "hub/v1/d/r" || e["code"] != "type_conflict" || e["accepted"] != 2.0 || e["late"] != 0.0 || e["dup"] != 0.0 {
					t.Errorf("got %v", e)
				}
				items, _ := e["rejected"].([]any)
				if len(items) != 2 {
					t.Fatalf("got %v", e)
				}
				for i, want := range []map[string]any{{"i": 1.0, "code": "type_conflict"}, {"i": 2.0}} {
					got := items[i].(map[string]any)
					for k, w := range want {
						if got[k] != w {
							t.Errorf("item %d: got %v, want %s %v", i, got, k, w)
						}
					}
				}
				say("r", `{"r":[["temperature","warm"],["temperature",true]]}`) // nothing of it is taken
				if e := c.down(true); e["e"] != "error" || len(e["rejected"].([]any)) != 2 || e["accepted"] != 0.0 {
					t.Errorf("got %v", e)
				}
				say("senml", `[{"bn":"","n":"temperature","v":20},{"n":"temperature","vs":"warm"}]`)
				if e := c.down(true); e["e"] != "error" || e["topic"] != "hub/v1/d/senml" || len(e["rejected"].([]any)) != 1 {
					t.Errorf("got %v", e)
				}
				var many strings.Builder
				for range 200 {
					many.WriteString(`,["temperature","warm"]`)
				}
				say("r", `{"r":[["temperature",22]`+many.String()+`]}`)
				if e := c.down(true); len(e["rejected"].([]any)) != maxItems || e["omitted"] != float64(200-maxItems) {
					t.Errorf("got %d rejections and %v omitted", len(e["rejected"].([]any)), e["omitted"])
				}
				say("r", `{"r":[["temperature",23],["humidity",42]]}`) // all is well
				c.acknowledgements(qos, n)
				c.nothing()
			})
		}
	})
}

// acknowledgements waits for that of publish n.
func (c *raw) acknowledgements(qos byte, n uint16) {
	c.t.Helper()
	if qos == 0 {
		return
	}
	for {
		head, b := c.read()
		if head>>4 == []byte{0, packet.Puback, packet.Pubrec}[qos] && uint16(b[0])<<8|uint16(b[1]) == n {
			if len(b) > 2 && b[2] != 0 {
				c.t.Errorf("acknowledged with %x", b)
			}
			return
		}
	}
}

// A device that is gone before the decision hears of it when it is back. One that
// does not listen loses nothing else.
func TestRefusalOfADeviceThatIsGone(t *testing.T) {
	h := startHub(t)
	token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
	for n, listens := range []bool{true, false} {
		c := h.connect(t, packet.V311, "d", token)
		if listens {
			c.subscribe(1, "hub/v1/d/sys/down")
		}
		body := c.publishBody("hub/v1/d/r", fmt.Sprintf(`{"boot":"b%d","s0":1,"r":[["temperature",21],["temperature","warm"]]}`, n), 1, 1)
		c.speak(frame(packet.Publish<<4|2, body), goodbye)
		c.nc.Close()
		h.wantStored(t, int64(n+1))
		h.wantState(t, "d", devices.Offline, "client_close")
		c = h.connect(t, packet.V311, "d", token)
		c.subscribe(1, "hub/v1/d/sys/down")
		if listens {
			if e := c.down(true); e["e"] != "error" || e["topic"] != "hub/v1/d/r" || len(e["rejected"].([]any)) != 1 {
				t.Errorf("got %v", e)
			}
		}
		c.nothing()
		c.send(packet.Disconnect<<4, nil)
		c.wantClosed()
	}
}

// A small device is told as much of a refused batch as it takes.
func TestRefusalsFitTheClient(t *testing.T) {
	h := startHub(t)
	token := h.add(t, &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}, false)
	c := dial(t, h.addr, packet.V5).in(connect{id: "d", user: "d", password: token, clean: true, props: []byte{39, 0, 0, 3, 0}})
	c.subscribe(1, "hub/v1/d/sys/down")
	c.publish("hub/v1/d/r", `{"r":[["temperature",22]`+strings.Repeat(`,["temperature","warm"]`, 40)+`]}`, 0, 0)
	head, b := c.fits(0x300)
	var e map[string]any
	if err := json.Unmarshal([]byte(c.parse(head, b).payload), &e); err != nil || len(e["rejected"].([]any)) == 0 || e["omitted"] == nil {
		t.Errorf("got %s", b)
	}
}
