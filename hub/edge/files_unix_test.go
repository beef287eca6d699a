//go:build unix

package edge

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Out of descriptors the listener waits, makes room and says so once.
func TestAcceptOutOfDescriptors(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	var mu sync.Mutex
	rooms := 0
	g := &Gate{Logger: slog.New(slog.NewTextHandler(&lockedWriter{w: &log, mu: &mu}, nil)), MakeRoom: func() bool { mu.Lock(); defer mu.Unlock(); rooms++; return false }}
	l := listen(t, g, Proxies{})
	client := dial(t, l)
	got := make(chan net.Conn, 1)
	low := limit
	low.Cur = 3 // none beyond those that there are
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	go func() {
		nc, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		got <- nc
	}()
	time.Sleep(300 * time.Millisecond)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	select {
	case nc := <-got:
		nc.Close()
	case <-time.After(5 * time.Second):
		t.Fatal("nothing was accepted afterwards")
	}
	client.Close()
	mu.Lock()
	defer mu.Unlock()
	if lines := strings.Count(log.String(), "cannot be accepted"); lines != 1 || rooms < 2 || rooms > 20 {
		t.Errorf("got %d lines and %d attempts, want 1 and a few", lines, rooms)
	}
}
