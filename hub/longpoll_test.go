package hub_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/hub"
)

// poller is a long-poll client without a network.
type poller struct {
	t     *testing.T
	ep    *hub.Endpoint
	query string
	token string
}

type polled struct {
	http     int
	Status   int
	Token    string
	Messages []string
}

func (p *poller) do(method, body, contentType string) polled {
	req := httptest.NewRequestWithContext(context.Background(), method, "/socket/longpoll?vsn=2.0.0"+p.query, strings.NewReader(body))
	req.Header.Set("X-Phoenix-Longpoll-Token", p.token)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	p.ep.ServeHTTP(w, req)
	got := polled{http: w.Code}
	if w.Code == http.StatusOK && w.Body.Len() > 0 {
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			p.t.Errorf("%s: %v", w.Body, err)
		}
	}
	return got
}

func (p *poller) post(lines ...string) int {
	return p.do("POST", strings.Join(lines, "\n"), "application/x-ndjson").Status
}

func open(t *testing.T, ep *hub.Endpoint, query string) *poller {
	p := &poller{t: t, ep: ep, query: query}
	got := p.do("GET", "", "")
	if got.Status != 410 || got.Token == "" {
		t.Fatalf("open: got %+v, want 410 and a token", got)
	}
	p.token = got.Token
	return p
}

func polling(t *testing.T, f func(t *testing.T, ep *hub.Endpoint), opts ...hub.SocketOption) {
	synctest.Test(t, func(t *testing.T) {
		ep := hub.New()
		r := hub.NewRouter(nil, hub.WithID(func(context.Context) string { return "the-id" }))
		r.Channel("room:*", func() hub.Channel { return echo{} })
		ep.Socket("/socket", r, opts...)
		f(t, ep)
		if err := ep.Drain(t.Context()); err != nil {
			t.Error("drain:", err)
		}
	})
}

const joinA = `["1","1","room:a","phx_join",{}]`

func TestLongPoll(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		p := open(t, ep, "")
		if got := p.post(joinA, `["1","2","room:a","echo",{"n":1}]`, "", "  ", `[null,"3","phoenix","heartbeat",{}]`+"\r\n"); got != 200 {
			t.Fatalf("got status %d, want 200", got)
		}
		synctest.Wait()
		if got := p.do("GET", "", ""); got.Status != 200 || len(got.Messages) != 3 || got.Token != p.token {
			t.Errorf("got %+v, want three messages", got)
		}
		start := time.Now()
		if got := p.do("GET", "", ""); got.Status != 204 || time.Since(start) != 10*time.Second {
			t.Errorf("got %+v after %v, want 204 after 10 s", got, time.Since(start))
		}
	}, hub.WithBodyBytes(2000), hub.WithFrameBytes(1000))
}

func TestLongPollSessionsOutliveAChange(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		p := open(t, ep, "")
		ep.Change("/socket", hub.WithMaxChannels(7))
		if got := p.post(joinA); got != 200 {
			t.Errorf("got status %d, want 200", got)
		}
		synctest.Wait()
		if got := p.do("GET", "", ""); got.Status != 200 || len(got.Messages) != 1 {
			t.Errorf("got %+v, want the answer", got)
		}
	})
}

func TestLongPollWakesAParkedPoll(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		p := open(t, ep, "")
		p.post(joinA)
		synctest.Wait()
		p.do("GET", "", "")
		go func() {
			time.Sleep(3 * time.Second)
			ep.Broadcast("room:a", "e", map[string]int{"n": 2})
		}()
		start := time.Now()
		got := p.do("GET", "", "")
		if got.Status != 200 || len(got.Messages) != 1 || time.Since(start) != 3*time.Second {
			t.Errorf("got %+v after %v, want a message after 3 s", got, time.Since(start))
		}
	}, hub.WithBodyBytes(6000), hub.WithFrameBytes(1000))
}

