package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/httpapi"
	"devicehub/devices/identity"
	"devicehub/devices/trace"
)

type identityChange = identity.Change

func TestPeopleOverHTTP(t *testing.T) {
	r := newRig(t, true)
	made := r.do("POST", "/api/v1/users", r.admin, `{"username":"ana","password":"ana-password","role":"operator","scope":"area=kitchen"}`)
	if made.status != 201 || made.field("name") != "ana" || made.field("scope") != "area=kitchen" || made.field("created_at") == nil || made.field("password") != nil {
		t.Fatalf("got %d %s", made.status, made.body)
	}
	ana := r.login("ana", "ana-password")
	list := r.get("/api/v1/users?limit=1", r.admin)
	if us := list.field("users").([]any); len(us) != 1 || list.field("next_cursor") == "" {
		t.Errorf("got %s", list.body)
	}
	if own := r.get("/api/v1/users/ana", ana); own.status != 200 {
		t.Errorf("oneself: got %d %s", own.status, own.body)
	}
	r.wantCode(r.get("/api/v1/users/admin", ana), devices.CodeForbidden)
	r.wantCode(r.do("PATCH", "/api/v1/users/ana", ana, `{"role":"admin"}`), devices.CodeForbidden)
	r.wantCode(r.do("PATCH", "/api/v1/users/admin", r.admin, `{"role":"viewer"}`), devices.CodeConflict)
	r.wantCode(r.do("PATCH", "/api/v1/users/ghost", r.admin, `{"role":"viewer"}`), devices.CodeNotFound)
	sessions := r.get("/api/v1/sessions", ana)
	if ss := sessions.field("sessions").([]any); len(ss) != 1 || ss[0].(map[string]any)["current"] != true {
		t.Errorf("got %s", sessions.body)
	}
	if res := r.do("PATCH", "/api/v1/users/ana", ana, `{"password":"other-password","current_password":"ana-password"}`); res.status != 200 {
		t.Errorf("own password: got %d %s", res.status, res.body)
	}
	r.wantCode(r.get("/api/v1/me", ana), devices.CodeTokenRevoked)
	ana = r.login("ana", "other-password")
	sid := r.get("/api/v1/sessions", ana).field("sessions").([]any)[0].(map[string]any)["sid"].(string)
	r.into(r.do("DELETE", "/api/v1/sessions/"+sid, r.admin, nil), 204, nil)
	r.wantCode(r.get("/api/v1/me", ana), devices.CodeTokenRevoked)
	r.wantCode(r.do("DELETE", "/api/v1/sessions/nope", r.admin, nil), devices.CodeNotFound)
	r.into(r.do("DELETE", "/api/v1/users/ana", r.admin, nil), 204, nil)
	r.wantCode(r.do("DELETE", "/api/v1/users/ana", r.admin, nil), devices.CodeNotFound)
}

func TestAccountsAndKeysOverHTTP(t *testing.T) {
	r := newRig(t, true)
	token := r.service("ha", "read", "area=kitchen")
	r.wantCode(r.do("POST", "/api/v1/apitokens", r.admin, `{"name":"ha","rights":["read"]}`), devices.CodeConflict)
	if res := r.do("PATCH", "/api/v1/apitokens/ha", r.admin, `{"rights":["read","command"],"topics":["a/#"]}`); res.status != 200 || len(res.field("rights").([]any)) != 2 {
		t.Errorf("got %d %s", res.status, res.body)
	}
	if res := r.get("/api/v1/apitokens", r.admin); len(res.field("apitokens").([]any)) != 1 || strings.Contains(string(res.body), token) {
		t.Errorf("got %s", res.body)
	}
	lamp := r.device(`{"id":"lamp","kinds":["light"]}`)
	made := r.do("POST", "/api/v1/keys", r.admin, `{}`)
	if made.status != 201 || made.field("state") != "active" {
		t.Fatalf("got %d %s", made.status, made.body)
	}
	keys := r.get("/api/v1/keys", r.admin)
	old := keys.field("keys").([]any)[1].(map[string]any)
	if old["state"] != "verifying" || old["used_until"] != nil { // it signed a service token without exp: it never goes by itself
		t.Errorf("got %s", keys.body)
	}
	admin := r.login("admin", "admin-password") // under the new key
	gone := r.do("DELETE", "/api/v1/keys/"+old["kid"].(string), admin, nil)
	if gone.status != 200 || gone.field("stranded") != 1.0 {
		t.Errorf("got %d %s, want 1 stranded", gone.status, gone.body)
	}
	r.wantCode(r.get("/api/v1/devices", token), devices.CodeTokenRevoked)
	r.wantCode(r.do("POST", "/api/v1/devices/lamp/readings", lamp, `{}`), devices.CodeTokenRevoked)
	r.into(r.do("DELETE", "/api/v1/apitokens/ha", admin, nil), 204, nil)
	r.wantCode(r.get("/api/v1/apitokens/ha", admin), devices.CodeNotFound)
}

