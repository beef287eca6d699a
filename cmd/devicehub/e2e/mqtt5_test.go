package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"devicehub/firmware-sim/device"
)

// TestMQTT5Light plays lights over MQTT 5: an answer carries the correlation
// data that the hub gave its command, and a light that takes longer to think
// than a command lives refuses it.
func TestMQTT5Light(t *testing.T) {
	h := newHub(t)
	admin := h.admin()
	var ran atomic.Int32
	var sent sentBytes
	play := func(id string, think float64) {
		ctx, cancel := context.WithCancel(t.Context())
		up := make(chan struct{}, 10)
		d, err := device.New(device.Config{ID: id, Token: h.mustCLI("device", "add", id, "--kind", "light"), Transport: device.MQTT5, MQTT: &url.URL{Scheme: "mqtt", Host: h.mqtt},
			Light: &device.LightConfig{Ack: func(*rand.Rand) float64 { return think }}, Dial: sent.dial,
			Hooks: device.Hooks{Up: func(device.Up) { up <- struct{}{} }, Ran: func(device.Command) { ran.Add(1) }}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			d.Run(ctx)
		}()
		t.Cleanup(func() {
			cancel()
			<-done
		})
		<-up
	}
	play("quick", 0)
	play("slow", 1500)
	var c struct {
		CmdID  string `json:"cmd_id"`
		Status string `json:"status"`
		Code   string `json:"code"`
	}
	h.call("POST", "/api/v1/devices/quick/commands?wait=confirmed&timeout_ms=5000", admin, map[string]any{"op": "set", "params": map[string]any{"brightness": 9}}, http.StatusOK, &c)
	if c.Status != "confirmed" || ran.Load() != 1 {
		t.Errorf("quick: got %+v, ran %d times", c, ran.Load())
	}
	// MQTT 5 §3.3.2.3.6: identifier 9, two bytes of length, the data.
	if property := append([]byte{9, 0, byte(len(c.CmdID))}, c.CmdID...); sent.count(property) < 2 {
		t.Errorf("correlation data in %d answers, want that of acked and of done", sent.count(property))
	}
	h.call("POST", "/api/v1/devices/slow/commands", admin, map[string]any{"op": "set", "params": map[string]any{"brightness": 9}, "expires_in_ms": 1000}, http.StatusAccepted, &c)
	eventually(t, 5*time.Second, func() error {
		h.call("GET", "/api/v1/devices/slow/commands/"+c.CmdID, admin, nil, http.StatusOK, &c)
		if c.Code != "expired" {
			return fmt.Errorf("got %+v", c)
		}
		return nil
	})
	if ran.Load() != 1 {
		t.Error("the slow light executed what had expired")
	}
}

// sentBytes keeps what is written to the connections that it opens.
type sentBytes struct {
	mu   sync.Mutex
	sent bytes.Buffer
}

type keptConn struct {
	net.Conn
	to *sentBytes
}

func (s *sentBytes) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	return keptConn{c, s}, err
}

func (c keptConn) Write(b []byte) (int, error) {
	c.to.mu.Lock()
	c.to.sent.Write(b)
	c.to.mu.Unlock()
	return c.Conn.Write(b)
}

func (s *sentBytes) count(part []byte) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Count(s.sent.Bytes(), part)
}
