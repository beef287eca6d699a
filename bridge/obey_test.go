package bridge

import (
	"strings"
	"testing"
	"time"

	"devicehub/bridge/broker"
	"devicehub/bridge/packet"
	"devicehub/devices"
	"devicehub/devices/identity"
)

var byCLI = devices.Origin{Via: "cli"}

// account makes a service account and returns its token.
func (h *wholeHub) account(t *testing.T, name, scope string, rights devices.Right, topics ...string) string {
	t.Helper()
	sc, err := devices.ParseScope(scope)
	if err != nil {
		t.Fatal(err)
	}
	_, token, err := h.identity.CreateAccount(t.Context(), devices.CLI(), byCLI, identity.NewAccount{Name: name, Rights: rights, Scope: sc, Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (h *wholeHub) patch(t *testing.T, name string, p identity.AccountPatch) {
	t.Helper()
	if _, err := h.identity.UpdateAccount(t.Context(), devices.CLI(), byCLI, name, p); err != nil {
		t.Fatal(err)
	}
}

func (h *wholeHub) remove(t *testing.T, name string) {
	t.Helper()
	if err := h.identity.DeleteAccount(t.Context(), devices.CLI(), byCLI, name); err != nil {
		t.Fatal(err)
	}
}

// device makes a device in an area.
func (h *wholeHub) inArea(t *testing.T, id devices.ID, area string) {
	t.Helper()
	d := &devices.Device{ID: id, Kinds: []devices.Kind{devices.KindSensor}, Enabled: true, Via: devices.ViaDirect, Area: area}
	if _, err := h.identity.CreateDevices(t.Context(), devices.CLI(), byCLI, []*devices.Device{d}, identity.TokenOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (h *wholeHub) enter(t *testing.T, name, token string, v byte, o connect) (c *raw, present bool) {
	t.Helper()
	c = dial(t, h.addr, v)
	o.user, o.password = "service:"+name, token
	if o.id == "" {
		o.id = name
	}
	c.send(packet.Connect<<4, c.connectBody(o))
	b := c.wantType(packet.Connack)
	if b[1] != 0 {
		t.Fatalf("CONNACK %x", b)
	}
	return c, b[0] == 1
}

// say is a word of the hub on a topic of its own.
func (h *wholeHub) say(t *testing.T, topic, word string, retain bool) {
	t.Helper()
	if err := h.srv.Broker().Publish(broker.Message{Topic: topic, Payload: []byte(word), QoS: 1, Retain: retain}); err != nil {
		t.Fatal(err)
	}
}

// wantAcked publishes and wants a reason code.
func (c *raw) wantAcked(topic string, code byte) {
	c.t.Helper()
	c.publish(topic, "x", 1, 77)
	b := c.wantType(packet.Puback)
	if got := append(b, packet.Success)[2]; got != code {
		c.t.Errorf("%s: PUBACK %02x, want %02x", topic, got, code)
	}
}

// Narrowed topics hold at once for a connection that is there: publishing,
// subscribing and delivery.
func TestNarrowedTopicsHold(t *testing.T) {
	h := startHub(t)
	ta, tb := h.account(t, "a", "", devices.RightRead, "a/#", "b/#"), h.account(t, "b", "", devices.RightRead, "b/#")
	versions(t, func(t *testing.T, v byte) {
		h.patch(t, "a", identity.AccountPatch{Topics: &[]string{"a/#", "b/#"}})
		sub, _ := h.enter(t, "a", ta, v, connect{id: "sub", clean: true})
		sub.subscribe(1, "b/#")
		pub, _ := h.enter(t, "a", ta, v, connect{id: "pub", clean: true})
		away, _ := h.enter(t, "a", ta, v, keep(v))
		away.subscribe(1, "b/#", "a/x")
		away.leave()
		other, _ := h.enter(t, "b", tb, v, connect{id: "other", clean: true})
		other.wantAcked("b/before", packet.Success)
		if got := payloads(sub.collect(soon)); got != "b/before=x/1" {
			t.Errorf("before: got %q", got)
		}
		h.patch(t, "a", identity.AccountPatch{Topics: &[]string{"a/#"}})
		if v == packet.V5 {
			if b := sub.wantType(packet.Disconnect); b[0] != packet.NotAuthorized {
				t.Errorf("DISCONNECT %02x", b[0])
			}
			pub.wantAcked("b/after", packet.NotAuthorized)
			pub.wantAcked("a/after", packet.Success)
		}
		sub.wantClosed()
		if got := pub.subscribe(1, "b/#", "a/#"); got[0] < 0x80 || got[1] != 1 {
			t.Errorf("SUBACK %x", got)
		}
		other.wantAcked("b/after", packet.Success)
		pub.wantQuiet(soon)
		back, present := h.enter(t, "a", ta, v, keep(v))
		if !present {
			t.Error("the session is gone")
		}
		if got := back.collect(soon); len(got) != 0 { // not even what waited from before
			t.Errorf("after: got %v", got)
		}
	})
}

// Below the hub's root an account hears of the devices in its scope and of no
// others, whatever its topics; the scope and rights are those of the moment.
func TestDeliveryNeedsRead(t *testing.T) {
	h := startHub(t)
	h.inArea(t, "oven", "kitchen")
	h.inArea(t, "safe", "vault")
	kitchen := h.account(t, "kitchen", "area=kitchen", devices.RightRead, "hub/v1/#")
	ingest := h.account(t, "ingest", "", devices.RightIngest, "hub/v1/#")
	h.say(t, "hub/v1/oven/ha/temperature", "kept", true)
	h.say(t, "hub/v1/safe/ha/temperature", "kept", true)

	away, _ := h.enter(t, "kitchen", kitchen, packet.V5, connect{id: "away", props: expiry(60)})
	away.subscribe(1, "hub/v1/+/ha/#")
	away.collect(soon)
	away.leave()
	c, _ := h.enter(t, "kitchen", kitchen, packet.V5, connect{clean: true})
	c.subscribe(1, "hub/v1/+/ha/#", "hub/v1/+/online")
	blind, _ := h.enter(t, "ingest", ingest, packet.V5, connect{clean: true})
	blind.subscribe(1, "hub/v1/#")
	if got := payloads(c.collect(soon)); got != "hub/v1/_hub/online=online/1 hub/v1/oven/ha/temperature=kept/1" {
		t.Errorf("retained: got %q", got)
	}
	for _, id := range []string{"oven", "safe"} {
		h.say(t, "hub/v1/"+id+"/ha/temperature", "20", false)
		h.say(t, "hub/v1/"+id+"/online", "online", false)
	}
	if got := payloads(c.collect(soon)); got != "hub/v1/oven/ha/temperature=20/1 hub/v1/oven/online=online/1" {
		t.Errorf("live: got %q", got)
	}
	if got := payloads(blind.collect(soon)); got != "hub/v1/_hub/online=online/1" {
		t.Errorf("without the right to read: got %q", got)
	}
	vault, _ := devices.ParseScope("area=vault")
	h.patch(t, "kitchen", identity.AccountPatch{Scope: &vault})
	for _, id := range []string{"oven", "safe"} {
		h.say(t, "hub/v1/"+id+"/ha/temperature", "21", false)
	}
	if got := payloads(c.collect(soon)); got != "hub/v1/safe/ha/temperature=21/1" {
		t.Errorf("another scope: got %q", got)
	}
	if _, err := h.registry.Update(t.Context(), "safe", func(d *devices.Device) error { d.Area = "cellar"; return nil }); err != nil {
		t.Fatal(err)
	}
	h.say(t, "hub/v1/safe/ha/temperature", "22", false)
	c.wantQuiet(soon)
	// What waits for an absent session is judged when it is delivered.
	back, _ := h.enter(t, "kitchen", kitchen, packet.V5, connect{id: "away", props: expiry(60)})
	if got := payloads(back.collect(soon)); got != "" {
		t.Errorf("queued: got %q", got)
	}
	rights := devices.RightIngest
	h.patch(t, "kitchen", identity.AccountPatch{Rights: &rights})
	h.say(t, "hub/v1/safe/ha/temperature", "23", false)
	c.wantQuiet(soon)
}

// With its account everything of it goes: connections, sessions, what waits in
// them, wills, which nobody hears, and retained messages. A new account of the
// name inherits nothing.
func TestDeletedAccountLeavesNothing(t *testing.T) {
	h := startHub(t)
	witness, _ := h.enter(t, "witness", h.account(t, "witness", "", devices.RightRead, "#"), packet.V5, connect{clean: true})
	witness.subscribe(1, "x/#")
	first := h.account(t, "twin", "", devices.RightRead, "x/#")
	away, _ := h.enter(t, "twin", first, packet.V5, connect{id: "away", props: expiry(60)})
	away.subscribe(1, "x/q")
	away.leave()
	c, _ := h.enter(t, "twin", first, packet.V5, connect{clean: true, will: "x/will", willPayload: "gone"})
	c.send(packet.Publish<<4|2|1, c.publishBody("x/kept", "kept", 1, 1))
	c.wantType(packet.Puback)
	waitFor(t, func() bool { s := h.srv.Stats().Broker; return s.Sessions == 3 && s.Connected == 2 })
	c.wantAcked("x/q", packet.Success)
	witness.collect(soon)
	h.remove(t, "twin")
	if b := c.wantType(packet.Disconnect); b[0] != packet.NotAuthorized {
		t.Errorf("DISCONNECT %02x", b[0])
	}
	witness.wantQuiet(soon)
	if s := h.srv.Stats().Broker; s.Sessions != 1 || s.Subscriptions != 1 || s.Retained > 1 { // the hub's own word
		t.Errorf("left behind: %+v", s)
	}
	second := h.account(t, "twin", "", devices.RightRead, "x/#")
	back, present := h.enter(t, "twin", second, packet.V5, connect{id: "away", props: expiry(60)})
	if present {
		t.Error("the new account has the old one's session")
	}
	back.subscribe(1, "x/#")
	if got := payloads(back.collect(soon)); got != "" {
		t.Errorf("the new account inherits %q", got)
	}
}

// A will is published only if the account may publish there when its time comes.
func TestWillOfNarrowedAccount(t *testing.T) {
	h := startHub(t)
	witness, _ := h.enter(t, "witness", h.account(t, "witness", "", devices.RightRead, "#"), packet.V5, connect{clean: true})
	witness.subscribe(1, "x/#", "y/#")
	token := h.account(t, "a", "", devices.RightRead, "x/#", "y/#")
	var clients []*raw
	for _, topic := range []string{"x/will", "y/will"} {
		c, _ := h.enter(t, "a", token, packet.V5, connect{id: topic, clean: true, will: topic, willPayload: "gone"})
		clients = append(clients, c)
	}
	h.patch(t, "a", identity.AccountPatch{Topics: &[]string{"y/#"}})
	for _, c := range clients {
		c.nc.Close()
	}
	if got := payloads(witness.collect(soon)); got != "y/will=gone/0" {
		t.Errorf("got %q", got)
	}
}

// Sessions are listed with what they have, and ended by their names.
func TestSessionsAreListed(t *testing.T) {
	h := startHub(t)
	token := h.account(t, "a", "", devices.RightRead, "x/#")
	witness, _ := h.enter(t, "a", token, packet.V5, connect{id: "witness", clean: true})
	witness.subscribe(0, "x/will")
	away, _ := h.enter(t, "a", token, packet.V5, connect{id: "away", props: expiry(60)})
	away.subscribe(1, "x/1", "x/2")
	away.leave()
	here, _ := h.enter(t, "a", token, packet.V5, connect{id: "here", clean: true, will: "x/will", willPayload: "gone"})
	here.wantAcked("x/1", packet.Success)
	h.inArea(t, "oven", "kitchen")
	made, err := h.identity.RotateDevice(t.Context(), devices.CLI(), byCLI, "oven", identity.TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dev := dial(t, h.addr, packet.V5)
	dev.send(packet.Connect<<4, dev.connectBody(connect{id: "esp", user: "oven", password: made.Token, clean: true}))
	dev.wantType(packet.Connack)
	dev.subscribe(1, "hub/v1/oven/cmd")

	byClient := map[string]SessionInfo{}
	for _, s := range h.srv.Sessions() {
		byClient[s.ClientID] = s
	}
	if s := byClient["away"]; s.Connected || s.Subscriptions != 2 || s.Queued != 1 || s.Bytes < 1000 || time.Until(s.Expires) < 50*time.Second || s.Account != "a" {
		t.Errorf("away: %+v", s)
	}
	if s := byClient["here"]; !s.Connected || s.Transport != "tcp" || !strings.HasPrefix(s.Addr, "127.0.0.1:") || time.Since(s.Since) > time.Minute {
		t.Errorf("here: %+v", s)
	}
	if s := byClient["esp"]; s.ID != "device:oven" || s.Device != "oven" || !s.Connected || s.Subscriptions != 1 {
		t.Errorf("device: %+v", s)
	}
	for client, c := range map[string]*raw{"here": here, "esp": dev, "away": nil} {
		if _, ok := h.srv.EndSession(byClient[client].ID); !ok {
			t.Errorf("%s is not known", client)
		}
		if _, ok := h.srv.EndSession(byClient[client].ID); ok {
			t.Errorf("%s is there twice", client)
		}
		if c != nil {
			if b := c.wantType(packet.Disconnect); b[0] != packet.AdministrativeAction {
				t.Errorf("%s: DISCONNECT %02x", client, b[0])
			}
		}
	}
	witness.wantQuiet(soon)
	if got := h.srv.Sessions(); len(got) != 1 || got[0].ClientID != "witness" {
		t.Errorf("left: %+v", got)
	}
	for _, id := range []string{"", "device:", "device:nobody", "service:a", "service:a:", "service:a:99999", "a"} {
		if _, ok := h.srv.EndSession(id); ok {
			t.Errorf("%q is a session", id)
		}
	}
}

// A retained message that there is no room for is refused with 0x97; a client of
// 3.1.1 hears nothing and has to come again, for what is acknowledged is kept.
func TestNoRoomToRetain(t *testing.T) {
	srv, dial := openBroker(t)
	srv.SetLimits(Limits{MaxPacket: 1 << 20, OutboundBytes: 1 << 20, OutboundAge: time.Minute,
		Broker: broker.Limits{Bytes: 1 << 20, AccountBytes: 1 << 20, AccountSessions: 10, AccountRetained: 1}})
	for v, want := range map[byte]byte{packet.V5: packet.QuotaExceeded, packet.V311: 0} {
		c := dial(v)
		c.service("a", connect{clean: true})
		c.subscribe(0, "x/2")
		c.send(packet.Publish<<4|2|1, c.publishBody("x/1", "kept", 1, 1))
		c.wantType(packet.Puback)
		c.send(packet.Publish<<4|2|1, c.publishBody("x/2", "more", 1, 2))
		if m := c.wantType(packet.Publish); !strings.Contains(string(m), "more") {
			t.Errorf("version %d: it is not delivered: %x", v, m)
		}
		if v == packet.V5 {
			if b := c.wantType(packet.Puback); b[2] != want {
				t.Errorf("PUBACK %x", b)
			}
			continue
		}
		if h, b, err := c.readErr(15 * time.Second); err == nil {
			t.Errorf("3.1.1: got %02x %x, want the connection to end", h, b)
		}
	}
}

// The topics behind aliases take little memory.
func TestAliasesAreBounded(t *testing.T) {
	_, dial := openBroker(t)
	c := dial(packet.V5)
	c.service("a", connect{clean: true})
	for a := range byte(8) {
		// The server may hang up before all are sent.
		_, _ = c.nc.Write(frame(packet.Publish<<4, append(str(nil, strings.Repeat("x", 60_000)), 3, 35, 0, a+1)))
	}
	if b := c.wantType(packet.Disconnect); b[0] != packet.QuotaExceeded {
		t.Errorf("DISCONNECT %02x", b[0])
	}
}

func waitFor(t *testing.T, f func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}
