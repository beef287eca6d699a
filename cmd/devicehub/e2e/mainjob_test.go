package e2e

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// phoenix starts a stock npm phoenix client against the hub.
func (h *hub) phoenix(token string) *script {
	h.t.Helper()
	pkg, err := filepath.Abs("../../../hub/hubtest/js/package.json")
	if err != nil {
		h.t.Fatal(err)
	}
	if m, _ := filepath.Glob(filepath.Join(filepath.Dir(pkg), "node_modules", "phoenix")); len(m) == 0 {
		h.t.Fatal("the phoenix npm client is not installed: run `make deps`")
	}
	return startScript(h.t, []string{"PHOENIX=" + pkg}, "node", "testdata/phoenix.mjs", "ws://"+h.http+"/socket", token)
}

func wantMosquitto(t *testing.T) {
	t.Helper()
	for _, name := range []string{"mosquitto_pub", "mosquitto_sub"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("%s is not installed: run `make deps`, or apt-get install mosquitto mosquitto-clients", name)
		}
	}
}

type series struct {
	Unit    string `json:"unit"`
	Buckets []struct {
		Last  float64 `json:"last"`
		Count int     `json:"count"`
	} `json:"buckets"`
}

func (h *hub) lastOf(token, id, metric string) (float64, error) {
	h.t.Helper()
	var s series
	from := time.Now().Add(-time.Hour).UnixMilli()
	h.call("GET", fmt.Sprintf("/api/v1/devices/%s/series?metric=%s&from=%d&points=100&agg=last", id, metric, from), token, nil, http.StatusOK, &s)
	if len(s.Buckets) == 0 {
		return 0, fmt.Errorf("no reading of %s %s", id, metric)
	}
	return s.Buckets[len(s.Buckets)-1].Last, nil
}

func TestSensorJoinsOverPhoenix(t *testing.T) {
	h := newHub(t)
	token := h.mustCLI("device", "add", "kitchen-temp", "--kind", "sensor", "--name", "Kitchen")
	if strings.ContainsAny(token, " \n") || len(token) < 40 {
		t.Fatalf("device add printed %q, want the token alone", token)
	}
	other := h.mustCLI("device", "add", "hall-temp", "--kind", "sensor")
	admin := h.admin()

	viewer := h.phoenix(admin)
	viewer.send(map[string]any{"join": "sensor:kitchen-temp"})
	viewer.want(map[string]any{"joined": "sensor:kitchen-temp"})

	device := h.phoenix(token)
	device.send(map[string]any{"join": "sensor:kitchen-temp", "params": map[string]any{"boot": "b1", "fw": "1.0"}})
	joined := device.want(map[string]any{"joined": "sensor:kitchen-temp"})
	reply := joined["payload"].(map[string]any)
	viewer.want(map[string]any{"event": "presence_diff", "payload": map[string]any{"joins": map[string]any{"kitchen-temp": map[string]any{}}}})
	for _, field := range []string{"server_time", "epoch", "ack_through", "config", "limits"} {
		if _, ok := reply[field]; !ok {
			t.Errorf("join reply has no %s: %v", field, reply)
		}
	}
	device.send(map[string]any{"push": "sensor:kitchen-temp", "event": "reading", "id": 1, "payload": map[string]any{"m": "temperature", "v": 21.4, "s": 1}})
	device.want(map[string]any{"reply": 1, "status": "ok", "response": map[string]any{"ack": 1, "accepted": 1, "dup": 0}})
	device.send(map[string]any{"push": "sensor:kitchen-temp", "event": "readings", "id": 2,
		"payload": map[string]any{"s0": 1, "u": map[string]any{"temperature": "°F"}, "r": []any{[]any{"temperature", 70.1}, []any{"temperature", 70.7, nil}}}})
	device.want(map[string]any{"reply": 2})
	device.send(map[string]any{"push": "sensor:kitchen-temp", "event": "reading", "id": 3, "payload": map[string]any{"m": "temperature", "v": "warm"}})
	device.want(map[string]any{"reply": 3, "status": "error"})
	device.send(map[string]any{"push": "sensor:kitchen-temp", "event": "dance", "id": 4})
	device.want(map[string]any{"reply": 4, "status": "error", "response": map[string]any{"code": "invalid"}})

	viewer.want(map[string]any{"event": "reading", "topic": "sensor:kitchen-temp", "payload": map[string]any{"device": "kitchen-temp"}})
	if v, err := h.lastOf(admin, "kitchen-temp", "temperature"); err != nil || v != 21.4 && v < 21 {
		t.Errorf("series: got %v, %v", v, err)
	}

	// Presence goes with the device.
	device.kill()
	viewer.want(map[string]any{"event": "status", "payload": map[string]any{"state": "offline", "reason": "connection_lost"}})

	// Another device's token does not open this topic; no token opens nothing.
	stranger := h.phoenix(other)
	stranger.send(map[string]any{"join": "sensor:kitchen-temp"})
	stranger.want(map[string]any{"refused": "sensor:kitchen-temp", "payload": map[string]any{"reason": "unauthorized", "code": "forbidden"}})
	h.phoenix("").want(map[string]any{"closed": true})

	// A revoked token is shut out at once, and stays out.
	again := h.phoenix(token)
	again.send(map[string]any{"join": "sensor:kitchen-temp"})
	again.want(map[string]any{"joined": "sensor:kitchen-temp"})
	h.mustCLI("token", "revoke", "kitchen-temp")
	again.want(map[string]any{"event": "disconnect", "payload": map[string]any{"code": "token_revoked"}})
	again.want(map[string]any{"closed": true, "code": 1008})
	for _, secret := range []string{token, other, adminPassword, admin} {
		if strings.Contains(h.log.String(), secret) {
			t.Error("a secret stands in the log")
		}
	}
}

