package e2e

import (
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// mqttLight is a light on a stock MQTT client: it does what it is told and
// says so.
type mqttLight struct {
	client mqtt.Client
	id     string

	mu    sync.Mutex
	runs  map[string]int // how often each command ran
	quiet bool           // it shows nothing unless it is asked to
	state map[string]any
}

func (h *hub) mqttLight(id, token string) *mqttLight {
	h.t.Helper()
	l := &mqttLight{id: id, runs: map[string]int{}}
	topic := "hub/v1/" + id + "/"
	opts := mqtt.NewClientOptions().AddBroker("tcp://" + h.mqtt).SetUsername(id).SetPassword(token).SetClientID("light-" + id).
		SetKeepAlive(5 * time.Second).SetConnectRetry(true).SetConnectRetryInterval(100 * time.Millisecond).SetMaxReconnectInterval(500 * time.Millisecond)
	opts.SetOnConnectHandler(func(c mqtt.Client) {
		c.Subscribe(topic+"cmd", 1, func(c mqtt.Client, m mqtt.Message) { go l.obey(topic, m.Payload()) })
		c.Publish(topic+"state", 1, false, `{"on":false,"brightness":128,"mode":"brightness","cause":"boot"}`)
	})
	l.client = mqtt.NewClient(opts)
	if token := l.client.Connect(); !token.WaitTimeout(10*time.Second) || token.Error() != nil {
		h.t.Fatalf("connect %s: %v", id, token.Error())
	}
	h.t.Cleanup(func() { l.client.Disconnect(0) })
	return l
}

func (l *mqttLight) obey(topic string, payload []byte) {
	var cmd struct {
		CmdID  string         `json:"cmd_id"`
		Op     string         `json:"op"`
		Params map[string]any `json:"params"`
	}
	if json.Unmarshal(payload, &cmd) != nil {
		return
	}
	say := func(sub string, v map[string]any) {
		b, _ := json.Marshal(v)
		l.client.Publish(topic+sub, 1, false, b).WaitTimeout(5 * time.Second)
	}
	l.mu.Lock()
	l.runs[cmd.CmdID]++
	state := map[string]any{}
	for k, v := range l.state {
		state[k] = v
	}
	for k, v := range cmd.Params {
		if cmd.Op == "set" && k != "transition_ms" {
			state[k] = v
		}
	}
	l.state = state
	quiet := l.quiet && cmd.Op != "refresh"
	l.mu.Unlock()
	say("ack", map[string]any{"cmd_id": cmd.CmdID, "status": "acked"})
	say("ack", map[string]any{"cmd_id": cmd.CmdID, "status": "done", "exec_ms": 1})
	if quiet {
		return
	}
	shown := map[string]any{"cause": "command", "cmd": cmd.CmdID}
	for k, v := range state {
		shown[k] = v
	}
	say("state", shown)
}

// A light that says that it is done and shows nothing is asked once, and its next
// command need not wait for that.
func TestLightThatShowsNothing(t *testing.T) {
	h := newHub(t)
	token := h.mustCLI("device", "add", "lamp", "--kind", "light")
	admin := h.admin()
	lamp := h.mqttLight("lamp", token)
	lamp.mu.Lock()
	lamp.quiet = true
	lamp.mu.Unlock()
	var there, first commandRecord
	const done = "/api/v1/devices/lamp/commands?wait=done&timeout_ms=10000"
	h.call("POST", done, admin, map[string]any{"op": "identify", "policy": "latest"}, http.StatusOK, &there)
	began := time.Now()
	h.call("POST", done, admin, map[string]any{"op": "set", "params": map[string]any{"on": true}}, http.StatusOK, &first)
	second := h.httpCommand(admin, "lamp", "toggle")
	if took := time.Since(began); second.Status != "confirmed" || took > 5*time.Second {
		t.Errorf("got %+v after %v, want it confirmed soon", second, took)
	}
	lamp.mu.Lock()
	defer lamp.mu.Unlock()
	if lamp.state["on"] != false || lamp.runs[first.CmdID] != 1 || lamp.runs[second.CmdID] != 1 || len(lamp.runs) != 4 {
		t.Errorf("it is %v and ran %v, want off, each command once and one more to show itself", lamp.state, lamp.runs)
	}
	var log struct {
		Commands []commandRecord `json:"commands"`
	}
	h.call("GET", "/api/v1/devices/lamp/commands", admin, nil, http.StatusOK, &log)
	if len(log.Commands) != 3 || there.Status != "done" {
		t.Errorf("history: got %+v, want what people asked for alone", log.Commands)
	}
}

func TestLightObeysOverMQTT(t *testing.T) {
	h := newHub(t)
	token := h.mustCLI("device", "add", "lamp", "--kind", "light")
	admin := h.admin()
	h.call("POST", "/api/v1/users", admin, map[string]any{"username": "vera", "password": "a long enough password", "role": "viewer"}, http.StatusCreated, nil)
	h.call("POST", "/api/v1/users", admin, map[string]any{"username": "otto", "password": "a long enough password", "role": "operator"}, http.StatusCreated, nil)

	operator := h.phoenix(h.login("otto", "a long enough password"))
	operator.send(map[string]any{"join": "light:lamp"})
	operator.want(map[string]any{"joined": "light:lamp"})
	viewer := h.phoenix(h.login("vera", "a long enough password"))
	viewer.send(map[string]any{"join": "light:lamp"})
	viewer.want(map[string]any{"joined": "light:lamp"})

	on := func(s *script, id int) {
		s.send(map[string]any{"push": "light:lamp", "event": "command", "id": id, "payload": map[string]any{"op": "set", "params": map[string]any{"on": true, "brightness": 200}}})
	}
	on(operator, 1)
	operator.want(map[string]any{"reply": 1, "status": "error", "response": map[string]any{"code": "device_offline"}})

	lamp := h.mqttLight("lamp", token)
	viewer.want(map[string]any{"event": "status", "payload": map[string]any{"state": "online"}})
	viewer.want(map[string]any{"event": "state", "payload": map[string]any{"on": false}})

	on(viewer, 2)
	viewer.want(map[string]any{"reply": 2, "status": "error", "response": map[string]any{"code": "forbidden"}})

	on(operator, 3)
	reply := operator.want(map[string]any{"reply": 3, "status": "ok"})
	id := reply["response"].(map[string]any)["cmd_id"]
	last := 0
	for _, status := range []string{"sent", "acked", "done", "confirmed"} {
		seen := viewer.want(map[string]any{"event": "command_status", "payload": map[string]any{"cmd_id": id, "status": status, "by": "user:otto"}})
		if n := seen["n"].(int); n < last {
			t.Errorf("%s was told out of turn", status)
		} else {
			last = n
		}
	}
	operator.want(map[string]any{"event": "state", "payload": map[string]any{"on": true, "brightness": 200}})

	out := h.httpCommand(admin, "lamp", `toggle`)
	if out.Status != "confirmed" {
		t.Errorf("toggle over HTTP: got %+v, want confirmed", out)
	}
	lamp.mu.Lock()
	defer lamp.mu.Unlock()
	for id, n := range lamp.runs {
		if n != 1 {
			t.Errorf("command %s ran %d times", id, n)
		}
	}
}

type commandRecord struct {
	CmdID  string `json:"cmd_id"`
	Status string `json:"status"`
	Code   string `json:"code"`
}

// httpCommand posts a command and waits until it is confirmed.
func (h *hub) httpCommand(token, id, op string) (r commandRecord) {
	h.t.Helper()
	h.call("POST", "/api/v1/devices/"+id+"/commands?wait=confirmed&timeout_ms=10000", token, map[string]any{"op": op}, http.StatusOK, &r)
	return r
}

func TestVanishedDeviceIsOffline(t *testing.T) {
	h := newHub(t)
	token := h.mustCLI("device", "add", "shed-temp", "--kind", "sensor")
	viewer := h.phoenix(h.admin())
	viewer.send(map[string]any{"join": "sensor:shed-temp"})
	viewer.want(map[string]any{"joined": "sensor:shed-temp"})

	device := startScript(t, nil, "mosquitto_sub", "-h", hostOf(h.mqtt), "-p", portOf(h.mqtt), "-u", "shed-temp", "-P", token, "-t", "hub/v1/shed-temp/cmd", "-q", "1", "-k", "5")
	viewer.want(map[string]any{"event": "presence_diff", "payload": map[string]any{"joins": map[string]any{"shed-temp": map[string]any{}}}})
	device.freeze() // the cable is out: the connection stays, nothing comes any more
	viewer.want(map[string]any{"event": "status", "payload": map[string]any{"state": "offline", "reason": "heartbeat_timeout"}})
	viewer.want(map[string]any{"event": "presence_diff", "payload": map[string]any{"leaves": map[string]any{"shed-temp": map[string]any{}}}})
}
