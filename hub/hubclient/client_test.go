package hubclient_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub/hubclient"
	"devicehub/hub/wire"
)

func TestJoinPushReplyLeave(t *testing.T) {
	bothTransports(t, func(t *testing.T, tr hubclient.Transport) {
		s, l := newServer(t), new(log)
		c := start(t, s, hubclient.Config{Transport: tr})
		ch := c.Channel("room:1", hubclient.ChannelConfig{
			Params:    func() any { return map[string]int{"a": 1} },
			OnJoin:    func(r hubclient.Reply) { l.add("joined", r.Status, string(r.Payload)) },
			OnMessage: func(m hubclient.Message) { l.add(m.Event, string(m.Payload)) },
			OnClose:   func(err error) { l.add("closed", fmt.Sprint(err)) },
		})
		s.on = func(p *peer, m wire.Message) bool {
			if m.Event.Is("phx_join") {
				p.reply(m, "ok", string(m.Payload))
				p.push(m.JoinRef.String(), "room:1", "welcome", `{"n":1}`)
				p.push("", "room:1", "news", `{"n":2}`)
				p.push("", "room:2", "other topic", `{}`)
				p.push("999", "room:1", "other join", `{}`)
				return true
			}
			return false
		}
		ch.Join()
		synctest.Wait()
		equal(t, "callbacks", l.take(), []string{`joined ok {"a":1}`, `welcome {"n":1}`, `news {"n":2}`})
		r, err := ch.Call(t.Context(), "echo", map[string]string{"x": "<y>"})
		if err != nil || !r.OK() || string(r.Payload) != `{"x":"\u003cy\u003e"}` {
			t.Errorf("got %s %s, %v", r.Status, r.Payload, err)
		}
		ch.Leave()
		synctest.Wait()
		equal(t, "callbacks", l.take(), []string{"closed <nil>"})
		if _, err := ch.Call(t.Context(), "echo", nil); !errors.Is(err, hubclient.ErrClosed) {
			t.Errorf("after leave: got %v, want ErrClosed", err)
		}
		equal(t, "server", s.last().events(), []string{"room:1 phx_join", "room:1 echo", "room:1 phx_leave"})
	})
}

func TestPushesWaitForTheJoin(t *testing.T) {
	bothTransports(t, func(t *testing.T, tr hubclient.Transport) {
		s, l := newServer(t), new(log)
		s.on = func(p *peer, m wire.Message) bool {
			if m.Event.Is("phx_join") {
				time.AfterFunc(5*time.Second, func() { p.reply(m, "ok", "{}") })
				return true
			}
			return false
		}
		c := start(t, s, hubclient.Config{Transport: tr, Buffer: 3, Timeout: 8 * time.Second})
		ch := c.Channel("room:1", hubclient.ChannelConfig{})
		ch.Join()
		for i := range 4 {
			ch.Push(fmt.Sprint("e", i), nil, func(r hubclient.Reply, err error) { l.add(fmt.Sprint("e", i), r.Status, fmt.Sprint(err)) })
		}
		synctest.Wait()
		equal(t, "before the join", l.take(), []string{"e3  buffer full"})
		equal(t, "server", s.last().events(), []string{"room:1 phx_join"})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		equal(t, "after", l.take(), []string{"e0 ok <nil>", "e1 ok <nil>", "e2 ok <nil>"})
	})
}

func TestBufferedPushTimesOutUnsent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := newServer(t), new(log)
		var open atomic.Bool
		s.refuse = func(w http.ResponseWriter, _ *http.Request) bool {
			if !open.Load() {
				w.WriteHeader(http.StatusForbidden)
			}
			return !open.Load()
		}
		c := start(t, s, hubclient.Config{})
		ch := c.Channel("room:1", hubclient.ChannelConfig{})
		ch.Join()
		ch.Push("e", nil, func(_ hubclient.Reply, err error) { l.add(fmt.Sprint(err)) })
		time.Sleep(11 * time.Second)
		synctest.Wait()
		open.Store(true)
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "push", l.take(), []string{"timed out"})
		equal(t, "server", s.last().events(), []string{"room:1 phx_join"})
	})
}

func TestPushTimesOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t)
		s.on = func(_ *peer, m wire.Message) bool { return m.Event.Is("silence") }
		c := start(t, s, hubclient.Config{})
		ch := c.Channel("room:1", hubclient.ChannelConfig{Timeout: 3 * time.Second})
		ch.Join()
		began := time.Now()
		_, err := ch.Call(t.Context(), "silence", nil)
		if !errors.Is(err, hubclient.ErrTimeout) || time.Since(began) != 3*time.Second {
			t.Errorf("got %v after %v, want ErrTimeout after 3s", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := ch.Call(ctx, "silence", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		if _, err := ch.Call(t.Context(), "x", func() {}); err == nil {
			t.Error("a function as payload: no error")
		}
	})
}

func TestReconnectsAndRejoins(t *testing.T) {
	bothTransports(t, func(t *testing.T, tr hubclient.Transport) {
		s, l := newServer(t), new(log)
		s.on = func(_ *peer, m wire.Message) bool { return m.Event.Is("silence") }
		c := start(t, s, hubclient.Config{
			Transport: tr,
			OnOpen:    func(o hubclient.Opened) { l.add("open", string(o.Transport)) },
			OnClose:   func(error) { l.add("lost") },
		})
		joins := 0
		ch := c.Channel("room:1", hubclient.ChannelConfig{
			Params:  func() any { joins++; return map[string]int{"join": joins} },
			OnJoin:  func(hubclient.Reply) { l.add("joined") },
			OnError: func(err error) { l.add("broken:", err.Error()) },
		})
		ch.Join()
		synctest.Wait()
		ch.Push("silence", nil, func(_ hubclient.Reply, err error) { l.add("silence:", err.Error()) })
		synctest.Wait()
		s.drop()
		time.Sleep(time.Second)
		synctest.Wait()
		equal(t, "callbacks", l.take(), []string{"open " + string(tr), "joined",
			"silence: disconnected before the answer", "broken: disconnected before the answer", "lost", "open " + string(tr), "joined"})
		if _, err := ch.Call(t.Context(), "echo", nil); err != nil || joins != 2 {
			t.Errorf("got %v after %d joins, want an answer after 2", err, joins)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t)
		var beats, silent atomic.Int32
		s.on = func(_ *peer, m wire.Message) bool {
			if m.Event.Is("heartbeat") {
				beats.Add(1)
			}
			return silent.Load() == 1
		}
		var lost error
		start(t, s, hubclient.Config{OnClose: func(err error) { lost = err }})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := beats.Load(); n < 19 || n > 21 || s.count() != 1 {
			t.Errorf("got %d heartbeats on %d connections in 10 minutes, want 20 on 1", n, s.count())
		}
		silent.Store(1)
		time.Sleep(time.Minute + 2*time.Second)
		synctest.Wait()
		if s.count() != 2 || lost == nil || lost.Error() != "heartbeat not answered" {
			t.Errorf("server silent: got %d connections, %v; want 2, heartbeat not answered", s.count(), lost)
		}
	})
}

func TestLongPollSendsNoHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t)
		start(t, s, hubclient.Config{Transport: hubclient.LongPoll})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if p := s.last(); s.count() != 1 || len(p.got) != 0 {
			t.Errorf("got %d sessions, %q", s.count(), p.got)
		}
	})
}

