package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hubFolder is a configuration file for a hub on a free port of loopback.
func hubFolder(t *testing.T) (config, url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config = filepath.Join(dir, "hub.yaml")
	write(t, config, fmt.Sprintf("data_dir: %s\nhttp: {listen: %q}\nmqtt: {embedded: {listen: \"\"}}\nauth: {initial_admin_password: \"first password\"}\n", filepath.Join(dir, "data"), addr))
	return config, "http://" + addr
}

// startHub runs the real hub until the test ends or stop is called.
func startHub(t *testing.T, config, url string) (stop func()) {
	t.Helper()
	stop, _ = serveHub(t, config, url)
	return stop
}

// serveHub is startHub for a test that looks at what the hub writes.
func serveHub(t *testing.T, config, url string) (stop func(), said *syncBuffer) {
	t.Helper()
	log := new(syncBuffer)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	a := &app{in: strings.NewReader(""), out: log, err: log, serve: serve}
	go func() { ended <- a.run(ctx, []string{"serve", "--config", config}) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if code := <-ended; code != exitDone {
			t.Errorf("serve: got exit %d:\n%s", code, log.String())
		}
	}
	t.Cleanup(stop)
	deadline := time.Now().Add(20 * time.Second)
	for {
		if res, err := http.Get(url + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return stop, log
			}
		}
		select {
		case code := <-ended:
			ended <- code
			t.Fatalf("serve ended with %d:\n%s", code, log.String())
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("the hub is not ready:\n%s", log.String())
		}
	}
}

// cli runs one command with the real stores.
func cli(t *testing.T, in string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{in: strings.NewReader(in), out: &out, err: &errs, serve: serve, open: openHub, restore: restoreFrom}
	code := a.run(t.Context(), args)
	return result{code, out.String(), errs.String()}
}

// Every command does the same on a stopped hub, on a running one through its
// admin socket, and on a hub elsewhere.
func TestCommandsOnEveryHub(t *testing.T) {
	for _, way := range []string{"stopped", "running", "elsewhere"} {
		t.Run(way, func(t *testing.T) {
			config, url := hubFolder(t)
			where := []string{"--config", config}
			if way != "stopped" {
				startHub(t, config, url)
			}
			if way == "elsewhere" {
				r := cli(t, "", "apitoken", "add", "remote", "--rights", "read,command,admin", "--config", config)
				if r.code != exitDone {
					t.Fatal(r.err)
				}
				t.Setenv(tokenEnv, strings.TrimSpace(r.out))
				where = []string{"--url", url}
			}
			do := func(in string, words ...string) result {
				t.Helper()
				r := cli(t, in, append(words, where...)...)
				if r.code != exitDone {
					t.Errorf("%s: got exit %d: %s", strings.Join(words, " "), r.code, r.err)
				}
				return r
			}
			has := func(r result, want ...string) {
				t.Helper()
				for _, w := range want {
					if !strings.Contains(r.out, w) {
						t.Errorf("got %q (%s), want %q in it", r.out, r.err, w)
					}
				}
			}
			token := do("", "device", "add", "kitchen-temp", "--kind", "sensor", "--name", "Kitchen", "--label", "room=kitchen").out
			if strings.Count(token, ".") != 2 || strings.Count(token, "\n") != 1 {
				t.Errorf("device add: got %q, want a token alone", token)
			}
			do("", "device", "add", "lamp", "--kind", "light", "--mode", "rgb,color_temp")
			has(do("", "device", "list"), "kitchen-temp", "Kitchen", "lamp", "never_seen")
			has(do("", "device", "list", "--kind", "light", "--json"), `"id": "lamp"`, `"total": 1`)
			do("", "device", "update", "kitchen-temp", "--area", "ground floor", "--label", "floor=0")
			has(do("", "device", "show", "kitchen-temp"), "ground floor", "floor=0, room=kitchen")
			late := cli(t, "", append([]string{"device", "update", "kitchen-temp", "--area", "attic", "--if-ver", "1"}, where...)...)
			if late.code != exitFailed || !strings.Contains(late.err, "is at version 2") || !strings.Contains(late.err, "device show kitchen-temp") {
				t.Errorf("an old version: got exit %d, %q", late.code, late.err)
			}
			do("", "device", "update", "kitchen-temp", "--unlabel", "floor", "--if-ver", "2")
			has(do("", "device", "show", "kitchen-temp", "--json"), `"ver": 3`, `"area": "ground floor"`)
			do("", "device", "disable", "lamp")
			has(do("", "device", "show", "lamp", "--json"), `"enabled": false`)
			do("", "device", "enable", "lamp")
			if got := do("", "token", "issue", "lamp", "--short").out; !strings.HasPrefix(got, "dh1.1.") {
				t.Errorf("token issue --short: got %q", got)
			}
			if r := do("", "token", "rotate", "lamp", "--grace", "1h"); !strings.Contains(r.err, "generation 2") || !strings.Contains(r.err, "the old generation ends") {
				t.Errorf("token rotate: got %q", r.err)
			}
			do("", "token", "revoke", "lamp")
			do("operator's password\n", "user", "add", "ana", "--role", "operator", "--scope", "room=kitchen", "--password-stdin")
			do("another password\n", "user", "passwd", "ana", "--password-stdin")
			has(do("", "user", "list"), "admin", "ana", "operator", "room=kitchen")
			do("", "user", "rm", "ana")
			do("", "apitoken", "add", "exporter", "--rights", "read", "--ttl", "30d")
			has(do("", "apitoken", "list", "--json"), `"exporter"`)
			do("", "apitoken", "rm", "exporter")
			do("", "key", "rotate")
			var keys struct{ Keys []struct{ KID, State string } }
			if err := json.Unmarshal([]byte(do("", "key", "list", "--json").out), &keys); err != nil || len(keys.Keys) != 2 {
				t.Fatalf("key list: got %v, %v, want two", keys, err)
			}
			has(do("", "key", "list"), "active", "verifying")
			do("", "clock", "accept")
			backup := filepath.Join(t.TempDir(), "hub.backup")
			do("", "backup", backup)
			if got := mode(t, backup); got != 0o600 {
				t.Errorf("backup: got mode %04o, want 0600", got)
			}
			do("", "device", "rm", "lamp")
			if r := cli(t, "", append([]string{"device", "show", "lamp"}, where...)...); r.code != exitFailed || !strings.HasPrefix(r.err, "devicehub: ") {
				t.Errorf("a device that is gone: got exit %d, %q", r.code, r.err)
			}
			if r := cli(t, "", append([]string{"device", "add", "lamp", "--kind", "light"}, where...)...); r.code != exitFailed {
				t.Errorf("an id that stays taken: got exit %d, %q", r.code, r.err)
			}
			if way == "elsewhere" { // the token under the old key goes with it
				for _, k := range keys.Keys {
					if k.State == "verifying" {
						do("", "key", "revoke", k.KID)
					}
				}
				if r := cli(t, "", "device", "list", "--url", url); r.code != exitFailed || !strings.Contains(r.err, "apitoken add") {
					t.Errorf("revoked token: got exit %d, %q", r.code, r.err)
				}
			}
		})
	}
}