func TestLongPollNewerPollGetsWhatComes(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		p := open(t, ep, "")
		p.post(joinA)
		synctest.Wait()
		p.do("GET", "", "")
		var wg sync.WaitGroup
		var old polled
		wg.Go(func() { old = p.do("GET", "", "") })
		time.Sleep(time.Second)
		go func() {
			time.Sleep(time.Second)
			ep.Broadcast("room:a", "e", map[string]int{"n": 2})
		}()
		if got := p.do("GET", "", ""); got.Status != 200 {
			t.Errorf("newer: got %+v, want a message", got)
		}
		wg.Wait()
		if old.Status != 204 {
			t.Errorf("older: got %+v, want 204", old)
		}
	}, hub.WithBodyBytes(6000), hub.WithFrameBytes(1000))
}

func TestLongPollMalformedLinesDoNoHarm(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		p := open(t, ep, "")
		p.post(joinA)
		synctest.Wait()
		p.do("GET", "", "")
		for _, line := range []string{"[", `["1"]`, "{oops", "!!!", base64.StdEncoding.EncodeToString([]byte("\x01junk")), "\xff", `["1","2",3,"e",{}]]`} {
			if got := p.post(`[null,"9","phoenix","heartbeat",{}]`, line, `[null,"10","phoenix","heartbeat",{}]`); got != 400 {
				t.Errorf("%q: got status %d, want 400", line, got)
			}
			if got := p.do("GET", "", ""); len(got.Messages) != 1 {
				t.Errorf("%q: got %+v, want the heartbeat before it", line, got)
			}
		}
		if got := p.do("POST", "junk", "").Status; got != 400 {
			t.Errorf("plain body: got status %d, want 400", got)
		}
	}, hub.WithBodyBytes(6000), hub.WithFrameBytes(1000))
}

func TestLongPollBinaryNeedsBase64(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		p := open(t, ep, "")
		p.post(joinA)
		synctest.Wait()
		p.do("GET", "", "")
		frame := base64.StdEncoding.EncodeToString([]byte("\x00\x01\x01\x06\x0417room:aecho\x00\xff"))
		if got := p.post(frame); got != 200 {
			t.Errorf("got status %d, want 200", got)
		}
		synctest.Wait()
		if got := p.do("GET", "", ""); len(got.Messages) != 1 || !strings.Contains(got.Messages[0], `"status":"error"`) {
			t.Errorf("got %+v, want an error reply", got)
		}
		push := base64.StdEncoding.EncodeToString([]byte("\x00\x01\x01\x06\x0418room:apush\x00\xff"))
		p.post(push, `["1","9","room:a","echo",{}]`)
		synctest.Wait()
		if got := p.do("GET", "", ""); len(got.Messages) != 2 || !strings.Contains(got.Messages[0], `"status":"error"`) || !strings.Contains(got.Messages[1], `"status":"ok"`) {
			t.Errorf("push: got %+v, want an error reply, and the channel alive", got)
		}
		able := open(t, ep, "&binary=base64")
		able.post(joinA, frame)
		synctest.Wait()
		got := able.do("GET", "", "")
		if len(got.Messages) != 2 {
			t.Fatalf("got %+v, want two messages", got)
		}
		if b, err := base64.StdEncoding.DecodeString(got.Messages[1]); err != nil || string(b) != "\x01\x01\x01\x06\x0217room:aok\x00\xff" {
			t.Errorf("got %q, %v", b, err)
		}
	}, hub.WithBodyBytes(6000), hub.WithFrameBytes(1000))
}

func TestLongPollTooLarge(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		p := open(t, ep, "")
		p.post(joinA)
		synctest.Wait()
		p.do("GET", "", "")
		if got := p.do("POST", strings.Repeat("x", 7000), "").http; got != 400 {
			t.Errorf("body: got HTTP %d, want 400", got)
		}
		if got := p.post(`["1","2","room:a","echo",{"p":"` + strings.Repeat("x", 1500) + `"}]`); got != 413 {
			t.Errorf("frame: got status %d, want 413", got)
		}
	}, hub.WithBodyBytes(6000), hub.WithFrameBytes(1000))
}

