package httpapi_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/httpapi"
)

func key(k string) func(*http.Request) { return header("Idempotency-Key", k) }

// Who repeats what they sent, because the answer was lost, gets that answer.
func TestCreationIsOnceUnderAKey(t *testing.T) {
	r := newRig(t, true)
	r.device(`{"id":"lamp","kinds":["light"]}`)
	for _, tt := range []struct{ path, body, other string }{
		{"/api/v1/devices", `{"id":"one","kinds":["sensor"]}`, `{"id":"two","kinds":["sensor"]}`},
		{"/api/v1/devices", `[{"id":"l-1","kinds":["sensor"]},{"id":"l-2","kinds":["sensor"]}]`, `[{"id":"l-3","kinds":["sensor"]}]`},
		{"/api/v1/devices/lamp/tokens", `{"mode":"rotate"}`, `{"mode":"issue"}`},
		{"/api/v1/devices/lamp/tokens", ``, `{}`},
		{"/api/v1/users", `{"username":"ana","password":"ana-password","role":"viewer"}`, `{"username":"bob","password":"bob-password","role":"viewer"}`},
		{"/api/v1/apitokens", `{"name":"ha","rights":["read"]}`, `{"name":"ha","rights":["admin"]}`},
		{"/api/v1/keys", ``, `{}`},
	} {
		k := key(tt.path + tt.body)
		first := r.do("POST", tt.path, r.admin, tt.body, k)
		again := r.do("POST", tt.path, r.admin, tt.body, k)
		if first.status != 201 || again.status != 201 || string(first.body) != string(again.body) {
			t.Errorf("%s: got %d %s, then %d %s", tt.path, first.status, first.body, again.status, again.body)
		}
		for _, h := range []string{"Location", "ETag", "Content-Type"} {
			if first.header.Get(h) != again.header.Get(h) {
				t.Errorf("%s: %s got %q, then %q", tt.path, h, first.header.Get(h), again.header.Get(h))
			}
		}
		if first.header.Get("Idempotent-Replayed") != "" || again.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("%s: a repeat does not say so", tt.path)
		}
		r.wantCode(r.do("POST", tt.path, r.admin, tt.other, k), devices.CodeConflict)
		r.wantCode(r.do("POST", "/api/v1/devices", r.admin, `{"id":"elsewhere","kinds":["sensor"]}`, k), devices.CodeConflict)
	}
	if got := r.get("/api/v1/devices/lamp/tokens", r.admin).field("gen"); got != 3.0 {
		t.Errorf("two rotations, each repeated: got generation %v, want 3", got)
	}
	if got := r.get("/api/v1/keys", r.admin).field("keys").([]any); len(got) != 2 {
		t.Errorf("one rotation of keys, repeated: got %d keys, want 2", len(got))
	}
	for _, id := range []string{"two", "l-3", "elsewhere"} {
		r.wantCode(r.get("/api/v1/devices/"+id, r.admin), devices.CodeNotFound)
	}
	var audit struct{ Entries []devices.AuditEntry }
	r.into(r.get("/api/v1/audit?limit=500", r.admin), 200, &audit)
	repeats := 0
	for _, e := range audit.Entries {
		if e.Action == "request.repeat" {
			repeats++
		}
	}
	if repeats != 7 {
		t.Errorf("the audit has %d repeats, want 7", repeats)
	}
}

func TestRepeatsAtTheSameTime(t *testing.T) {
	r := newRig(t, true)
	tokens := make([]string, 20)
	var wg sync.WaitGroup
	for i := range tokens {
		wg.Go(func() {
			res := r.do("POST", "/api/v1/devices", r.admin, `{"id":"one","kinds":["sensor"]}`, key("k"))
			tokens[i], _ = res.field("token").(string)
		})
	}
	wg.Wait()
	for _, token := range tokens {
		if token == "" || token != tokens[0] {
			t.Fatalf("got %q and %q, want one device with one token", token, tokens[0])
		}
	}
}

func TestWhatAKeyIsNot(t *testing.T) {
	r := newRig(t, false)
	second := func(name string) string {
		t.Helper()
		return r.user(name, "admin", "")
	}
	ana, bob := second("ana"), second("bob")
	body := `{"name":"ha","rights":["read"]}`

	// It is the caller's own.
	r.into(r.do("POST", "/api/v1/apitokens", ana, body, key("k")), 201, nil)
	r.wantCode(r.do("POST", "/api/v1/apitokens", bob, body, key("k")), devices.CodeConflict)

	// A refusal is judged anew.
	r.wantCode(r.do("POST", "/api/v1/devices", ana, `{"id":"A","kinds":["light"]}`, key("refused")), devices.CodeInvalid)
	r.into(r.do("POST", "/api/v1/devices", ana, `{"id":"lamp","kinds":["light"]}`, key("refused")), 201, nil)

	// Who may no longer make it is not shown the token again.
	r.into(r.do("PATCH", "/api/v1/users/ana", bob, `{"role":"viewer"}`), 200, nil)
	r.wantCode(r.do("POST", "/api/v1/apitokens", ana, body, key("k")), devices.CodeForbidden)

	// Nor is another of the same name.
	r.into(r.do("DELETE", "/api/v1/users/ana", bob, nil), 204, nil)
	r.wantCode(r.do("POST", "/api/v1/apitokens", second("ana"), body, key("k")), devices.CodeConflict)

	for name, change := range map[string]func(*http.Request){
		"empty": key(""), "too long": key(strings.Repeat("k", 256)), "two": func(q *http.Request) { q.Header["Idempotency-Key"] = []string{"a", "b"} },
	} {
		for _, call := range []string{"/api/v1/users", "/api/v1/devices/lamp/commands"} {
			if res := r.do("POST", call, bob, `{"op":"identify"}`, change); res.status != 422 || res.field("details.field") != "Idempotency-Key" {
				t.Errorf("%s to %s: got %d %s, want invalid", name, call, res.status, res.body)
			}
		}
	}
}

func TestKeysAreForgottenInTime(t *testing.T) {
	now := time.Now()
	r := newRig(t, false, func(r *rig) { r.cfg.Now = func() time.Time { return now } })
	make := func() reply {
		return r.do("POST", "/api/v1/devices", r.admin, `{"id":"one","kinds":["sensor"]}`, key("k"))
	}
	r.into(make(), 201, nil)
	now = now.Add(24*time.Hour - time.Second)
	r.into(make(), 201, nil)
	now = now.Add(time.Second)
	r.wantCode(make(), devices.CodeConflict)
}

// A handler that crashes decides its key all the same: nobody waits for ever.
func TestACrashUnderAKey(t *testing.T) {
	crash := true
	r := newRig(t, false, func(r *rig) {
		r.s.Discovered = func() []httpapi.Discovery {
			if crash {
				crash = false
				panic("boom")
			}
			return met()
		}
	})
	body := `{"id":"bulb","adopt":"z2m/0x01"}`
	r.wantCode(r.do("POST", "/api/v1/devices", r.admin, body, key("k")), devices.CodePlatformUnavailable)
	if res := r.do("POST", "/api/v1/devices", r.admin, body, key("k")); res.status != 201 {
		t.Errorf("got %d %s, want it made by the second try", res.status, res.body)
	}
}
