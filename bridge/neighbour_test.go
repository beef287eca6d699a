package bridge

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"devicehub/bridge/packet"
	"devicehub/devices/connects"
	"devicehub/hub/logbound"
)

// lines is a log in memory.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// want waits for a line that has all the words, and returns how many have.
func (l *lines) want(t *testing.T, words ...string) (n int) {
	t.Helper()
	for range 300 {
		l.mu.Lock()
		all := l.b.String()
		l.mu.Unlock()
		n = 0
		for line := range strings.Lines(all) {
			has := true
			for _, w := range words {
				has = has && strings.Contains(line, w)
			}
			if has {
				n++
			}
		}
		if n > 0 {
			return n
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Fatalf("no line with %q in\n%s", words, l.b.String())
	return 0
}

// logged is an option that keeps what is logged of strangers.
func logged() (*lines, Option) {
	l := new(lines)
	return l, WithRefusals(&connects.Log{Logger: slog.New(logbound.New(slog.NewTextHandler(l, nil)))})
}

// What Mosquitto's "connection" sends by default is a 3.1.1 CONNECT whose level has
// its top bit set. Such a client hears nothing of what it sends, and what was
// retained as that.
func TestBridgeOfAnotherBroker(t *testing.T) {
	_, dial := openBroker(t)
	plain := dial(packet.V311)
	plain.service("plain", connect{clean: true})
	plain.subscribe(1, "t/#")
	for name, connectAs := range map[string]func() *raw{
		"by the bit in its level": func() *raw {
			c := dial(packet.V311)
			c.version = packet.V311 | 0x80
			c.service("bridge", connect{clean: true})
			return c
		},
		"by its will": func() *raw {
			c := dial(packet.V311)
			c.service("bridge", connect{clean: true, will: "$SYS/broker/connection/mosquitto.hub/state", willPayload: "0", willRetain: true})
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := connectAs()
			c.send(packet.Publish<<4|2|1, c.publishBody("$SYS/broker/connection/mosquitto.hub/state", "1", 1, 1)) // as it does first
			c.want(packet.Puback<<4, 0, 1)
			if got := c.subscribe(1, "t/#"); got[0] != 1 {
				t.Fatalf("SUBACK %x", got)
			}
			c.publish("t/mine", "x", 1, 2)
			c.want(packet.Puback<<4, 0, 2)
			if m := plain.message(); m.topic != "t/mine" {
				t.Errorf("got %+v", m)
			} else {
				plain.puback(m.id)
			}
			plain.send(packet.Publish<<4|1, plain.publishBody("t/yours", "y", 0, 0))
			if m := c.message(); m.topic != "t/yours" || !m.retain { // and nothing of its own before
				t.Errorf("got %+v, want the other's, still marked as retained", m)
			}
			if m := plain.message(); m.topic != "t/yours" || m.retain {
				t.Errorf("got %+v", m)
			}
			plain.send(packet.Publish<<4|1, plain.publishBody("t/yours", "", 0, 0)) // forgotten again
			plain.message()
			c.message()
			c.send(packet.Disconnect<<4, nil)
			c.wantClosed()
		})
	}
}

// A bridge that cannot say how many messages it takes at once has no more than
// Mosquitto takes.
func TestWindowOfABridge(t *testing.T) {
	_, dial := openBroker(t)
	c := dial(packet.V311)
	c.version = packet.V311 | 0x80
	c.service("bridge", connect{clean: true})
	c.subscribe(2, "t")
	p := dial(packet.V311)
	p.service("p", connect{clean: true})
	stop := p.acknowledge()
	defer stop()
	for i := range 50 {
		p.publish("t", fmt.Sprint(i), 2, uint16(i+1))
	}
	for i := range 50 {
		m := c.message()
		if m.payload != fmt.Sprint(i) {
			t.Fatalf("got %+v, want %d", m, i)
		}
		if i < bridgeWindow-1 {
			continue
		}
		if i == bridgeWindow-1 {
			c.wantQuiet(50 * time.Millisecond)
		}
		id := []byte{0, byte(i - bridgeWindow + 2)}
		c.send(packet.Pubrec<<4, id)
		c.want(packet.Pubrel<<4|2, id...)
		c.send(packet.Pubcomp<<4, id)
	}
}

// Programs that show a broker subscribe to $SYS/#. They are not told that they may
// not, and nothing comes.
func TestSysIsEmpty(t *testing.T) {
	_, addr := start(t, nil, WithAccounts(fakeAccounts{"all": {Filters: []string{"#"}}, "sys": {Filters: []string{"$SYS/broker/connection/#"}}}))
	versions(t, func(t *testing.T, v byte) {
		c := dial(t, addr, v)
		c.service("explorer", connect{clean: true})
		if got := c.subscribe(1, "#", "$SYS/#", "$SYSTEM/#"); got[0] != 1 || got[1] != 1 || got[2] < packet.Unspecified {
			t.Errorf("SUBACK %x", got)
		}
		s := dial(t, addr, v).in(connect{id: "s", user: "service:sys", password: "pw", clean: true})
		s.subscribe(0, "$SYS/broker/connection/#")
		s.publish("$SYS/broker/connection/x/state", "1", 0, 0) // among its topics, and so kept to them
		if m := s.message(); m.payload != "1" {
			t.Errorf("got %+v", m)
		}
		c.wantQuiet(50 * time.Millisecond)
	})
}

// Who is not let in, and why, stands in the log, whatever the version can tell.
func TestRefusedSignInsAreLogged(t *testing.T) {
	log, option := logged()
	door := newDoor()
	_, addr := start(t, nil, WithDoor(door), WithAccounts(fakeAccounts{"all": {Filters: []string{"a/#"}}}), option)
	for _, x := range []struct {
		name    string
		version byte
		o       connect
		want    []string
	}{
		{"a device's token", packet.V311, connect{user: "lamp", password: "wrong"}, []string{"user=lamp", "code=unauthorized", "connack=0x86"}},
		{"an account's token", packet.V311, connect{user: "service:all", password: "wrong"}, []string{"user=service:all", "code=unauthorized", "connack=0x86"}},
		{"a long name, in MQTT 5", packet.V5, connect{user: strings.Repeat("n", 200), password: "pw"}, []string{"user=" + strings.Repeat("n", 64) + " ", "connack=0x87"}},
		{"a will that is not the account's", packet.V311, connect{user: "service:all", password: "pw", will: "b/c"}, []string{"code=forbidden", "connack=0x87"}},
		{"a will too deep", packet.V5, connect{user: "service:all", password: "pw", will: "a" + strings.Repeat("/a", 64)}, []string{"code=0x90"}},
		{"another version", 6, connect{user: "lamp", password: "pw-lamp"}, []string{"code=0x84", "level 6"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := dial(t, addr, x.version)
			x.o.id, x.o.clean = "c", true
			c.send(packet.Connect<<4, c.connectBody(x.o))
			c.wantType(packet.Connack)
			c.wantClosed()
			log.want(t, append(x.want, `msg="sign-in refused"`, "via=mqtt", "addr=127.0.0.1")...)
		})
	}
	for range 100 {
		c := dial(t, addr, packet.V5)
		c.send(packet.Connect<<4, c.connectBody(connect{id: "c", user: "lamp", password: "wrong", clean: true}))
		c.wantType(packet.Connack)
	}
	if n := log.want(t, "code=unauthorized"); n != 3 {
		t.Errorf("%d lines of a hundred refusals, want 3", n)
	}
}

// An acknowledgement of another kind would leave its message open for ever: the
// client is told and sent away, and the log says why.
func TestWrongKindOfAcknowledgement(t *testing.T) {
	log, option := logged()
	_, addr := start(t, nil, WithAccounts(fakeAccounts{"all": {Filters: []string{"#"}}}), option)
	n := 0
	for _, x := range []struct {
		name string
		qos  byte
		acks []byte
	}{
		{"PUBREC for QoS 1", 1, []byte{packet.Pubrec}},
		{"PUBCOMP for QoS 1", 1, []byte{packet.Pubcomp}},
		{"PUBACK for QoS 2", 2, []byte{packet.Puback}},
		{"PUBCOMP before PUBREC", 2, []byte{packet.Pubcomp}},
		{"PUBACK after PUBREC", 2, []byte{packet.Pubrec, packet.Puback}},
	} {
		t.Run(x.name, func(t *testing.T) {
			versions(t, func(t *testing.T, v byte) {
				n++
				c := dial(t, addr, v)
				c.service(fmt.Sprint("c", n), connect{clean: true})
				c.subscribe(x.qos, "t")
				p := dial(t, addr, v)
				p.service(fmt.Sprint("p", n), connect{clean: true})
				p.publish("t", "x", 0, 0)
				if m := c.message(); m.qos != 0 { // to see the subscription stand
					t.Fatalf("got %+v", m)
				}
				p.publish("t", "y", x.qos, 1)
				m := c.message()
				for i, ack := range x.acks {
					c.send(ack<<4, []byte{byte(m.id >> 8), byte(m.id)})
					if i < len(x.acks)-1 {
						c.wantType(packet.Pubrel)
					}
				}
				if v == packet.V5 {
					if b := c.wantType(packet.Disconnect); b[0] != packet.ProtocolError {
						t.Errorf("DISCONNECT %x", b)
					}
				}
				c.wantClosed()
				log.want(t, `msg="mqtt connection ended"`, "code=0x82", "user=service:all", "acknowledgement")
			})
		})
	}
}

// A topic of more levels than the broker has is refused so that somebody hears it.
func TestTopicsTooDeep(t *testing.T) {
	log, option := logged()
	srv, addr := start(t, nil, WithAccounts(fakeAccounts{"all": {Filters: []string{"#"}}}), option)
	deep := "a" + strings.Repeat("/a", 64)
	versions(t, func(t *testing.T, v byte) {
		c := dial(t, addr, v)
		c.service("c", connect{clean: true})
		c.publish(deep[2:], "x", 1, 1) // 64 levels are taken
		c.want(packet.Puback<<4, 0, 1)
		c.publish(deep, "x", 1, 2)
		if b := c.wantType(packet.Puback); v == packet.V5 && (len(b) < 3 || b[2] != packet.InvalidTopic) {
			t.Errorf("PUBACK %x, want 90", b)
		}
		c.publish(deep, "x", 2, 3)
		if b := c.wantType(packet.Pubrec); v == packet.V5 && (len(b) < 3 || b[2] != packet.InvalidTopic) {
			t.Errorf("PUBREC %x, want 90", b)
		}
		if code := c.subscribe(0, deep)[0]; code < packet.Unspecified {
			t.Errorf("SUBACK %x", code)
		}
	})
	log.want(t, `msg="mqtt publish refused"`, `topic="a/a/a`, "user=service:all")
	if n := srv.Stats().Foreign; n != 4 {
		t.Errorf("%d counted, want 4", n)
	}
}
