package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"devicehub/hub/poison"
)

// program is the hub under test: one that is built for the tests, or that of -hub.
var program string

func TestMain(m *testing.M) {
	if onMission() {
		return
	}
	flag.StringVar(&program, "hub", "", "test another `program`")
	flag.Parse()
	dir, err := os.MkdirTemp("", "devicehub-hostile-test-")
	if err == nil && program == "" {
		program = filepath.Join(dir, "devicehub")
		build := exec.Command("go", "build", "-o", program)
		if poison.On { // the binary overwrites what it gives back, too
			build.Args = append(build.Args, "-tags", "poison")
		}
		build.Args = append(build.Args, "devicehub/cmd/devicehub")
		if out, failed := build.CombinedOutput(); failed != nil {
			err = fmt.Errorf("go build: %w: %s", failed, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// bounds are what an attack may cost in the few seconds of a test. What is not given is usual.
type bounds struct {
	under    time.Duration // how long the attack lasts; 3 s
	memory   int64         // that the hub grows by; 128 MB, and what a fleet that starts needs
	disk     int64         // 1 MB
	log      int64         // 50 kB
	audited  int           // entries
	atLeast  map[string]int
	atMost   map[string]int
	meantime func(h *hub) error // what has to go well under attack
}

// wants are the bounds of each attack.
func wants() map[string]bounds {
	return map[string]bounds{
		"commands":   {audited: 3, atLeast: map[string]int{"closed 1008": 1, "rate_limited": 1}},
		"updates":    {audited: 3, atLeast: map[string]int{"closed 1008": 1, "rate_limited": 1}},
		"searches":   {atLeast: map[string]int{"closed 1008": 1, "rate_limited": 1}},
		"joins":      {},
		"channels":   {atLeast: map[string]int{"closed 1008": 1}},
		"questions":  {},
		"sockets":    {atLeast: map[string]int{"status 429": 1}},
		"long-polls": {atLeast: map[string]int{"status 403": 1}},
		"calls":      {audited: 3, atLeast: map[string]int{"status 429": 1}},
		"charts":     {atLeast: map[string]int{"status 429": 1}},
		"origins":    {},
		"tokens":     {audited: 10, atLeast: map[string]int{"status 429": 20}, meantime: signIns},
		"wills":      {atMost: map[string]int{"connack 9a": 0}},
		"passwords":  {audited: 5, meantime: func(h *hub) error { _, err := h.login("admin", adminPassword); return err }},
		"assets":     {},
		"silence":    {},
		"topics":     {disk: 4 << 20},
		"properties": {disk: 4 << 20},
		"queued":     {disk: 4 << 20},
		"filters":    {atLeast: map[string]int{"answered 97": 1}},
		"sessions":   {audited: 1, meantime: otherAccounts},
		"publishes":  {audited: 1, meantime: otherAccounts},
		"readings":   {under: 5 * time.Second, disk: 8 << 20, atLeast: map[string]int{"rate_limited": 1}},
		"refreshes":  {audited: 1},
		"events":     {atLeast: map[string]int{"closed 1008": 1}},
		"retained":   {audited: 3, atLeast: map[string]int{"connack 97": 1}},
		"foreign":    {audited: 3},
		"reconnects": {atLeast: map[string]int{"connack 03": 1}},
	}
}

// TestAttacks plays each attack beside twenty devices that send readings. Not one of them is refused,
// cut off or lost, and the hub stays within the attack's bounds.
func TestAttacks(t *testing.T) {
	bound := wants()
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			w, ok := bound[a.name]
			if !ok {
				t.Fatal("this attack has no bounds")
			}
			besieged(t, a, w)
		})
	}
}

// two attacks are played at a time: there is not more room on small machines.
var two = make(chan struct{}, 2)

func besieged(t *testing.T, a attack, w bounds) {
	two <- struct{}{}
	defer func() { <-two }()
	p := plan{program: program, devices: 20, every: 200 * time.Millisecond, quiet: 400 * time.Millisecond, under: max(w.under, 3*time.Second)}
	var look func(h *hub)
	var bad error
	if w.meantime != nil {
		look = func(h *hub) { bad = w.meantime(h) }
	}
	r, err := besiege(t.Context(), p, a, look)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("memory %+d MB, disk %+d kB, log %+d kB, %d audited; %s", r.resident>>20, r.disk/1000, r.log/1000, r.audited, &r.seen)
	if bad != nil {
		t.Errorf("meanwhile: %v", bad)
	}
	for _, s := range r.trouble {
		t.Error(s)
	}
	for _, c := range []struct {
		what      string
		got, most int64
	}{
		{"bytes of memory", r.resident, orElse(w.memory, 128<<20)},
		{"bytes on the disk", r.disk, orElse(w.disk, 1<<20)},
		{"bytes in the log", r.log, orElse(w.log, 50_000)},
		{"entries in the audit", int64(r.audited), int64(w.audited)},
	} {
		if c.got > c.most {
			t.Errorf("%d %s, want at most %d", c.got, c.what, c.most)
		}
	}
	for what, least := range w.atLeast {
		if n := r.seen.of(what); n < least {
			t.Errorf("the attacker saw %d %q, want at least %d", n, what, least)
		}
	}
	for what, most := range w.atMost {
		if n := r.seen.of(what); n > most {
			t.Errorf("the attacker saw %d %q, want at most %d", n, what, most)
		}
	}
}

func orElse(n, usual int64) int64 {
	if n == 0 {
		return usual
	}
	return n
}

// signIns has good devices and people come in, by every way, at the address of the attacker.
func signIns(h *hub) error {
	var all []error
	for i := range 10 {
		id := fmt.Sprint("late-", i)
		token, err := h.device(id, "sensor")
		if err != nil {
			return err
		}
		if s, status, err := h.dial(token); err != nil {
			all = append(all, fmt.Errorf("%s over WebSocket: %d %w", id, status, err))
		} else {
			s.ws.Close()
		}
		if c, code, err := dialMQTT(h.mqtt, sign{id: id, user: id, password: token}); err != nil || code != 0 {
			all = append(all, fmt.Errorf("%s over MQTT: %d %w", id, code, err))
		} else {
			c.conn.Close()
		}
		if s, status, err := h.dial(h.admin); err != nil {
			all = append(all, fmt.Errorf("a person: %d %w", status, err))
		} else {
			s.ws.Close()
		}
	}
	return errors.Join(all...)
}

// otherAccounts has another service account connect, publish and be heard.
func otherAccounts(h *hub) error {
	token, err := h.account("home", "read", "home/#")
	if err != nil {
		return err
	}
	c, code, err := dialMQTT(h.mqtt, sign{version: 5, id: "home", user: "service:home", password: token, keep: true})
	if err != nil || code != 0 {
		return fmt.Errorf("another account: CONNACK %#x %w", code, err)
	}
	defer c.conn.Close()
	if code, err := c.ask(c.subscribe("home/#", 1), 0x90); err != nil || code > 2 {
		return fmt.Errorf("another account: SUBACK %#x %w", code, err)
	}
	if code, err := c.ask(c.publish("home/lamp", "on", 1, true, 1), 0x30); err != nil {
		return fmt.Errorf("another account hears nothing: %#x %w", code, err)
	}
	return nil
}

// siege arms a hub for a test that attacks it by itself.
func siege(t *testing.T, conf ...string) *hub {
	t.Helper()
	h, err := startHub(context.Background(), program, t.TempDir(), conf...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the hub's log ends with\n%s", h.tail(4000))
		}
		h.stop()
	})
	return h
}
