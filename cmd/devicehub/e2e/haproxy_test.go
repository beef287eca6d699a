package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// proxyAt is where the proxy's connections come from.
const proxyAt = "127.0.0.9"

// behindProxy makes a hub take PROXY headers, and wait before it stops.
func behindProxy(t *testing.T) *hub {
	t.Helper()
	h := newHub(t, "    proxy_protocol: true\n    trusted_proxies: ["+proxyAt+"]")
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(h.conf)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(b), "http:\n", "http:\n  proxy_protocol: true\n  trusted_proxies: ["+proxyAt+"]\n  drain_delay: 2s\n", 1)
	if err := os.WriteFile(h.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	return h
}

// startHAProxy balances TCP over hubs, with PROXY headers.
func startHAProxy(t *testing.T, hubs ...*hub) (web, mqtt string) {
	t.Helper()
	web, mqtt = freePort(t), freePort(t)
	var servers, brokers strings.Builder
	for i, h := range hubs {
		fmt.Fprintf(&servers, "  server h%d %s send-proxy-v2 check check-send-proxy inter 100ms fall 1 rise 1\n", i, h.http)
		fmt.Fprintf(&brokers, "  server h%d %s send-proxy-v2 track web/h%d\n", i, h.mqtt, i)
	}
	conf := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := fmt.Sprintf(`defaults
  mode tcp
  retries 0
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  source %s
listen web
  bind %s
  option httpchk GET /readyz
%slisten mqtt
  bind %s
%s`, proxyAt, web, servers.String(), mqtt, brokers.String())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, nil, "haproxy", "-db", "-f", conf)
	eventually(t, 10*time.Second, func() error {
		res, err := http.Get("http://" + web + "/readyz")
		if err == nil {
			res.Body.Close()
		}
		return err
	})
	return web, mqtt
}

// Behind HAProxy the hub knows its clients' addresses, over HTTP and MQTT.
func TestBehindHAProxy(t *testing.T) {
	h := behindProxy(t)
	token := h.sensor("there")
	web, mqtt := startHAProxy(t, h)
	client := &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 77)}}).DialContext, DisableKeepAlives: true}, Timeout: 5 * time.Second}
	req, err := http.NewRequest("GET", "http://"+web+"/api/v1/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer nonsense")
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("got %d, want 401", res.StatusCode)
	}
	eventually(t, 5*time.Second, func() error {
		if !strings.Contains(h.log.String(), "addr=127.0.0.77") {
			return fmt.Errorf("the log does not name the client")
		}
		return nil
	})
	if strings.Contains(h.log.String(), "addr="+proxyAt) {
		t.Error("the log names the proxy")
	}
	through := *h
	through.mqtt = mqtt
	through.reporter("there", token).report()
}

// A hub that is told to stop is taken out of service by the balancer before it closes its listener:
// nobody is refused.
func TestDrainBehindHAProxy(t *testing.T) {
	a, b := behindProxy(t), behindProxy(t)
	web, _ := startHAProxy(t, a, b)
	var done atomic.Bool
	asked, failed := 0, 0
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
		for ; !done.Load(); asked++ {
			if res, err := client.Get("http://" + web + "/healthz"); err != nil {
				failed++
				t.Log(err)
			} else {
				res.Body.Close()
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	time.Sleep(500 * time.Millisecond)
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	time.Sleep(500 * time.Millisecond)
	done.Store(true)
	<-ended
	if failed > 0 || asked < 100 {
		t.Errorf("%d of %d requests failed", failed, asked)
	}
}
