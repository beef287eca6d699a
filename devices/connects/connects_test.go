package connects

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

func TestBoundsPerAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Limiter
		l.Set(5, 2)
		for i := range 5 {
			if err := l.Allow("192.0.2.1:1000"); err != nil {
				t.Fatalf("connect %d: %v", i, err)
			}
		}
		err := l.Allow("192.0.2.1:1001")
		if devices.CodeOf(err) != devices.CodeRateLimited {
			t.Fatalf("the sixth: got %v, want rate_limited", err)
		}
		if err := l.Allow("192.0.2.2:1000"); err != nil {
			t.Errorf("a neighbour: %v", err)
		}
		time.Sleep(time.Second)
		if err := l.Allow("192.0.2.1:1002"); err != nil {
			t.Errorf("a second later: %v", err)
		}
		l.Failed("192.0.2.1:1")
		l.Failed("192.0.2.1:2")
		if err := l.Allow("192.0.2.1:1003"); devices.CodeOf(err) != devices.CodeRateLimited {
			t.Errorf("after two failures: got %v, want rate_limited", err)
		}
	})
}

func TestRemembersABoundedNumber(t *testing.T) {
	var l Limiter
	l.Set(1, 1)
	for i := range maxAddresses + 1000 {
		_ = l.Allow(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255))
	}
	if len(l.known) > maxAddresses+1 {
		t.Errorf("got %d addresses, want at most %d", len(l.known), maxAddresses+1)
	}
}

func TestZeroValueBoundsNothing(t *testing.T) {
	var l Limiter
	for range 100 {
		l.Failed("[2001:db8::1]:1")
		if err := l.Allow("[2001:db8::1]:1"); err != nil {
			t.Fatal(err)
		}
	}
}
