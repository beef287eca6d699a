package hubtest_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub"
	"devicehub/hub/hubtest"
)

// failing is a test that is to fail: it keeps what it is told.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper()                        {}
func (f *failing) Cleanup(func())                 {}
func (f *failing) Errorf(format string, a ...any) { f.said += fmt.Sprintf(format, a...) }
func (f *failing) Fatal(a ...any)                 { f.said += fmt.Sprint(a...); runtime.Goexit() }
func (f *failing) Fatalf(format string, a ...any) { f.Fatal(fmt.Sprintf(format, a...)) }

// failure is what a test says that fails, or "".
func failure(t *testing.T, test func(t testing.TB)) string {
	f := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(f)
	}()
	<-done
	return f.said
}

// Outside a bubble a test fails and is shown the right program.
func TestOutsideABubble(t *testing.T) {
	ep := newEndpoint()
	for name, use := range map[string]func(t testing.TB){
		"Connect": func(t testing.TB) { hubtest.Connect(t, ep, "/socket", nil) },
		"Refused": func(t testing.TB) { hubtest.Refused(t, ep, "/socket", nil, hubtest.WithToken("bad")) },
		"Listen":  func(t testing.TB) { hubtest.Listen(t, ep.PubSub(), "sensor:a") },
	} {
		if got := failure(t, use); !strings.Contains(got, "synctest.Test(t, func(t *testing.T) {") {
			t.Errorf("%s: got %q, want the right program", name, got)
		}
	}
}

// In a bubble whose clock has come far, it works all the same.
func TestInsideAnOldBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(30 * 365 * 24 * time.Hour)
		hubtest.Connect(t, newEndpoint(), "/socket", nil).Join("sensor:a", nil).Want("presence_state", nil)
	})
}

// A wanted event may stand among others, which stay.
func TestWantSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := newEndpoint()
		c := hubtest.Connect(t, ep, "/socket", nil)
		room := c.Join("sensor:a", nil)
		listener := hubtest.Listen(t, ep.PubSub(), "sensor:a")
		for n := range 3 {
			ep.Broadcast("sensor:a", "n", map[string]int{"n": n})
			ep.Broadcast("sensor:a", "other", empty)
		}
		room.WantSoon("n", map[string]int{"n": 1})
		listener.WantSoon("n", map[string]int{"n": 1})
		room.Want("presence_state", nil)
		room.Want("n", map[string]int{"n": 0})
		listener.Want("n", map[string]int{"n": 0})
		if got := room.All("n"); len(got) != 1 || string(got[0].Bytes()) != `{"n":2}` {
			t.Errorf("All: got %v, want the third", got)
		}
		room.Want("other", nil)
		go func() {
			time.Sleep(3 * time.Second)
			ep.Broadcast("sensor:a", "late", empty)
		}()
		room.WantSoon("late", nil)
		room.Want("other", nil)
		room.Want("other", nil)
		c.WantQuiet()

		for name, row := range map[string]struct {
			want func(room *hubtest.Channel)
			says string
		}{
			"another payload": {func(room *hubtest.Channel) { room.WantSoon("n", map[string]int{"n": 8}) }, `got {"n":7}, want {"n":8}`},
			"another event":   {func(room *hubtest.Channel) { room.WantSoon("m", nil) }, "got n, last, want m"},
		} {
			got := failure(t, func(t testing.TB) { row.want(sent(t, ep)) })
			if !strings.Contains(got, row.says) {
				t.Errorf("%s: got %q, want %q in it", name, got, row.says)
			}
		}
	})
}

var empty = map[string]any{}

// sent is a channel whose client was sent two events.
func sent(t testing.TB, ep *hub.Endpoint) *hubtest.Channel {
	room := hubtest.Connect(t, ep, "/socket", nil).Join("sensor:b", nil)
	room.Ignore("presence_state")
	ep.Broadcast("sensor:b", "n", map[string]int{"n": 7})
	ep.Broadcast("sensor:b", "last", empty)
	return room
}

// Want, which holds to the order, says when the order is all that was wrong.
func TestWantHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := newEndpoint()
		got := failure(t, func(t testing.TB) { sent(t, ep).Want("last", nil) })
		if !strings.Contains(got, "want last, which came later: WantSoon") {
			t.Errorf("got %q", got)
		}
	})
}

// What is ignored is as if it had not been sent, before and after.
func TestIgnore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := newEndpoint()
		viewer := hubtest.Connect(t, ep, "/socket", nil)
		watch, other := viewer.Join("sensor:t-1", nil), viewer.Join("sensor:t-2", nil)
		watch.Ignore("presence_state", "presence_diff")
		device := hubtest.Connect(t, ep, "/socket", map[string]string{"device": "t-1"})
		device.Join("sensor:t-1", nil)
		ep.Broadcast("sensor:t-1", "news", empty)
		watch.Want("news", nil)
		watch.WantQuiet()
		other.Want("presence_state", nil)
		viewer.WantQuiet()
	})
}

// A reply may be looked at whatever its status, and a refusal of a client.
func TestReplyAndDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := newEndpoint()
		if _, err := hubtest.Dial(t, ep, "/socket", nil, hubtest.WithToken("bad")); err != hub.ErrRefused {
			t.Errorf("got %v, want ErrRefused", err)
		}
		forged := func(info *hub.ConnectInfo) { info.AuthToken = "bad" }
		if err := hubtest.Refused(t, ep, "/socket", nil, hubtest.WithInfo(forged)); err != hub.ErrRefused {
			t.Errorf("got %v, want ErrRefused", err)
		}
		c, err := hubtest.Dial(t, ep, "/socket", nil)
		if err != nil {
			t.Fatal(err)
		}
		room := c.Join("sensor:a", nil)
		if status, p := room.Push("dance", nil).Reply(); status != "error" || !strings.Contains(string(p.Bytes()), "unknown event") {
			t.Errorf("got %s %s, want an error", status, p.Bytes())
		}
		if status, _ := room.Push("reading", nil).Reply(); status != "ok" {
			t.Errorf("got %s, want ok", status)
		}
	})
}
