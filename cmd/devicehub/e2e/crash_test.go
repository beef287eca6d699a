package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a hub writes while it crashes, in the middle of its work and with the
// most talkative log, holds no token of its clients.
func TestACrashShowsNoToken(t *testing.T) {
	wantMosquitto(t)
	h := newHub(t, "log:\n  level: debug")
	tokens := map[string]string{
		"a device's token":          h.mustCLI("device", "add", "kitchen-temp", "--kind", "sensor"),
		"another device's token":    h.mustCLI("device", "add", "attic-temp", "--kind", "sensor"),
		"a short token":             h.mustCLI("token", "issue", "attic-temp", "--short"),
		"a service account's token": h.mustCLI("apitoken", "add", "ha", "--rights", "read"),
		"a person's token":          h.admin(),
		"a person's password":       adminPassword,
	}
	h.mustCLI("key", "rotate") // a token of a retired key is replaced when its device asks
	device := h.phoenix(tokens["a device's token"])
	device.send(map[string]any{"join": "sensor:kitchen-temp"})
	device.want(map[string]any{"joined": "sensor:kitchen-temp"})
	device.send(map[string]any{"push": "sensor:kitchen-temp", "event": "token_refresh", "id": 1, "payload": map[string]any{}})
	refreshed := device.want(map[string]any{"reply": 1, "status": "ok"})
	tokens["a refreshed token"] = refreshed["response"].(map[string]any)["token"].(string)
	viewer := h.phoenix(tokens["a person's token"])
	viewer.send(map[string]any{"join": "sensor:kitchen-temp"})
	viewer.want(map[string]any{"joined": "sensor:kitchen-temp"})
	if out, err := h.mosquittoPub("attic-temp", tokens["a short token"], "hub/v1/attic-temp/r/temperature", "21.4"); err != nil {
		t.Fatal(out, err)
	}
	h.call("GET", "/api/v1/devices", tokens["a service account's token"], nil, 200, nil)
	h.try("GET", "/api/v1/devices?token="+tokens["a device's token"], "", nil)

	_ = h.cmd.Process.Signal(syscall.SIGQUIT) // the runtime ends the process as for a fault of its own
	select {
	case <-h.done:
		h.cmd = nil
	case <-time.After(20 * time.Second):
		t.Fatal("still running after SIGQUIT")
	}
	said := h.log.String()
	if n := strings.Count(said, "\ngoroutine "); n < 10 {
		t.Fatalf("got the stacks of %d goroutines, want those of a running hub", n)
	}
	for what, token := range tokens {
		if signature := token[strings.LastIndexByte(token, '.')+1:]; strings.Contains(said, token) || strings.Contains(said, signature) {
			t.Errorf("the hub wrote %s", what)
		}
	}
}
