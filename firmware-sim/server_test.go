//go:build unix

package sim_test

import (
	"io"
	"net"
	"net/url"
	"syscall"
	"testing"

	sim "devicehub/firmware-sim"
)

// A terminal sends Ctrl-C to its foreground process group: the hub stays out of it, so that it can still be asked.
func TestCtrlCIsNotForTheHub(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // in its place: a broker is ready when something listens
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	p, err := sim.NewBroker(&url.URL{Scheme: "mqtt", Host: ln.Addr().String()}, []string{"sleep", "60"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	group, err := syscall.Getpgid(p.Pid())
	if err != nil || group == syscall.Getpgrp() {
		t.Errorf("group %d, %v; want one of its own", group, err)
	}
	if p, err := sim.NewBroker(&url.URL{Host: ln.Addr().String()}, []string{"/nonexistent"}, io.Discard); err != nil || p.Start(t.Context()) == nil {
		t.Errorf("a program that is not there: %v", err)
	}
}
