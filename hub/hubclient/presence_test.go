package hubclient_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub/hubclient"
)

func TestPresence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := newServer(t), new(log)
		c := start(t, s, hubclient.Config{})
		ch := c.Channel("a", hubclient.ChannelConfig{OnMessage: func(m hubclient.Message) { l.add("leaked", m.Event) }})
		p := ch.Presence(func(d hubclient.PresenceChange) { l.add(fmt.Sprint(len(d.Joins), " in, ", len(d.Leaves), " out")) })
		ch.Join()
		synctest.Wait()
		send := func(event, payload string) {
			s.last().push("", "a", event, payload)
			synctest.Wait()
		}
		list := func() string {
			b, _ := json.Marshal(p.List())
			return string(b)
		}
		// A diff that overtakes the state waits for it, and is not applied twice.
		send("presence_diff", `{"joins":{"u2":{"metas":[{"phx_ref":"2"}]}},"leaves":{}}`)
		if list() != `{}` {
			t.Errorf("before the state: got %s", list())
		}
		send("presence_state", `{"u1":{"metas":[{"phx_ref":"1","n":1}]},"u2":{"metas":[{"phx_ref":"2"}]}}`)
		want := `{"u1":{"metas":[{"phx_ref":"1","n":1}]},"u2":{"metas":[{"phx_ref":"2"}]}}`
		if list() != want {
			t.Errorf("got %s, want %s", list(), want)
		}
		// An update stands on both sides; joins come before leaves.
		send("presence_diff", `{"joins":{"u1":{"metas":[{"phx_ref":"1b","n":2}]}},"leaves":{"u1":{"metas":[{"phx_ref":"1"}]}}}`)
		// A second device of the same key.
		send("presence_diff", `{"joins":{"u2":{"metas":[{"phx_ref":"2b"}]}},"leaves":{}}`)
		want = `{"u1":{"metas":[{"phx_ref":"1b","n":2}]},"u2":{"metas":[{"phx_ref":"2"},{"phx_ref":"2b"}]}}`
		if list() != want {
			t.Errorf("got %s, want %s", list(), want)
		}
		send("presence_diff", `{"joins":{},"leaves":{"u1":{"metas":[{"phx_ref":"1b"}]},"nobody":{"metas":[]}}}`)
		want = `{"u2":{"metas":[{"phx_ref":"2"},{"phx_ref":"2b"}]}}`
		if list() != want {
			t.Errorf("got %s, want %s", list(), want)
		}
		l.take()
		// After a crash and a new join the state is compared with the list that was.
		s.last().push("1", "a", "phx_error", `{}`)
		synctest.Wait()
		s.drop()
		time.Sleep(time.Second)
		synctest.Wait()
		send("presence_state", `{"u2":{"metas":[{"phx_ref":"2b"}]},"u3":{"metas":[{"phx_ref":"3"}]}}`)
		want = `{"u2":{"metas":[{"phx_ref":"2b"}]},"u3":{"metas":[{"phx_ref":"3"}]}}`
		if list() != want {
			t.Errorf("got %s, want %s", list(), want)
		}
		equal(t, "changes", l.take(), []string{"1 in, 1 out"})
	})
}