func TestCrashRejoinsAndCloseDoesNot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := newServer(t), new(log)
		c := start(t, s, hubclient.Config{})
		ch := c.Channel("room:1", hubclient.ChannelConfig{
			OnError: func(err error) { l.add(err.Error()) },
			OnClose: func(err error) { l.add("closed", fmt.Sprint(err)) },
		})
		ch.Join()
		synctest.Wait()
		s.last().push("1", "room:1", "phx_error", `{"reason":"channel_crash"}`)
		synctest.Wait()
		equal(t, "crash", l.take(), []string{"channel crashed: channel_crash"})
		if ch.State() != hubclient.Errored {
			t.Errorf("got %v, want errored", ch.State())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if ch.State() != hubclient.Joined {
			t.Errorf("got %v, want joined", ch.State())
		}
		s.last().push("1", "room:1", "phx_close", `{}`) // of the old join
		synctest.Wait()
		equal(t, "stale close", l.take(), nil)
		s.last().push("2", "room:1", "phx_close", `{}`)
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "close", l.take(), []string{"closed <nil>"})
		equal(t, "server", s.last().events(), []string{"room:1 phx_join", "room:1 phx_join"})
	})
}

func TestRefusedJoinTriesAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t)
		var at []time.Duration
		began := time.Now()
		s.on = func(p *peer, m wire.Message) bool {
			if m.Event.Is("phx_join") {
				at = append(at, time.Since(began))
				body := `{"reason":"unauthorized","code":"forbidden"}`
				if len(at) == 3 {
					body = `{"code":"rate_limited","retry_after_ms":60000}`
				}
				p.reply(m, "error", body)
				return true
			}
			return false
		}
		var refusals int
		c := start(t, s, hubclient.Config{RejoinAfter: func(n int) time.Duration { return time.Duration(n) * time.Second }})
		ch := c.Channel("room:1", hubclient.ChannelConfig{OnRefused: func(hubclient.Reply) { refusals++ }})
		ch.Join()
		time.Sleep(64 * time.Second)
		synctest.Wait()
		if got := fmt.Sprint(at); got != "[0s 1s 3s 1m3s]" || refusals != 4 {
			t.Errorf("joins at %s, %d refusals; want [0s 1s 3s 1m3s], 4", got, refusals)
		}
		ch.Leave()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(at) != 4 {
			t.Errorf("%d joins after Leave, want 4", len(at))
		}
	})
}

func TestJoinTimeoutLeavesAndRejoins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := newServer(t), new(log)
		var joins int
		s.on = func(_ *peer, m wire.Message) bool {
			if m.Event.Is("phx_join") {
				joins++
			}
			return m.Event.Is("phx_join") && joins == 1
		}
		c := start(t, s, hubclient.Config{})
		ch := c.Channel("room:1", hubclient.ChannelConfig{OnError: func(err error) { l.add(err.Error()) }})
		ch.Join()
		time.Sleep(12 * time.Second)
		synctest.Wait()
		equal(t, "errors", l.take(), []string{"timed out"})
		equal(t, "server", s.last().events(), []string{"room:1 phx_join", "room:1 phx_leave", "room:1 phx_join"})
	})
}