func TestTokensOverHTTP(t *testing.T) {
	r := newRig(t, true)
	first := r.device(`{"id":"a","kinds":["sensor"]}`)
	r.into(r.do("POST", "/api/v1/devices/a/readings", first, `{"r":[["temperature",1]]}`), 200, nil)
	rotated := r.do("POST", "/api/v1/devices/a/tokens", r.admin, nil)
	if rotated.status != 201 || rotated.field("gen") != 2.0 || rotated.field("grace_until") == nil || rotated.field("expires_at") == nil {
		t.Fatalf("got %d %s", rotated.status, rotated.body)
	}
	issued := r.do("POST", "/api/v1/devices/a/tokens", r.admin, `{"mode":"issue","ttl_s":0}`)
	if issued.status != 201 || issued.field("gen") != 2.0 || issued.field("expires_at") != nil {
		t.Errorf("got %d %s", issued.status, issued.body)
	}
	bridge := r.do("POST", "/api/v1/devices/a/tokens", r.admin, `{"mode":"issue","bridge":"attic"}`)
	if _, err := r.ident.VerifyBridge("attic", "a", bridge.field("token").(string)); err != nil {
		t.Error(err)
	}
	kept := r.get("/api/v1/devices/a/tokens", r.admin)
	if list := kept.field("tokens").([]any); len(list) != 4 || kept.field("gen") != 2.0 || kept.field("min_gen") != 1.0 {
		t.Errorf("got %s", kept.body)
	}
	if gs := kept.field("generations").([]any); len(gs) != 2 {
		t.Errorf("generations: got %s, want two", kept.body)
	} else if present, before := gs[0].(map[string]any), gs[1].(map[string]any); present["gen"] != 2.0 || present["last_used_at"] != nil || before["gen"] != 1.0 || before["last_used_at"] == nil {
		t.Errorf("generations: got %v, want 2 never used and 1 used", gs)
	}
	r.into(r.do("DELETE", "/api/v1/devices/a/tokens", r.admin, nil), 204, nil)
	if kept = r.get("/api/v1/devices/a/tokens", r.admin); len(kept.field("tokens").([]any)) != 0 || kept.field("min_gen") != 3.0 {
		t.Errorf("revoked: got %s", kept.body)
	}
	r.wantCode(r.do("POST", "/api/v1/devices/ghost/tokens", r.admin, nil), devices.CodeNotFound)
}

func TestReadiness(t *testing.T) {
	r := newRig(t, false)
	if res := r.get("/healthz", ""); res.status != 200 {
		t.Errorf("got %d", res.status)
	}
	r.ready = []httpapi.Check{{Name: "listeners", OK: true}, {Name: "readings", Detail: "replaying"}}
	if res := r.get("/readyz", ""); res.status != 503 || res.field("checks") != nil {
		t.Errorf("a stranger: got %d %s", res.status, res.body)
	}
	if res := r.get("/readyz", r.admin); res.status != 503 || len(res.field("checks").([]any)) != 2 || res.field("clock.suspect") != false {
		t.Errorf("an administrator: got %d %s", res.status, res.body)
	}
	r.ready = r.ready[:1]
	if res := r.get("/readyz", r.service("probe", "read", "")); res.status != 200 || res.field("checks") == nil {
		t.Errorf("ready: got %d %s", res.status, res.body)
	}
}

