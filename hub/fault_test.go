package hub_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"devicehub/hub"
)

// Answers with 400, 500 and 503 say why, as every other refusal does.
func TestFaultsHaveABody(t *testing.T) {
	ep := hub.New()
	r := hub.NewRouter(func(_ context.Context, info *hub.ConnectInfo) (context.Context, error) {
		if info.Params.Get("crash") != "" {
			panic("connect")
		}
		return nil, nil
	})
	ep.Socket("/socket", r, hub.WithBodyBytes(100))
	opened := open(t, ep, "")
	for _, row := range []struct {
		name, method, target, body string
		status                     int
		code                       string
	}{
		{"POST to the WebSocket", "POST", "/socket/websocket", "", 400, "invalid"},
		{"no upgrade", "GET", "/socket/websocket", "", 400, "invalid"},
		{"WebSocket, malformed query", "GET", "/socket/websocket?a=%zz", "", 400, "invalid"},
		{"WebSocket, crash", "GET", "/socket/websocket?crash=1", "", 500, "platform_unavailable"},
		{"long-poll, malformed query", "GET", "/socket/longpoll?a=%zz", "", 400, "invalid"},
		{"long-poll, PUT", "PUT", "/socket/longpoll", "", 400, "invalid"},
		{"long-poll, crash", "GET", "/socket/longpoll?crash=1", "", 500, "platform_unavailable"},
		{"long-poll, body too long", "POST", "/socket/longpoll?token=" + opened.token, strings.Repeat("x", 200), 400, "invalid"},
	} {
		w := httptest.NewRecorder()
		ep.ServeHTTP(w, httptest.NewRequest(row.method, row.target, strings.NewReader(row.body)))
		var body struct{ Reason, Code string }
		err := json.Unmarshal(w.Body.Bytes(), &body)
		if w.Code != row.status || err != nil || body.Code != row.code || body.Reason == "" {
			t.Errorf("%s: got %d %s, want %d with reason and code %s", row.name, w.Code, w.Body, row.status, row.code)
		}
	}
	ep.Drain(t.Context())
	for _, target := range []string{"/socket/longpoll", "/socket/websocket"} {
		req := httptest.NewRequest(http.MethodGet, target, nil)
		for k, v := range map[string]string{"Connection": "upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="} {
			req.Header.Set(k, v)
		}
		w := httptest.NewRecorder()
		ep.ServeHTTP(w, req)
		if w.Code != 503 || !strings.Contains(w.Body.String(), `"code":"platform_unavailable"`) {
			t.Errorf("%s, drained: got %d %q, want 503 with a body", target, w.Code, w.Body)
		}
	}
}
