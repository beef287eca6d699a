package hub_test

import (
	"context"
	"encoding/base64"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"devicehub/hub"
)

// Whatever a body holds, the answer is a status, and the session lives on.
func FuzzLongPollBody(f *testing.F) {
	f.Add(joinA+"\n"+`["1","2","room:a","echo",{}]`, "application/x-ndjson")
	f.Add(base64.StdEncoding.EncodeToString([]byte("\x00\x01\x01\x06\x0417room:aecho\x00\xff")), "application/x-ndjson; charset=utf-8")
	f.Add(`{"topic":"t","event":"e","payload":{},"ref":null}`, "")
	f.Add("\r\n\n[", "application/x-ndjson")
	f.Fuzz(func(t *testing.T, body, contentType string) {
		ep := hub.New()
		r := hub.NewRouter(nil)
		r.Channel("room:*", func() hub.Channel { return echo{} })
		ep.Socket("/socket", r)
		p := open(t, ep, "")
		got := p.do("POST", body, contentType)
		switch got.Status {
		case 200, 400, 413:
		default:
			t.Fatalf("got HTTP %d status %d", got.http, got.Status)
		}
		if got := p.post(`[null,"9","phoenix","heartbeat",{}]`); got != 200 {
			t.Fatalf("the session died: status %d", got)
		}
		p.do("GET", "", "")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := ep.Drain(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// A query is an error, or parameters of the three kinds.
func FuzzParams(f *testing.F) {
	for _, q := range []string{"a=1&a=2", "a[b]=1&a[c][]=2&a[c][]=3", "vsn[]=2.0.0", "a[=1", "a]=1", "[a]=1", "a[b]c=1", "%ff", "a=%zz", "a[][b]=1&a[][b]=2", "a[b]=1&a=2", "a=1&a[b]=2"} {
		f.Add(q)
	}
	var check func(t *testing.T, v any)
	check = func(t *testing.T, v any) {
		switch v := v.(type) {
		case string:
		case []any:
			for _, e := range v {
				check(t, e)
			}
		case hub.Params:
			for _, e := range v {
				check(t, e)
			}
		default:
			t.Fatalf("got a %T", v)
		}
	}
	f.Fuzz(func(t *testing.T, query string) {
		p, err := hub.ParseParams(query)
		if err != nil {
			return
		}
		check(t, p)
	})
}

// Whatever a client offers, it is let in or refused.
func FuzzSubprotocol(f *testing.F) {
	f.Add("phoenix, base64url.bearer.phx.dmFsaWQ")
	f.Add("base64url.bearer.phx.")
	f.Add(",,")
	ep := hub.New()
	ep.Socket("/socket", hub.NewRouter(func(context.Context, *hub.ConnectInfo) (context.Context, error) { return nil, hub.ErrRefused }))
	f.Fuzz(func(t *testing.T, protocols string) {
		req := httptest.NewRequest("GET", "/socket/websocket", nil)
		req.Header["Sec-Websocket-Protocol"] = []string{protocols}
		w := httptest.NewRecorder()
		ep.ServeHTTP(w, req)
		if w.Code != 403 {
			t.Fatalf("got %d, want 403", w.Code)
		}
	})
}

func TestParams(t *testing.T) {
	p, err := hub.ParseParams("a=1&a=2&b[c]=3&b[d][]=4&b[d][]=5&e[]=6&" + url.Values{"f g": {"ü&="}}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Get("a"); got != "2" {
		t.Errorf("a: got %q, want 2", got)
	}
	if got := p.Map("b").Get("c"); got != "3" {
		t.Errorf("b[c]: got %q, want 3", got)
	}
	if got := p.Map("b").List("d"); len(got) != 2 || got[1] != "5" {
		t.Errorf("b[d]: got %v, want 4 and 5", got)
	}
	if got := p.List("e"); len(got) != 1 || got[0] != "6" {
		t.Errorf("e: got %v, want 6", got)
	}
	if got := p.Get("f g"); got != "ü&=" {
		t.Errorf("f g: got %q", got)
	}
	for _, q := range []string{"%ff=1", "a=%f", "a=%ff", strings.Repeat("a&", 2000), "a" + strings.Repeat("[b]", 100) + "=1"} {
		if _, err := hub.ParseParams(q); err == nil {
			t.Errorf("%.20q…: got no error", q)
		}
	}
}
