package bridge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"devicehub/bridge/broker"
	"devicehub/bridge/packet"
	"devicehub/devices"
)

// A device with a valid token tries to reach another by every way there is.
func TestAttackOnAnotherDevice(t *testing.T) {
	versions(t, func(t *testing.T, v byte) {
		door := newDoor()
		accounts := fakeAccounts{"ha": {Filters: []string{"#"}}}
		srv, addr := start(t, nil, WithDoor(door), WithAccounts(accounts))
		victim := dial(t, addr, v)
		victim.device("victim", connect{})
		victim.subscribe(1, "hub/v1/victim/cmd", "hub/v1/victim/sys/down")
		vs := door.session(t, "victim")
		<-vs.listened
		watcher := dial(t, addr, v)
		watcher.send(packet.Connect<<4, watcher.connectBody(connect{id: "w", user: "service:ha", password: "pw", clean: true}))
		watcher.wantType(packet.Connack)
		watcher.subscribe(0, "hub/v1/#")
		watcher.message() // _hub/online

		evil := dial(t, addr, v)
		evil.device("evil", connect{id: "victim", clean: true}) // with the other's client id
		es := door.session(t, "evil")

		t.Run("publish", func(t *testing.T) {
			id := uint16(0)
			for _, topic := range []string{
				"hub/v1/victim/r", "hub/v1/victim/r/temperature", "hub/v1/victim/senml", "hub/v1/victim/state", "hub/v1/victim/ack",
				"hub/v1/victim/cmd", "hub/v1/victim/sys", "hub/v1/victim/sys/down", "hub/v1/victim/lwt", "hub/v1/victim/online",
				"hub/v1/evil/cmd", "hub/v1/evil/online", "hub/v1/evil/lwt", "hub/v1/evil/sys/down", "hub/v1/evil/r/a/b", "hub/v1/evil/r/",
				"hub/v1/_hub/online", "hub/v1/evil", "hub/v1/evil/", "/hub/v1/victim/r", "hub/v1//victim/r", "hub/v1/evil/../victim/r",
				"hub/v1/victim/ha/light/set", "$SYS/x", "$share/g/hub/v1/victim/r", "homeassistant/light/x/config",
			} {
				for qos := range byte(3) {
					id++
					evil.publish(topic, `{"m":"temperature","v":1}`, qos, id)
					switch {
					case qos == 0:
					case v == packet.V5:
						if b := evil.wantType([]byte{0, packet.Puback, packet.Pubrec}[qos]); b[2] != packet.NotAuthorized {
							t.Errorf("%s QoS %d: reason code %02x", topic, qos, b[2])
						}
					default:
						evil.wantType([]byte{0, packet.Puback, packet.Pubrec}[qos])
					}
				}
			}
		})
		t.Run("subscribe", func(t *testing.T) {
			filters := []string{
				"hub/v1/victim/cmd", "hub/v1/victim/sys/down", "hub/v1/victim/#", "hub/v1/+/cmd", "hub/v1/+/sys/down", "#", "+/+/+/cmd", "hub/#",
				"$share/g/hub/v1/victim/cmd", "$share/g/hub/v1/evil/cmd", "$SYS/#", "hub/v1/evil/#", "hub/v1/evil/+", "hub/v1/evil/r",
				"hub/v1/evil/online", "hub/v1/_hub/online", "hub/v1/evil/sys/#", "homeassistant/#", "",
			}
			want := byte(packet.Unspecified)
			if v == packet.V5 {
				want = packet.NotAuthorized
			}
			for i, code := range evil.subscribe(1, filters...) {
				if code != want {
					t.Errorf("%q: code %02x, want %02x", filters[i], code, want)
				}
			}
		})
		t.Run("retain", func(t *testing.T) {
			for _, topic := range []string{"hub/v1/evil/r", "hub/v1/victim/cmd", "hub/v1/victim/online"} {
				evil.send(packet.Publish<<4|1<<1|1, evil.publishBody(topic, "{}", 1, 99))
				b := evil.wantType(packet.Puback)
				if v == packet.V5 && b[2] != packet.NotAuthorized {
					t.Errorf("%s: reason code %02x", topic, b[2])
				}
			}
		})
		if v == packet.V5 {
			t.Run("topic alias", func(t *testing.T) {
				for _, topic := range []string{"hub/v1/evil/r", "hub/v1/victim/r"} {
					evil.send(packet.Publish<<4|1<<1, evil.publishBody(topic, "{}", 1, 100, 35, 0, 1))
					evil.wantType(packet.Puback)
				}
				// The alias now stands for the victim's topic.
				evil.send(packet.Publish<<4|1<<1, evil.publishBody("", "{}", 1, 101, 35, 0, 1))
				if b := evil.wantType(packet.Puback); b[2] != packet.NotAuthorized {
					t.Errorf("reason code %02x", b[2])
				}
			})
		}
		t.Run("will", func(t *testing.T) {
			for _, o := range []connect{
				{will: "hub/v1/victim/lwt", willPayload: "{}"}, {will: "hub/v1/victim/r", willPayload: "{}"}, {will: "hub/v1/victim/cmd", willPayload: "{}"},
				{will: "hub/v1/mallory/r", willPayload: "{}"}, {will: "hub/v1/victim/online", willPayload: "offline", willRetain: true},
				{will: "hub/v1/mallory/lwt", willPayload: "{}", willRetain: true}, {will: "a", willPayload: ""},
			} {
				o.user, o.password, o.clean, o.id = "mallory", "pw-mallory", true, "m"
				c := dial(t, addr, v)
				c.send(packet.Connect<<4, c.connectBody(o))
				b := c.wantType(packet.Connack)
				want := byte(5)
				if v == packet.V5 {
					want = packet.NotAuthorized
					if o.willRetain && o.will == "hub/v1/mallory/lwt" {
						want = packet.RetainNotSupported
					}
				}
				if b[1] != want {
					t.Errorf("%+v: CONNACK %02x, want %02x", o, b[1], want)
				}
				c.wantClosed()
			}
		})
		t.Run("sign-in", func(t *testing.T) {
			for _, o := range []connect{
				{user: "victim", password: "pw-evil"}, {user: "victim"}, {user: "evil/../victim", password: "pw-evil"}, {user: "service:ha", password: "pw-evil"},
				{user: "service:victim", password: "pw-victim"}, {user: "VICTIM", password: "pw-victim"}, {id: "victim"}, {user: "+", password: "pw-+"},
				{user: "victim", password: "pw-evil", will: "hub/v1/victim/lwt", willRetain: true}, // not told that the will is wrong, too
			} {
				o.clean = true
				c := dial(t, addr, v)
				c.send(packet.Connect<<4, c.connectBody(o))
				if b := c.wantType(packet.Connack); b[1] == 0 || b[1] == packet.RetainNotSupported {
					t.Errorf("%+v: CONNACK %02x", o, b[1])
				}
				c.wantClosed()
			}
		})
		t.Run("redelivery", func(t *testing.T) {
			vs.link.Command(command("secret", time.Minute))
			victim.message() // not acknowledged
			// The other's client id, with and without a clean start, gives nothing of it.
			for _, clean := range []bool{false, true} {
				c := dial(t, addr, v)
				o := connect{id: "victim", clean: clean}
				if v == packet.V5 {
					o.props = []byte{17, 0, 0, 1, 0}
				}
				if b := c.device("evil", o); b[0] != 0 && clean {
					t.Error("session present")
				}
				c.wantQuiet(30 * time.Millisecond)
				c.nc.Close()
			}
		})
		for _, h := range door.heard {
			if h.Device != "evil" {
				t.Errorf("heard as %s: %+v", h.Device, h)
			}
		}
		if len(es.closed) == 0 { // the second connection of evil replaced the first
			door.wantClosed(t, "evil replaced")
		}
		select {
		case r := <-vs.closed:
			t.Errorf("the victim was disconnected: %s", r)
		default:
		}
		victim.wantQuiet(20 * time.Millisecond)
		watcher.wantQuiet(20 * time.Millisecond)
		if srv.Stats().Foreign == 0 || srv.Stats().Retained == 0 {
			t.Error("nothing was counted")
		}
	})
}

