package httpapi_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"devicehub/devices"
	"devicehub/devices/httpapi"
)

func header(k, v string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(k, v) }
}

func from(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }

var csrf = header(httpapi.CSRFHeader, httpapi.CSRFValue)

func TestLoginForPrograms(t *testing.T) {
	r := newRig(t, true)
	res := r.do("POST", "/api/v1/login", "", `{"username":"admin","password":"admin-password"}`)
	if res.field("user.role") != "admin" || res.field("token") == nil || len(res.header["Set-Cookie"]) != 0 {
		t.Errorf("got %s %v", res.body, res.header)
	}
	token := res.field("token").(string)
	me := r.get("/api/v1/me", token)
	if me.status != 200 || me.field("user.name") != "admin" || me.field("user.scope") != "" {
		t.Errorf("me: got %d %s", me.status, me.body)
	}
	short := me.field("socket_token").(string)
	if got := r.do("POST", "/api/v1/refresh", short, nil); got.status != 200 || got.field("token") == nil {
		t.Errorf("refresh: got %d %s", got.status, got.body)
	}
	if got := r.do("POST", "/api/v1/logout", short, nil); got.status != 204 {
		t.Errorf("logout: got %d %s", got.status, got.body)
	}
	r.wantCode(r.get("/api/v1/me", token), devices.CodeTokenRevoked)
	r.wantCode(r.get("/api/v1/me", short), devices.CodeTokenRevoked)
	wrong := r.do("POST", "/api/v1/login", "", `{"username":"admin","password":"wrong"}`)
	r.wantCode(wrong, devices.CodeUnauthorized)
	if wrong.field("details.server_time") == nil || wrong.header.Get("WWW-Authenticate") == "" {
		t.Errorf("got %s %v", wrong.body, wrong.header)
	}
}