func TestConnectParameters(t *testing.T) {
	bothTransports(t, func(t *testing.T, tr hubclient.Transport) {
		s := newServer(t)
		const tok = "a token?>~ÿ"
		start(t, s, hubclient.Config{
			Transport: tr,
			AuthToken: func() string { return tok },
			Params:    func() url.Values { return url.Values{"a[b]": {"1 2"}} },
			Header:    http.Header{"X-Test": {"yes"}},
		})
		synctest.Wait()
		r := s.connects[0]
		if q := r.URL.Query(); q.Get("vsn") != "2.0.0" || q.Get("a[b]") != "1 2" || r.Header.Get("X-Test") != "yes" {
			t.Errorf("got %v, header %q", q, r.Header.Get("X-Test"))
		}
		if tr == hubclient.LongPoll {
			if got := r.Header.Get("X-Phoenix-AuthToken"); got != tok {
				t.Errorf("got token %q", got)
			}
			return
		}
		want := "phoenix, base64url.bearer.phx." + base64.RawStdEncoding.EncodeToString([]byte(tok))
		if got := r.Header.Get("Sec-WebSocket-Protocol"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestRefusedConnect(t *testing.T) {
	bothTransports(t, func(t *testing.T, tr hubclient.Transport) {
		s := newServer(t)
		body := `{"reason":"slow down","code":"rate_limited","retry_after_ms":20000}`
		var tries []time.Duration
		began := time.Now()
		s.refuse = func(w http.ResponseWriter, _ *http.Request) bool {
			tries = append(tries, time.Since(began).Truncate(10*time.Second))
			if tr == hubclient.LongPoll {
				io.WriteString(w, `{"status":429,"error":`+body+`}`)
			} else {
				w.WriteHeader(429)
				io.WriteString(w, body)
			}
			return true
		}
		var lost error
		start(t, s, hubclient.Config{Transport: tr, OnClose: func(err error) { lost = err }})
		time.Sleep(25 * time.Second)
		synctest.Wait()
		e, ok := errors.AsType[*hubclient.RefusedError](lost)
		if !ok || e.Status != 429 || e.Code != "rate_limited" || e.Reason != "slow down" || e.RetryAfter != 20*time.Second {
			t.Errorf("got %v", lost)
		}
		if got := fmt.Sprint(tries); got != "[0s 20s]" {
			t.Errorf("tries at %s, want [0s 20s]", got)
		}
	})
}

func TestBinary(t *testing.T) {
	bothTransports(t, func(t *testing.T, tr hubclient.Transport) {
		s := newServer(t)
		var got []byte
		c := start(t, s, hubclient.Config{Transport: tr})
		ch := c.Channel("room:ü", hubclient.ChannelConfig{OnMessage: func(m hubclient.Message) {
			if m.Binary {
				got = m.Payload
			}
		}})
		ch.Join()
		var reply hubclient.Reply
		ch.PushBinary("bin", []byte{0, 255, 10}, func(r hubclient.Reply, _ error) { reply = r })
		synctest.Wait()
		if !reply.OK() || !reply.Binary || !bytes.Equal(reply.Payload, []byte{0, 255, 10}) {
			t.Errorf("reply: got %+v", reply)
		}
		b, _ := wire.AppendBinaryBroadcast(nil, wire.Str("room:ü"), wire.Str("cast"), []byte{9})
		s.last().send(b, true)
		synctest.Wait()
		if !bytes.Equal(got, []byte{9}) {
			t.Errorf("broadcast: got %v", got)
		}
	})
}

func TestServerCloses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := newServer(t)
		c, err := hubclient.New(hubclient.Config{URL: "http://hub/socket/websocket", Dial: s.ln.dial})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Run(t.Context()) }()
		synctest.Wait()
		s.last().close(1012)
		time.Sleep(time.Second)
		synctest.Wait()
		if s.count() != 2 {
			t.Fatalf("after 1012: %d connections, want 2", s.count())
		}
		s.last().close(1000)
		e, ok := errors.AsType[*hubclient.CloseError](<-ended)
		if !ok || e.Code != 1000 {
			t.Errorf("after 1000: got %v", e)
		}
		if err := c.Run(t.Context()); err == nil {
			t.Error("a second Run: no error")
		}
	})
}

func TestCloseWritesWhatWasPushed(t *testing.T) {
	bothTransports(t, func(t *testing.T, tr hubclient.Transport) {
		s := newServer(t)
		c := start(t, s, hubclient.Config{Transport: tr})
		ch := c.Channel("room:1", hubclient.ChannelConfig{})
		ch.Join()
		synctest.Wait()
		for range 5 {
			ch.Push("e", nil, nil)
		}
		c.Close()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := len(s.last().events()); got != 6 {
			t.Errorf("server got %d events, want 6", got)
		}
		if ch.State() != hubclient.Closed || c.Connected() != "" {
			t.Errorf("got %v, %q", ch.State(), c.Connected())
		}
	})
}

