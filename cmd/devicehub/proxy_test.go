package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const proxyAt = "127.0.0.9" // where the test's proxy is

// proxyHeader is a PROXY header of version 2; without a client, the proxy's own.
func proxyHeader(client string) string {
	b := []byte("\r\n\r\n\x00\r\nQUIT\n")
	if client == "" {
		return string(append(b, 0x20, 0, 0, 0))
	}
	from := netip.MustParseAddrPort(client)
	b = append(b, 0x21, 0x11, 0, 12)
	b = append(append(b, from.Addr().AsSlice()...), 127, 0, 0, 1)
	return string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, from.Port()), 4000))
}

// raw connects from an address and sends what is given.
func raw(t *testing.T, from string, to net.Addr, send ...string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	nc, err := d.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(nc, strings.Join(send, "")); err != nil {
		t.Fatal(err)
	}
	return nc
}

// status reads an answer; 0 is none.
func status(nc net.Conn) int {
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		return 0
	}
	res.Body.Close()
	return res.StatusCode
}

// A proxy that is trusted says who its clients are, over HTTP and MQTT; nobody else does.
func TestProxyProtocol(t *testing.T) {
	r := runHub(t, func(c *Config) {
		c.HTTP.ProxyProtocol, c.HTTP.TrustedProxies = true, []string{proxyAt}
		c.MQTT.Embedded.ProxyProtocol, c.MQTT.Embedded.TrustedProxies = true, []string{proxyAt + "/32"}
	})
	const get = " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
	metrics := "GET /metrics" + get + "\r\n"
	for _, row := range []struct {
		name, from, send string
		want             int
	}{
		{"a client of the proxy", proxyAt, proxyHeader("203.0.113.9:4711") + metrics, 401},
		{"a client who says that it is here", proxyAt, proxyHeader("203.0.113.9:4711") + "GET /metrics" + get + "X-Forwarded-For: 127.0.0.1\r\n\r\n", 401},
		{"a client on the proxy's machine", proxyAt, proxyHeader("127.0.0.1:4711") + metrics, 401},
		{"the proxy itself", proxyAt, proxyHeader("") + metrics, 200},
		{"the proxy without a header", proxyAt, metrics, 0},
		{"somebody else", "127.0.0.1", metrics, 200},
		{"somebody else with a header", "127.0.0.1", proxyHeader("203.0.113.9:4711") + metrics, 400},
		{"version 1", proxyAt, "PROXY TCP4 203.0.113.9 127.0.0.1 4711 4000\r\n" + metrics, 0},
	} {
		if got := status(raw(t, row.from, r.http.Addr(), row.send)); got != row.want {
			t.Errorf("%s: got %d, want %d", row.name, got, row.want)
		}
	}
	if got := r.proxies.Unknown(); len(got) > 0 {
		t.Errorf("what a client says of itself was taken for a proxy: %v", got)
	}
	status(raw(t, proxyAt, r.http.Addr(), proxyHeader("203.0.113.9:4711"), "GET /api/v1/me"+get+"Authorization: Bearer nonsense\r\n\r\n"))
	r.wait("the client's address in the log", func() bool {
		return strings.Contains(r.log.String(), `msg="sign-in refused" addr=203.0.113.9`)
	})

	connect := "\x10\x14\x00\x04MQTT\x04\xc2\x00\x3c\x00\x00\x00\x02ab\x00\x02cd" // user ab, password cd
	broker := r.mqtt.Addr("tcp")
	for _, row := range []struct {
		name, from, send, addr string
	}{
		{"a client of the proxy", proxyAt, proxyHeader("203.0.113.10:4711") + connect, "203.0.113.10"},
		{"the proxy itself", proxyAt, proxyHeader("") + connect, proxyAt},
		{"somebody else", "127.0.0.4", connect, "127.0.0.4"},
	} {
		nc := raw(t, row.from, broker, row.send)
		b := make([]byte, 4)
		if _, err := io.ReadFull(nc, b); err != nil || b[0] != 0x20 || b[3] == 0 {
			t.Errorf("%s: got %x %v, want a CONNACK that refuses", row.name, b, err)
		}
		r.wait(row.name+" in the log", func() bool { return strings.Contains(r.log.String(), `addr=`+row.addr+` code=unauthorized via=mqtt`) })
	}
	for name, nc := range map[string]net.Conn{
		"the proxy without a header":  raw(t, proxyAt, broker, connect),
		"somebody else with a header": raw(t, "127.0.0.5", broker, proxyHeader("203.0.113.11:4711"), connect),
	} {
		if b, _ := io.ReadAll(nc); len(b) > 0 {
			t.Errorf("%s over MQTT: got %x, want nothing", name, b)
		}
	}
	if strings.Contains(r.log.String(), "203.0.113.11") {
		t.Error("a stranger's header was believed")
	}
}

