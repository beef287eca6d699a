package quota

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

func limits() Limits {
	l := Limits{Checks: Rate{100, 100}, Failures: Rate{2, 2}, DeviceDay: 86_400}
	for _, b := range []*Bounds{&l.Device, &l.Other} {
		b.Rates = [classes]Rate{Events: {20, 100}, Reads: {100, 400}, Calls: {50, 200}, Connects: {5, 100}, Messages: {10, 10}}
		b.Places = [places]int{Sockets: 32, LongPolls: 8, AtOnce: 4}
	}
	return l
}

// wantLimited wants rate_limited with a time to wait.
func wantLimited(t *testing.T, what string, err error) {
	t.Helper()
	e, _ := err.(*devices.Error)
	if e == nil || e.Code != devices.CodeRateLimited || e.RetryAfter <= 0 {
		t.Errorf("%s: got %v, want rate_limited with retry_after_ms", what, err)
	}
}

// One principal has one allowance, however many hold it; another has its own.
func TestRateIsOneForAllConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(limits())
		a, b := q.Hold(devices.ActorUser, "ana"), q.Hold(devices.ActorUser, "ana")
		taken := 0
		for i := range 200 {
			of := a
			if i%2 == 1 {
				of = b
			}
			if _, err := of.Allow(Events); err == nil {
				taken++
			} else {
				wantLimited(t, "over the rate", err)
			}
		}
		if taken != 100 {
			t.Errorf("got %d taken at once, want the burst of 100", taken)
		}
		if _, err := q.Hold(devices.ActorService, "ana").Allow(Events); err != nil {
			t.Errorf("an account of the same name: %v", err)
		}
		time.Sleep(time.Second)
		taken = 0
		for range 100 {
			if _, err := a.Allow(Events); err == nil {
				taken++
			}
		}
		if taken != 20 {
			t.Errorf("got %d taken a second later, want 20", taken)
		}
	})
}

// Who keeps to retry_after_ms is never cut off; who sends ten times its rate is, within seconds.
func TestCutOff(t *testing.T) {
	for _, row := range []struct {
		name      string
		perSecond int
		cut       bool
	}{{"twice the rate", 40, false}, {"eight times the rate", 160, false}, {"twenty times the rate", 400, true}, {"a flood", 50_000, true}} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := New(limits())
				a := q.Hold(devices.ActorUser, "ana")
				was := false
				for range 20 * row.perSecond {
					cut, _ := a.Allow(Events)
					was = was || cut
					time.Sleep(time.Second / time.Duration(row.perSecond))
				}
				if was != row.cut {
					t.Errorf("got cut off %t within 20 s, want %t", was, row.cut)
				}
			})
		})
	}
}

func TestPlaces(t *testing.T) {
	q := New(limits())
	var leave []func()
	for range 8 {
		l, err := q.Hold(devices.ActorUser, "ana").Enter(LongPolls)
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, l)
	}
	_, err := q.Hold(devices.ActorUser, "ana").Enter(LongPolls)
	wantLimited(t, "a ninth session", err)
	if _, err := q.Hold(devices.ActorUser, "ana").Enter(Sockets); err != nil {
		t.Errorf("a socket beside them: %v", err)
	}
	leave[0]()
	if _, err := q.Hold(devices.ActorUser, "ana").Enter(LongPolls); err != nil {
		t.Errorf("after one was given back: %v", err)
	}
}

// What cannot be refused is held up to its rate.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New(limits()).Hold(devices.ActorService, "z2m")
		from := time.Now()
		for range 110 {
			time.Sleep(a.Wait(Messages))
		}
		if took := time.Since(from); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("got 110 messages in %v, want some 10 s at 10 a second", took)
		}
	})
}

// An account that nobody holds goes once it is as good as new, and not before.
func TestAccountsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(limits())
		spent := q.Hold(devices.ActorUser, "spent")
		for range 100 {
			spent.Allow(Events)
		}
		spent.Release()
		kept := q.Hold(devices.ActorUser, "kept")
		for i := range 10_000 {
			q.Hold(devices.ActorUser, fmt.Sprint(i)).Release()
		}
		if _, err := q.Hold(devices.ActorUser, "spent").Allow(Events); err == nil {
			t.Error("an account with nothing left was forgotten")
		}
		q.Hold(devices.ActorUser, "spent").Release()
		time.Sleep(time.Minute)
		for i := range 1000 {
			q.Hold(devices.ActorUser, fmt.Sprint("new", i)).Release()
		}
		if n := q.Len(); n > 1100 {
			t.Errorf("got %d accounts, want those of the last minute and those held", n)
		}
		if q.Hold(devices.ActorUser, "kept") != kept {
			t.Error("an account that is held was forgotten")
		}
	})
}