// What a device publishes, and what it is sent, reaches no subscriber, whatever
// filters that has.
func TestDevicesAreNotRouted(t *testing.T) {
	door := newDoor()
	srv, addr := start(t, nil, WithDoor(door), WithAccounts(fakeAccounts{"all": {Filters: []string{"#", "$share/#"}}}))
	w := dial(t, addr, packet.V5)
	w.send(packet.Connect<<4, w.connectBody(connect{id: "w", user: "service:all", password: "pw", clean: true}))
	w.wantType(packet.Connack)
	if got := w.subscribe(1, "#", "hub/v1/+/r", "hub/v1/+/cmd", "$share/g/#"); fmt.Sprintf("%x", got) != "01010101" {
		t.Fatalf("SUBACK %x", got)
	}
	w.puback(w.message().id) // _hub/online, which both shared and not
	c := dial(t, addr, packet.V311)
	c.device("d-1", connect{clean: true})
	c.subscribe(1, "hub/v1/d-1/cmd")
	c.publish("hub/v1/d-1/r", "{}", 1, 1)
	c.want(packet.Puback<<4, 0, 1)
	s := door.session(t, "d-1")
	<-s.listened
	s.link.Command(command("c", time.Minute))
	c.message()
	w.wantQuiet(30 * time.Millisecond)
	// Nor may the account speak in the hub's or a device's place.
	for _, topic := range []string{"hub/v1/d-1/cmd", "hub/v1/d-1/r", "hub/v1/d-1/online", "hub/v1/_hub/online", "hub/v1", "hub/v1/d-1/ha/light"} {
		w.publish(topic, "offline", 1, 3)
		if b := w.wantType(packet.Puback); len(b) < 3 || b[2] != packet.NotAuthorized {
			t.Errorf("%s: PUBACK %x", topic, b)
		}
	}
	var online string
	cancel := srv.Broker().Subscribe("hub/v1/_hub/online", func(m broker.Message, from broker.Sender) { online = string(m.Payload); from.Decided(nil) })
	cancel()
	if online != "online" {
		t.Errorf("_hub/online is %q", online)
	}
}

