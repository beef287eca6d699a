package bridge

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"devicehub/bridge/packet"
)

// small is a CONNECT with a Maximum Packet Size (MQTT 5 §3.1.2.11.4).
func small(n byte, more ...byte) connect {
	return connect{clean: true, props: append([]byte{39, 0, 0, 0, n}, more...)}
}

// fits wants a packet of at most n bytes, and returns it.
func (c *raw) fits(n int) (head byte, body []byte) {
	c.t.Helper()
	head, body = c.read()
	if got := len(frame(head, body)); got > n {
		c.t.Errorf("a packet %02x of %d bytes, want at most %d", head, got, n)
	}
	return head, body
}

// No packet is larger than the client takes [MQTT-3.1.2-24]: what only explains goes
// first, and what does not fit even so is as if it had been sent [MQTT-3.1.2-25].
func TestMaximumPacketSize(t *testing.T) {
	_, addr := start(t, nil, WithDoor(newDoor()), WithAccounts(fakeAccounts{"all": {Filters: []string{"#"}}}))
	for _, who := range []struct {
		name string
		o    connect
	}{{"device", connect{id: "d", user: "d", password: "pw-d"}}, {"account", connect{id: "c", user: "service:all", password: "pw"}}} {
		for _, n := range []byte{1, 2, 4} { // not even a refusal
			t.Run(fmt.Sprintf("%s/CONNACK/%d", who.name, n), func(t *testing.T) {
				c := dial(t, addr, packet.V5)
				o := who.o
				o.clean, o.props = true, small(n).props
				c.send(packet.Connect<<4, c.connectBody(o))
				c.wantClosed()
			})
		}
		for _, n := range []byte{5, 10, 20, 40} {
			t.Run(fmt.Sprintf("%s/CONNACK/%d", who.name, n), func(t *testing.T) {
				c := dial(t, addr, packet.V5)
				o := who.o
				o.clean, o.keepAlive, o.props = true, 60, small(n).props
				c.send(packet.Connect<<4, c.connectBody(o))
				if head, b := c.fits(int(n)); head != packet.Connack<<4 || b[1] != packet.Success {
					t.Fatalf("got %02x %x", head, b)
				}
				c.send(packet.Pingreq<<4, nil)
				c.want(packet.Pingresp << 4)
			})
		}
		t.Run(who.name+"/what a client has to know", func(t *testing.T) {
			c := dial(t, addr, packet.V5)
			o := who.o
			o.clean, o.props, o.keepAlive = true, small(7).props, 10000 // another keep-alive holds
			c.send(packet.Connect<<4, c.connectBody(o))
			if head, b := c.fits(7); head != packet.Connack<<4 || b[1] != packet.TooLarge {
				t.Errorf("got %02x %x, want CONNACK 95", head, b)
			}
			c.wantClosed()
		})
		t.Run(who.name+"/refused", func(t *testing.T) {
			c := dial(t, addr, packet.V5)
			o := who.o
			o.password, o.clean, o.props = "wrong", true, small(6).props
			c.send(packet.Connect<<4, c.connectBody(o))
			if head, b := c.fits(6); head != packet.Connack<<4 || b[1] != packet.NotAuthorized {
				t.Errorf("got %02x %x", head, b)
			}
		})
		t.Run(who.name+"/SUBACK, UNSUBACK, DISCONNECT", func(t *testing.T) {
			c := dial(t, addr, packet.V5)
			o := who.o
			o.clean, o.props = true, small(20).props
			c.in(o)
			var subs, unsubs []byte
			for i := range 30 {
				f := str(nil, fmt.Sprint("f", i))
				subs, unsubs = append(append(subs, f...), 1), append(unsubs, f...)
			}
			c.send(packet.Subscribe<<4|2, join([]byte{0, 1, 0}, subs))
			c.send(packet.Unsubscribe<<4|2, join([]byte{0, 2, 0}, unsubs))
			c.send(packet.Pingreq<<4, nil)
			c.want(packet.Pingresp << 4) // and nothing before it
			c.send(packet.Publish<<4, nil)
			if head, b := c.fits(20); head != packet.Disconnect<<4 || b[0] != packet.Malformed {
				t.Errorf("got %02x %x", head, b)
			}
		})
	}
}

// A client of which the quota could not be told keeps to none, and is not sent away
// for it.
func TestQuotaThatWasNotTold(t *testing.T) {
	door := newDoor()
	replies := make(chan func(any, error), 20)
	door.decide = func(_ heard, reply func(any, error)) { replies <- reply }
	_, addr := start(t, func(c *Config) { c.InFlight = 2 }, WithDoor(door))
	c := dial(t, addr, packet.V5).in(connect{id: "d", user: "d", password: "pw-d", clean: true, props: small(8).props})
	for i := range uint16(6) {
		c.publish("hub/v1/d/r", "{}", 1, i+1)
	}
	for range 6 {
		(<-replies)(nil, nil)
		c.wantType(packet.Puback)
	}
}

// Messages too: one that is too large for the client is not sent, and the next is.
func TestMessagesOfMaximumPacketSize(t *testing.T) {
	door := newDoor()
	_, addr := start(t, nil, WithDoor(door), WithAccounts(fakeAccounts{"all": {Filters: []string{"#"}}}))
	t.Run("account, with an alias", func(t *testing.T) {
		// 3 more bytes for the alias, when the topic is told with it.
		topic := "some/topic"
		size := len(frame(packet.Publish<<4, join(str(nil, topic), []byte{0}, []byte("0123456789"))))
		c := dial(t, addr, packet.V5).in(connect{id: "c", user: "service:all", password: "pw", clean: true, props: small(byte(size+2), 34, 0, 10).props})
		c.subscribe(0, "some/#")
		p := dial(t, addr, packet.V5).in(connect{id: "p", user: "service:all", password: "pw", clean: true})
		for _, payload := range []string{"0123456789", strings.Repeat("x", 20), "1"} {
			p.publish(topic, payload, 0, 0)
		}
		for _, want := range []string{"0123456789", "1"} {
			head, b := c.fits(size + 2)
			if m := c.parse(head, b); m.payload != want {
				t.Errorf("got %+v, want %s", m, want)
			}
		}
	})
	t.Run("command without its correlation data", func(t *testing.T) {
		cmd := command("01JD9K0000000000000000", time.Minute)
		c := dial(t, addr, packet.V5).in(connect{id: "d", user: "d", password: "pw-d", clean: true, props: small(byte(len(cmd.Payload(time.Now())) + 35)).props})
		c.subscribe(1, "hub/v1/d/cmd")
		s := door.session(t, "d")
		<-s.listened
		s.link.Command(cmd)
		if m := c.message(); len(m.props.CorrelationData) != 0 || m.props.MessageExpiryInterval == 0 {
			t.Errorf("properties %+v", m.props)
		}
	})
}