func TestLongPollAtMost100Lines(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		p := open(t, ep, "")
		p.post(strings.TrimSuffix(strings.Repeat(`[0,0,"x",0,0]`+"\n", 101), "\n"))
		if got := p.do("GET", "", ""); len(got.Messages) != 100 {
			t.Errorf("got %d answers, want 100", len(got.Messages))
		}
	}, hub.WithBodyBytes(6000), hub.WithFrameBytes(1000))
}

func TestLongPollSessionsEnd(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		p := open(t, ep, "")
		p.post(joinA)
		time.Sleep(14 * time.Second)
		if got := ep.Stats().LongPolls; got != 1 {
			t.Errorf("before 1.5 windows: got %d sessions, want 1", got)
		}
		p.do("GET", "", "")
		time.Sleep(14 * time.Second)
		if got := ep.Stats().LongPolls; got != 1 {
			t.Errorf("polled within 1.5 windows: got %d sessions, want 1", got)
		}
		time.Sleep(18 * time.Second)
		if s := ep.Stats(); s.LongPolls != 0 || s.Channels != 0 || s.IdleTimeouts != 1 {
			t.Errorf("abandoned: got %+v, want none left", s)
		}
		if got := p.post(joinA); got != 410 {
			t.Errorf("post to no session: got %d, want 410", got)
		}

		p = open(t, ep, "")
		p.post(joinA)
		p.do("GET", "", "")
		go func() {
			time.Sleep(time.Second)
			ep.Disconnect("the-id")
		}()
		start := time.Now()
		if got := p.do("GET", "", ""); got.Status != 204 || time.Since(start) != time.Second {
			t.Errorf("disconnected: got %+v after %v, want 204 after 1 s", got, time.Since(start))
		}
		if got := p.do("GET", "", ""); got.Status != 410 || got.Token == p.token {
			t.Errorf("after the disconnect: got %+v, want a new session", got)
		}

		p = open(t, ep, "")
		p.post(joinA)
		p.do("GET", "", "")
		pad := strings.Repeat("x", 100)
		for range 100 {
			ep.Broadcast("room:a", "e", map[string]string{"pad": pad})
		}
		if got := ep.Stats().SlowConsumers; got != 1 {
			t.Errorf("never polled: got %d slow consumers, want 1", got)
		}
	}, hub.WithOutbound(2000, time.Second))
}

func TestLongPollDeliversWhatPrecedesAClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := hub.New()
		r := hub.NewRouter(nil)
		r.Channel("room:*", func() hub.Channel {
			return &script{in: func(_ context.Context, s *hub.Socket, _ string, _ hub.Payload) (hub.Reply, error) {
				s.Push("disconnect", map[string]string{"code": "replaced"})
				s.Conn().Close(4409, "replaced")
				return hub.Reply{}, nil
			}}
		})
		ep.Socket("/socket", r)
		p := open(t, ep, "")
		p.post(joinA)
		p.do("GET", "", "")
		p.post(`["1","2","room:a","go",{}]`)
		synctest.Wait()
		if got := p.do("GET", "", ""); len(got.Messages) != 1 || !strings.Contains(got.Messages[0], "replaced") {
			t.Errorf("got %+v, want the last words", got)
		}
		if got := p.post(`[null,"9","phoenix","heartbeat",{}]`); got != 410 {
			t.Errorf("got %d, want 410", got)
		}
		ep.Drain(t.Context())
		if got := p.do("GET", "", "").http; got != http.StatusServiceUnavailable {
			t.Errorf("drained: got HTTP %d, want 503", got)
		}
	})
}

func TestLongPollTimesOutBehindAFullInbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := hub.New()
		release := make(chan struct{})
		handled := 0
		r := hub.NewRouter(nil)
		r.Channel("room:*", func() hub.Channel {
			return &script{in: func(context.Context, *hub.Socket, string, hub.Payload) (hub.Reply, error) {
				<-release
				handled++
				return hub.Reply{}, nil
			}}
		})
		ep.Socket("/socket", r, hub.WithInbox(1, 1))
		p := open(t, ep, "")
		line := `["1","2","room:a","e",{}]`
		start := time.Now()
		if got := p.post(joinA, line, line, line, line); got != 408 || time.Since(start) != 10*time.Second {
			t.Errorf("got %d after %v, want 408 after 10 s", got, time.Since(start))
		}
		close(release)
		synctest.Wait()
		if handled != 3 { // handled, waiting, and the one that waited for room
			t.Errorf("got %d handled, want 3", handled)
		}
		ep.Drain(t.Context())
	})
}