func TestAccountsStayWithinTheirFilters(t *testing.T) {
	_, addr := start(t, nil, WithDoor(newDoor()), WithAccounts(fakeAccounts{"ha": {Filters: []string{"homeassistant/#", "hub/v1/+/ha/#"}}, "other": {Filters: []string{"x/#"}}}))
	c := dial(t, addr, packet.V5)
	c.send(packet.Connect<<4, c.connectBody(connect{id: "same", user: "service:ha", password: "pw", props: []byte{17, 0, 0, 1, 0}}))
	c.wantType(packet.Connack)
	filters := []string{"homeassistant/#", "homeassistant/+/x", "#", "+/status", "hub/v1/+/ha/#", "hub/v1/lamp/ha/light", "hub/v1/#", "zigbee2mqtt/#", "$share/g/homeassistant/#", "$share/g/#"}
	var got strings.Builder
	for _, code := range c.subscribe(1, filters...) {
		fmt.Fprintf(&got, "%02x ", code)
	}
	if want := "01 01 87 87 01 01 87 87 01 87 "; got.String() != want {
		t.Errorf("got %s, want %s", got.String(), want)
	}
	for topic, want := range map[string]bool{"homeassistant/status": true, "hub/v1/lamp/ha/light/set": true, "hub/v1/lamp/ha/light": false, "zigbee2mqtt/x": false, "hub/v1/lamp/cmd": false} {
		c.publish(topic, "x", 2, 4)
		h, b := c.read()
		for h>>4 == packet.Publish { // the subscriptions have it too
			h, b = c.read()
		}
		if h>>4 != packet.Pubrec {
			t.Fatalf("got %02x %x, want a PUBREC", h, b)
		}
		if ok := len(b) == 2; ok != want {
			t.Errorf("%s: PUBREC %x, want taken %v", topic, b, want)
		}
		if want {
			c.send(packet.Pubrel<<4|2, []byte{0, 4})
			for {
				h, b := c.read()
				if h>>4 == packet.Pubcomp {
					break
				}
				if h>>4 != packet.Publish {
					t.Fatalf("got %02x %x", h, b)
				}
			}
		}
	}
	// Another account with the same client id has another session.
	o := dial(t, addr, packet.V5)
	o.send(packet.Connect<<4, o.connectBody(connect{id: "same", user: "service:other", password: "pw", props: []byte{17, 0, 0, 1, 0}}))
	if b := o.wantType(packet.Connack); b[0] != 0 {
		t.Error("it was given the other's session")
	}
	o.wantQuiet(20 * time.Millisecond)
	_ = devices.CodeForbidden
}