// What a backup of a running hub holds is there again after a restore.
func TestBackupOfRunningHub(t *testing.T) {
	config, url := hubFolder(t)
	stop := startHub(t, config, url)
	token := strings.TrimSpace(cli(t, "", "device", "add", "a", "--kind", "sensor", "--config", config).out)
	push := func(v int) (status int) {
		t.Helper()
		req, err := http.NewRequest("POST", url+"/api/v1/devices/a/readings", strings.NewReader(fmt.Sprintf(`{"r":[["temperature",%d]]}`, v)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := push(21); got != http.StatusOK {
		t.Fatalf("push: got %d", got)
	}
	backup := filepath.Join(t.TempDir(), "hub.backup")
	if r := cli(t, "", "backup", "-", "--config", config); r.code != exitDone || len(r.out) < 1000 {
		t.Fatalf("backup to stdout: got %d bytes, %+v", len(r.out), r.err)
	}
	if _, err := os.Lstat("-"); err == nil {
		t.Error("backup - wrote a file of that name")
	}
	if err := os.WriteFile(backup, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := cli(t, "", "backup", backup, "--config", config); r.code != exitFailed || !strings.Contains(r.err, "--force") {
		t.Fatalf("backup over a file: got %+v, want it refused", r)
	}
	if r := cli(t, "", "backup", backup, "--force", "--config", config); r.code != exitDone {
		t.Fatal(r.err)
	}
	if got := push(99); got != http.StatusOK {
		t.Fatalf("push after the backup: got %d", got)
	}
	stop()
	fresh, freshURL := hubFolder(t)
	if r := cli(t, "", "restore", backup, "--config", fresh); r.code != exitDone || !strings.Contains(r.err, "unknown") {
		t.Fatalf("restore: got exit %d, %q", r.code, r.err)
	}
	if r := cli(t, "", "device", "show", "a", "--config", fresh); r.code != exitDone || !strings.Contains(r.out, "temperature 21") {
		t.Errorf("after the restore: got %q, %q, want the reading of the backup", r.out, r.err)
	}
	startHub(t, fresh, freshURL)
	url = freshURL
	if got := push(22); got != http.StatusOK {
		t.Errorf("the device's token after the restore: got %d", got)
	}
}

// trace follows a device through the admin socket, and shows no token.
func TestTraceFollowsADevice(t *testing.T) {
	config, url := hubFolder(t)
	startHub(t, config, url)
	token := strings.TrimSpace(cli(t, "", "device", "add", "a", "--kind", "sensor", "--config", config).out)
	var out syncBuffer
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{out: &out, err: &out, open: openHub}
	ended := make(chan int, 1)
	go func() { ended <- a.run(ctx, []string{"trace", "a", "--config", config}) }()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(out.String(), "temperature") && time.Now().Before(deadline) {
		req, err := http.NewRequest("POST", url+"/api/v1/devices/a/readings", strings.NewReader(`{"r":[["temperature",21]]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	if code := <-ended; code != exitDone {
		t.Errorf("got exit %d", code)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if !strings.Contains(out.String(), "temperature") || !json.Valid([]byte(lines[0])) {
		t.Errorf("got %q, want what the device sent, a JSON object a line", out.String())
	}
	if strings.Contains(out.String(), token) {
		t.Error("the token is shown")
	}
}

// A hub that stops does not wait for what waits for something to happen: a
// trace ends, and a call that waits for a command is answered.
func TestStopEndsWhatWaits(t *testing.T) {
	config, url := hubFolder(t)
	stop := startHub(t, config, url)
	cli(t, "", "device", "add", "lamp", "--kind", "light", "--config", config)
	res, err := http.Post(url+"/api/v1/login", "application/json", strings.NewReader(`{"username":"admin","password":"first password"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var in struct{ Token string }
	if err := json.NewDecoder(res.Body).Decode(&in); err != nil {
		t.Fatal(err)
	}
	token := in.Token

	var out syncBuffer
	a := &app{out: &out, err: &out, open: openHub}
	traced := make(chan int, 1)
	go func() { traced <- a.run(t.Context(), []string{"trace", "lamp", "--config", config}) }()
	waited := make(chan string, 1)
	go func() {
		req, _ := http.NewRequest("POST", url+"/api/v1/devices/lamp/commands?wait=done&timeout_ms=60000", strings.NewReader(`{"op":"set","params":{"on":true},"policy":"all"}`))
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			waited <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		waited <- fmt.Sprint(res.StatusCode, " ", string(b))
	}()
	under := func(path, word string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			req, _ := http.NewRequest("GET", url+path, nil)
			req.Header.Set("Authorization", "Bearer "+token)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if strings.Contains(string(b), word) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: no %s in %s", path, word, b)
			}
		}
	}
	under("/api/v1/devices/lamp/commands", "queued")
	under("/api/v1/audit?device=lamp", "device.trace")
	stop()
	if got := <-waited; !strings.HasPrefix(got, "504 ") || !strings.Contains(got, "cmd_id") {
		t.Errorf("the waiting call: got %s, want timeout with the cmd_id", got)
	}
	if code := <-traced; code != exitDone {
		t.Errorf("the trace: got exit %d, %q", code, out.String())
	}
}

// An unusable set-up ends serve with one line that says what to do.
func TestServeRefuses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	config, _ := hubFolder(t)
	r := cli(t, "", "serve", "--config", config, "--http.listen", l.Addr().String())
	if r.code != exitFailed || !strings.Contains(r.err, "http.listen: "+l.Addr().String()+" is in use") {
		t.Errorf("port in use: got exit %d, %q", r.code, r.err)
	}
	readOnly := filepath.Join(t.TempDir(), "ro")
	write(t, readOnly, "a file, no folder")
	r = cli(t, "", "serve", "--config", config, "--data-dir", filepath.Join(readOnly, "data"))
	if r.code != exitFailed || !strings.Contains(r.err, "--data-dir") || strings.Count(r.err, "\n") != 1 {
		t.Errorf("unwritable folder: got exit %d, %q", r.code, r.err)
	}
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	write(t, bad, "http:\n  prot: 1\n")
	r = cli(t, "", "serve", "--config", bad)
	if r.code != exitFailed || !strings.Contains(r.err, "bad.yaml:2: http.prot: unknown key") {
		t.Errorf("unknown key: got exit %d, %q", r.code, r.err)
	}
	if _, err := os.Stat("data"); err == nil {
		t.Error("a data folder was made for a configuration that is refused")
	}
}
