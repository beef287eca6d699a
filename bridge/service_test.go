package bridge

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"devicehub/bridge/broker"
	"devicehub/bridge/packet"
)

// service connects as an account and wants to be let in.
func (c *raw) service(id string, o connect) (connack []byte) {
	c.t.Helper()
	o.id, o.user, o.password = id, "service:all", "pw"
	c.send(packet.Connect<<4, c.connectBody(o))
	connack = c.wantType(packet.Connack)
	if connack[1] != 0 {
		c.t.Fatalf("CONNACK %x, want success", connack)
	}
	return connack
}

func openBroker(t *testing.T) (*Server, func(v byte) *raw) {
	srv, addr := start(t, func(c *Config) { c.InFlight = 20 }, WithAccounts(fakeAccounts{"all": {Filters: []string{"#"}}}))
	return srv, func(v byte) *raw { return dial(t, addr, v) }
}

// expiry is the CONNECT property Session Expiry Interval.
func expiry(s byte) []byte { return []byte{17, 0, 0, 0, s} }

// keep is a connect whose session outlives the connection.
func keep(v byte) connect {
	if v == packet.V5 {
		return connect{props: expiry(60)}
	}
	return connect{}
}

// collect reads messages until nothing came for d, acknowledging them.
func (c *raw) collect(d time.Duration) (got []delivered) {
	c.t.Helper()
	for {
		h, b, err := c.readErr(d)
		if err != nil {
			return got
		}
		switch h >> 4 {
		case packet.Publish:
			m := c.parse(h, b)
			got = append(got, m)
			if m.qos > 0 {
				c.send([]byte{0, packet.Puback << 4, packet.Pubrec << 4}[m.qos], []byte{byte(m.id >> 8), byte(m.id)})
			}
		case packet.Pubrel:
			c.send(packet.Pubcomp<<4, b[:2])
		case packet.Pubrec:
			c.send(packet.Pubrel<<4|2, b[:2])
		case packet.Puback, packet.Pubcomp, packet.Suback:
		default:
			c.t.Fatalf("got %02x %x", h, b)
		}
	}
}

// acknowledge answers whatever comes, until stop, which closes the connection.
func (c *raw) acknowledge() (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			h, b, err := c.readErr(time.Minute)
			if err != nil {
				return
			}
			if h>>4 == packet.Pubrec {
				_, _ = c.nc.Write(frame(packet.Pubrel<<4|2, b[:2]))
			}
		}
	}()
	return func() { c.nc.Close(); <-done }
}

// An account that publishes faster than it may is held up, and loses nothing.
func TestAccountIsHeldUp(t *testing.T) {
	var asked atomic.Int64
	accounts := fakeAccounts{"all": {Filters: []string{"s/#"}, Wait: func() time.Duration {
		if asked.Add(1) > 10 {
			return 20 * time.Millisecond
		}
		return 0
	}}}
	_, addr := start(t, nil, WithAccounts(accounts))
	c := dial(t, addr, packet.V5)
	c.service("s", connect{clean: true})
	from := time.Now()
	for i := range uint16(20) {
		c.publish("s/x", "m", 1, i+1)
	}
	for range 20 {
		c.wantType(packet.Puback)
	}
	if took := time.Since(from); asked.Load() != 20 || took < 200*time.Millisecond {
		t.Errorf("asked %d times and took %v, want 20, of which ten waited 20 ms", asked.Load(), took)
	}
}

// leave disconnects and waits until the server has seen it.
func (c *raw) leave() {
	c.t.Helper()
	c.send(packet.Disconnect<<4, nil)
	c.wantClosed()
}

func payloads(ms []delivered) string {
	var s []string
	for _, m := range ms {
		s = append(s, fmt.Sprintf("%s=%s/%d", m.topic, m.payload, m.qos))
	}
	sort.Strings(s)
	return strings.Join(s, " ")
}

const soon = 100 * time.Millisecond

