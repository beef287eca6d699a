package httpapi_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"devicehub/devices"
	"devicehub/devices/httpapi"
)

// behind puts proxies before the rig's API.
func (r *rig) behind(p *httpapi.Proxies) func(method, path, body string, change ...func(*http.Request)) reply {
	h := p.Handler(r.api)
	return func(method, path, body string, change ...func(*http.Request)) reply {
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		if body == "" {
			req = httptest.NewRequest(method, path, nil)
		}
		req.RemoteAddr = "127.0.0.1:4711"
		for _, f := range change {
			f(req)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return reply{w.Code, w.Header(), w.Body.Bytes()}
	}
}

func TestForwarded(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, tt := range []struct {
		name, peer, xff, proto, forwarded string
		wantAddr, wantHost                string
		secure                            bool
	}{
		{"no proxy", "203.0.113.5:9", "1.1.1.1", "https", "", "203.0.113.5:9", "example.com", false},
		{"a proxy", "10.0.0.1:9", "203.0.113.5", "https", "", "203.0.113.5:0", "hub.example", true},
		{"a proxy of plain HTTP", "10.0.0.1:9", "203.0.113.5", "http", "", "203.0.113.5:0", "hub.example", false},
		{"two proxies", "10.0.0.1:9", "203.0.113.5, 10.0.0.2", "https", "", "203.0.113.5:0", "hub.example", true},
		{"a client that lies", "10.0.0.1:9", "1.1.1.1, 203.0.113.5", "https", "", "203.0.113.5:0", "hub.example", true},
		{"nonsense", "10.0.0.1:9", "unknown", "http", "", "10.0.0.1:9", "hub.example", false},
		{"RFC 7239", "10.0.0.1:9", "", "", `for=203.0.113.5;proto=https;host=hub.example`, "203.0.113.5:0", "hub.example", true},
		{"RFC 7239, IPv6 with a port", "10.0.0.1:9", "", "", `For="[2001:db8::5]:4711"; Proto=http`, "[2001:db8::5]:0", "example.com", false},
		{"RFC 7239, IPv6", "10.0.0.1:9", "", "", `for="[2001:db8::5]"`, "[2001:db8::5]:0", "example.com", false},
		{"RFC 7239, two proxies and a lie", "10.0.0.1:9", "", "", `for=1.1.1.1;proto=https, for=203.0.113.5;proto=http;host=hub.example, for=10.0.0.2`, "203.0.113.5:0", "hub.example", false},
		{"RFC 7239, hidden", "10.0.0.1:9", "", "", `for=_hidden;proto=https`, "10.0.0.1:9", "example.com", true},
		{"both: the usual ones count", "10.0.0.1:9", "203.0.113.5", "http", `for=1.1.1.1;proto=https`, "203.0.113.5:0", "hub.example", false},
	} {
		var got *http.Request
		h := (&httpapi.Proxies{Trusted: trusted}).Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r }))
		q := httptest.NewRequest("GET", "/", nil)
		q.RemoteAddr = tt.peer
		if tt.xff != "" {
			q.Header.Set("X-Forwarded-For", tt.xff)
			q.Header.Set("X-Forwarded-Proto", tt.proto)
			q.Header.Set("X-Forwarded-Host", "hub.example")
		}
		if tt.forwarded != "" {
			q.Header.Set("Forwarded", tt.forwarded)
		}
		h.ServeHTTP(nil, q)
		if got.RemoteAddr != tt.wantAddr || got.Host != tt.wantHost || httpapi.Secure(got) != tt.secure {
			t.Errorf("%s: got %s %s secure %t, want %s %s %t", tt.name, got.RemoteAddr, got.Host, httpapi.Secure(got), tt.wantAddr, tt.wantHost, tt.secure)
		}
	}
}

// What comes through a proxy that the hub was not told of is from nowhere in particular, whatever
// its address; so is what comes through one that does not say from where.
func TestUnknownProxyIsNobodysMachine(t *testing.T) {
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Real-IP"} {
		r := newRig(t, false, func(r *rig) {
			r.s.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "m 1") })
		})
		p := &httpapi.Proxies{Logger: slog.New(slog.NewTextHandler(r.logs, nil))}
		do := r.behind(p)
		if got := do("GET", "/metrics", ""); got.status != 200 {
			t.Errorf("from the machine itself: got %d", got.status)
		}
		for range 100 {
			if got := do("GET", "/metrics", "", header(name, "203.0.113.9")); got.status != 401 {
				t.Fatalf("%s: /metrics answered %d, want 401", name, got.status)
			}
		}
		login := `{"username":"admin","password":"admin-password"}`
		if got := do("POST", "/api/v1/login", login); got.status != 200 {
			t.Errorf("sign-in from the machine itself: got %d", got.status)
		}
		if got := do("POST", "/api/v1/login", login, header(name, "203.0.113.9")); got.status != 403 {
			t.Errorf("%s: sign-in without TLS answered %d, want 403", name, got.status)
		}
		do("GET", "/healthz", "", from("203.0.113.7:1"), header(name, "203.0.113.9"))
		if got := p.Unknown(); !slices.Equal(got, []string{"127.0.0.1"}) {
			t.Errorf("%s: got %v met, want the one on the machine", name, got)
		}
		for i := range 100 {
			do("GET", "/healthz", "", from(fmt.Sprintf("10.0.0.%d:1", i)), header(name, "203.0.113.9"))
		}
		if lines := strings.Count(r.logs.String(), "http.trusted_proxies"); lines != 16 || len(p.Unknown()) != 15 {
			t.Errorf("%s: got %d lines and %d met of 102, want 16, and 15 of them near", name, lines, len(p.Unknown()))
		}
		known := r.behind(&httpapi.Proxies{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
		if got := known("GET", "/metrics", "", header(name, "unknown")); name != "X-Real-IP" && got.status != 401 {
			t.Errorf("%s: a trusted proxy that does not say from where: got %d, want 401", name, got.status)
		}
	}
}