func TestDropAndAbandon(t *testing.T) {
	bothTransports(t, func(t *testing.T, tr hubclient.Transport) {
		s := newServer(t)
		c := start(t, s, hubclient.Config{Transport: tr})
		ch := c.Channel("room:1", hubclient.ChannelConfig{})
		ch.Join()
		synctest.Wait()
		for i, end := range []func(time.Duration){c.Drop, c.Abandon} {
			end(30 * time.Second)
			time.Sleep(29 * time.Second)
			synctest.Wait()
			if s.count() != i+1 || ch.State() != hubclient.Errored {
				t.Fatalf("%d connections, channel %v; want to stay away", s.count(), ch.State())
			}
			if !c.Waiting() {
				t.Error("stays away, and does not say that it waits")
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if s.count() != i+2 || ch.State() != hubclient.Joined || c.Waiting() {
				t.Fatalf("%d connections, channel %v; want to be back", s.count(), ch.State())
			}
		}
		c.Drop(time.Hour)
		c.Reconnect()
		time.Sleep(time.Second)
		synctest.Wait()
		if ch.State() != hubclient.Joined {
			t.Errorf("after Reconnect: %v, want joined", ch.State())
		}
		if tr == hubclient.WebSocket {
			abandoned := s.peers[1]
			if err := abandoned.ws.WriteControl(9, nil, time.Now().Add(time.Second)); err == nil {
				t.Error("the abandoned connection reads; nobody should")
			}
		}
	})
}

func TestFallback(t *testing.T) {
	tests := []struct {
		name   string
		refuse func(w http.ResponseWriter, r *http.Request) bool
		on     func(p *peer, m wire.Message) bool
	}{
		{"upgrade refused", func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/websocket") {
				w.WriteHeader(http.StatusBadGateway)
				return true
			}
			return false
		}, nil},
		{"upgrade never answered", func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/websocket") {
				<-r.Context().Done()
				return true
			}
			return false
		}, nil},
		{"open but silent", nil, func(p *peer, _ wire.Message) bool { return p.ws != nil }},
		{"open and broken", nil, func(p *peer, _ wire.Message) bool {
			if p.ws != nil {
				p.ws.Close()
			}
			return p.ws != nil
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := newServer(t)
				s.refuse, s.on = tt.refuse, tt.on
				c := start(t, s, hubclient.Config{Fallback: 2500 * time.Millisecond})
				ch := c.Channel("room:1", hubclient.ChannelConfig{})
				ch.Join()
				time.Sleep(6 * time.Second)
				synctest.Wait()
				if c.Connected() != hubclient.LongPoll || ch.State() != hubclient.Joined {
					t.Errorf("got %q, channel %v; want longpoll, joined", c.Connected(), ch.State())
				}
				c.Drop(0)
				time.Sleep(time.Second)
				synctest.Wait()
				if c.Connected() != hubclient.LongPoll {
					t.Errorf("after a reconnect: got %q, want longpoll", c.Connected())
				}
			})
		})
	}
	t.Run("WebSocket that works stays", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			s := newServer(t)
			c := start(t, s, hubclient.Config{Fallback: 2500 * time.Millisecond})
			time.Sleep(time.Minute)
			synctest.Wait()
			s.drop()
			time.Sleep(time.Second)
			synctest.Wait()
			if c.Connected() != hubclient.WebSocket {
				t.Errorf("got %q, want websocket", c.Connected())
			}
		})
	})
}

func TestLongPollBatchesPosts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := newServer(t), new(log)
		c := start(t, s, hubclient.Config{Transport: hubclient.LongPoll, Buffer: 1000})
		ch := c.Channel("room:1", hubclient.ChannelConfig{})
		ch.Join()
		synctest.Wait()
		for range 250 {
			ch.Push("e", nil, func(r hubclient.Reply, err error) { l.add(r.Status) })
		}
		synctest.Wait()
		if got := len(l.take()); got != 250 {
			t.Errorf("%d answers, want 250", got)
		}
		for _, n := range s.posts {
			if n > 100 {
				t.Errorf("a POST of %d lines, want at most 100", n)
			}
		}
		if len(s.posts) > 8 {
			t.Errorf("%d POSTs for 250 pushes", len(s.posts))
		}
	})
}