func TestBrokerRoutes(t *testing.T) {
	_, dial := openBroker(t)
	versions(t, func(t *testing.T, v byte) {
		c := dial(v)
		c.service("a", connect{clean: true})
		if got := c.subscribe(2, "TopicA"); got[0] != 2 {
			t.Fatalf("SUBACK %x", got)
		}
		for qos := range byte(3) {
			c.publish("TopicA", fmt.Sprint("q", qos), qos, uint16(qos))
		}
		if got, want := payloads(c.collect(soon)), "TopicA=q0/0 TopicA=q1/1 TopicA=q2/2"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		// Overlapping filters: one message, at the greatest QoS [MQTT-3.3.4-2].
		c.subscribe(1, "TopicA/+")
		c.subscribe(2, "TopicA/#")
		c.publish("TopicA/C", "x", 2, 9)
		got := c.collect(soon)
		if len(got) != 1 || got[0].qos != 2 {
			t.Errorf("got %v", got)
		}
		// [MQTT-4.7.2-1]
		c.subscribe(0, "#", "+/+")
		c.publish("$TopicA/B", "x", 0, 0)
		if got := c.collect(soon); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
}

func TestBrokerRetained(t *testing.T) {
	srv, dial := openBroker(t)
	versions(t, func(t *testing.T, v byte) {
		c := dial(v)
		c.service("a", connect{clean: true})
		for qos := range byte(3) {
			c.send(packet.Publish<<4|qos<<1|1, c.publishBody(fmt.Sprint("kept/", qos), "x", qos, uint16(qos)))
		}
		c.collect(soon)
		c.subscribe(2, "+/+")
		got := c.collect(soon)
		if want := "kept/0=x/0 kept/1=x/1 kept/2=x/2"; payloads(got) != want {
			t.Errorf("got %s, want %s", payloads(got), want)
		}
		for _, m := range got {
			if !m.retain {
				t.Errorf("%s has no retain flag [MQTT-3.3.1-8]", m.topic)
			}
		}
		for qos := range byte(3) { // an empty one clears it, and is passed on [MQTT-3.3.1-10]
			c.send(packet.Publish<<4|qos<<1|1, c.publishBody(fmt.Sprint("kept/", qos), "", qos, uint16(qos+3)))
		}
		if got := c.collect(soon); len(got) != 3 || got[0].retain {
			t.Errorf("got %v", got)
		}
		d := dial(v)
		d.service("b", connect{clean: true})
		d.subscribe(2, "kept/#")
		if got := d.collect(soon); len(got) != 0 {
			t.Errorf("got %v", got)
		}
	})
	if n := srv.Stats().Broker.Retained; n != 0 {
		t.Errorf("%d retained, want 0", n)
	}
}

func TestBrokerWills(t *testing.T) {
	_, dial := openBroker(t)
	versions(t, func(t *testing.T, v byte) {
		w := dial(v)
		w.service("w", connect{clean: true})
		w.subscribe(2, "will/#")
		c := dial(v)
		c.service("a", connect{clean: true, will: "will/a", willPayload: "gone"})
		c.nc.Close()
		if got := payloads(w.collect(soon)); got != "will/a=gone/0" {
			t.Errorf("connection lost: got %q", got)
		}
		c = dial(v)
		c.service("a", connect{clean: true, will: "will/a", willPayload: "gone"})
		c.send(packet.Disconnect<<4, nil)
		if got := w.collect(soon); len(got) != 0 { // [MQTT-3.1.2-10]
			t.Errorf("DISCONNECT: got %v", got)
		}
		c = dial(v)
		c.service("a", connect{clean: true, will: "will/a", willPayload: "taken"})
		dial(v).service("a", connect{clean: true})
		if got := payloads(w.collect(soon)); got != "will/a=taken/0" {
			t.Errorf("taken over: got %q", got)
		}
		if v == packet.V5 {
			c = dial(v)
			c.service("a", connect{clean: true, will: "will/a", willPayload: "gone"})
			c.send(packet.Disconnect<<4, []byte{packet.DisconnectWithWill})
			if got := payloads(w.collect(soon)); got != "will/a=gone/0" {
				t.Errorf("DISCONNECT with will: got %q", got)
			}
		}
	})
}

func TestBrokerSessions(t *testing.T) {
	_, dial := openBroker(t)
	versions(t, func(t *testing.T, v byte) {
		c := dial(v)
		if b := c.service("s", keep(v)); b[0] != 0 {
			t.Error("session present")
		}
		c.subscribe(2, "q/#")
		c.leave()
		p := dial(v)
		p.service("p", connect{clean: true})
		for qos := range byte(3) {
			p.publish(fmt.Sprint("q/", qos), "x", qos, uint16(qos))
		}
		p.collect(soon)
		c = dial(v)
		if b := c.service("s", keep(v)); b[0] != 1 {
			t.Error("no session present")
		}
		// Received and not acknowledged.
		var first []delivered
		for range 2 {
			first = append(first, c.message())
		}
		c.nc.Close()
		time.Sleep(soon)
		c = dial(v)
		c.service("s", keep(v))
		for i := range 2 { // again, with DUP and the same identifiers [MQTT-4.4.0-1]
			m := c.message()
			if !m.dup || m.id != first[i].id || m.topic != first[i].topic {
				t.Errorf("got %+v, want %+v again", m, first[i])
			}
		}
		// PUBREC moves the QoS 2 one on: after it, PUBREL is what comes again.
		two := first[slices.IndexFunc(first, func(m delivered) bool { return m.qos == 2 })]
		id := []byte{byte(two.id >> 8), byte(two.id)}
		c.send(packet.Pubrec<<4, id)
		c.want(packet.Pubrel<<4|2, id...)
		c.nc.Close()
		time.Sleep(soon)
		c = dial(v)
		c.service("s", keep(v))
		one := c.message()
		c.want(packet.Pubrel<<4|2, id...)
		c.send(packet.Pubcomp<<4, id)
		c.puback(one.id)
		c.wantQuiet(soon)
		c.nc.Close()
		c = dial(v)
		if b := c.service("s", connect{clean: true}); b[0] != 0 {
			t.Error("session present after a clean start")
		}
		c.publish("q/1", "x", 0, 0)
		c.wantQuiet(soon)
	})
}

// A QoS 2 publish is routed once, however often it comes.
func TestBrokerExactlyOnce(t *testing.T) {
	_, dial := openBroker(t)
	versions(t, func(t *testing.T, v byte) {
		w := dial(v)
		w.service("w", connect{clean: true})
		w.subscribe(0, "once")
		c := dial(v)
		c.service("c", keep(v))
		for range 2 {
			c.publish("once", "x", 2, 7)
			c.want(packet.Pubrec<<4, 0, 7)
		}
		c.nc.Close()
		c = dial(v)
		c.service("c", keep(v))
		c.publish("once", "x", 2, 7)
		c.want(packet.Pubrec<<4, 0, 7)
		c.send(packet.Pubrel<<4|2, []byte{0, 7})
		c.want(packet.Pubcomp<<4, 0, 7)
		if got := w.collect(soon); len(got) != 1 {
			t.Errorf("routed %d times", len(got))
		}
	})
}

// None of these may be stuck.
func TestBrokerFlowControl(t *testing.T) {
	_, dial := openBroker(t)
	for _, x := range []struct {
		name         string
		version      byte
		max          byte
		burst, after int
	}{{"receive maximum 1", packet.V5, 1, 30, 20}, {"5", packet.V5, 5, 200, 20}, {"20", packet.V5, 20, 200, 20}, {"3.1.1", packet.V311, 0, 2000, 20}} {
		t.Run(x.name, func(t *testing.T) {
			c := dial(x.version)
			o := connect{clean: true}
			if x.max > 0 {
				o.props = []byte{33, 0, x.max}
			}
			c.service("flow", o)
			c.subscribe(2, "flow")
			p := dial(packet.V311)
			p.service("p", connect{clean: true})
			defer p.acknowledge()()
			id := uint16(0)
			for _, n := range []int{x.burst, x.after} {
				for i := range n {
					id++ // never one that is not yet released
					p.publish("flow", fmt.Sprint(i), 1+byte(i%2), id)
				}
				open, most, got := map[uint16]bool{}, 0, 0
				for got < n || len(open) > 0 {
					h, b := c.read()
					if h>>4 == packet.Pubrel {
						c.send(packet.Pubcomp<<4, b[:2])
						delete(open, uint16(b[0])<<8|uint16(b[1]))
						continue
					}
					m := c.parse(h, b)
					if want := fmt.Sprint(got); m.payload != want {
						t.Fatalf("got %s, want %s: out of order", m.payload, want)
					}
					got++
					open[m.id] = true
					most = max(most, len(open))
					if m.qos == 1 {
						c.puback(m.id)
						delete(open, m.id)
					} else {
						c.send(packet.Pubrec<<4, []byte{byte(m.id >> 8), byte(m.id)})
					}
				}
				if x.max > 0 && most > int(x.max) {
					t.Errorf("%d unacknowledged at once", most)
				}
			}
		})
	}
}

func TestBrokerShared(t *testing.T) {
	_, dial := openBroker(t)
	var members []*raw
	for i := range 3 {
		c := dial(packet.V5)
		c.service(fmt.Sprint("m", i), connect{clean: true})
		c.subscribe(1, "$share/g/work/+")
		members = append(members, c)
	}
	p := dial(packet.V311)
	p.service("p", connect{clean: true})
	for i := range 30 {
		p.publish("work/x", fmt.Sprint(i), 1, uint16(i+1))
	}
	p.collect(soon)
	total := 0
	for _, m := range members {
		n := len(m.collect(soon))
		if n != 10 {
			t.Errorf("a member got %d of 30", n)
		}
		total += n
	}
	if total != 30 {
		t.Errorf("%d of 30 arrived", total)
	}
	members[0].nc.Close()
	time.Sleep(soon)
	p.publish("work/x", "y", 1, 1)
	p.publish("work/x", "y", 1, 2)
	if n := len(members[1].collect(soon)) + len(members[2].collect(soon)); n != 2 {
		t.Errorf("%d of 2 arrived", n)
	}
}

// What MQTT 5 adds.
func TestBrokerFive(t *testing.T) {
	_, dial := openBroker(t)
	open := func(id string, o connect) *raw {
		c := dial(packet.V5)
		c.service(id, o)
		return c
	}
	sub := func(c *raw, options byte, filter string, props ...byte) {
		t.Helper()
		c.send(packet.Subscribe<<4|2, append(str(append([]byte{0, 1, byte(len(props))}, props...), filter), options))
		c.wantType(packet.Suback)
	}
	t.Run("properties pass through (§3.3.2.3)", func(t *testing.T) {
		c := open("a", connect{clean: true})
		sub(c, 2, "props", 11, 42) // subscription identifier
		props := []byte{1, 1}
		props = str(append(props, 3), "text/plain")
		props = str(append(props, 8), "answer/here")
		props = str(append(props, 9), "corr")
		props = str(str(append(props, 38), "k"), "v1")
		props = str(str(append(props, 38), "k"), "v2")
		c.send(packet.Publish<<4|2, c.publishBody("props", "x", 1, 1, props...))
		m := c.collect(soon)[0]
		p := m.props
		if p.PayloadFormat != 1 || p.ContentType != "text/plain" || p.ResponseTopic != "answer/here" || string(p.CorrelationData) != "corr" ||
			len(p.User) != 2 || p.User[1].Val != "v2" || !slices.Equal(p.SubscriptionIdentifier, []int{42}) {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("no local [MQTT-3.8.3-3]", func(t *testing.T) {
		a, b := open("a", connect{clean: true}), open("b", connect{clean: true})
		sub(a, 2|4, "local")
		sub(b, 2|4, "local")
		a.publish("local", "x", 0, 0)
		if len(a.collect(soon)) != 0 || len(b.collect(soon)) != 1 {
			t.Error("no local is not kept")
		}
	})
	t.Run("retain as published", func(t *testing.T) {
		a := open("a", connect{clean: true})
		sub(a, 0|8, "rap")
		a.publish("rap", "x", 0, 0)
		a.send(packet.Publish<<4|1, a.publishBody("rap", "y", 0, 0))
		got := a.collect(soon)
		if len(got) != 2 || got[0].retain || !got[1].retain {
			t.Errorf("got %v", got)
		}
	})
	t.Run("retain handling", func(t *testing.T) {
		a := open("a", connect{clean: true})
		for _, x := range []struct {
			handling byte
			want     int
		}{{2, 0}, {0, 1}, {1, 0}, {0, 1}} {
			sub(a, x.handling<<4, "rap")
			if got := a.collect(soon); len(got) != x.want {
				t.Errorf("handling %d: %d messages, want %d", x.handling, len(got), x.want)
			}
		}
	})
	t.Run("topic aliases both ways", func(t *testing.T) {
		a := open("a", connect{clean: true, props: []byte{34, 0, 1}})
		sub(a, 0, "alias/#")
		a.send(packet.Publish<<4, a.publishBody("alias/1", "x", 0, 0, 35, 0, 3))
		for range 2 {
			a.send(packet.Publish<<4, a.publishBody("", "y", 0, 0, 35, 0, 3))
		}
		a.publish("alias/2", "z", 0, 0)
		got := a.collect(soon)
		if len(got) != 4 || got[0].topic != "alias/1" || got[0].props.TopicAlias != 1 || got[1].topic != "" || got[1].props.TopicAlias != 1 || got[3].topic != "alias/2" {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("maximum packet size [MQTT-3.1.2-24]", func(t *testing.T) {
		a := open("a", connect{clean: true, props: []byte{39, 0, 0, 0, 64}})
		sub(a, 1, "size")
		p := open("p", connect{clean: true})
		p.publish("size", strings.Repeat("x", 100), 1, 1)
		p.publish("size", "small", 1, 2)
		if got := a.collect(soon); len(got) != 1 || got[0].payload != "small" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("message expiry (§3.3.2.3.3)", func(t *testing.T) {
		a := open("e", connect{props: expiry(60)})
		sub(a, 1, "exp")
		a.leave()
		p := open("p", connect{clean: true})
		p.send(packet.Publish<<4|2, p.publishBody("exp", "short", 1, 1, 2, 0, 0, 0, 1))
		p.send(packet.Publish<<4|2, p.publishBody("exp", "long", 1, 2, 2, 0, 0, 0, 9))
		p.collect(soon)
		time.Sleep(1100 * time.Millisecond)
		a = open("e", connect{props: expiry(60)})
		got := a.collect(soon)
		if len(got) != 1 || got[0].payload != "long" || got[0].props.MessageExpiryInterval >= 9 || got[0].props.MessageExpiryInterval == 0 {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("assigned client id [MQTT-3.2.2-16]", func(t *testing.T) {
		c := dial(packet.V5)
		b := c.service("", connect{clean: true})
		pk := packet.Packet{ProtocolVersion: 5}
		pk.FixedHeader.Type = packet.Connack
		if err := pk.ConnackDecode(b); err != nil || !strings.HasPrefix(pk.Properties.AssignedClientID, "auto-") {
			t.Errorf("got %+v %v", pk.Properties, err)
		}
	})
	t.Run("receive maximum of the server", func(t *testing.T) {
		c := open("a", connect{clean: true})
		for i := range uint16(21) {
			c.publish("rm", "x", 2, i+1)
		}
		for range 20 {
			c.wantType(packet.Pubrec)
		}
		if b := c.wantType(packet.Disconnect); b[0] != packet.ReceiveMaxExceeded {
			t.Errorf("DISCONNECT %02x", b[0])
		}
	})
	t.Run("taken over", func(t *testing.T) {
		a := open("same", connect{clean: true})
		open("same", connect{clean: true})
		if b := a.wantType(packet.Disconnect); b[0] != packet.SessionTakenOver {
			t.Errorf("DISCONNECT %02x", b[0])
		}
		a.wantClosed()
	})
	t.Run("unsubscribe", func(t *testing.T) {
		a := open("a", connect{clean: true})
		sub(a, 0, "u")
		a.send(packet.Unsubscribe<<4|2, str(str([]byte{0, 5, 0}, "u"), "never"))
		a.want(packet.Unsuback<<4, 0, 5, 0, packet.Success, packet.NoSubscriptionExisted)
		a.publish("u", "x", 0, 0)
		a.wantQuiet(soon)
	})
}

func TestBrokerExpiry(t *testing.T) {
	b := broker.New(broker.DefaultOptions())
	now := time.Now()
	connect := func(clean bool, expiry time.Duration, will string) (*broker.Session, *deadLink, bool) {
		l := &deadLink{}
		c := broker.Client{Owner: broker.Owner{Name: "o"}, ID: "c", Version: 5, Clean: clean, Expiry: expiry, Link: l}
		if will != "" {
			c.Will, c.WillDelay = &broker.Message{Topic: "will", Payload: []byte(will)}, 5*time.Second
		}
		s, present, ok := b.Connect(c)
		if !ok {
			t.Fatal("no room")
		}
		return s, l, present
	}
	var wills []string
	defer b.Subscribe("will", func(m broker.Message, from broker.Sender) { wills = append(wills, string(m.Payload)) })()
	s, l, _ := connect(true, 10*time.Second, "late")
	s.Detach(l, false, nil)
	b.Expire(now.Add(4 * time.Second))
	if len(wills) != 0 {
		t.Fatal("the will came before its delay")
	}
	b.Expire(now.Add(6 * time.Second))
	if len(wills) != 1 {
		t.Fatal("the will did not come after its delay")
	}
	if s, l, present := connect(false, 10*time.Second, "never"); !present {
		t.Error("the session ended early")
	} else {
		s.Detach(l, false, nil)
	}
	if s, l, present := connect(false, 3*time.Second, "at the end"); !present { // back in time: no will [MQTT-3.1.3-9]
		t.Error("the session ended early")
	} else {
		s.Detach(l, false, nil)
	}
	b.Expire(now.Add(4 * time.Second)) // the session ends before the delay does
	if fmt.Sprint(wills) != "[late at the end]" {
		t.Errorf("wills %v", wills)
	}
	if _, _, present := connect(false, 0, ""); present {
		t.Error("the session did not end")
	}
}

type deadLink struct{}

func (*deadLink) Address() (transport, addr string) { return "tcp", "127.0.0.1:1" }
func (*deadLink) Write(*packet.Packet) bool         { return true }
func (*deadLink) Backlog() int                      { return 0 }
func (*deadLink) WhenDrained()                      {}
func (*deadLink) End(byte, string)                  {}

// A large retained set reaches a subscriber at QoS 0 whole.
func TestBrokerManyRetained(t *testing.T) {
	srv, dial := openBroker(t)
	const n = 2000
	for i := range n {
		srv.Broker().Publish(broker.Message{Topic: fmt.Sprint("homeassistant/device/", i, "/config"), Payload: make([]byte, 1000), Retain: true, QoS: 1})
	}
	c := dial(packet.V311)
	c.service("ha", connect{clean: true})
	c.subscribe(0, "homeassistant/#")
	for i := range n {
		if m := c.message(); len(m.payload) != 1000 || !m.retain {
			t.Fatalf("message %d: %+v", i, m)
		}
	}
}

// The Eclipse client of MQTT 5, and Mosquitto's of both.
func TestBrokerWithClients(t *testing.T) {
	needMosquitto(t)
	srv, _ := openBroker(t)
	addr := srv.Addr("tcp").String()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *paho.Publish, 10)
	c := paho.NewClient(paho.ClientConfig{Conn: nc, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(p paho.PublishReceived) (bool, error) { got <- p.Packet; return true, nil },
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: "five", KeepAlive: 30, CleanStart: true, UsernameFlag: true, PasswordFlag: true, Username: "service:all", Password: []byte("pw")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "x/#", QoS: 2}}}); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(addr)
	for _, v := range []string{"311", "5"} {
		for _, qos := range []string{"0", "1", "2"} {
			if out, err := exec.Command("mosquitto_pub", "-V", "mqttv"+v, "-h", host, "-p", port, "-u", "service:all", "-P", "pw", "-t", "x/"+v, "-q", qos, "-m", qos).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if p := <-got; p.Topic != "x/"+v || string(p.Payload) != qos {
				t.Errorf("got %s %s", p.Topic, p.Payload)
			}
		}
	}
	for qos := range byte(3) {
		if _, err := c.Publish(ctx, &paho.Publish{Topic: "x/y", QoS: qos, Payload: []byte("z")}); err != nil {
			t.Error(err)
		}
		<-got
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Error(err)
	}
}