// One stranger's wrong passwords behind a proxy that hides who calls do not keep the others there
// from signing in.
func TestFailedLoginsBehindAnUnknownProxy(t *testing.T) {
	r := newRig(t, false, func(r *rig) { r.cfg.InsecureLogin = httpapi.InsecureAny })
	r.user("ana", "viewer", "")
	do := r.behind(&httpapi.Proxies{})
	login := func(name, password string) reply {
		return do("POST", "/api/v1/login", fmt.Sprintf(`{"username":%q,"password":%q}`, name, password), header("X-Forwarded-For", "203.0.113.9"))
	}
	for i := range 31 {
		login(fmt.Sprint("stranger", i), "wrong")
	}
	if got := login("ana", "ana-password"); got.status != 200 {
		t.Errorf("the right password after a stranger's wrong ones: got %d %s", got.status, got.body)
	}
	all := 0
	for i := range 400 {
		if login(fmt.Sprint("more", i), "wrong").status == 401 {
			all++
		}
	}
	if all > 300 {
		t.Errorf("%d wrong passwords of one address were tried in a moment, want no more than ten times the 30", all)
	}
}

func TestOwnNames(t *testing.T) {
	o := httpapi.Origins{Allowed: []string{"https://panel.example:8443"}, Names: []string{"pi.house.example", "pi"}}
	h := o.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }))
	ask := func(h http.Handler, host, path string) reply {
		req := httptest.NewRequest("GET", path, nil)
		req.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		return reply{w.Code, w.Header(), w.Body.Bytes()}
	}
	for _, host := range []string{"127.0.0.1", "127.0.0.1:4000", "[::1]:4000", "::1", "[fe80::1%25eth0]:4000", "203.0.113.5:4000", "localhost:4000", "LOCALHOST.", "pi", "pi.house.example:4000",
		"PI.house.example.", "panel.example", "anything.local:4000", "hub", "hub:4000", "a.home.arpa", "hub.internal", "x.localhost", ""} {
		if got := ask(h, host, "/"); got.status != 204 {
			t.Errorf("%q: got %d %s", host, got.status, got.body)
		}
	}
	for _, host := range []string{"evil.example:4000", "evil.example", "127.0.0.1.evil.example", "pi.evil.example", "local.evil.example", "evil.local.example:4000", "1.2.3.4.5"} {
		for _, path := range []string{"/", "/metrics", "/socket/websocket", "/api/v1/login", "/assets/x.js"} {
			if got := ask(h, host, path); got.status != 403 || got.code() != devices.CodeForbidden || !strings.Contains(string(got.body), "http.public_url") {
				t.Errorf("%q %s: got %d %s, want forbidden", host, path, got.status, got.body)
			}
		}
		if got := ask(h, host, "/healthz"); got.status != 204 {
			t.Errorf("%q: a health check got %d", host, got.status)
		}
	}
	o.PublicURL = "https://hub.example"
	if got := ask(o.Handler(h), "other.example", "/healthz"); got.status != 204 {
		t.Errorf("with a public URL: got %d", got.status)
	}
}

// With a public URL devices may use whatever name they like; but a page under another name is not
// on the hub's machine.
func TestForeignNameIsNobodysMachine(t *testing.T) {
	r := newRig(t, false, func(r *rig) {
		r.cfg.PublicURL = "https://hub.example"
		r.cfg.Origins = httpapi.Origins{PublicURL: r.cfg.PublicURL, Names: []string{"pi"}}
		r.s.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "m 1") })
	}, func(r *rig) { r.cfg.InsecureLogin = httpapi.InsecureAny })
	for host, want := range map[string]int{"127.0.0.1:4000": 200, "hub.example": 200, "evil.example:4000": 401} {
		if got := r.do("GET", "/metrics", "", nil, func(q *http.Request) { q.Host = host }); got.status != want {
			t.Errorf("%s: got %d, want %d", host, got.status, want)
		}
	}
}