// Failures are charged to who failed: the name at the address.
func TestFailuresAreTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(limits())
		for range 2 {
			if err := q.Judge("192.0.2.1:1", "bad"); err != nil {
				t.Fatal(err)
			}
			if err := q.Failed("192.0.2.1:1", "bad"); err != nil {
				t.Fatal(err)
			}
		}
		wantLimited(t, "a third signature", q.Judge("192.0.2.1:2", "bad"))
		wantLimited(t, "a third failure", q.Failed("192.0.2.1:3", "bad"))
		for _, other := range []Stranger{{"192.0.2.1:9", "good"}, {"192.0.2.1:9", ""}, {"192.0.2.2:1", "bad"}} {
			if err := q.Judge(other.Addr, other.Name); err != nil {
				t.Errorf("%+v: %v", other, err)
			}
		}
		time.Sleep(time.Second)
		if err := q.Judge("192.0.2.1:1", "bad"); err != nil {
			t.Errorf("a second later: %v", err)
		}
	})
}

// An address has a bounded number of signatures checked, whatever names it claims.
func TestChecksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(limits())
		checked := 0
		for i := range 1000 {
			if q.Judge(fmt.Sprintf("[2001:db8::%x]:1", i+1), fmt.Sprint(i)) == nil {
				checked++
			}
		}
		if checked != 100 {
			t.Errorf("got %d signatures checked for one /64, want 100", checked)
		}
	})
}

func TestStrangersAreBounded(t *testing.T) {
	var table Table
	table.SetRate(Rate{1, 1})
	now := time.Now()
	for i := range MaxStrangers + 1000 {
		table.Take(Stranger{Addr: fmt.Sprint(i)}, now)
	}
	if n := table.Len(); n > MaxStrangers+1 {
		t.Errorf("got %d, want at most %d", n, MaxStrangers+1)
	}
	if _, ok := table.Take(Stranger{Addr: "one more"}, now); ok {
		t.Error("those beyond the bound have more than one allowance")
	}
	table.Take(Stranger{Addr: "later"}, now.Add(time.Minute))
	if n := table.Len(); n > 2 {
		t.Errorf("got %d a minute later, want those alone that came since", n)
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:80": "192.0.2.1", "192.0.2.1": "192.0.2.1", "[::ffff:192.0.2.1]:80": "192.0.2.1",
		"[2001:db8::1]:80": "2001:db8::/64", "2001:db8:0:0:ffff::1": "2001:db8::/64", "fe80::1%eth0": "fe80::/64",
		"bridge:house": "bridge:house", "": "",
	} {
		if got := Address(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// A device that has had its bytes of the day waits until they come back.
func TestBytesOfTheDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(limits()) // a byte a second
		if err := q.MayStore("d"); err != nil {
			t.Fatal(err)
		}
		q.Stored("d", 86_400)
		if err := q.MayStore("d"); err != nil {
			t.Errorf("with nothing left but nothing owed: %v", err)
		}
		q.Stored("d", 3600)
		err := q.MayStore("d")
		wantLimited(t, "over the day", err)
		if e := err.(*devices.Error); e.RetryAfter != time.Hour {
			t.Errorf("got %v to wait, want the hour that the bytes take", e.RetryAfter)
		}
		if err := q.MayStore("other"); err != nil {
			t.Errorf("another: %v", err)
		}
		time.Sleep(time.Hour + time.Second)
		if err := q.MayStore("d"); err != nil {
			t.Errorf("an hour later: %v", err)
		}
		q.Forget("d")
		if n := len(q.stored.devices); n != 0 {
			t.Errorf("%d devices are counted, want none", n)
		}
	})
}

// What a device has stored at once is bounded, too, so that it cannot have its day in a minute.
func TestBytesOfTheMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limits()
		l.DeviceMinute, l.DeviceDay = 6000, 1_000_000
		q := New(l)
		taken := 0
		for range 10 * 60 * 10 { // 10 minutes of 1000 bytes every 100 ms
			err := q.MayStore("d")
			if err == nil {
				q.Stored("d", 1000)
				taken += 1000
			} else if e := err.(*devices.Error); e.Code != devices.CodeRateLimited || e.RetryAfter < time.Second || e.RetryAfter > 10*time.Second {
				t.Fatalf("got %v, %v to wait", err, e.RetryAfter)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if taken < 65_000 || taken > 68_000 {
			t.Errorf("%d bytes in ten minutes, want 6000 at once and 6000 in each", taken)
		}
		if err := q.MayStore("other"); err != nil {
			t.Errorf("another: %v", err)
		}
	})
}

