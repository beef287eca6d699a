// Package e2e runs the whole hub as its users do: the built binaries as
// processes, on free ports and a temporary data folder, with the real clients
// of others (the npm phoenix client, mosquitto_pub and mosquitto_sub, a real
// Chromium) and the project's own simulator.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"devicehub/hub/poison"
)

// bin holds the binaries under test, built once.
var bin string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "devicehub-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bin = dir
	build := exec.Command("go", "build", "-o", dir+string(os.PathSeparator))
	if poison.On { // the binaries overwrite what they give back, too
		build.Args = append(build.Args, "-tags", "poison")
	}
	build.Args = append(build.Args, "devicehub/cmd/devicehub", "devicehub/cmd/firmware-sim")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

const adminPassword = "correct horse battery staple"

// hub is a running devicehub process.
type hub struct {
	t    testing.TB
	dir  string // the data folder
	http string // host:port
	mqtt string // host:port
	conf string // the configuration file
	fds  int    // it may have; 0 is as many as the test may
	cmd  *exec.Cmd
	done chan error
	log  *logBuffer
}

// logBuffer keeps what the process wrote, for failures and for searching.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// freePort returns a loopback address that nobody listens on. Its port is below
// those that the system gives to clients, one of whom could have taken it when a
// hub that was stopped is started again.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15_000+rand.N(17_000)))
		if err == nil {
			defer l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// newHub starts a hub on an empty data folder; more are lines for its
// configuration file, which ends within mqtt.
func newHub(t testing.TB, more ...string) *hub {
	t.Helper()
	return openHub(t, filepath.Join(t.TempDir(), "data"), more...)
}

// openHub starts a hub on a data folder.
func openHub(t testing.TB, dir string, more ...string) *hub {
	t.Helper()
	h := &hub{t: t, dir: dir, http: freePort(t), mqtt: freePort(t), log: new(logBuffer)}
	h.conf = filepath.Join(t.TempDir(), "devicehub.yaml")
	conf := fmt.Sprintf("data_dir: %s\nhttp:\n  listen: %s\nauth:\n  initial_admin_password: %q\nmqtt:\n  embedded:\n    listen: %s\n%s\n",
		h.dir, h.http, adminPassword, h.mqtt, strings.Join(more, "\n"))
	if err := os.WriteFile(h.conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	t.Cleanup(func() {
		h.stop()
		if t.Failed() {
			t.Logf("the hub's log:\n%s", tail(h.log.String(), 8000))
		}
	})
	return h
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (h *hub) start() {
	h.t.Helper()
	h.cmd = exec.Command(filepath.Join(bin, "devicehub"), "serve", "--config", h.conf)
	if h.fds > 0 {
		h.cmd = exec.Command("sh", append([]string{"-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, h.fds)}, h.cmd.Args...)...)
	}
	h.cmd.Stdout, h.cmd.Stderr = h.log, h.log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func(c *exec.Cmd) { done <- c.Wait() }(h.cmd)
	h.done = done
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		select {
		case err := <-h.done:
			h.t.Fatalf("serve ended: %v\n%s", err, h.log)
		default:
		}
		if resp, err := http.Get("http://" + h.http + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	h.t.Fatalf("the hub is not ready after 30 s\n%s", h.log)
}

// stop ends the hub as an operator would, and returns its exit.
func (h *hub) stop() error {
	if h.cmd == nil {
		return nil
	}
	_ = h.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-h.done:
		h.cmd = nil
		return err
	case <-time.After(20 * time.Second):
		_ = h.cmd.Process.Kill()
		<-h.done
		h.cmd = nil
		return errors.New("the hub did not stop within 20 s")
	}
}

// kill ends the hub with SIGKILL, as a crash would.
func (h *hub) kill() {
	_ = h.cmd.Process.Kill()
	<-h.done
	h.cmd = nil
}

// cli runs a devicehub command against the hub's data folder.
func (h *hub) cli(args ...string) (stdout string, err error) {
	h.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "devicehub"), append(args, "--config", h.conf)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

func (h *hub) mustCLI(args ...string) string {
	h.t.Helper()
	out, err := h.cli(args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// login returns a bearer token of a person.
func (h *hub) login(name, password string) string {
	h.t.Helper()
	var out struct {
		Token string `json:"token"`
	}
	h.call("POST", "/api/v1/login", "", map[string]string{"username": name, "password": password}, http.StatusOK, &out)
	return out.Token
}

func (h *hub) admin() string { h.t.Helper(); return h.login("admin", adminPassword) }

// call makes an API call and wants its status; out may be nil.
func (h *hub) call(method, path, token string, body any, want int, out any) {
	h.t.Helper()
	status, b := h.try(method, path, token, body)
	if status != want {
		h.t.Fatalf("%s %s: got %d %s, want %d", method, path, status, b, want)
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			h.t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
}

func (h *hub) try(method, path, token string, body any) (int, []byte) {
	h.t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			h.t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, "http://"+h.http+path, r)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, b
}

// eventually waits until f is nil, up to the time given.
func eventually(t *testing.T, within time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still after %v: %v", within, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// mosquittoPub publishes once with the stock client.
func (h *hub) mosquittoPub(id, token, topic, payload string, more ...string) (string, error) {
	host, port, _ := net.SplitHostPort(h.mqtt)
	args := append([]string{"-h", host, "-p", port, "-u", id, "-P", token, "-t", topic, "-q", "1", "-m", payload}, more...)
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "mosquitto_pub", args...).CombinedOutput()
	return string(out), err
}

// script is a program that talks over its standard streams, a JSON value a line.
type script struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan map[string]any
	seen  []map[string]any // lines that came and were not wanted yet
	n     int
}

func startScript(t testing.TB, env []string, name string, args ...string) *script {
	t.Helper()
	s := &script{t: t, cmd: exec.Command(name, args...), lines: make(chan map[string]any, 1024)}
	s.cmd.Env = append(os.Environ(), env...)
	s.cmd.Stderr = os.Stderr
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.lines)
		sc := bufio.NewScanner(out)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			var m map[string]any
			if json.Unmarshal(sc.Bytes(), &m) == nil {
				s.lines <- m
			}
		}
	}()
	t.Cleanup(s.kill)
	return s
}

func (s *script) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *script) send(v any) {
	s.t.Helper()
	b, _ := json.Marshal(v)
	if _, err := s.in.Write(append(b, '\n')); err != nil {
		s.t.Fatal(err)
	}
}

// want returns a line that matches every given field, out of those that came
// already or come within 20 s, and takes it out. Its "n" counts the lines.
func (s *script) want(fields map[string]any) map[string]any {
	s.t.Helper()
	for i, m := range s.seen {
		if matches(m, fields) {
			s.seen = append(s.seen[:i], s.seen[i+1:]...)
			return m
		}
	}
	timeout := time.After(20 * time.Second)
	for {
		select {
		case m, ok := <-s.lines:
			if !ok {
				s.t.Fatalf("ended without %v; saw %s", fields, s.others())
			}
			s.n++
			m["n"] = s.n
			if matches(m, fields) {
				return m
			}
			s.seen = append(s.seen, m)
		case <-timeout:
			s.t.Fatalf("no %v within 20 s; saw\n%s", fields, s.others())
		}
	}
}

// others are the lines that nobody wanted.
func (s *script) others() string {
	var b strings.Builder
	for _, m := range s.seen {
		line, _ := json.Marshal(m)
		fmt.Fprintf(&b, "%s\n", line)
	}
	return b.String()
}

// matches reports whether every field of want is in got, recursively.
func matches(got, want map[string]any) bool {
	for k, w := range want {
		g, ok := got[k]
		if !ok {
			return false
		}
		if wm, isMap := w.(map[string]any); isMap {
			gm, ok := g.(map[string]any)
			if !ok || !matches(gm, wm) {
				return false
			}
			continue
		}
		if fmt.Sprint(g) != fmt.Sprint(w) {
			return false
		}
	}
	return true
}

// freeze stops the program without ending it.
func (s *script) freeze() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

func hostOf(addr string) string { host, _, _ := net.SplitHostPort(addr); return host }
func portOf(addr string) string { _, port, _ := net.SplitHostPort(addr); return port }