func TestLongPollCORS(t *testing.T) {
	polling(t, func(t *testing.T, ep *hub.Endpoint) {
		req := httptest.NewRequest("OPTIONS", "/socket/longpoll", nil)
		req.Header.Add("Access-Control-Request-Headers", "content-type, x-foo")
		w := httptest.NewRecorder()
		ep.ServeHTTP(w, req)
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "content-type, x-foo",
			"Access-Control-Allow-Methods": "get, post, options", "Access-Control-Max-Age": "3600",
		} {
			if got := w.Header().Get(name); w.Code != 200 || got != want {
				t.Errorf("%s: got %d %q, want %q", name, w.Code, got, want)
			}
		}
		w = httptest.NewRecorder()
		ep.ServeHTTP(w, httptest.NewRequest("OPTIONS", "/socket/longpoll", nil))
		if got := w.Header()["Access-Control-Allow-Headers"]; len(got) != 1 || got[0] != "" {
			t.Errorf("no headers asked for: got %q, want an empty one", got)
		}
		for _, method := range []string{"PUT", "DELETE", "HEAD", "PATCH"} {
			w := httptest.NewRecorder()
			ep.ServeHTTP(w, httptest.NewRequest(method, "/socket/longpoll", nil))
			if w.Code != 400 {
				t.Errorf("%s: got %d %q, want 400", method, w.Code, w.Body)
			}
		}
		for _, method := range []string{"GET", "POST", "OPTIONS", "PUT"} {
			req = httptest.NewRequest(method, "/socket/longpoll", nil)
			req.Header.Set("Origin", "https://elsewhere.example")
			w = httptest.NewRecorder()
			ep.ServeHTTP(w, req)
			if w.Code != 200 || w.Body.String() != `{"status":403}` {
				t.Errorf("%s from a foreign origin: got %d %q", method, w.Code, w.Body)
			}
		}
	}, hub.WithOrigins("self"))
}

func TestLongPollRefusal(t *testing.T) {
	tired := errors.New("tired")
	body := func(err error) any { return map[string]any{"status": 403, "error": err.Error()} }
	for name, row := range map[string]struct {
		opts          []hub.SocketOption
		connect, open error
		want          string
	}{
		"by default":        {nil, tired, nil, `{"status":403}`},
		"by default, later": {nil, nil, tired, `{"status":403}`},
		"with words":        {[]hub.SocketOption{hub.WithPollRefusal(body)}, tired, nil, `{"error":"tired","status":403}`},
		"with words, later": {[]hub.SocketOption{hub.WithPollRefusal(body)}, nil, &hub.CloseError{Code: 1008, Reason: "tired"}, `{"error":"closed with 1008 \"tired\"","status":403}`},
		"without a word":    {[]hub.SocketOption{hub.WithPollRefusal(body)}, hub.ErrRefused, nil, `{"status":403}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ep := hub.New(hub.WithLogger(slog.New(slog.DiscardHandler)))
				r := hub.NewRouter(func(ctx context.Context, _ *hub.ConnectInfo) (context.Context, error) { return ctx, row.connect },
					hub.WithOnOpen(func(ctx context.Context, _ *hub.Conn) (context.Context, error) { return ctx, row.open }))
				ep.Socket("/socket", r, row.opts...)
				w := httptest.NewRecorder()
				ep.ServeHTTP(w, httptest.NewRequest("GET", "/socket/longpoll?vsn=2.0.0", nil))
				if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || got != row.want {
					t.Errorf("got %d %s, want %s", w.Code, got, row.want)
				}
				if err := ep.Drain(context.Background()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