// A proxy that the hub was not told of stands in the details of readiness and among the nodes, for
// administrators.
func TestUnknownProxyIsTold(t *testing.T) {
	r := runHub(t)
	type node struct {
		Unknown []string `json:"unknown_proxies"`
	}
	var nodes struct{ Nodes []node }
	if r.call("GET", "/api/v1/nodes", nil, 200, &nodes); nodes.Nodes[0].Unknown != nil {
		t.Errorf("got %v before there was one", nodes.Nodes[0].Unknown)
	}
	if got := status(raw(t, "127.0.0.1", r.http.Addr(), "GET /metrics HTTP/1.1\r\nHost: hub\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")); got != 401 {
		t.Errorf("/metrics through the proxy: got %d, want 401", got)
	}
	if r.call("GET", "/api/v1/nodes", nil, 200, &nodes); len(nodes.Nodes[0].Unknown) != 1 || nodes.Nodes[0].Unknown[0] != "127.0.0.1" {
		t.Errorf("got %v", nodes.Nodes[0].Unknown)
	}
	var ready struct {
		Checks []struct{ Name, Detail string }
	}
	r.call("GET", "/readyz", nil, 200, &ready)
	found := false
	for _, c := range ready.Checks {
		found = found || c.Name == "proxies" && strings.Contains(c.Detail, "127.0.0.1")
	}
	if !found || strings.Contains(r.text("/readyz"), "127.0.0.1") {
		t.Errorf("got %+v, and for strangers %s", ready, r.text("/readyz"))
	}
}

// A page whose own name leads to the hub is refused by everything that the hub serves.
func TestRebindingIsRefused(t *testing.T) {
	r := runHub(t)
	upgrade := "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
	for path, more := range map[string]string{"/": "", "/metrics": "", "/api/v1/devices": "", "/api/openapi.json": "", "/socket/websocket?vsn=2.0.0": upgrade, "/socket/longpoll?vsn=2.0.0": "", "/assets/app.js": ""} {
		for _, origin := range []string{"", "Origin: http://evil.example:4000\r\n"} {
			nc := raw(t, "127.0.0.1", r.http.Addr(), "GET "+path+" HTTP/1.1\r\nHost: evil.example:4000\r\n"+origin+more+"\r\n")
			res, err := http.ReadResponse(bufio.NewReader(nc), nil)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, res.ContentLength)
			_, _ = io.ReadFull(res.Body, b)
			if res.StatusCode != 403 || !strings.Contains(string(b), `"code":"forbidden"`) || !strings.Contains(string(b), "http.public_url") {
				t.Errorf("%s: got %d %.200s, want forbidden", path, res.StatusCode, b)
			}
		}
	}
	for _, host := range []string{"127.0.0.1", "localhost", "hub.local"} {
		if got := status(raw(t, "127.0.0.1", r.http.Addr(), "GET /metrics HTTP/1.1\r\nHost: "+host+"\r\n\r\n")); got != 200 {
			t.Errorf("%s: got %d, want 200", host, got)
		}
	}
}

func TestSearchDomains(t *testing.T) {
	got := searchDomains("# made by somebody\nnameserver 192.0.2.1\nsearch fritz.box house.example.\ndomain lan\noptions ndots:1\nsearch\n")
	if strings.Join(got, " ") != "fritz.box house.example lan" {
		t.Errorf("got %v", got)
	}
}

// While the hub waits to be taken out of service it serves on, and says that it is not ready.
func TestDrainDelay(t *testing.T) {
	r := runHub(t, func(c *Config) { c.HTTP.DrainDelay = Duration(1500 * time.Millisecond) })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	get := func(path string) int {
		res, err := client.Get(r.base + path)
		if err != nil {
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	r.stop()
	from := time.Now()
	r.wait("the hub not to be ready", func() bool { return get("/readyz") == 503 })
	for time.Since(from) < 1200*time.Millisecond {
		if got := get("/healthz"); got != 200 {
			t.Fatalf("after %v: got %d, want the hub to serve on", time.Since(from), got)
		}
		if nc := raw(t, "127.0.0.1", r.mqtt.Addr("tcp")); nc != nil {
			nc.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.wait("the listener to close", func() bool { return get("/healthz") == 0 })
	if took := time.Since(from); took < 1400*time.Millisecond || took > 10*time.Second {
		t.Errorf("the listener closed after %v, want 1.5 s", took)
	}
}

// Behind a trusted proxy that browsers reach by https they are told to stay there if the hub is
// declared to be reached so; a request that came to the proxy by plain HTTP is told nothing.
func TestStrictBehindAProxy(t *testing.T) {
	for _, row := range []struct {
		url, proto string
		want       bool
	}{{"https://hub.example", "https", true}, {"https://hub.example", "http", false}, {"", "https", false}} {
		r := runHub(t, func(c *Config) { c.HTTP.TrustedProxies, c.HTTP.PublicURL = []string{proxyAt}, row.url })
		nc := raw(t, proxyAt, r.http.Addr(), "GET / HTTP/1.1\r\nHost: hub.example\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: "+row.proto+"\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(nc), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := res.Header.Get("Strict-Transport-Security"); (got != "") != row.want || res.StatusCode != 200 {
			t.Errorf("%+v: got %d %q", row, res.StatusCode, got)
		}
	}
}