func TestSecondChannelTakesTheTopic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, l := newServer(t), new(log)
		c := start(t, s, hubclient.Config{})
		one := c.Channel("room:1", hubclient.ChannelConfig{OnClose: func(err error) { l.add(err.Error()) }})
		one.Join()
		synctest.Wait()
		two := c.Channel("room:1", hubclient.ChannelConfig{})
		two.Join()
		synctest.Wait()
		equal(t, "one", l.take(), []string{hubclient.ErrReplaced.Error()})
		if two.State() != hubclient.Joined {
			t.Errorf("got %v, want joined", two.State())
		}
	})
}

func TestObserveSeesEveryFrame(t *testing.T) {
	bothTransports(t, func(t *testing.T, tr hubclient.Transport) {
		s, l := newServer(t), new(log)
		c := start(t, s, hubclient.Config{Transport: tr, Observe: func(f hubclient.Frame) { l.add(fmt.Sprint(f.Out), string(f.Data)) }})
		c.Channel("a", hubclient.ChannelConfig{}).Join()
		synctest.Wait()
		equal(t, "frames", l.take(), []string{`true ["1","1","a","phx_join",{}]`, `false ["1","1","a","phx_reply",{"response":{},"status":"ok"}]`})
	})
}

// Every push is answered exactly once, whatever happens to the connection.
func TestConcurrentPushesThroughDrops(t *testing.T) {
	s := newServer(t)
	c := start(t, s, hubclient.Config{ReconnectAfter: func(int) time.Duration { return time.Millisecond },
		RejoinAfter: func(int) time.Duration { return time.Millisecond }})
	ch := c.Channel("room:1", hubclient.ChannelConfig{})
	ch.Join()
	var answers, ok atomic.Int64
	var wg sync.WaitGroup
	const pushers, pushes = 8, 200
	for range pushers {
		wg.Go(func() {
			for range pushes {
				done := make(chan struct{})
				ch.Push("echo", nil, func(_ hubclient.Reply, err error) {
					if err == nil {
						ok.Add(1)
					}
					answers.Add(1)
					close(done)
				})
				<-done
			}
		})
	}
	stop := make(chan struct{})
	var dropper sync.WaitGroup
	dropper.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
				c.Drop(0)
			}
		}
	})
	wg.Wait()
	close(stop)
	dropper.Wait()
	if answers.Load() != pushers*pushes || ok.Load() == 0 {
		t.Errorf("%d answers, %d ok; want %d answers", answers.Load(), ok.Load(), pushers*pushes)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, u := range []string{"", "tcp://hub/socket", "ws:///socket", "http://[::1", "localhost:4000/socket"} {
		if _, err := hubclient.New(hubclient.Config{URL: u}); err == nil {
			t.Errorf("New(%q): no error", u)
		}
	}
	if _, err := hubclient.New(hubclient.Config{URL: "ws://hub/socket", Transport: "carrier pigeon"}); err == nil {
		t.Error("an unknown transport: no error")
	}
}

// Whatever a server sends, the client neither panics nor hangs.
func FuzzFrames(f *testing.F) {
	f.Add([]byte(`["1","1","a","phx_reply",{"response":{},"status":"ok"}]`), false)
	f.Add([]byte(`[null,null,"a","presence_state",{"k":{"metas":[{}]}}]`), false)
	f.Add([]byte(`[null,null,"a","presence_diff",{"joins":{"k":null},"leaves":{}}]`), false)
	f.Add([]byte(`["1","1","a","phx_error",null]`), false)
	f.Add([]byte{1, 1, 1, 1, 2, '1', '1', 'a', 'o', 'k'}, true)
	f.Fuzz(func(t *testing.T, data []byte, binary bool) {
		bubble(t, func(t *testing.T) {
			s := newServer(t)
			c := start(t, s, hubclient.Config{})
			ch := c.Channel("a", hubclient.ChannelConfig{OnMessage: func(m hubclient.Message) { m.Decode(new(any)) }})
			ch.Presence(nil)
			ch.Join()
			ch.Push("e", nil, nil)
			synctest.Wait()
			s.last().send(data, binary)
			synctest.Wait()
			c.Close()
		})
	})
}
