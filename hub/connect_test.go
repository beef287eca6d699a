package hub_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"devicehub/hub"
	"devicehub/hub/token"
)

func TestConnectInfo(t *testing.T) {
	sessions, err := token.NewSessions("x9Hk2mQeRtYuIoPaSdFgHjKlZxCvBnM1234567890abcdefghijklmnopqrstuvwxyz", "signing", "encryption")
	if err != nil {
		t.Fatal(err)
	}
	session := map[string]any{"user": "tom"}
	csrf := token.NewCSRF(session)
	cookie, err := sessions.Write(session)
	if err != nil {
		t.Fatal(err)
	}
	var got *hub.ConnectInfo
	ep := hub.New()
	r := hub.NewRouter(func(_ context.Context, info *hub.ConnectInfo) (context.Context, error) {
		got = info
		return nil, hub.ErrRefused
	})
	ep.Socket("/socket", r, hub.WithSession("_app_key", sessions.Open))
	ask := func(path, query string, header http.Header) *hub.ConnectInfo {
		req := httptest.NewRequest("GET", path+"?"+query, nil)
		req.Header = header
		got = nil
		ep.ServeHTTP(httptest.NewRecorder(), req)
		return got
	}
	header := http.Header{
		"X-Forwarded-For": {"10.0.0.1"}, "Traceparent": {"00-1"}, "User-Agent": {"a browser"}, "Sec-Websocket-Version": {"13"},
		"Cookie": {"other=1; _app_key=" + cookie}, "Accept": {"*/*"},
	}
	for _, path := range []string{"/socket/websocket", "/socket/longpoll"} {
		info := ask(path, "a[b]=1&_csrf_token="+url.QueryEscape(csrf), header)
		if info.Session["user"] != "tom" {
			t.Errorf("%s: got session %v, want tom's", path, info.Session)
		}
		if info.XHeaders.Get("X-Forwarded-For") != "10.0.0.1" || len(info.XHeaders) != 1 || info.TraceContext.Get("Traceparent") != "00-1" ||
			info.UserAgent != "a browser" || info.WebSocketHeaders.Get("Sec-Websocket-Version") != "13" || info.RemoteAddr != "192.0.2.1:1234" ||
			info.URI.Scheme != "http" || info.URI.Host != "example.com" || info.URI.Path != path {
			t.Errorf("%s: got %+v", path, info)
		}
		if info := ask(path, "_csrf_token=x", header); info.Session != nil {
			t.Errorf("%s: with a token that is not the session's: got %v, want no session", path, info.Session)
		}
		if info := ask(path, "", header); info.Session != nil {
			t.Errorf("%s: without a token: got %v, want no session", path, info.Session)
		}
	}
}
