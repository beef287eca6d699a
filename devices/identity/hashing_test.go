package identity

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

// The better standing is served first, and takes the place of the worse when there is none left.
func TestHashQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := hashQueue{most: 1}
		if err := q.enter(t.Context(), doubtful); err != nil {
			t.Fatal(err)
		}
		served, refused := map[standing]int{}, map[standing]int{}
		var order []standing
		enter := func(st standing) {
			go func() {
				err := q.enter(t.Context(), st)
				if err != nil {
					if devices.CodeOf(err) != devices.CodeOverloaded {
						t.Error(err)
					}
					refused[st]++
					return
				}
				served[st]++
				order = append(order, st)
				q.leave()
			}()
			synctest.Wait()
		}
		for range 40 {
			enter(doubtful)
		}
		for range 10 {
			enter(clean)
		}
		for range 5 {
			enter(proven)
		}
		enter(doubtful)
		q.leave()
		synctest.Wait()
		if served[proven] != 5 || served[clean] != 10 || served[doubtful] != 17 || refused[doubtful] != 24 || len(refused) != 1 {
			t.Errorf("got served %v, refused %v", served, refused)
		}
		for i, st := range order[:15] {
			if want := map[bool]standing{true: proven, false: clean}[i < 5]; st != want {
				t.Errorf("place %d: got standing %d, want %d", i, st, want)
			}
		}
		for range 40 {
			enter(proven)
		}
		if q.running != 0 {
			t.Errorf("%d are hashing, want nobody", q.running)
		}
	})
}

// Who goes away gives up the place, or the turn that came at the same moment.
func TestHashQueueIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := hashQueue{most: 1}
		_ = q.enter(t.Context(), clean)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- q.enter(ctx, clean) }()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || len(q.waiting[clean]) != 0 {
			t.Errorf("got %v with %d waiting", err, len(q.waiting[clean]))
		}
		late := &turn{ready: make(chan bool, 1)}
		late.ready <- true // given, and abandoned
		q.abandon(late, clean)
		if q.running != 0 {
			t.Errorf("%d are hashing, want nobody", q.running)
		}
	})
}

// Who speaks for a sign-in: the person's name, the address, the IPv6 site, and what was before.
func TestStanding(t *testing.T) {
	var r repute
	r.init()
	now := time.Now()
	at := func(addr string) devices.Origin { return devices.Origin{Addr: addr} }
	of := func(o devices.Origin, name string, known bool) standing {
		st, settle := r.of(now, o, name, known)
		settle(false)
		return st
	}
	want := func(what string, got, want standing) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got standing %d, want %d", what, got, want)
		}
	}
	want("a person", of(at("192.0.2.1"), "ana", true), clean)
	want("nobody", of(at("192.0.2.1"), "nobody", false), doubtful)
	_, settle := r.of(now, at("192.0.2.1"), "ana", true)
	settle(true)
	want("who was here before", of(at("192.0.2.1"), "ana", true), proven)
	_, _ = r.of(now, at("[2001:db8:1:1::1]:4711"), "ana", true) // fails
	want("a name that was failed", of(at("192.0.2.2"), "ana", true), doubtful)
	want("who was here before, with a name that was failed", of(at("192.0.2.1"), "ana", true), proven)
	want("an address that failed", of(at("2001:db8:1:1::2"), "bob", true), doubtful)
	want("another of its site", of(at("2001:db8:1:2::1"), "bob", true), doubtful)
	want("another site", of(at("2001:db8:2:1::1"), "bob", true), clean)
	shared := at("2001:db8:1:1::1")
	shared.Shared = true
	want("an address that many share", of(shared, "bob", true), clean)
	now = now.Add(failedFor + time.Second)
	want("later", of(at("192.0.2.2"), "ana", true), clean)
	now = now.Add(goodFor)
	want("much later", of(at("192.0.2.1"), "ana", true), clean)
}
