package hub_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"devicehub/hub"
)

// The engine bounds what strangers have it log, whichever the program's logger.
func TestLogOfStrangersIsBounded(t *testing.T) {
	var log bytes.Buffer
	ep := hub.New(hub.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	ep.Socket("/socket", hub.NewRouter(nil), hub.WithOrigins("https://example.com"))
	origin := "https://" + strings.Repeat("a", 30_000)
	for range 500 {
		for _, path := range []string{"/socket/websocket?vsn=2.0.0", "/socket/longpoll?vsn=2.0.0"} {
			req := httptest.NewRequest(http.MethodGet, path, nil)
			req.Header.Set("Origin", origin)
			ep.ServeHTTP(httptest.NewRecorder(), req)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 3 || log.Len() > 2000 {
		t.Errorf("%d lines, %d bytes of a thousand refused origins, want 3 and at most 2000", n, log.Len())
	}
	if !strings.Contains(log.String(), `msg="origin refused"`) || !strings.Contains(log.String(), "(30008 bytes)") {
		t.Errorf("got %s", log.String())
	}
}
