package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/connects"
	"devicehub/devices/fleet"
	"devicehub/devices/httpapi"
	"devicehub/devices/identity"
	"devicehub/devices/liveness"
	"devicehub/devices/quota"
	"devicehub/devices/readings"
	"devicehub/devices/session"
	"devicehub/devices/shadow"
	"devicehub/devices/sqlite"
	"devicehub/devices/trace"
	"devicehub/hub/logbound"
)

// rig is the API over the real services.
type rig struct {
	t      *testing.T
	api    *httpapi.API
	cfg    httpapi.Config
	s      httpapi.Services
	ident  *identity.Service
	reg    *devices.Registry
	disp   *commands.Dispatcher
	track  *liveness.Tracker
	door   *session.Door
	tracer *trace.Tracer
	bounds *quota.Quota
	logs   *syncBuffer
	ready  []httpapi.Check
	doc    map[string]any
	admin  string

	checking sync.Mutex           // held while an answer is held against doc
	schemas  *jsonschema.Compiler // of doc
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type nobody struct{}

func (nobody) Track(session.Done, devices.Kind, devices.ID, map[string]any) error { return nil }

// newRig starts the services over the in-memory stores, or with onDisk over
// SQLite.
func newRig(t *testing.T, onDisk bool, change ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, logs: &syncBuffer{}, tracer: &trace.Tracer{}}
	log := slog.New(logbound.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r.bounds = quota.New(quota.Limits{})
	var regStore devices.RegistryStore = &devices.MemoryRegistry{}
	var idStore identity.Store = &identity.Memory{}
	var audit devices.AuditLog = &identity.MemoryAudit{}
	if onDisk {
		db, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "hub.db"), log)
		must(err)
		t.Cleanup(func() { db.Close() })
		a, err := db.Audit(ctx, time.Now)
		must(err)
		regStore, idStore, audit = db, db, a
		r.run(a.Run)
	}
	var err error
	r.reg, err = devices.OpenRegistry(ctx, regStore)
	must(err)
	r.ident, err = identity.Open(ctx, idStore, r.reg, identity.Config{TokenTTL: identity.DefaultTokenTTL, Logger: log, Auditor: audit, HashMemory: 64, Strangers: r.bounds})
	must(err)
	_, err = r.ident.Prepare(ctx, "admin-password")
	must(err)
	ingest := readings.New(readings.NewMemory(), readings.Config{Device: r.reg.Get, Logger: log})
	r.reg.Guard(ingest.Guard)
	r.track, err = liveness.New(ctx, liveness.Config{Store: &liveness.Memory{}, Registry: r.reg, Freshness: ingest.Freshness, Node: "n1", Logger: log})
	must(err)
	shadows, err := shadow.New(ctx, shadow.Config{Store: &shadow.Memory{}, Registry: r.reg, Audit: audit, Logger: log})
	must(err)
	r.disp, err = commands.New(ctx, commands.Config{Store: &commands.Memory{}, Registry: r.reg, Shadows: shadows, Liveness: r.track, Audit: audit, Logger: log})
	must(err)
	r.door = &session.Door{Registry: r.reg, Identity: r.ident, Readings: ingest, Commands: r.disp, Liveness: r.track, Presence: nobody{}, Quota: r.bounds, Log: log}
	r.door.SetLimits(session.Limits{FrameBytes: 65536, ReadingsPerPush: 500, PushesInFlight: 8, EventsPerSecond: 50})
	for _, run := range []func(context.Context) error{ingest.Run, r.track.Run, shadows.Run, r.disp.Run, r.ident.Run} {
		r.run(run)
	}
	r.cfg = httpapi.Config{Logger: log, Refusals: &connects.Log{Logger: log}}
	r.s = httpapi.Services{Registry: r.reg, Identity: r.ident, Audit: audit, Quota: r.bounds, Door: r.door, Readings: ingest, Liveness: r.track, Shadows: shadows, Commands: r.disp, Trace: r.tracer,
		Search: fleet.New(fleet.Config{Registry: r.reg, Status: r.track.Status, Latest: ingest.Latest, Light: shadows.Power, Logger: log}).Matcher,
		Ready:  func(context.Context) []httpapi.Check { return r.ready }}
	for _, f := range change {
		f(r)
	}
	r.api = httpapi.New(r.cfg, r.s)
	must(json.Unmarshal(r.get("/api/openapi.json", "").body, &r.doc))
	r.admin = r.login("admin", "admin-password")
	return r
}

