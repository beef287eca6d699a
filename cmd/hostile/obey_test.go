package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hears reports whether the client gets a message that holds the text, within a time.
func (c *mqttClient) hears(text string, within time.Duration) bool {
	_ = c.conn.SetReadDeadline(time.Now().Add(within))
	defer func() { _ = c.conn.SetReadDeadline(time.Time{}) }()
	for {
		typ, body, err := c.read()
		if err != nil {
			return false
		}
		if typ == 0x30 && strings.Contains(string(body), text) {
			return true
		}
	}
}

// enter connects a service account of MQTT 5 to the hub.
func enter(t *testing.T, h *hub, name, token string, keep bool) *mqttClient {
	t.Helper()
	c, code, err := dialMQTT(h.mqtt, sign{version: 5, id: name, user: "service:" + name, password: token, keep: keep})
	if err != nil || code != 0 {
		t.Fatalf("%s: CONNACK %#x %v", name, code, err)
	}
	t.Cleanup(func() { c.conn.Close() })
	return c
}

func newAccount(t *testing.T, h *hub, name, rights string, topics ...string) string {
	t.Helper()
	token, err := h.account(name, rights, topics...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func subscribe(t *testing.T, c *mqttClient, filter string) {
	t.Helper()
	if code, err := c.ask(c.subscribe(filter, 1), 0x90); err != nil || code > 2 {
		t.Fatalf("subscribe %s: %#x %v", filter, code, err)
	}
}

func publish(t *testing.T, c *mqttClient, topic, payload string, retain bool) {
	t.Helper()
	if code, err := c.ask(c.publish(topic, payload, 1, retain, 7), 0x40); err != nil || code != 0 && code != 0x10 {
		t.Fatalf("publish %s: %#x %v", topic, code, err)
	}
}

// What an account may use is narrowed, and holds for the connections that it has.
func TestNarrowedTopicsHoldAtOnce(t *testing.T) {
	t.Parallel()
	h := siege(t)
	narrowed := enter(t, h, "narrowed", newAccount(t, h, "narrowed", "read", "a/#", "b/#"), false)
	speaker := enter(t, h, "speaker", newAccount(t, h, "speaker", "read", "b/#"), false)
	subscribe(t, narrowed, "b/#")
	publish(t, speaker, "b/before", "one", false)
	if !narrowed.hears("one", 5*time.Second) {
		t.Fatal("nothing is heard to begin with")
	}
	if status, b := h.try("PATCH", "/api/v1/apitokens/narrowed", h.admin, map[string]any{"topics": []string{"a/#"}}); status != http.StatusOK {
		t.Fatalf("%d %s", status, b)
	}
	time.Sleep(time.Second)
	publish(t, speaker, "b/secret", "two", false)
	if narrowed.hears("two", time.Second) {
		t.Error("it hears a topic that it may not use any more")
	}
	subscribe(t, speaker, "b/#")
	if _, err := narrowed.conn.Write(narrowed.publish("b/evil", "three", 1, false, 8)); err == nil && speaker.hears("three", time.Second) {
		t.Error("it publishes on a topic that it may not use any more")
	}
}

// Below the hub's root an account hears of the devices that it may read, whatever its filters.
func TestScopeHoldsForDelivery(t *testing.T) {
	t.Parallel()
	h := siege(t)
	for id, area := range map[string]string{"pan": "kitchen", "gold": "vault"} {
		if err := h.call("POST", "/api/v1/devices", h.admin, map[string]any{"id": id, "kinds": []string{"sensor"}, "area": area,
			"metrics": []map[string]any{{"name": "temperature", "class": "temperature", "unit": "°C"}}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	account := func(name, rights string) string {
		var out struct{ Token string }
		if err := h.call("POST", "/api/v1/apitokens", h.admin, map[string]any{"name": name, "rights": strings.Split(rights, ","),
			"scope": "area=kitchen", "topics": []string{"hub/v1/#"}}, &out); err != nil {
			t.Fatal(err)
		}
		return out.Token
	}
	cook, deaf := enter(t, h, "cook", account("cook", "read"), false), enter(t, h, "deaf", account("deaf", "ingest"), false)
	for _, c := range []*mqttClient{cook, deaf} {
		for _, filter := range []string{"hub/v1/+/ha/#", "hub/v1/+/online"} {
			subscribe(t, c, filter)
		}
	}
	for _, id := range []string{"pan", "gold"} {
		var out struct{ Token string }
		if err := h.call("POST", "/api/v1/devices/"+id+"/tokens", h.admin, nil, &out); err != nil {
			t.Fatal(err)
		}
		c, code, err := dialMQTT(h.mqtt, sign{id: id, user: id, password: out.Token})
		if err != nil || code != 0 {
			t.Fatal(code, err)
		}
		defer c.conn.Close()
		publish(t, c, "hub/v1/"+id+"/r", `{"m":"temperature","v":21.5}`, false)
	}
	heard := func(c *mqttClient) (topics string) {
		_ = c.conn.SetReadDeadline(time.Now().Add(time.Second))
		for {
			typ, body, err := c.read()
			if err != nil {
				return topics
			}
			if typ == 0x30 {
				topics += string(body[2:2+int(body[1])]) + "\n"
			}
		}
	}
	if got := heard(cook); !strings.Contains(got, "/pan/") || strings.Contains(got, "gold") {
		t.Errorf("one with the scope kitchen heard\n%s", got)
	}
	if got := heard(deaf); strings.Contains(got, "pan") || strings.Contains(got, "gold") {
		t.Errorf("one that may not read heard\n%s", got)
	}
}

// With an account everything of it goes, and one of its name inherits nothing.
func TestDeletedAccountsLeaveNothing(t *testing.T) {
	t.Parallel()
	h := siege(t)
	c := enter(t, h, "twin", newAccount(t, h, "twin", "read", "x/#"), true)
	subscribe(t, c, "x/#")
	publish(t, c, "x/kept", "retained by the first", true)
	if _, err := c.conn.Write([]byte{0xE0, 0}); err != nil {
		t.Fatal(err)
	}
	c.conn.Close()
	other := enter(t, h, "other", newAccount(t, h, "other", "read", "x/#"), false)
	publish(t, other, "x/waits", "for the first", false)
	if err := h.call("DELETE", "/api/v1/apitokens/twin", h.admin, nil, nil); err != nil {
		t.Fatal(err)
	}
	second := enter(t, h, "twin", newAccount(t, h, "twin", "read", "x/#"), true)
	if second.hears("the first", time.Second) {
		t.Error("a new account of the name got what was for the old one")
	}
	subscribe(t, second, "x/#")
	if second.hears("the first", time.Second) {
		t.Error("what the old account had retained is still there")
	}
}

// One account cannot take the sessions of the others, and gives back what it has when it goes.
func TestSessionsOfOneAccount(t *testing.T) {
	t.Parallel()
	h := siege(t)
	token := newAccount(t, h, "stray", "read", "b/#")
	const tries = 190 // as many as an account has connections at once
	for i := range tries {
		c, code, err := dialMQTT(h.mqtt, sign{version: 5, id: fmt.Sprint("s-", i), user: "service:stray", password: token, keep: true})
		if err != nil || code != 0 {
			t.Fatalf("connection %d: %#x %v", i, code, err)
		}
		_, _ = c.conn.Write([]byte{0xE0, 0})
		c.conn.Close()
	}
	var list struct{ Sessions []struct{ ID string } }
	if err := h.call("GET", "/api/v1/mqtt/sessions?limit=500", h.admin, nil, &list); err != nil {
		t.Fatal(err)
	}
	if n := len(list.Sessions); n == 0 || n > 100 {
		t.Errorf("the hub keeps %d of %d sessions, want a hundred", n, tries)
	}
	if err := h.call("DELETE", "/api/v1/apitokens/stray", h.admin, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := h.call("GET", "/api/v1/mqtt/sessions?limit=500", h.admin, nil, &list); err != nil || len(list.Sessions) > 0 {
		t.Errorf("%d sessions are left, %v", len(list.Sessions), err)
	}
}
