package main

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// alive reports whether the hub has not closed a silent connection.
func alive(nc net.Conn) bool {
	_ = nc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := nc.Read(make([]byte, 1))
	ne, waits := err.(net.Error)
	return waits && ne.Timeout()
}

// An address may have so many connections on which nobody has signed in, over HTTP and MQTT together.
// Whoever has signed in from there stays, a trusted proxy is not bounded, and no other address is
// charged.
func TestUnverifiedConnections(t *testing.T) {
	r := runHub(t, func(c *Config) {
		c.Limits.UnverifiedPerAddress = 8
		c.HTTP.TrustedProxies, c.MQTT.Embedded.TrustedProxies = []string{proxyAt}, []string{proxyAt}
	})
	const at, other = "127.0.0.2", "127.0.0.3"
	token := r.device(map[string]any{"id": "here", "kinds": []string{"sensor"}})
	there, _, err := r.dialFrom(at, token)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	mqttToken := r.device(map[string]any{"id": "broker", "kinds": []string{"sensor"}})
	over := raw(t, at, r.mqtt.Addr("tcp"), mqttConnect("broker", mqttToken))
	if b := make([]byte, 4); !readAll(over, b) || b[3] != 0 {
		t.Fatalf("got CONNACK %x", b)
	}
	person := raw(t, at, r.http.Addr(), "GET /api/v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "+r.user+"\r\n\r\n")
	if got := status(person); got != http.StatusOK {
		t.Fatalf("got %d", got)
	}

	silent := map[string][]net.Conn{}
	for range 12 {
		for _, from := range []string{at, proxyAt} {
			silent[from] = append(silent[from], raw(t, from, r.http.Addr()), raw(t, from, r.mqtt.Addr("tcp")))
		}
	}
	for range 4 {
		silent[other] = append(silent[other], raw(t, other, r.http.Addr()), raw(t, other, r.mqtt.Addr("tcp")))
	}
	time.Sleep(4 * time.Second)
	for from, want := range map[string]int{at: 8, proxyAt: 24, other: 8} {
		left := 0
		for _, nc := range silent[from] {
			if alive(nc) {
				left++
			}
		}
		if left != want {
			t.Errorf("%s: %d connections are left, want %d", from, left, want)
		}
	}
	if !alive(over) || !alive(person) {
		t.Error("who has signed in was charged for the others")
	}
	if err := there.WriteMessage(websocket.TextMessage, []byte(`[null,"1","phoenix","heartbeat",{}]`)); err != nil {
		t.Error(err)
	}
	if _, _, err := there.ReadMessage(); err != nil {
		t.Errorf("a device's socket: %v", err)
	}
}

// mqttConnect is the CONNECT of a device.
func mqttConnect(id, token string) string {
	field := func(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }
	body := "\x00\x04MQTT\x04\xc2\x00\x3c" + field(id) + field(id) + field(token)
	return string([]byte{0x10, byte(len(body)&0x7F | 0x80), byte(len(body) >> 7)}) + body
}

func readAll(nc net.Conn, b []byte) bool {
	for n := 0; n < len(b); {
		m, err := nc.Read(b[n:])
		if n += m; err != nil {
			return false
		}
	}
	return true
}
