package main

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// syncBuffer is a log that a test reads while it is written.
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

func TestSignals(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "hub.yaml")
	write(t, file, "log: {level: warn}\n")
	var log syncBuffer
	hup := func() {
		t.Helper()
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	a := &app{out: &log, err: &log, serve: func(ctx context.Context, p *Process) error {
		p.Log.Info("hidden at first")
		write(t, file, "log: {level: debug, format: json}\nlimits: {device_burst: 7}\nhttp: {listen: \":5\"}\n")
		hup()
		got := <-p.Reloads
		if got.Limits.DeviceBurst != 7 || got.Log.Level != "debug" || got.HTTP.Listen != ":4000" || got.Log.Format != "text" {
			t.Errorf("after the first SIGHUP: got %+v, want the live keys alone", got)
		}
		if !p.Log.Enabled(ctx, slog.LevelDebug) {
			t.Error("the log level did not change")
		}
		write(t, file, "nonsense: 1\n")
		hup()
		for !strings.Contains(log.String(), "the old one stays") {
			select {
			case <-p.Reloads:
				t.Error("a broken file was taken")
			default:
			}
		}
		write(t, file, "limits: {device_burst: 8}\n")
		hup()
		if got := <-p.Reloads; got.Limits.DeviceBurst != 8 || got.Log.Level != "info" {
			t.Errorf("after the third SIGHUP: got %+v", got)
		}
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-ctx.Done()
		return nil
	}}
	if code := a.run(t.Context(), []string{"serve", "--config", file, "--data-dir", filepath.Join(dir, "data")}); code != exitDone {
		t.Errorf("got exit %d, want 0", code)
	}
	for _, want := range []string{"keys=\"[http.listen log.format]\"", "changed=\"[limits.device_burst log.level]\"", "nonsense: unknown key"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "hidden at first") {
		t.Error("the first log level was not kept")
	}
}

func TestLogFormats(t *testing.T) {
	var b bytes.Buffer
	var level slog.LevelVar
	log := newLogger(&b, LogConfig{Level: "error", Format: "json"}, &level)
	log.Warn("quiet")
	log.Error("loud", "device", "a")
	if got := b.String(); strings.Contains(got, "quiet") || !strings.HasPrefix(got, "{") || !strings.Contains(got, `"device":"a"`) {
		t.Errorf("got %q", got)
	}
}
