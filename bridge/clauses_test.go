package bridge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"devicehub/bridge/packet"
)

// breach is a packet that breaks a clause. Of MQTT 5, where the clause is of both.
type breach struct {
	name   string
	head   byte
	four   []byte // body in 3.1.1, nil: the clause is of MQTT 5 alone
	five   []byte
	reason byte
}

// join makes one body of pieces.
func join(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// Whoever breaks the specification is sent away: with the reason in MQTT 5, by
// closing in 3.1.1 (MQTT 3.1.1 §4.8, MQTT 5 §4.13). Neighbours notice nothing.
func TestBreachesEndTheConnection(t *testing.T) {
	id := []byte{0, 9}
	none := []byte{0} // no properties
	sub := func(options byte) []byte { return append(str(nil, "a"), options) }
	topic := str(nil, "a")
	breaches := []breach{
		{"PUBREL flags [MQTT-3.6.1-1]", packet.Pubrel << 4, id, id, packet.Malformed},
		{"PUBACK flags [MQTT-2.2.2-2]", packet.Puback<<4 | 1, id, id, packet.Malformed},
		{"UNSUBSCRIBE flags [MQTT-3.10.1-1]", packet.Unsubscribe << 4, join(id, topic), join(id, none, topic), packet.Malformed},
		{"DISCONNECT flags [MQTT-3.14.1-1]", packet.Disconnect<<4 | 2, []byte{}, nil, packet.Malformed},
		{"PINGREQ flags", packet.Pingreq<<4 | 8, []byte{}, []byte{}, packet.Malformed},
		{"PINGREQ with a body", packet.Pingreq << 4, []byte{0}, []byte{0}, packet.Malformed},
		{"DUP at QoS 0 [MQTT-3.3.1-2]", packet.Publish<<4 | 8, topic, join(topic, none), packet.ProtocolError},
		{"QoS 3 [MQTT-3.3.1-4]", packet.Publish<<4 | 6, join(topic, id), join(topic, id, none), packet.Malformed},
		{"identifier 0 in PUBLISH [MQTT-2.3.1-1]", packet.Publish<<4 | 2, join(topic, []byte{0, 0}), join(topic, []byte{0, 0}, none), packet.ProtocolError},
		{"identifier 0 in SUBSCRIBE", packet.Subscribe<<4 | 2, join([]byte{0, 0}, sub(0)), join([]byte{0, 0}, none, sub(0)), packet.ProtocolError},
		{"identifier 0 in UNSUBSCRIBE", packet.Unsubscribe<<4 | 2, join([]byte{0, 0}, topic), join([]byte{0, 0}, none, topic), packet.ProtocolError},
		{"PUBLISH without its identifier", packet.Publish<<4 | 2, topic, topic, packet.Malformed},
		{"PUBACK without an identifier", packet.Puback << 4, []byte{0}, []byte{0}, packet.Malformed},
		{"wildcard # in a topic name [MQTT-3.3.2-2]", packet.Publish << 4, str(nil, "a/#"), join(str(nil, "a/#"), none), packet.Malformed},
		{"wildcard + in a topic name", packet.Publish << 4, str(nil, "+"), join(str(nil, "+"), none), packet.Malformed},
		{"U+0000 in a topic name [MQTT-1.5.3-2]", packet.Publish << 4, str(nil, "a\x00"), join(str(nil, "a\x00"), none), packet.Malformed},
		{"a surrogate in a topic name [MQTT-1.5.3-1]", packet.Publish << 4, str(nil, "\xed\xa0\x80"), join(str(nil, "\xed\xa0\x80"), none), packet.Malformed},
		{"U+0000 in a filter", packet.Subscribe<<4 | 2, join(id, str(nil, "\x00"), none), join(id, none, str(nil, "\x00"), none), packet.Malformed},
		{"topic name longer than the packet", packet.Publish << 4, []byte{0, 9, 'a'}, []byte{0, 9, 'a'}, packet.Malformed},
		{"SUBSCRIBE without filters [MQTT-3.8.3-3]", packet.Subscribe<<4 | 2, id, join(id, none), packet.ProtocolError},
		{"UNSUBSCRIBE without filters [MQTT-3.10.3-2]", packet.Unsubscribe<<4 | 2, id, join(id, none), packet.ProtocolError},
		{"QoS 3 asked for [MQTT-3.8.3-4]", packet.Subscribe<<4 | 2, join(id, sub(3)), join(id, none, sub(3)), packet.Malformed},
		{"reserved options [MQTT-3.8.3-5]", packet.Subscribe<<4 | 2, join(id, sub(0x40)), join(id, none, sub(0x40)), packet.Malformed},
		{"second filter without options", packet.Subscribe<<4 | 2, join(id, sub(0), topic), join(id, none, sub(0), topic), packet.Malformed},
		{"second CONNECT [MQTT-3.1.0-2]", packet.Connect << 4, (&raw{version: packet.V311}).connectBody(connect{id: "x", clean: true}),
			(&raw{version: packet.V5}).connectBody(connect{id: "x", clean: true}), packet.ProtocolError},
		{"CONNACK from a client", packet.Connack << 4, []byte{0, 0}, []byte{0, 0, 0}, packet.ProtocolError},
		{"SUBACK from a client", packet.Suback << 4, join(id, none), join(id, none, none), packet.ProtocolError},

		{"DISCONNECT with a body", packet.Disconnect << 4, []byte{0}, nil, packet.Malformed},
		{"AUTH in 3.1.1", packet.Auth << 4, []byte{}, nil, packet.ProtocolError},
		{"AUTH that nobody asked for [MQTT-4.12.0-6]", packet.Auth << 4, nil, join([]byte{0x18, 8}, str([]byte{21}, "SCRAM")), packet.ProtocolError},
		{"retain handling 3", packet.Subscribe<<4 | 2, nil, join(id, none, sub(0x30)), packet.Malformed},
		{"no local on a shared subscription [MQTT-3.8.3-4]", packet.Subscribe<<4 | 2, nil, join(id, none, str(nil, "$share/g/a"), []byte{4}), packet.ProtocolError},
		{"subscription identifier 0 (§3.8.2.1.2)", packet.Subscribe<<4 | 2, nil, join(id, []byte{2, 11, 0}, sub(0)), packet.ProtocolError},
		{"two subscription identifiers (§3.8.2.1.2)", packet.Subscribe<<4 | 2, nil, join(id, []byte{4, 11, 1, 11, 2}, sub(0)), packet.ProtocolError},
		{"subscription identifier in PUBLISH [MQTT-3.3.4-6]", packet.Publish << 4, nil, join(topic, []byte{2, 11, 1}), packet.ProtocolError},
		{"number not in its shortest form [MQTT-1.5.5-1]", packet.Publish << 4, nil, join(topic, []byte{0x80, 0}), packet.Malformed},
		{"property length beyond the packet", packet.Publish << 4, nil, join(topic, []byte{9, 1}), packet.Malformed},
		{"property given twice (§2.2.2.2)", packet.Publish << 4, nil, join(topic, []byte{4, 1, 0, 1, 0}), packet.ProtocolError},
		{"property of another packet (§2.2.2.2)", packet.Publish << 4, nil, join(topic, []byte{5, 17, 0, 0, 0, 1}), packet.ProtocolError},
		{"payload format 2 (§3.3.2.3.2)", packet.Publish << 4, nil, join(topic, []byte{2, 1, 2}), packet.ProtocolError},
		{"wildcard in a response topic [MQTT-3.3.2-14]", packet.Publish << 4, nil, join(topic, []byte{4, 8, 0, 1, '#'}), packet.ProtocolError},
		{"invalid UTF-8 in a user property [MQTT-1.5.7-1]", packet.Publish << 4, nil, join(topic, []byte{7, 38, 0, 1, 0xff, 0, 1, 'v'}), packet.Malformed},
		{"empty response topic [MQTT-4.7.3-1]", packet.Publish << 4, nil, join(topic, []byte{3, 8, 0, 0}), packet.ProtocolError},
		{"PUBACK with a code that is none [MQTT-3.4.2-1]", packet.Puback << 4, nil, join(id, []byte{0x11}), packet.Malformed},
		{"PUBREC with a code that is none [MQTT-3.5.2-1]", packet.Pubrec << 4, nil, join(id, []byte{0x01}), packet.Malformed},
		{"PUBREL with a code that is none [MQTT-3.6.2-1]", packet.Pubrel<<4 | 2, nil, join(id, []byte{0x80}), packet.Malformed},
		{"PUBCOMP with a code that is none [MQTT-3.7.2-1]", packet.Pubcomp << 4, nil, join(id, []byte{0x97}), packet.Malformed},
		{"topic alias 0 [MQTT-3.3.2-8]", packet.Publish << 4, nil, join(topic, []byte{3, 35, 0, 0}), packet.InvalidTopicAlias},
		{"topic alias over the maximum [MQTT-3.3.2-9]", packet.Publish << 4, nil, join(topic, []byte{3, 35, 0, 200}), packet.InvalidTopicAlias},
		{"topic alias never set [MQTT-3.3.2-12]", packet.Publish << 4, nil, join(str(nil, ""), []byte{3, 35, 0, 2}), packet.ProtocolError},
		{"no topic at all (§3.3.2.1)", packet.Publish << 4, nil, join(str(nil, ""), none), packet.ProtocolError},
		{"session expiry raised from 0 (§3.14.2.2.2)", packet.Disconnect << 4, nil, []byte{0, 5, 17, 0, 0, 0, 9}, packet.ProtocolError},
		{"server reference from a client (§3.14.2.2.5)", packet.Disconnect << 4, nil, join([]byte{0, 4}, str([]byte{28}, "x")), packet.ProtocolError},
	}
	door := newDoor()
	srv, addr := start(t, nil, WithDoor(door), WithAccounts(fakeAccounts{"all": {Filters: []string{"#", "$share/#"}}}))
	neighbour := dial(t, addr, packet.V311)
	neighbour.device("neighbour", connect{clean: true})
	for _, x := range breaches {
		for v, body := range map[byte][]byte{packet.V311: x.four, packet.V5: x.five} {
			if body == nil {
				continue
			}
			for _, who := range []string{"device", "account"} {
				t.Run(fmt.Sprintf("%s/%d/%s", x.name, v, who), func(t *testing.T) {
					c := dial(t, addr, v)
					if who == "device" {
						c.device("x", connect{clean: true})
					} else {
						c.service("x", connect{clean: true})
					}
					c.send(x.head, body)
					if v == packet.V5 {
						if b := c.wantType(packet.Disconnect); b[0] != x.reason {
							t.Errorf("DISCONNECT %02x, want %02x", b[0], x.reason)
						}
					}
					c.wantClosed()
				})
			}
		}
	}
	neighbour.send(packet.Pingreq<<4, nil)
	neighbour.want(packet.Pingresp << 4)
	if n := srv.Stats().Panics; n != 0 {
		t.Errorf("%d panics", n)
	}
}

// What a client may do, though it looks wrong, is borne.
func TestBorne(t *testing.T) {
	_, addr := start(t, nil, WithDoor(newDoor()), WithAccounts(fakeAccounts{"all": {Filters: []string{"#"}}}))
	versions(t, func(t *testing.T, v byte) {
		c := dial(t, addr, v)
		c.service("c", connect{clean: true})
		unknown := byte(packet.Success)
		if v == packet.V5 {
			unknown = packet.PacketIDNotFound
		}
		c.send(packet.Puback<<4, []byte{0, 77}) // nothing was sent under it
		c.send(packet.Pubcomp<<4, []byte{0, 77})
		c.send(packet.Pubrel<<4|2, []byte{0, 77}) // MQTT 5 §3.7.2.1: 0x92
		if b := c.wantType(packet.Pubcomp); b[1] != 77 || len(b) > 2 && b[2] != unknown || v == packet.V5 && len(b) < 3 {
			t.Errorf("PUBCOMP %x", b)
		}
		c.send(packet.Pubrec<<4, []byte{0, 78}) // §3.6.2.1
		if b := c.wantType(packet.Pubrel); b[1] != 78 || v == packet.V5 && (len(b) < 3 || b[2] != packet.PacketIDNotFound) {
			t.Errorf("PUBREL %x", b)
		}
		c.publish("\ufeffa", "x", 1, 5) // [MQTT-1.5.4-3]: part of the name
		c.want(packet.Puback<<4, 0, 5)
		for _, f := range []string{"a/#/b", "a#", "+a", "$share/g", "$share//a", "$share/g+/a", ""} { // [MQTT-4.7.1-1] [MQTT-4.8.2-1]
			if code := c.subscribe(0, f)[0]; code < packet.Unspecified {
				t.Errorf("%q is granted %02x", f, code)
			}
		}
		c.send(packet.Unsubscribe<<4|2, join([]byte{0, 6}, map[byte][]byte{packet.V5: {0}}[v], str(nil, "never")))
		if b := c.wantType(packet.Unsuback); v == packet.V5 && b[len(b)-1] != packet.NoSubscriptionExisted {
			t.Errorf("UNSUBACK %x", b)
		}
	})
}

// The client's own bounds hold for what only explains (§3.1.2.11.4, §3.1.2.11.7).
func TestReasonStrings(t *testing.T) {
	door := newDoor()
	_, addr := start(t, nil, WithDoor(door))
	refused := func(props ...byte) []byte {
		c := dial(t, addr, packet.V5)
		c.device("d-1", connect{clean: true, props: props})
		c.publish("hub/v1/other/r", "{}", 1, 3)
		b := c.wantType(packet.Puback)
		if b[2] != packet.NotAuthorized {
			t.Errorf("PUBACK %x", b)
		}
		c.send(packet.Publish<<4|6, nil)
		e := c.wantType(packet.Disconnect)
		if e[0] != packet.Malformed {
			t.Errorf("DISCONNECT %x", e)
		}
		return []byte{byte(len(b)), byte(len(e))}
	}
	if n := refused(); n[0] < 20 || n[1] < 10 {
		t.Errorf("no reasons: %d and %d bytes", n[0], n[1])
	}
	if n := refused(23, 0); n[0] != 3 || n[1] < 10 { // Request Problem Information 0 [MQTT-3.1.2-29]: DISCONNECT may
		t.Errorf("%d and %d bytes", n[0], n[1])
	}
	if n := refused(39, 0, 0, 0, 24); n[0] > 22 || n[1] > 22 { // Maximum Packet Size 24 [MQTT-3.4.2-2] [MQTT-3.14.2-3]
		t.Errorf("%d and %d bytes in packets of at most 24", n[0], n[1])
	}
}

// CONNECT in MQTT 5: what its properties must not be.
func TestConnectProperties(t *testing.T) {
	_, addr := start(t, nil, WithDoor(newDoor()), WithAccounts(fakeAccounts{"all": {Filters: []string{"#"}}}))
	for name, x := range map[string]struct {
		props []byte
		code  byte
	}{
		"authentication method (§4.12)":                       {str([]byte{21}, "SCRAM-SHA-1"), packet.BadAuthMethod},
		"authentication data without a method (§3.1.2.11.10)": {str([]byte{22}, "data"), packet.ProtocolError},
		"request response information 2 (§3.1.2.11.6)":        {[]byte{25, 2}, packet.ProtocolError},
		"request problem information twice (§3.1.2.11.7)":     {[]byte{23, 1, 23, 1}, packet.ProtocolError},
		"receive maximum 0 (§3.1.2.11.3)":                     {[]byte{33, 0, 0}, packet.ProtocolError},
		"maximum packet size 0 (§3.1.2.11.4)":                 {[]byte{39, 0, 0, 0, 0}, packet.ProtocolError},
		"will delay outside the will's properties (§2.2.2.2)": {[]byte{24, 0, 0, 0, 1}, packet.ProtocolError},
		"a property of the server alone, server keep alive":   {[]byte{19, 0, 9}, packet.ProtocolError},
		"invalid UTF-8 in a user property [MQTT-1.5.4-1]":     {[]byte{38, 0, 1, 0xc0, 0, 0}, packet.Malformed},
		"response information asked for, and user properties": {join([]byte{25, 1}, str(str([]byte{38}, "a"), "b"), str(str([]byte{38}, "a"), "b")), packet.Success},
	} {
		t.Run(name, func(t *testing.T) {
			for _, o := range []connect{{id: "d", user: "d", password: "pw-d"}, {id: "d", user: "service:all", password: "pw"}} {
				c := dial(t, addr, packet.V5)
				o.clean, o.props = true, x.props
				c.send(packet.Connect<<4, c.connectBody(o))
				if b := c.wantType(packet.Connack); b[0] != 0 || b[1] != x.code {
					t.Errorf("%s: CONNACK %x, want %02x", o.user, b, x.code)
				}
			}
		})
	}
}

// A service account may say more at once than a device: Zigbee2MQTT's list of
// devices has hundreds of kilobytes.
func TestLargePackets(t *testing.T) {
	_, addr := start(t, nil, WithDoor(newDoor()), WithAccounts(fakeAccounts{"all": {Filters: []string{"#"}}}))
	versions(t, func(t *testing.T, v byte) {
		c := dial(t, addr, v)
		c.service("c", connect{clean: true})
		c.subscribe(1, "big")
		big := strings.Repeat("x", 1<<20)
		c.publish("big", big, 1, 1)
		got := c.collect(300 * time.Millisecond)
		if len(got) != 1 || got[0].payload != big {
			t.Fatalf("%d messages", len(got))
		}
		d := dial(t, addr, v)
		d.device("d", connect{clean: true})
		_, _ = d.nc.Write(frame(packet.Publish<<4, make([]byte, 70_000)))
		if v == packet.V5 {
			if b := d.wantType(packet.Disconnect); b[0] != packet.TooLarge {
				t.Errorf("DISCONNECT %x", b)
			}
		}
		d.wantClosed()
	})
}
