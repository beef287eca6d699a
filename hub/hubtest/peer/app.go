package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"devicehub/hub"
	"devicehub/hub/presence"
)

// maxFrame is the longest frame, header included, of the sockets that say nothing else.
const maxFrame = 8_000_000

var device hub.Key[string]

var errRateLimit = errors.New("rate_limit")

// connect lets in by the parameter token.
func connect(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
	switch info.Params.Get("token") {
	case "valid":
		id := info.Params.Get("device_id")
		if id == "" {
			id = info.Params.Get("id")
		}
		if id == "" {
			id = "anon"
		}
		return device.Assign(ctx, id), nil
	case "raise":
		panic("raise in connect")
	case "reason":
		return nil, errRateLimit
	}
	return nil, hub.ErrRefused
}

// connectAuth lets in by the auth token.
func connectAuth(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
	if info.AuthToken != "valid" {
		return nil, hub.ErrRefused
	}
	return device.Assign(ctx, "auth"), nil
}

func tooManyRequests(w http.ResponseWriter, _ *http.Request, _ error) {
	w.Header()["Content-Type"] = nil
	w.WriteHeader(http.StatusTooManyRequests)
	io.WriteString(w, "Too many requests")
}

type app struct {
	ep       *hub.Endpoint
	presence *presence.Tracker
	mux      *http.ServeMux
}

func newApp(log *slog.Logger) *app {
	a := &app{mux: http.NewServeMux()}
	a.ep = hub.New(hub.WithLogger(log))
	a.presence = presence.New(a.ep.PubSub(), presence.WithLogger(log))
	newChannel := func() hub.Channel { return &channel{presence: a.presence} }

	r := hub.NewRouter(connect, hub.WithID(func(ctx context.Context) string { return "devices_socket:" + device.Get(ctx) }))
	for _, pattern := range []string{"sensor:*", "light:*", "room:*", "lobby"} {
		r.Channel(pattern, newChannel)
	}
	auth := hub.NewRouter(connectAuth)
	auth.Channel("room:*", newChannel)

	mount := func(path string, r *hub.Router, opts ...hub.SocketOption) {
		a.ep.Socket(path, r, append([]hub.SocketOption{
			hub.WithFrameBytes(maxFrame), hub.WithOutbound(64<<20, 30*time.Second), hub.WithoutAuthToken(),
		}, opts...)...)
	}
	mount("/socket", r)
	mount("/socket_short", r, hub.WithIdleTimeout(2*time.Second), hub.WithPollWindow(time.Second))
	mount("/socket_small", r, hub.WithFrameBytes(1000), hub.WithMessageBytes(maxFrame), hub.WithoutLongPoll())
	mount("/socket_compress", r, hub.WithCompression())
	mount("/socket_origin", r, hub.WithOrigins("https://example.com"))
	mount("/socket_eh", r, hub.WithErrorHandler(tooManyRequests))
	a.ep.Socket("/socket_auth", auth, hub.WithFrameBytes(maxFrame), hub.WithOutbound(64<<20, 30*time.Second))

	a.mux.HandleFunc("GET /ctl/disconnect", a.disconnect)
	a.mux.HandleFunc("GET /ctl/broadcast", a.broadcast)
	a.mux.HandleFunc("GET /ctl/gc", func(http.ResponseWriter, *http.Request) { debug.FreeOSMemory() })
	return a
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/ctl/") {
		a.mux.ServeHTTP(w, r)
		return
	}
	a.ep.ServeHTTP(w, r)
}

func (a *app) disconnect(w http.ResponseWriter, r *http.Request) {
	a.ep.Disconnect("devices_socket:" + r.FormValue("id"))
	io.WriteString(w, "ok")
}

// padded is what /ctl/broadcast sends.
type padded struct {
	N   int    `json:"n"`
	Pad string `json:"pad"`
}

func (a *app) broadcast(w http.ResponseWriter, r *http.Request) {
	n, size := number(r, "n", 1), number(r, "size", 0)
	pad := strings.Repeat("x", size)
	if r.FormValue("together") == "1" { // for benchmarks
		err := a.ep.Batch(func(b *hub.Batch) {
			for i := 1; i <= n; i++ {
				b.Broadcast(r.FormValue("topic"), r.FormValue("event"), padded{i, pad})
			}
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		io.WriteString(w, "ok")
		return
	}
	for i := 1; i <= n; i++ {
		if err := a.ep.Broadcast(r.FormValue("topic"), r.FormValue("event"), padded{i, pad}); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	io.WriteString(w, "ok")
}

func number(r *http.Request, name string, otherwise int) int {
	n, err := strconv.Atoi(r.FormValue(name))
	if err != nil || n < 0 || n > 10_000_000 {
		return otherwise
	}
	return n
}
