package influx

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// The tests run against a real InfluxDB server, v1.8.10, the newest that builds
// from the module proxy alone.
const influxVersion = "v1.8.10"

var influxd = sync.OnceValues(func() (string, error) {
	if p, err := exec.LookPath("influxd"); err == nil {
		return p, nil
	}
	out, err := exec.Command("go", "env", "GOPATH").Output()
	if err != nil {
		return "", err
	}
	p := filepath.Join(strings.TrimSpace(string(out)), "bin", "influxd")
	if _, err := os.Stat(p); err == nil {
		return p, nil
	}
	cmd := exec.Command("go", "install", "github.com/influxdata/influxdb/cmd/influxd@"+influxVersion)
	cmd.Dir = os.TempDir()
	cmd.Env = append(os.Environ(), "GOBIN="+filepath.Dir(p), "GOFLAGS=-mod=mod")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("an InfluxDB server is needed (go install github.com/influxdata/influxdb/cmd/influxd@%s): %w\n%s", influxVersion, err, text)
	}
	return p, nil
})

// server is an influxd of a test's own.
type server struct {
	t    *testing.T
	dir  string
	url  string
	cmd  *exec.Cmd
	port int
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir(), port: freePort(t)}
	s.url = fmt.Sprintf("http://127.0.0.1:%d", s.port)
	config := fmt.Sprintf(`reporting-disabled = true
bind-address = "127.0.0.1:%d"
[meta]
dir = %q
[data]
dir = %q
wal-dir = %q
index-version = "tsi1"
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:%d"
auth-enabled = true
log-enabled = false
flux-enabled = false
[subscriber]
enabled = false
[continuous_queries]
enabled = false
[logging]
level = "error"
`, freePort(t), s.dir+"/meta", s.dir+"/data", s.dir+"/wal", s.port)
	if err := os.WriteFile(s.dir+"/influxd.conf", []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.query("", "CREATE USER admin WITH PASSWORD 'secret' WITH ALL PRIVILEGES")
	s.query("", "CREATE DATABASE iot WITH DURATION INF NAME raw")
	t.Cleanup(s.kill)
	return s
}

const serverToken = "admin:secret"

func (s *server) start() {
	s.t.Helper()
	path, err := influxd()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(path, "-config", s.dir+"/influxd.conf")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if r, err := http.Get(s.url + "/ping"); err == nil {
			r.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatal("influxd does not answer")
		}
	}
}

func (s *server) kill() {
	if s.cmd != nil {
		s.cmd.Process.Kill() //nolint:errcheck // it may have ended
		s.cmd.Wait()         //nolint:errcheck // it was killed
		s.cmd = nil
	}
}

// query asks in InfluxQL and returns the rows of the first series.
func (s *server) query(db, q string) [][]any {
	s.t.Helper()
	v := url.Values{"u": {"admin"}, "p": {"secret"}, "q": {q}, "db": {db}, "epoch": {"ms"}}
	r, err := http.Post(s.url+"/query?"+v.Encode(), "", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var out struct {
		Results []struct {
			Error  string
			Series []struct{ Values [][]any }
		}
		Error string
	}
	if err := json.Unmarshal(text, &out); err != nil || out.Error != "" || len(out.Results) > 0 && out.Results[0].Error != "" {
		s.t.Fatalf("%s: %s", q, text)
	}
	if len(out.Results) == 0 || len(out.Results[0].Series) == 0 {
		return nil
	}
	return out.Results[0].Series[0].Values
}

// countSum is how many points a measurement has, and their sum.
func (s *server) countSum(measurement string) (n int, sum float64) {
	s.t.Helper()
	rows := s.query("iot", fmt.Sprintf("SELECT COUNT(v), SUM(v) FROM iot.raw.%q", measurement))
	if len(rows) == 0 {
		return 0, 0
	}
	return int(rows[0][1].(float64)), rows[0][2].(float64)
}

// proxy stands before the server and does what it is told.
type proxy struct {
	url    string
	mu     sync.Mutex
	fault  func(w http.ResponseWriter, r *http.Request, pass func()) // nil: passes
	hits   int
	target string
	stop   context.CancelFunc
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &proxy{target: target, stop: cancel}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.url = "http://" + l.Addr().String()
	srv := &http.Server{Handler: p, BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		cancel()
		srv.Close() //nolint:errcheck // it ends either way
		<-done
	})
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.hits++
	fault := p.fault
	p.mu.Unlock()
	pass := func() {
		req, err := http.NewRequestWithContext(r.Context(), r.Method, p.target+r.URL.String(), r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		req.Header = r.Header.Clone()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body) //nolint:errcheck // the client is gone
	}
	if fault == nil {
		pass()
		return
	}
	fault(w, r, pass)
}

func (p *proxy) set(f func(w http.ResponseWriter, r *http.Request, pass func())) {
	p.mu.Lock()
	p.fault = f
	p.mu.Unlock()
}

func stringsReader(s string) io.Reader { return strings.NewReader(s) }