func TestLoginForTheDashboard(t *testing.T) {
	for _, tt := range []struct{ url, name string }{{"", "devicehub"}, {"http://hub.example", "devicehub"}, {"https://hub.example", "__Host-devicehub"}} {
		r := newRig(t, false, func(r *rig) { r.cfg.PublicURL = tt.url })
		res := r.do("POST", "/api/v1/login", "", `{"username":"admin","password":"admin-password"}`, csrf)
		if res.status != 200 || res.field("token") != nil || res.field("user.name") != "admin" {
			t.Fatalf("got %d %s", res.status, res.body)
		}
		cookie := (&http.Response{Header: res.header}).Cookies()[0]
		https := strings.HasPrefix(tt.url, "https")
		if cookie.Name != tt.name || !cookie.HttpOnly || cookie.Secure != https || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge < 29*24*3600 {
			t.Errorf("%q: got %+v", tt.url, cookie)
		}
		with := func(q *http.Request) { q.AddCookie(cookie) }
		if me := r.do("GET", "/api/v1/me", "", nil, with); me.status != 200 {
			t.Errorf("me: got %d %s", me.status, me.body)
		}
		r.wantCode(r.do("POST", "/api/v1/keys", "", nil, with), devices.CodeForbidden)
		r.wantCode(r.do("POST", "/api/v1/keys", "", nil, with, header(httpapi.CSRFHeader, "XMLHttpRequest")), devices.CodeForbidden)
		if got := r.do("POST", "/api/v1/keys", "", nil, with, csrf); got.status != 201 {
			t.Errorf("with the header: got %d %s", got.status, got.body)
		}
		for _, token := range []string{r.service("program", "read,admin", ""), r.device(`{"id":"lamp","kinds":["light"]}`)} {
			r.wantCode(r.do("GET", "/api/v1/devices", "", nil, func(q *http.Request) { q.AddCookie(&http.Cookie{Name: tt.name, Value: token}) }), devices.CodeUnauthorized)
		}
		out := r.do("POST", "/api/v1/logout", "", nil, with, csrf)
		if c := (&http.Response{Header: out.header}).Cookies(); out.status != 204 || len(c) != 1 || c[0].MaxAge >= 0 {
			t.Errorf("logout: got %d %v", out.status, out.header)
		}
		r.wantCode(r.do("GET", "/api/v1/me", "", nil, with), devices.CodeTokenRevoked)
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	r := newRig(t, false)
	lamp := r.device(`{"id":"lamp","kinds":["light"],"area":"kitchen"}`)
	r.device(`{"id":"boiler","kinds":["sensor"],"area":"cellar"}`)
	callers := map[string]string{
		"nobody": "", "admin": r.admin, "viewer": r.user("vi", "viewer", ""), "operator": r.user("op", "operator", "area=kitchen"),
		"reader": r.service("sr", "read", ""), "kitchen admin": r.service("sa", "read,admin", "area=kitchen"), "commander": r.service("sc", "command", ""), "device": lamp,
	}
	tests := []struct {
		call string
		body string
		want map[string]int // caller -> status; others 403, or 404 where the device is outside their scope
	}{
		{"GET /api/v1/devices/lamp", "", map[string]int{"admin": 200, "viewer": 200, "operator": 200, "reader": 200, "kitchen admin": 200}},
		{"GET /api/v1/devices/boiler", "", map[string]int{"admin": 200, "viewer": 200, "reader": 200}},
		{"GET /api/v1/devices/boiler/latest", "", map[string]int{"admin": 200, "viewer": 200, "reader": 200}},
		{"GET /api/v1/devices/boiler/series?metric=temperature", "", map[string]int{"admin": 200, "viewer": 200, "reader": 200}},
		{"GET /api/v1/devices/boiler/export", "", map[string]int{"admin": 200, "viewer": 200, "reader": 200}},
		{"GET /api/v1/devices/boiler/events", "", map[string]int{"admin": 200, "viewer": 200, "reader": 200}},
		{"GET /api/v1/devices/boiler/shadow", "", map[string]int{"admin": 200, "viewer": 200, "reader": 200}},
		{"GET /api/v1/devices", "", map[string]int{"admin": 200, "viewer": 200, "operator": 200, "reader": 200, "kitchen admin": 200}},
		{"GET /api/v1/commands", "", map[string]int{"admin": 200, "viewer": 200, "operator": 200, "reader": 200, "kitchen admin": 200}},
		{"GET /api/v1/series?metric=temperature&ids=boiler", "", map[string]int{"admin": 200, "viewer": 200, "reader": 200}},
		{"PATCH /api/v1/devices/lamp", `{"name":"x"}`, map[string]int{"admin": 200, "kitchen admin": 200}},
		{"PATCH /api/v1/devices/boiler", `{"name":"x"}`, map[string]int{"admin": 200}},
		{"POST /api/v1/devices/lamp/commands", `{"op":"identify"}`, map[string]int{"admin": 409, "operator": 409, "commander": 409}}, // never seen: device_offline
		{"PATCH /api/v1/devices/lamp/shadow", `{"desired":{"on":true}}`, map[string]int{"admin": 200, "operator": 200, "commander": 200}},
		{"POST /api/v1/devices/lamp/tokens", `{"mode":"issue"}`, map[string]int{"admin": 201, "kitchen admin": 201}},
		{"GET /api/v1/devices/lamp/tokens", "", map[string]int{"admin": 200, "kitchen admin": 200}},
		{"POST /api/v1/devices", `{"id":"x","kinds":["sensor"],"area":"cellar"}`, map[string]int{"admin": 201}},
		{"GET /api/v1/users", "", map[string]int{"admin": 200}},
		{"GET /api/v1/apitokens", "", map[string]int{"admin": 200}},
		{"GET /api/v1/keys", "", map[string]int{"admin": 200}},
		{"GET /api/v1/nodes", "", map[string]int{"admin": 200}},
		{"GET /api/v1/bridges", "", map[string]int{"admin": 200}},
		{"GET /api/v1/sinks", "", map[string]int{"admin": 200}},
		{"POST /api/v1/sinks/influx/replay", "", map[string]int{"admin": 404}},
		{"GET /api/v1/discovered", "", map[string]int{"admin": 200}},
		{"GET /api/v1/mqtt/sessions", "", map[string]int{"admin": 200}},
		{"DELETE /api/v1/mqtt/sessions/device:lamp", "", map[string]int{"admin": 404}},
		{"POST /api/v1/clock/accept", "", map[string]int{"admin": 200}},
		{"GET /api/v1/readings/check", "", map[string]int{"admin": 200}},
		{"POST /api/v1/readings/repair", "", map[string]int{"admin": 200}},
		{"GET /api/v1/audit", "", map[string]int{"admin": 200, "viewer": 200, "operator": 200}},
		{"GET /api/v1/sessions", "", map[string]int{"admin": 200, "viewer": 200, "operator": 200}},
		{"GET /api/v1/me", "", map[string]int{"admin": 200, "viewer": 200, "operator": 200}},
		{"POST /api/v1/devices/lamp/readings", `{"r":[["temperature",1]]}`, map[string]int{"device": 200}},
		{"POST /api/v1/devices/boiler/readings", `{"r":[["temperature",1]]}`, map[string]int{}},
	}
	for _, tt := range tests {
		method, path, _ := strings.Cut(tt.call, " ")
		for name, token := range callers {
			want, named := tt.want[name]
			switch {
			case name == "nobody":
				want = 401
			case !named && strings.Contains(path, "boiler") && outside(method, name):
				want = 404
			case !named:
				want = 403
			}
			var body any
			if tt.body != "" {
				body = tt.body
			}
			if got := r.do(method, path, token, body); got.status != want {
				t.Errorf("%s as %s: got %d %s, want %d", tt.call, name, got.status, got.body, want)
			}
		}
	}
}

// outside says for whose call in the kitchen's scope the boiler might as well not be.
func outside(method, caller string) bool {
	return caller == "kitchen admin" && method != "POST" || caller == "operator" && method == "GET"
}

// Whether a device is there, nobody learns who may not see it.
func TestADeviceOutOfScopeIsNone(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"boiler","kinds":["light"],"area":"cellar"}`)
	for name, token := range map[string]string{"viewer": r.user("vi", "viewer", "area=kitchen"), "operator": r.user("op", "operator", "area=kitchen"),
		"commander": r.service("co", "command", "area=kitchen"), "all rights": r.service("al", "read,command,ingest,admin", "area=kitchen")} {
		for _, call := range []struct{ method, path, body string }{
			{"GET", "", ""}, {"PATCH", "", `{"name":"x"}`}, {"DELETE", "", ""}, {"GET", "/tokens", ""}, {"POST", "/tokens", `{}`}, {"DELETE", "/tokens", ""},
			{"GET", "/latest", ""}, {"GET", "/series?metric=temperature", ""}, {"GET", "/export", ""}, {"GET", "/events", ""}, {"GET", "/trace", ""},
			{"GET", "/shadow", ""}, {"PATCH", "/shadow", `{"desired":{"on":true}}`}, {"GET", "/commands", ""}, {"POST", "/commands", `{"op":"identify"}`},
			{"GET", "/commands/x", ""}, {"DELETE", "/commands/x", ""}, {"POST", "/readings", `{"r":[]}`},
		} {
			there, ghost := r.do(call.method, "/api/v1/devices/boiler"+call.path, token, call.body), r.do(call.method, "/api/v1/devices/ghost"+call.path, token, call.body)
			if there.status != ghost.status || string(there.body) != string(ghost.body) || there.status != 403 && there.status != 404 {
				t.Errorf("%s %s as %s: got %d %s, and %d %s for a device that is none", call.method, call.path, name, there.status, there.body, ghost.status, ghost.body)
			}
		}
		r.wantCode(r.get("/api/v1/series?metric=temperature&ids=boiler", token), r.get("/api/v1/series?metric=temperature&ids=ghost", token).code())
	}
}

func TestRightsAreThoseOfTheMoment(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"lamp","kinds":["light"],"area":"kitchen"}`)
	op := r.user("op", "operator", "area=kitchen")
	if got := r.get("/api/v1/devices/lamp", op); got.status != 200 {
		t.Fatalf("got %d", got.status)
	}
	r.into(r.do("PATCH", "/api/v1/devices/lamp", r.admin, `{"area":"hall"}`), 200, nil)
	r.wantCode(r.get("/api/v1/devices/lamp", op), devices.CodeNotFound)
	r.into(r.do("PATCH", "/api/v1/users/op", r.admin, `{"scope":"","role":"viewer"}`), 200, nil)
	if got := r.get("/api/v1/devices/lamp", op); got.status != 200 {
		t.Errorf("wider scope: got %d %s", got.status, got.body)
	}
	r.wantCode(r.do("PATCH", "/api/v1/devices/lamp/shadow", op, `{"desired":{"on":true}}`), devices.CodeForbidden)
	r.into(r.do("PATCH", "/api/v1/users/op", r.admin, `{"enabled":false}`), 200, nil)
	r.wantCode(r.get("/api/v1/devices/lamp", op), devices.CodeTokenRevoked)
}

