package httpapi_test

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"

	"devicehub/devices"
)

func overTLS(r *http.Request) { r.TLS = &tls.ConnectionState{} }

// named is the cookie of a name that an answer sets, or nil.
func (res reply) named(name string) *http.Cookie {
	for _, c := range (&http.Response{Header: res.header}).Cookies() {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Whatever the configuration says, a session that was opened over TLS stays on TLS; over plain HTTP
// the cookie is another.
func TestCookieGoesByTheConnection(t *testing.T) {
	r := newRig(t, false)
	login := `{"username":"admin","password":"admin-password"}`
	res := r.do("POST", "/api/v1/login", "", login, csrf, overTLS)
	secure := res.named("__Host-devicehub")
	if secure == nil || !secure.Secure || !secure.HttpOnly || secure.Path != "/" || secure.Domain != "" || len(res.header.Values("Set-Cookie")) != 1 {
		t.Fatalf("over TLS: got %v", res.header)
	}
	res = r.do("POST", "/api/v1/login", "", login, csrf)
	plain := res.named("devicehub")
	if plain == nil || plain.Secure {
		t.Fatalf("over plain HTTP: got %v", res.header)
	}
	me := func(c *http.Cookie, change ...func(*http.Request)) reply {
		return r.do("GET", "/api/v1/me", "", nil, append(change, func(q *http.Request) { q.AddCookie(c) })...)
	}
	for what, res := range map[string]reply{"over TLS": me(secure, overTLS), "over plain HTTP": me(plain)} {
		if res.status != 200 {
			t.Errorf("%s: got %d %s", what, res.status, res.body)
		}
	}
	// Anybody on the way may have read or set the other one: it signs nobody in over TLS, and the
	// browser forgets it.
	res = me(plain, overTLS)
	r.wantCode(res, devices.CodeUnauthorized)
	if gone := res.named("devicehub"); gone == nil || gone.MaxAge >= 0 || gone.Value != "" {
		t.Errorf("the old cookie stays: %v", res.header)
	}
	r.wantCode(me(secure), devices.CodeUnauthorized)

	res = r.do("POST", "/api/v1/logout", "", nil, csrf, overTLS, func(q *http.Request) { q.AddCookie(secure) })
	if gone := res.named("__Host-devicehub"); res.status != 204 || gone == nil || gone.MaxAge >= 0 || !gone.Secure {
		t.Errorf("logout: got %d %v", res.status, res.header)
	}
}

// Signing in over TLS ends the session that the browser had before the hub was served by it.
func TestOldSessionIsReplaced(t *testing.T) {
	r := newRig(t, false)
	login := `{"username":"admin","password":"admin-password"}`
	plain := r.do("POST", "/api/v1/login", "", login, csrf).named("devicehub")
	with := func(q *http.Request) { q.AddCookie(plain) }
	res := r.do("POST", "/api/v1/login", "", login, csrf, overTLS, with)
	gone, secure := res.named("devicehub"), res.named("__Host-devicehub")
	if res.status != 200 || gone == nil || gone.MaxAge >= 0 || secure == nil {
		t.Fatalf("got %d %v", res.status, res.header)
	}
	if res := r.do("GET", "/api/v1/me", "", nil, overTLS, func(q *http.Request) { q.AddCookie(secure) }, with); res.status != 200 {
		t.Errorf("the new session: got %d %s", res.status, res.body)
	}
	if res := r.do("GET", "/api/v1/me", strings.TrimSpace(plain.Value), nil); res.code() != devices.CodeTokenRevoked {
		t.Errorf("the session that was replaced: got %d %s", res.status, res.body)
	}
}
