package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain makes this binary stand for the programs that the demo starts.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "devicehub":
		os.Exit(playHub())
	case "firmware-sim":
		os.Exit(playSim())
	}
	os.Exit(m.Run())
}

// playHub answers /readyz where its configuration says, until interrupted.
func playHub() int {
	if os.Getenv("DEVICEHUB_DATA_DIR") != "" {
		fmt.Fprintln(os.Stderr, "devicehub: the shell's variables got through")
		return 1
	}
	config, err := os.ReadFile(os.Args[len(os.Args)-1])
	if err != nil {
		return 1
	}
	if os.Getenv("PLAY_BROKEN") != "" {
		fmt.Fprintln(os.Stderr, "devicehub: something is wrong: mend it")
		return 1
	}
	addr := regexp.MustCompile(`http: \{listen: "([^"]*)"`).FindSubmatch(config)[1]
	srv := &http.Server{Addr: string(addr)}
	http.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	go srv.ListenAndServe()
	interrupted()
	fmt.Println("drained")
	return 0
}

func playSim() int {
	password, _ := io.ReadAll(os.Stdin)
	fmt.Printf("sim plays %s with %d letters\n", os.Args[2], len(strings.TrimSpace(string(password))))
	interrupted()
	fmt.Println("sim took its devices away")
	return 0
}

func interrupted() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	<-ctx.Done()
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newDemo(t *testing.T) (*demo, *buffer) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, name := range []string{"devicehub", "firmware-sim"} {
		if err := os.Symlink(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	profile := filepath.Join(bin, "fleet.yaml")
	fleet := "fleet:\n  - {name: Bad one, kind: light, misbehave: {flap: 1s}}\n"
	if err := os.WriteFile(profile, []byte(fleet), 0o600); err != nil {
		t.Fatal(err)
	}
	out := new(buffer)
	return &demo{bin: bin, profile: profile, out: out}, out
}

func TestDemoPlaysAndLeavesNothing(t *testing.T) {
	t.Setenv("DEVICEHUB_DATA_DIR", "/nowhere")
	for _, addr := range []string{"127.0.0.1:4000", "127.0.0.1:1883"} { // taken, here or by others
		if l, err := net.Listen("tcp", addr); err == nil {
			defer l.Close()
		}
	}
	d, out := newDemo(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.run(ctx) }()
	deadline := time.Now().Add(20 * time.Second)
	for !strings.Contains(out.String(), "with 26 letters") {
		select {
		case err := <-done:
			t.Fatalf("ended: %v\n%s", err, out)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("the fleet does not play:\n%s", out)
		}
	}
	for _, want := range []string{"dashboard   " + d.hubURL, "user name   admin", "password    ", d.mqttURL,
		`errors come from "Bad one", which misbehaves on purpose`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %q, want %q in it", out, want)
		}
	}
	if strings.HasSuffix(d.hubURL, ":4000") || strings.HasSuffix(d.mqttURL, ":1883") {
		t.Errorf("got %s and %s, want free ports", d.hubURL, d.mqttURL)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
	if !strings.Contains(out.String(), "sim took its devices away") {
		t.Error("the fleet was not ended in order")
	}
	if _, err := http.Get(d.hubURL + "/readyz"); err == nil {
		t.Error("the hub still runs")
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "devicehub-demo-*")); len(left) > 0 {
		t.Errorf("got %v left behind", left)
	}
}

// An address that was asked for is taken, or said to be in use.
func TestDemoAddresses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	busy := taken.Addr().String()
	if _, err := address(t.Context(), busy, "127.0.0.1:4000"); err == nil || !strings.Contains(err.Error(), busy) {
		t.Errorf("in use: got %v, want an error that names it", err)
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := address(t.Context(), busy, "127.0.0.1:4000"); got != busy || err != nil {
		t.Errorf("got %s, %v; want %s", got, err, busy)
	}
}

func TestDemoTellsWhyTheHubFails(t *testing.T) {
	d, _ := newDemo(t)
	t.Setenv("PLAY_BROKEN", "yes")
	err := d.run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "something is wrong: mend it") {
		t.Errorf("got %v, want the hub's own words", err)
	}
}

func TestDemoWithoutBinaries(t *testing.T) {
	d := demo{bin: t.TempDir(), out: io.Discard}
	if err := d.run(t.Context()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "make demo") {
		t.Errorf("got %v, want what to do", err)
	}
}
