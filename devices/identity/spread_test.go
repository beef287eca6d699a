package identity_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
)

// Sixty threads guess passwords from many addresses, under names that there are and names that there
// are not. Whoever signs in honestly meanwhile gets in, also under a name that is being guessed at
// if they were there before.
func TestHonestSignInsDuringASpreadAttack(t *testing.T) {
	ctx := t.Context()
	reg, err := devices.OpenRegistry(ctx, &devices.MemoryRegistry{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := identity.Open(ctx, &identity.Memory{}, reg, identity.Config{}) // at the cost that hashes have
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Prepare(ctx, "the administrator's"); err != nil {
		t.Fatal(err)
	}
	person := func(name string) {
		t.Helper()
		if _, err := h.CreateUser(ctx, devices.CLI(), devices.Origin{Via: "cli"}, identity.NewUser{Username: name, Password: "a password of " + name, Role: devices.RoleViewer}); err != nil {
			t.Fatal(err)
		}
	}
	signIn := func(addr, name string) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		_, err := h.Login(ctx, devices.Origin{Via: "http", Addr: addr}, name, "a password of "+name, "")
		return err
	}
	for i := range 12 {
		person(fmt.Sprint("ana", i))
	}
	person("boss")
	if err := signIn("198.51.100.1", "boss"); err != nil {
		t.Fatal(err)
	}
	attack, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer func() { stop(); wg.Wait() }()
	for n := range 60 {
		wg.Go(func() {
			for i := 0; attack.Err() == nil; i++ {
				name := fmt.Sprint("nobody", n, "-", i)
				if n%3 == 0 {
					name = "boss"
				}
				addr := fmt.Sprintf("10.%d.%d.%d", n, i/250, i%250)
				if n%2 == 0 {
					addr = fmt.Sprintf("2001:db8:%x:%x::1", n, i)
				}
				_, _ = h.Login(attack, devices.Origin{Via: "http", Addr: addr}, name, "a guess", "")
				time.Sleep(time.Millisecond)
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	var slowest time.Duration
	for i := range 12 {
		from := time.Now()
		if err := signIn(fmt.Sprintf("192.0.2.%d", i), fmt.Sprint("ana", i)); err != nil {
			t.Errorf("an honest sign-in: %v", err)
		}
		slowest = max(slowest, time.Since(from))
	}
	from := time.Now()
	if err := signIn("198.51.100.1", "boss"); err != nil {
		t.Errorf("under the name that is guessed at: %v", err)
	}
	t.Logf("slowest %v; under the name that is guessed at %v", slowest, time.Since(from))
	if slowest > 5*time.Second || time.Since(from) > 8*time.Second {
		t.Errorf("an honest sign-in took %v, under the name that is guessed at %v", slowest, time.Since(from))
	}
}

// A /48 of IPv6 has a few times as many attempts as one address, however many networks it has.
func TestFailedLoginsOfASite(t *testing.T) {
	h := newHub(t)
	h.SetLoginLimits(5, 1000)
	tried := 0
	for i := range 100 {
		_, err := h.Login(t.Context(), devices.Origin{Via: "http", Addr: fmt.Sprintf("2001:db8:1:%x::1", i)}, fmt.Sprint("n", i), "a guess", "")
		if devices.CodeOf(err) == devices.CodeUnauthorized {
			tried++
		}
	}
	if tried != 20 {
		t.Errorf("%d passwords of one site were tried, want 20", tried)
	}
	if _, err := h.Login(t.Context(), devices.Origin{Via: "http", Addr: "2001:db8:2:1::1"}, "n", "a guess", ""); devices.CodeOf(err) != devices.CodeUnauthorized {
		t.Errorf("another site: got %v", err)
	}
}
