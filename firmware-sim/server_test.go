//go:build unix

package sim_test

import (
	"io"
	"net"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"

	sim "devicehub/firmware-sim"
)

// A terminal sends Ctrl-C to its foreground process group: the hub stays out of it, so that it can still be asked.
func TestCtrlCIsNotForTheHub(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	listening := make(chan net.Listener, 1)
	time.AfterFunc(300*time.Millisecond, func() { // in its place: a broker is ready when something listens
		ln, err := net.Listen("tcp", ln.Addr().String())
		if err != nil {
			t.Error(err)
		}
		listening <- ln
	})
	p, err := sim.NewBroker(&url.URL{Scheme: "mqtt", Host: ln.Addr().String()}, []string{"sleep", "60"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	(<-listening).Close()
	group, err := syscall.Getpgid(p.Pid())
	if err != nil || group == syscall.Getpgrp() {
		t.Errorf("group %d, %v; want one of its own", group, err)
	}
	if p, err := sim.NewBroker(&url.URL{Host: ln.Addr().String()}, []string{"/nonexistent"}, io.Discard); err != nil || p.Start(t.Context()) == nil {
		t.Errorf("a program that is not there: %v", err)
	}
}

// A server that does not start says why, and one that somebody else runs is not taken for it.
func TestServerThatDoesNotStart(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	where := &url.URL{Scheme: "http", Host: ln.Addr().String()}
	start := func(argv ...string) error {
		p, err := sim.NewProcess(where, argv, nil, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return p.Start(t.Context())
	}
	if err := start("true"); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("somebody else's: got %v", err)
	}
	ln.Close()
	for { // a process that another test forks has the listener too until it becomes its program
		c, err := net.Dial("tcp", where.Host)
		if err != nil {
			break
		}
		c.Close()
	}
	if err := start("sh", "-c", "echo first; echo the disk is full >&2; exit 1"); err == nil || !strings.HasSuffix(err.Error(), "ended before it was ready: the disk is full") {
		t.Errorf("one that fails: got %v", err)
	}
	if err := start("no such program"); err == nil || !strings.Contains(err.Error(), "no such program") {
		t.Errorf("no program: got %v", err)
	}
}