func TestTheAdminSocketNeedsNoToken(t *testing.T) {
	r := newRig(t, false)
	asCLI := func(q *http.Request) {
		*q = *q.WithContext(httpapi.WithActor(q.Context(), devices.CLI(), "cli"))
		q.RemoteAddr = "@"
	}
	if got := r.do("POST", "/api/v1/devices", "", `{"id":"a","kinds":["sensor"]}`, asCLI); got.status != 201 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	if got := r.do("DELETE", "/api/v1/devices/a/tokens", "", nil, asCLI); got.status != 204 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	var audit struct{ Entries []devices.AuditEntry }
	r.into(r.get("/api/v1/audit?device=a", r.admin), 200, &audit)
	if len(audit.Entries) != 2 || audit.Entries[0].Actor != "cli" || audit.Entries[0].Via != "cli" || audit.Entries[0].Action != "token.revoke" {
		t.Errorf("got %+v", audit.Entries)
	}
	r.wantCode(r.do("GET", "/api/v1/me", "", nil, asCLI), devices.CodeForbidden)
}

func TestOriginsAndHeaders(t *testing.T) {
	r := newRig(t, false, func(r *rig) {
		r.cfg.PublicURL = "https://hub.example"
		r.cfg.Origins.Allowed = []string{"https://home.example/"}
	})
	for origin, want := range map[string]int{"": 200, "https://hub.example": 200, "https://hub.example:443": 200, "https://home.example": 200,
		"https://evil.example": 403, "null": 403, "https://hub.example.evil": 403, "https://hub.example:444": 403} {
		got := r.do("GET", "/api/v1/me", r.admin, nil, func(q *http.Request) {
			if origin != "" {
				q.Header.Set("Origin", origin)
			}
		})
		if got.status != want {
			t.Errorf("origin %q: got %d %s, want %d", origin, got.status, got.body, want)
		}
	}
	own := newRig(t, false) // no public_url: the request's host
	if got := own.do("GET", "/healthz", "", nil, header("Origin", "http://example.com")); got.status != 200 {
		t.Errorf("the request's host: got %d", got.status)
	}
	own.wantCode(own.do("GET", "/healthz", "", nil, header("Origin", "http://other.example")), devices.CodeForbidden)
	if h := r.do("GET", "/healthz", "", nil, func(q *http.Request) { q.TLS = new(tls.ConnectionState) }).header; h.Get("Cross-Origin-Opener-Policy") != "same-origin" {
		t.Errorf("over TLS: got %v", h)
	}
	h := r.get("/api/v1/me", r.admin).header
	if got := h.Get("Permissions-Policy"); !strings.Contains(got, "geolocation=()") || h.Get("Cross-Origin-Opener-Policy") != "" {
		t.Errorf("got %v", h)
	}
	for k, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Content-Type": "application/json",
		"Content-Security-Policy": "default-src 'self'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"} {
		if h.Get(k) != want {
			t.Errorf("%s: got %q, want %q", k, h.Get(k), want)
		}
	}
}

