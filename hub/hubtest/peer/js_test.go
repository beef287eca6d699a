package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// restartable serves the peer on one address and can stop and start it there.
type restartable struct {
	addr  string
	mu    sync.Mutex
	srv   *http.Server
	app   *app
	block string // what happens to WebSockets: "", "refuse" or "hang"
}

func (s *restartable) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var l net.Listener
	var err error
	for range 100 {
		if l, err = net.Listen("tcp", s.addr); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	if strings.HasSuffix(s.addr, ":0") {
		s.addr = l.Addr().String()
	}
	s.app = newApp(slog.New(slog.DiscardHandler))
	s.srv = &http.Server{Handler: s.handler(s.app)}
	go s.srv.Serve(l)
	return nil
}

func (s *restartable) handler(a *app) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		block := s.block
		s.mu.Unlock()
		if strings.HasSuffix(r.URL.Path, "/websocket") {
			switch block {
			case "refuse":
				w.WriteHeader(http.StatusBadGateway)
				return
			case "hang":
				<-r.Context().Done()
				return
			}
		}
		a.ServeHTTP(w, r)
	})
}

func (s *restartable) stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := s.app.ep.Drain(ctx)
	s.srv.Close()
	return err
}

// TestPhoenixJS runs ../js: phoenix.js as it comes from npm.
func TestPhoenixJS(t *testing.T) {
	t.Parallel()
	dir, err := filepath.Abs("../js")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "phoenix")); err != nil {
		t.Fatalf("phoenix.js is not installed: run `npm ci` in hub/hubtest/js (`make node` does): %v", err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("these tests need Node.js 20 or newer: %v", err)
	}
	s := &restartable{addr: "127.0.0.1:0"}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	control := http.NewServeMux()
	control.HandleFunc("/restart", func(w http.ResponseWriter, _ *http.Request) {
		if err := s.stop(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if err := s.start(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	control.HandleFunc("/block", func(_ http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.block = r.FormValue("how")
	})
	ctl := httptest.NewServer(control)
	defer ctl.Close()

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "--test", "--test-reporter=tap", "phoenix.test.js")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HUB_URL=ws://"+s.addr, "HUB_CONTROL="+ctl.URL)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if testing.Verbose() {
		fmt.Printf("%s\n", out)
	}
}
