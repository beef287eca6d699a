package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// running is a hub in this process, on free ports and a folder of its own.
type running struct {
	*server
	t    *testing.T
	log  *syncBuffer
	base string // http://host:port
	user string // an administrator's token
	stop func() // as SIGTERM does; the end of the test waits for the hub
}

const rootPassword = "a password for the administrator"

// runHub serves a hub until the test ends, then stops it and wants a clean end.
func runHub(t *testing.T, change ...func(*Config)) *running {
	t.Helper()
	cfg := Default()
	cfg.DataDir = filepath.Join(t.TempDir(), "data")
	cfg.HTTP.Listen, cfg.MQTT.Embedded.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Auth.InitialAdminPassword = rootPassword
	for _, f := range change {
		f(&cfg)
	}
	cfg.fillBridges()
	if ps := cfg.Check(); len(ps) > 0 {
		t.Fatal(ps)
	}
	dir, err := OpenDataDir(cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	log := new(syncBuffer)
	a, err := assemble(t.Context(), &Process{Config: cfg, Data: dir, Log: newLogger(log, LogConfig{Level: "debug"}, new(slog.LevelVar)), Out: io.Discard, Version: "test", Reloads: make(chan Config)})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{assembly: a}
	if err := s.listen(); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the hub ended with %v", err)
		}
		if err := a.close(); err != nil {
			t.Error(err)
		}
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	})
	r := &running{server: s, t: t, log: log, stop: stop, base: "http://" + s.http.Addr().String()}
	r.wait("ready", func() bool { return a.accepting.Load() })
	var in struct{ Token string }
	r.call("POST", "/api/v1/login", map[string]string{"username": "admin", "password": rootPassword}, 200, &in)
	r.user = in.Token
	return r
}

// wait waits until f holds.
func (r *running) wait(what string, f func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited for %s in vain\n%s", what, r.log.String())
		}
	}
}

// call makes a request of the administrator and reads the answer into v.
func (r *running) call(method, path string, body any, status int, v any) {
	r.t.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			r.t.Fatal(err)
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, r.base+path, in)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.user != "" {
		req.Header.Set("Authorization", "Bearer "+r.user)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		r.t.Fatalf("%s %s: got %d %s %v, want %d", method, path, res.StatusCode, got, err, status)
	}
	if v != nil {
		if err := json.Unmarshal(got, v); err != nil {
			r.t.Fatalf("%s: %v", got, err)
		}
	}
}

// device makes a device and returns its token.
func (r *running) device(record map[string]any) string {
	r.t.Helper()
	var made struct{ Token string }
	r.call("POST", "/api/v1/devices", record, 201, &made)
	return made.Token
}

// text is what a GET answers.
func (r *running) text(path string) string {
	r.t.Helper()
	res, err := http.Get(r.base + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// Each service hears once of a device's boot.
func TestBootsAreHeardOnce(t *testing.T) {
	r := runHub(t)
	if got := reflect.ValueOf(r.liveness).Elem().FieldByName("onBoot").Len(); got != 1 {
		t.Errorf("got %d who hear of boots, want the commands alone", got)
	}
}

// Whoever writes a path of the API in a roundabout way hears so in JSON, and is
// sent nowhere with a page; the dashboard's paths are not the API's.
func TestPathsOfTheAPIAreNotRedirected(t *testing.T) {
	r := runHub(t)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	for path, want := range map[string]int{"//api/v1/devices": 404, "/api//v1/devices": 404, "/x/../api/v1/devices": 404, "//healthz": 404, "/api": 404, "/api/v1/devices": 401, "/healthz": 200, "/": 200, "/devices/lamp": 200} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", r.base, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Path = path
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != want || want >= 400 && !json.Valid(body) {
			t.Errorf("%s: got %d %s, want %d", path, res.StatusCode, body, want)
		}
	}
}