func TestWhoReadsMetrics(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "up 1\n") })
	for _, tt := range []struct {
		access, addr string
		signedIn     bool
		want         int
	}{
		{"", "127.0.0.1:1", false, 200}, {"", "10.0.0.1:1", false, 401}, {"", "10.0.0.1:1", true, 200},
		{"open", "10.0.0.1:1", false, 200}, {"off", "10.0.0.1:1", true, 404}, {"off", "127.0.0.1:1", false, 200},
	} {
		r := newRig(t, false, func(r *rig) { r.s.Metrics, r.cfg.MetricsAccess = handler, tt.access })
		token := ""
		if tt.signedIn {
			token = r.service("prometheus", "read", "")
		}
		if res := r.do("GET", "/metrics", token, nil, from(tt.addr)); res.status != tt.want {
			t.Errorf("%+v: got %d %s", tt, res.status, res.body)
		}
	}
}

func TestBackupIsStreamed(t *testing.T) {
	var asked bool
	broken := false
	r := newRig(t, false, func(r *rig) {
		r.s.Backup = func(_ context.Context, w io.Writer, withoutKeys bool) error {
			asked = withoutKeys
			if broken {
				io.WriteString(w, "half")
			}
			if broken {
				return errors.New("disk gone")
			}
			_, err := io.WriteString(w, "everything")
			return err
		}
	})
	res := r.do("POST", "/api/v1/backup", r.admin, `{"without_keys":true}`)
	if res.status != 200 || string(res.body) != "everything" || !asked || res.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("got %d %s %v", res.status, res.body, res.header)
	}
	broken = true
	srv := httptest.NewServer(r.api)
	defer srv.Close()
	req, _ := http.NewRequest("POST", srv.URL+"/api/v1/backup", nil)
	req.Header.Set("Authorization", "Bearer "+r.admin)
	got, err := http.DefaultClient.Do(req)
	if err == nil {
		_, err = io.ReadAll(got.Body)
		got.Body.Close()
	}
	if err == nil {
		t.Error("half a backup looks like a whole one")
	}
}

func TestTraceStreamsWithoutSecrets(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"a","kinds":["sensor"]}`)
	ana := r.user("ana", "admin", "")
	srv := httptest.NewServer(r.api)
	defer srv.Close()
	req, _ := http.NewRequest("GET", srv.URL+"/api/v1/devices/a/trace", nil)
	req.Header.Set("Authorization", "Bearer "+ana)
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(err, res)
	}
	defer res.Body.Close()
	r.tracer.Record("b", trace.Line{Event: "other"}, nil)
	r.tracer.Record("a", trace.Line{Dir: "in", Transport: "mqtt", Event: "reading"}, []byte(`{"m":"temperature","v":1,"token":"dh1.1.0.x","list":["eyJhbGciOiJFZERTQSJ9.e30.AAAA"]}`))
	r.tracer.Record("a", trace.Line{Dir: "in", Transport: "mqtt", Event: "senml"}, []byte{0xff, 0x01})
	lines := bufio.NewScanner(res.Body)
	want := []string{`{"list":["[redacted]"],"m":"temperature","token":"[redacted]","v":1}`, `"base64:/wE="`}
	for _, w := range want {
		var l trace.Line
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &l) != nil || string(l.Payload) != w || l.At == 0 {
			t.Errorf("got %s, want %s", lines.Bytes(), w)
		}
	}
	// It ends when the right to see it does.
	r.into(r.do("PATCH", "/api/v1/users/ana", r.admin, `{"role":"viewer"}`), 200, nil)
	ended := make(chan struct{})
	go func() { io.Copy(io.Discard, res.Body); close(ended) }()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the trace goes on for a viewer")
	}
	if r.tracer.Follows("a") {
		t.Error("nobody follows, and the tracer thinks so")
	}
}

func TestASlowReaderSkipsLines(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"a","kinds":["sensor"]}`)
	blocked := make(chan struct{})
	ctx, cancel := context.WithCancel(httpapi.WithActor(t.Context(), devices.CLI(), "cli"))
	w := &slowWriter{header: http.Header{}, gate: blocked}
	done := make(chan struct{})
	go func() {
		r.api.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/devices/a/trace", nil).WithContext(ctx))
		close(done)
	}()
	for !r.tracer.Follows("a") {
		time.Sleep(time.Millisecond)
	}
	for range 1000 {
		r.tracer.Record("a", trace.Line{Event: "reading"}, nil)
	}
	close(blocked)
	for r.tracer.Follows("a") && !strings.Contains(w.text(), "skipped") {
		r.tracer.Record("a", trace.Line{Event: "last"}, nil)
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
}

