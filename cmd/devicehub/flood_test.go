package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/quota"
)

// Strangers and clients write into the log, but a few lines a minute, and short ones.
func TestLogOfAFlood(t *testing.T) {
	const most = 64 << 10 // of each flood, in bytes
	r := runHub(t, func(c *Config) { c.Limits.ChannelsPerConnection = 1 })
	grown := func(flood func()) (int, string) {
		t.Helper()
		before := len(r.log.String())
		flood()
		text := r.log.String()[before:]
		var told strings.Builder // tests log debug, too
		for line := range strings.Lines(text) {
			if !strings.Contains(line, "level=DEBUG") {
				told.WriteString(line)
			}
		}
		return told.Len(), told.String()
	}

	n, text := grown(func() {
		c, err := net.Dial("tcp", r.http.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		const requests = 1000
		go func() {
			one := []byte("GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: x\r\nOrigin: http://" + strings.Repeat("a", 30_000) + "\r\n\r\n")
			for range requests {
				if _, err := c.Write(one); err != nil {
					return
				}
			}
			_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		}()
		if got, err := io.ReadAll(c); bytes.Count(got, []byte(`{"status":403}`)) != requests {
			t.Errorf("%d refused, %v", bytes.Count(got, []byte(`{"status":403}`)), err)
		}
	})
	if n > most || !strings.Contains(text, `msg="origin refused" origin="http://aaa`) || !strings.Contains(text, "(30007 bytes)") {
		t.Errorf("origins: %d bytes of log, want at most %d: %.2000s", n, most, text)
	}
	r.quota.Refused(func(l quota.Limit, n int64) {
		if l == quota.LimitFailures && n < 900 {
			t.Errorf("%d of a thousand refused origins were beyond what an address may fail", n)
		}
	})

	c := r.connect(r.user)
	if got := c.ask("fleet:all", "phx_join", "{}"); got.Status != "ok" {
		t.Fatalf("join: %+v", got)
	}
	for kind, topic := range map[string]func(i int) string{
		"topics that nothing matches": func(i int) string { return fmt.Sprint(strings.Repeat("t", 20_000), i) },
		"too many channels":           func(i int) string { return fmt.Sprint("sensor:", strings.Repeat("t", 20_000), i) },
	} {
		n, text := grown(func() {
			for i := range 180 {
				c.ask(topic(i), "phx_join", "{}")
			}
		})
		if n > most || !strings.Contains(text, "id=user:admin") {
			t.Errorf("%s: %d bytes of log, want at most %d: %.2000s", kind, n, most, text)
		}
	}
}

// A viewer who is refused again and again costs the audit a handful of entries, over every way in.
func TestAuditOfAFlood(t *testing.T) {
	r := runHub(t, func(c *Config) { // as fast as it comes: the audit is not to be saved by the rates
		c.Limits.EventsPerS, c.Limits.EventBurst, c.Limits.ReadsPerS, c.Limits.ReadBurst = 1_000_000, 1_000_000, 1_000_000, 1_000_000
		c.Limits.CallsPerS, c.Limits.CallBurst = 1_000_000, 1_000_000
	})
	r.call("POST", "/api/v1/users", map[string]string{"username": "vi", "password": "a viewer's own", "role": "viewer"}, 201, nil)
	for i := range 50 {
		r.device(map[string]any{"id": fmt.Sprint("lamp-", i), "kinds": []string{"light"}})
	}
	admin := r.user
	var in struct{ Token string }
	r.call("POST", "/api/v1/login", map[string]string{"username": "vi", "password": "a viewer's own"}, 200, &in)
	size := func() (n int64) {
		for _, name := range []string{"", "-wal"} {
			if info, err := os.Stat(r.Data.Join(registryFile) + name); err == nil {
				n += info.Size()
			}
		}
		return n
	}
	before := size()

	const flood = 10_000
	c := r.connect(in.Token)
	for i := range 50 {
		if got := c.ask(fmt.Sprint("light:lamp-", i), "phx_join", "{}"); got.Status != "ok" {
			t.Fatalf("join: %+v", got)
		}
	}
	for i := range flood {
		to := c.send(fmt.Sprint("light:lamp-", i%50), [2]string{"command", "shadow_update"}[i/50%2], [2]string{`{"op":"set","params":{"on":true},"policy":"none"}`, `{"desired":{"on":true}}`}[i/50%2])
		if i%64 == 0 {
			if got := <-to; got.code() != devices.CodeForbidden {
				t.Fatalf("a viewer's command: got %+v", got)
			}
		}
	}
	for i := range flood / 10 {
		res := r.request("POST", [2]string{"/api/v1/users", fmt.Sprint("/api/v1/devices/lamp-", i%50, "/commands")}[i%2], in.Token, [2]string{`{"username":"me","password":"my password","role":"admin"}`, `{"op":"set","params":{"on":true}}`}[i%2])
		if res.StatusCode != http.StatusForbidden {
			t.Fatalf("a viewer's call: got %s", res.Status)
		}
	}

	var got struct {
		Entries []devices.AuditEntry `json:"entries"`
	}
	r.user = admin
	r.call("GET", "/api/v1/audit?actor=user:vi&limit=500", nil, 200, &got)
	total := int64(0)
	for _, e := range got.Entries {
		total += max(1, e.Count)
	}
	if n := len(got.Entries); n > 50 {
		t.Errorf("%d entries, want at most 50", n)
	}
	if want := int64(flood + flood/10); total < want {
		t.Errorf("%d are counted, want %d and the login", total, want)
	}
	if grown := size() - before; grown > 1<<20 {
		t.Errorf("the registry grew by %d bytes, want at most 1 MiB with its log", grown)
	}
	t.Logf("%d refusals: %d entries, %d bytes", total, len(got.Entries), size()-before)
}

// request makes a request with a token.
func (r *running) request(method, path, token, body string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequest(method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	return res
}

// Who makes an account whose topics are a dialect's hears that it starts the adapter, once.
func TestAccountsTellWhichAdaptersTheyStart(t *testing.T) {
	r := runHub(t)
	for i, want := range []string{`["z2m"]`, ""} {
		var got struct {
			Starts json.RawMessage `json:"starts_adapters"`
		}
		r.call("POST", "/api/v1/apitokens", map[string]any{"name": fmt.Sprint("zigbee-", i), "rights": []string{"ingest"}, "topics": []string{"zigbee2mqtt/#"}}, 201, &got)
		if string(got.Starts) != want {
			t.Errorf("account %d: got %s, want %s", i, got.Starts, want)
		}
		r.wait("the adapter", func() bool { return len(r.bridges.own.running()) == 1 })
	}
}