func (r *rig) run(f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("run: %v", err)
		}
	})
}

type reply struct {
	status int
	header http.Header
	body   []byte
}

// do makes a request of a caller on the machine; body is JSON or a value to
// marshal. Every answer is held against the OpenAPI document.
func (r *rig) do(method, path, token string, body any, change ...func(*http.Request)) reply {
	r.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		in = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			r.t.Fatal(err)
		}
		in = bytes.NewReader(j)
	}
	req := httptest.NewRequest(method, path, in)
	req.RemoteAddr = "127.0.0.1:4711"
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, f := range change {
		f(req)
	}
	w := httptest.NewRecorder()
	r.api.ServeHTTP(w, req)
	res := reply{w.Code, w.Header(), w.Body.Bytes()}
	if r.doc != nil && !req.URL.Query().Has("fields") { // of which a document lacks what it must have
		r.checkAnswer(method, req.URL.Path, res)
	}
	return res
}

func (r *rig) get(path, token string) reply { r.t.Helper(); return r.do("GET", path, token, nil) }

func (res reply) code() devices.Code {
	var e devices.Error
	_ = json.Unmarshal(res.body, &e)
	return e.Code
}

// into reads the answer, which must have the status.
func (r *rig) into(res reply, status int, v any) {
	r.t.Helper()
	if res.status != status {
		r.t.Fatalf("got %d %s, want %d", res.status, res.body, status)
	}
	if v != nil {
		if err := json.Unmarshal(res.body, v); err != nil {
			r.t.Fatalf("%v in %s", err, res.body)
		}
	}
}

// wantCode checks a refusal with its HTTP status.
func (r *rig) wantCode(res reply, code devices.Code) {
	r.t.Helper()
	if want := devices.Refuse(code, "").HTTPStatus(); res.status != want || res.code() != code {
		r.t.Errorf("got %d %s, want %d %s", res.status, res.body, want, code)
	}
}

func (r *rig) login(name, password string) string {
	r.t.Helper()
	var in struct{ Token string }
	r.into(r.do("POST", "/api/v1/login", "", map[string]string{"username": name, "password": password}), 200, &in)
	return in.Token
}

// user makes a person and signs them in.
func (r *rig) user(name, role, scope string) string {
	r.t.Helper()
	r.into(r.do("POST", "/api/v1/users", r.admin, map[string]string{"username": name, "password": name + "-password", "role": role, "scope": scope}), 201, nil)
	return r.login(name, name+"-password")
}

// device makes a device of the given fields and returns its token.
func (r *rig) device(fields string) string {
	r.t.Helper()
	var made struct{ Token string }
	r.into(r.do("POST", "/api/v1/devices", r.admin, fields), 201, &made)
	return made.Token
}

func (r *rig) service(name, rights, scope string) string {
	r.t.Helper()
	var made struct{ Token string }
	r.into(r.do("POST", "/api/v1/apitokens", r.admin, map[string]any{"name": name, "rights": strings.Split(rights, ","), "scope": scope}), 201, &made)
	return made.Token
}

// fields is a JSON answer's field by a dotted path.
func (res reply) field(path string) any {
	var v any
	if json.Unmarshal(res.body, &v) != nil {
		return nil
	}
	for p := range strings.SplitSeq(path, ".") {
		m, isObject := v.(map[string]any)
		if !isObject {
			return nil
		}
		v = m[p]
	}
	return v
}
