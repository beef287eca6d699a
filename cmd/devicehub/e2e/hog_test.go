package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

// hog connects as a service account over MQTT 5.
func (h *hub) hog(account, token, id string, expiry uint32) *paho.Client {
	h.t.Helper()
	conn, err := net.Dial("tcp", h.mqtt)
	if err != nil {
		h.t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn, PacketTimeout: 30 * time.Second})
	ack, err := c.Connect(h.t.Context(), &paho.Connect{ClientID: id, KeepAlive: 60, Username: "service:" + account, UsernameFlag: true,
		Password: []byte(token), PasswordFlag: true, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}})
	if err != nil || ack.ReasonCode != 0 {
		h.t.Fatal(ack, err)
	}
	return c
}

// resident is the memory of the hub's process, in MB.
func (h *hub) resident() int {
	h.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		h.t.Fatal(err)
	}
	return kb >> 10
}

// TestHogHasABudget has one account keep all it can, in shapes that are mostly
// not payload, until it is refused, and reads the hub's memory. Another account
// does not notice.
func TestHogHasABudget(t *testing.T) {
	h := newHub(t, "limits: {mqtt_kept_bytes_per_min: 10GB}") // all at once
	token, good := h.account("hog", "b/#"), h.account("good", "g/#")
	h.pub("good", good, "-t", "g/warm", "-m", "1", "-q", "1", "-r")
	before := h.resident()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	c := h.hog("hog", token, "hog", 0)
	long := strings.Repeat("v", 60_000)
	user := paho.UserProperties{}
	for range 15 {
		user.Add("k", long)
	}
	refused := func(topic string, props *paho.PublishProperties) bool {
		r, err := c.Publish(ctx, &paho.Publish{QoS: 1, Retain: true, Topic: topic, Payload: []byte("x"), Properties: props})
		if r == nil {
			t.Fatal(err)
		}
		return r.ReasonCode == 0x97
	}
	topics, properties, filters, sessions := 0, 0, 0, 0
	for ; topics < 10_000 && !refused(fmt.Sprint("b/", topics, "/", long), nil); topics++ {
	}
	for i := range topics / 2 { // room for the others
		if _, err := c.Publish(ctx, &paho.Publish{QoS: 1, Retain: true, Topic: fmt.Sprint("b/", i, "/", long)}); err != nil {
			t.Fatal(err)
		}
	}
	for ; properties < 1000 && !refused(fmt.Sprint("b/p/", properties), &paho.PublishProperties{User: user}); properties++ {
	}
	for i := range properties / 2 {
		refused(fmt.Sprint("b/p/", i), nil)
	}
	for ; filters < 3000; filters++ {
		r, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: fmt.Sprint("b/", filters, "/", long, "/#"), QoS: 1}}})
		if r == nil {
			t.Fatal(err)
		}
		if r.Reasons[0] == 0x97 {
			break
		}
	}
	for ; sessions < 150; sessions++ {
		s := h.hog("hog", token, fmt.Sprint("s", sessions), 1000)
		_ = s.Disconnect(&paho.Disconnect{})
	}
	after := h.resident()
	t.Logf("%d topics, %d with properties, %d filters; %d MB -> %d MB", topics, properties, filters, before, after)
	if topics < 100 || topics == 10_000 || properties == 0 || properties == 1000 || filters == 0 || filters == 3000 {
		t.Errorf("%d topics, %d properties, %d filters: nothing was refused, or everything", topics, properties, filters)
	}
	if after-before > 128 { // 48 MiB are the account's, and as much again garbage between two collections
		t.Errorf("the hub grew by %d MB", after-before)
	}
	var list struct {
		Sessions []struct{ ID, Account string }
	}
	h.call("GET", "/api/v1/mqtt/sessions?limit=500", h.admin(), nil, http.StatusOK, &list)
	if n := len(list.Sessions); n == 0 || n > 100 {
		t.Errorf("%d sessions, want at most 100", n)
	}
	h.pub("good", good, "-t", "g/after", "-m", "1", "-q", "1", "-r")
	if got := h.sub("good", good, "-t", "g/#", "-C", "2", "-W", "5"); strings.Count(got, "1") != 2 {
		t.Errorf("the good account got %q", got)
	}
	h.mustCLI("apitoken", "rm", "hog")
	h.call("GET", "/api/v1/mqtt/sessions", h.admin(), nil, http.StatusOK, &list)
	if len(list.Sessions) != 0 {
		t.Errorf("%d sessions are left of a deleted account", len(list.Sessions))
	}
}

// TestSessionCommand lists and ends sessions with the command line; the audit
// has who did it.
func TestSessionCommand(t *testing.T) {
	h := newHub(t)
	token := h.account("flow", "q/#")
	h.sub("flow", token, "-c", "-i", "away", "-q", "1", "-t", "q/#", "-E")
	h.pub("flow", token, "-t", "q/1", "-m", "one", "-q", "1")
	out := h.mustCLI("session", "list")
	line := out[strings.LastIndex(out, "\n")+1:]
	fields := strings.Fields(line)
	if len(fields) < 7 || !strings.HasPrefix(fields[0], "service:flow:") || fields[1] != `"away"` || fields[2] != "absent" {
		t.Fatalf("got %q", out)
	}
	h.kill()
	h.start() // it keeps its name
	h.mustCLI("session", "end", fields[0])
	if out, err := h.cli("session", "end", fields[0]); err == nil {
		t.Errorf("ended twice: %s", out)
	}
	if out := h.mustCLI("session", "list"); strings.Contains(out, "flow") {
		t.Errorf("got %q", out)
	}
	if got := h.sub("flow", token, "-c", "-i", "away", "-q", "1", "-t", "q/#", "-W", "1"); got != "" {
		t.Errorf("an ended session delivers %q", got)
	}
	var audit struct {
		Entries []struct{ Actor, Action, Target, Outcome string }
	}
	h.call("GET", "/api/v1/audit?limit=50", h.admin(), nil, http.StatusOK, &audit)
	ended := 0
	for _, e := range audit.Entries {
		if e.Action == "mqtt_session.end" && e.Target == "service:flow" && e.Actor == "cli" {
			ended++
		}
	}
	if ended == 0 {
		t.Errorf("the audit has nothing of it: %+v", audit)
	}
}