func TestSignInWithoutTLSIsForPrivateAddresses(t *testing.T) {
	r := newRig(t, false)
	login := `{"username":"admin","password":"admin-password"}`
	for addr, want := range map[string]int{"127.0.0.1:1": 200, "10.1.2.3:1": 200, "192.168.1.1:1": 200, "[::1]:1": 200, "[fd00::1]:1": 200, "[fe80::1]:1": 200, "203.0.113.5:1": 403, "[2001:db8::1]:1": 403} {
		if got := r.do("POST", "/api/v1/login", "", login, from(addr)); got.status != want {
			t.Errorf("%s: got %d %s, want %d", addr, got.status, got.body, want)
		}
	}
	far := newRig(t, false, func(r *rig) { r.cfg.InsecureLogin = httpapi.InsecureAny })
	if got := far.do("POST", "/api/v1/login", "", login, from("203.0.113.5:1")); got.status != 200 {
		t.Errorf("any: got %d %s", got.status, got.body)
	}
}

func TestFailedLoginsAreLimited(t *testing.T) {
	r := newRig(t, false)
	r.ident.SetLoginLimits(2, 100)
	bad := func(addr string) reply {
		return r.do("POST", "/api/v1/login", "", `{"username":"x","password":"y"}`, from(addr))
	}
	r.wantCode(bad("10.0.0.1:1"), devices.CodeUnauthorized)
	r.wantCode(bad("10.0.0.1:2"), devices.CodeUnauthorized)
	res := bad("10.0.0.1:3")
	r.wantCode(res, devices.CodeRateLimited)
	if res.field("retry_after_ms") == nil || res.header.Get("Retry-After") == "" {
		t.Errorf("got %s %v", res.body, res.header)
	}
	r.wantCode(bad("10.0.0.2:1"), devices.CodeUnauthorized) // the neighbour is not disturbed
}