// What was spent already is owed, and not for ever.
func TestSpendAndOwe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limits()
		l.Other.Rates[Kept] = Rate{100, 1000}
		q := New(l)
		a := q.Hold(devices.ActorService, "ana")
		a.Spend(Kept, 1000)
		if d := a.Owes(Kept); d != 0 {
			t.Errorf("within the burst: owes %v", d)
		}
		a.Spend(Kept, 500)
		if d := a.Owes(Kept); d != 5*time.Second {
			t.Errorf("500 beyond it, at 100 a second: owes %v", d)
		}
		if d := q.Hold(devices.ActorService, "ben").Owes(Kept); d != 0 {
			t.Errorf("another owes %v", d)
		}
		a.Spend(Kept, 1<<30)
		if d := a.Owes(Kept); d != time.Minute {
			t.Errorf("owes %v, want a minute at most", d)
		}
		time.Sleep(time.Minute + time.Second)
		if d := a.Owes(Kept); d != 0 {
			t.Errorf("a minute later: owes %v", d)
		}
		if full := a.full(q.now()); full {
			t.Error("it is as good as new before its burst is back")
		}
	})
}

// When space is short, who wrote most in the last hour is refused, and nobody else.
func TestHeaviestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limits()
		l.DeviceDay = 0
		q := New(l)
		for i := range 20 {
			q.Stored(devices.ID(fmt.Sprint("good", i)), 400_000)
		}
		q.Stored("thief", 500<<20)
		q.Stored("busy", 900_000)
		if err := q.MayStore("thief"); err != nil {
			t.Fatalf("with space left: %v", err)
		}
		q.SpaceIsShort(true)
		if err := q.MayStore("thief"); devices.CodeOf(err) != devices.CodeOverloaded {
			t.Errorf("got %v, want overloaded", err)
		}
		for _, id := range []devices.ID{"good7", "busy", "new"} {
			if err := q.MayStore(id); err != nil {
				t.Errorf("%s: %v", id, err)
			}
		}
		time.Sleep(2 * time.Hour)
		if err := q.MayStore("thief"); err != nil {
			t.Errorf("two silent hours later: %v", err)
		}
		q.Stored("thief", 500<<20)
		q.SpaceIsShort(false)
		if err := q.MayStore("thief"); err != nil {
			t.Errorf("with room again: %v", err)
		}
	})
}

// The disk is looked at, and the flag goes with it; devices that were silent for a day are
// forgotten.
func TestWatchSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(limits())
		q.Stored("small", 10)
		q.Stored("thief", 10<<20)
		l := limits()
		l.DeviceDay, l.DeviceMinute = 1<<40, 1<<40
		q.SetLimits(l)
		var free atomic.Int64
		free.Store(1600)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- q.WatchSpace(ctx, func() (int64, int64, error) { return free.Load(), 1000, nil }) }()
		for _, row := range []struct {
			free int64
			code devices.Code
		}{{1600, ""}, {1499, devices.CodeOverloaded}, {1500, ""}} {
			free.Store(row.free)
			time.Sleep(6 * time.Second)
			if err := q.MayStore("thief"); devices.CodeOf(err) != row.code {
				t.Errorf("with %d free of 1000 kept back: got %v, want %q", row.free, err, row.code)
			}
		}
		time.Sleep(26 * time.Hour)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := len(q.stored.devices); n != 0 {
			t.Errorf("%d devices are counted after a silent day, want none", n)
		}
	})
}

func TestNilBoundsNothing(t *testing.T) {
	var q *Quota
	a := q.Hold(devices.ActorUser, "ana")
	defer a.Release()
	for range 10_000 {
		if _, err := a.Allow(Events); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Judge("192.0.2.1", "x"); err != nil || q.Failed("192.0.2.1", "x") != nil || q.MayStore("d") != nil {
		t.Error("the nil Quota bounds something")
	}
}

func BenchmarkAllow(b *testing.B) {
	l := limits()
	l.Other.Rates[Events] = Rate{1e12, 1e12}
	a := New(l).Hold(devices.ActorUser, "ana")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Allow(Events); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSite(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1:80": "", "[::ffff:192.0.2.1]:80": "", "[2001:db8:1:2::1]:80": "2001:db8:1::/48", "2001:db8:1:2::1": "2001:db8:1::/48",
		"2001:db8:1:2::/64": "2001:db8:1::/48", "bridge:house": "", "": "",
	} {
		if got := Site(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