func TestSensorJoinsOverMQTT(t *testing.T) {
	wantMosquitto(t)
	h := newHub(t)
	token := h.mustCLI("device", "add", "shed-temp", "--kind", "sensor")
	admin := h.admin()
	viewer := h.phoenix(admin)
	viewer.send(map[string]any{"join": "sensor:shed-temp"})
	viewer.want(map[string]any{"joined": "sensor:shed-temp"})

	if out, err := h.mosquittoPub("shed-temp", token, "hub/v1/shed-temp/r", `{"m":"temperature","v":21.4}`); err != nil {
		t.Fatalf("mosquitto_pub: %v %s", err, out)
	}
	if v, err := h.lastOf(admin, "shed-temp", "temperature"); err != nil || v != 21.4 {
		t.Errorf("series right after the PUBACK: got %v, %v, want 21.4", v, err)
	}
	viewer.want(map[string]any{"event": "reading", "payload": map[string]any{"device": "shed-temp"}})

	for name, row := range map[string]struct{ id, password, topic string }{
		"wrong password":         {"shed-temp", "nonsense", "hub/v1/shed-temp/r"},
		"unknown device":         {"nobody", token, "hub/v1/nobody/r"},
		"another device's topic": {"shed-temp", token, "hub/v1/other/r"},
	} {
		out, err := h.mosquittoPub(row.id, row.password, row.topic, `{"m":"temperature","v":1}`, "-V", "mqttv5")
		if err == nil && !strings.Contains(out, "uthorized") {
			t.Errorf("%s: accepted (%s)", name, out)
		}
	}
	out, _ := h.mosquittoPub("shed-temp", token, "hub/v1/shed-temp/r", `{"m":"temperature","v":21.4}`, "-V", "mqttv5", "-r")
	if v, err := h.lastOf(admin, "shed-temp", "temperature"); err != nil || v != 21.4 {
		t.Errorf("after a retained publish (%s): got %v, %v", out, v, err)
	}
}