func TestNoTokenIsLogged(t *testing.T) {
	r := newRig(t, true)
	secrets := []string{"admin-password", r.admin, r.device(`{"id":"a","kinds":["sensor"]}`), r.service("s", "read", "")}
	var tok struct{ Token string }
	for _, body := range []string{`{}`, `{"mode":"issue","form":"short"}`} {
		r.into(r.do("POST", "/api/v1/devices/a/tokens", r.admin, body), 201, &tok)
		secrets = append(secrets, tok.Token)
	}
	r.get("/api/v1/me?token="+secrets[2], secrets[2])
	r.do("POST", "/api/v1/devices/a/readings", secrets[2], `{"token":"`+secrets[2]+`"}`)
	r.do("POST", "/api/v1/users", r.admin, `{"password":"`+secrets[2]+`"`)
	r.get("/api/v1/devices/"+secrets[2], r.admin)
	r.do("PATCH", "/api/v1/users/"+secrets[2], r.admin, `{"password":"long-enough"}`)
	all := r.logs.String() + string(r.get("/api/v1/audit?limit=500", r.admin).body) + string(r.get("/api/v1/devices/a/tokens", r.admin).body)
	for _, s := range secrets {
		if strings.Contains(all, s) {
			t.Errorf("%q is kept", s)
		}
	}
}

// A configuration may hold a key and notes may say where the spare one lies: in no
// list, document, answer or audit entry do they reach who may not see them.
func TestWhatOfARecordIsHidden(t *testing.T) {
	r := newRig(t, true)
	r.device(`{"id":"lamp","kinds":["light"],"area":"kitchen","config":{"wifi":"s3cret"},"notes":"under-the-mat","lat":48.123,"lon":11.456}`)
	op := r.user("op", "operator", "area=kitchen")
	r.into(r.do("PATCH", "/api/v1/devices/lamp", r.admin, `{"config":{"wifi":"s3cret2"},"notes":"under-the-mat-2","lat":48.1234}`), 200, nil)
	for _, tt := range []struct {
		token, name    string
		config, others bool
	}{
		{r.admin, "admin", true, true}, {op, "operator", false, true}, {r.user("vi", "viewer", ""), "viewer", false, false},
		{r.service("re", "read", ""), "a reader", false, false}, {r.service("ad", "read,admin", "area=kitchen"), "an administrating program", true, true},
	} {
		for _, path := range []string{"/api/v1/devices", "/api/v1/devices/lamp"} {
			body := string(r.get(path, tt.token).body)
			for word, want := range map[string]bool{"s3cret": tt.config, "under-the-mat": tt.others, "48.123": tt.others, "11.456": tt.others, `"area":"kitchen"`: true} {
				if strings.Contains(body, word) != want {
					t.Errorf("%s of %s: %s is seen: %v, want %v, in %s", path, tt.name, word, !want, want, body)
				}
			}
		}
	}
	audit := r.get("/api/v1/audit?device=lamp", op)
	if text := string(audit.body); !strings.Contains(text, "under-the-mat-2") || !strings.Contains(text, "device.create") || strings.Contains(text, "s3cret") {
		t.Errorf("an operator's audit: got %s", text)
	}
	if text := string(r.get("/api/v1/audit?device=lamp", r.admin).body); !strings.Contains(text, "s3cret2") {
		t.Errorf("an administrator's audit: got %s", text)
	}
}

// A token that was not taken stands in the log, with its device or account if it is
// genuine. Somebody who has not signed in, and a browser's cookie, are no news.
func TestRefusedTokensAreLogged(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"lamp","kinds":["light"]}`)
	r.get("/api/v1/me", "")
	r.do("GET", "/api/v1/me", "", nil, func(req *http.Request) { req.Header.Set("Cookie", "devicehub=nonsense") })
	if strings.Contains(r.logs.String(), "sign-in refused") {
		t.Errorf("got %s", r.logs)
	}
	r.get("/api/v1/me", "nonsense")
	if !strings.Contains(r.logs.String(), `level=WARN msg="sign-in refused" addr=`) || !strings.Contains(r.logs.String(), "code=unauthorized via=http") {
		t.Errorf("got %s", r.logs)
	}
	if _, err := r.reg.Update(t.Context(), "lamp", func(d *devices.Device) error { d.Enabled = false; return nil }); err != nil {
		t.Fatal(err)
	}
	r.wantCode(r.do("POST", "/api/v1/devices/lamp/readings", token, `{}`), devices.CodeDeviceDisabled)
	if !strings.Contains(r.logs.String(), "code=device_disabled via=http") {
		t.Errorf("got %s", r.logs)
	}
	for range 50 {
		r.get("/api/v1/me", "nonsense")
	}
	if n := strings.Count(r.logs.String(), "code=unauthorized"); n != 3 {
		t.Errorf("%d lines of 51, want 3", n)
	}
}