// slowWriter takes nothing until its gate opens.
type slowWriter struct {
	header http.Header
	gate   chan struct{}
	b      syncBuffer
}

func (w *slowWriter) Header() http.Header { return w.header }
func (w *slowWriter) WriteHeader(int)     {}
func (w *slowWriter) Write(b []byte) (int, error) {
	<-w.gate
	return w.b.Write(b)
}
func (w *slowWriter) text() string { return w.b.String() }

// met is what an adapter has met: one lamp.
func met() []httpapi.Discovery {
	return []httpapi.Discovery{{Adopt: "z2m/0x01", Bridge: "attic", SeenAt: 1, Device: &devices.Device{Kinds: []devices.Kind{devices.KindLight}, Name: "Bulb", Model: "E27",
		Labels: map[string]string{"z2m": "0x01"}, Light: &devices.Light{Modes: []devices.LightMode{devices.ModeRGB}}}}}
}

func TestAdoption(t *testing.T) {
	r := newRig(t, false, func(r *rig) { r.s.Discovered, r.cfg.Bridges = met, []string{"attic"} })
	if list := r.get("/api/v1/discovered", r.admin); len(list.field("discovered").([]any)) != 1 {
		t.Errorf("got %s", list.body)
	}
	res := r.do("POST", "/api/v1/devices", r.admin, `{"id":"bulb","kinds":["light"],"name":"Mine","labels":{"room":"hall"},"adopt":"z2m/0x01"}`)
	if res.status != 201 || res.field("device.via") != "attic" || res.field("device.name") != "Mine" || res.field("device.model") != "E27" ||
		res.field("device.labels.z2m") != "0x01" || res.field("device.labels.room") != "hall" {
		t.Errorf("got %d %s", res.status, res.body)
	}
	r.wantCode(r.do("POST", "/api/v1/devices", r.admin, `[{"id":"b-1","adopt":"z2m/0x01"},{"id":"b-2","adopt":"z2m/0x01"}]`), devices.CodeInvalid)
	r.wantCode(r.get("/api/v1/devices/b-1", r.admin), devices.CodeNotFound)
	r.wantCode(r.do("POST", "/api/v1/devices", r.admin, `{"id":"x","kinds":["light"],"adopt":"z2m/0x02"}`), devices.CodeNotFound)
	r.wantCode(r.do("POST", "/api/v1/devices", r.admin, `{"id":"x","kinds":["light"],"via":"cellar"}`), devices.CodeInvalid)
}

// Of two who adopt one thing at the same time one has it, whatever they call it.
func TestAThingIsAdoptedOnce(t *testing.T) {
	r := newRig(t, true, func(r *rig) {
		r.cfg.Bridges = []string{"attic"}
		r.s.Discovered = func() []httpapi.Discovery {
			for d := range r.reg.All() {
				if d.Labels["z2m"] != "" {
					return nil
				}
			}
			return met()
		}
	})
	var mu sync.Mutex
	statuses := map[int]int{}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			res := r.do("POST", "/api/v1/devices", r.admin, fmt.Sprintf(`{"id":"bulb-%d","adopt":"z2m/0x01"}`, i))
			mu.Lock()
			statuses[res.status]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if statuses[201] != 1 || statuses[404] != 11 {
		t.Errorf("got %v, want one adopted and eleven not found", statuses)
	}
}

func TestACrashIsAnAnswer(t *testing.T) {
	r := newRig(t, false, func(r *rig) {
		r.s.Nodes = func(context.Context) (any, error) { panic("boom") }
		r.s.Sinks = func(context.Context) (any, error) { return nil, errors.New("disk on fire") }
	})
	r.wantCode(r.get("/api/v1/nodes", r.admin), devices.CodePlatformUnavailable)
	res := r.get("/api/v1/sinks", r.admin)
	r.wantCode(res, devices.CodePlatformUnavailable)
	if strings.Contains(string(res.body), "fire") || !strings.Contains(r.logs.String(), "disk on fire") || !strings.Contains(r.logs.String(), "boom") {
		t.Errorf("a fault is the operator's to read: got %s", res.body)
	}
}
