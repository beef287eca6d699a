package hub_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub"
	"devicehub/hub/hubtest"
	"devicehub/hub/pubsub"
)

// echoAt is an endpoint with one socket.
func echoAt(path string, opts []hub.Option, socket ...hub.SocketOption) *hub.Endpoint {
	ep := hub.New(opts...)
	r := hub.NewRouter(nil)
	r.Channel("room:*", func() hub.Channel { return echo{} })
	ep.Socket(path, r, socket...)
	return ep
}

// Two endpoints on one PubSub are one to those who broadcast.
func TestWithPubSub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ps := pubsub.NewLocal()
		one, other := echoAt("/one", []hub.Option{hub.WithPubSub(ps)}), echoAt("/other", []hub.Option{hub.WithPubSub(ps)})
		a := hubtest.Connect(t, one, "/one", nil).Join("room:a", nil)
		b := hubtest.Connect(t, other, "/other", nil).Join("room:a", nil)
		if err := one.Broadcast("room:a", "news", map[string]int{"n": 1}); err != nil {
			t.Fatal(err)
		}
		a.Want("news", map[string]int{"n": 1})
		b.Want("news", map[string]int{"n": 1})
		a.WantQuiet()
	})
}

// A drain closes so many connections at a time, some time apart.
func TestWithDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := echoAt("/socket", []hub.Option{hub.WithDrain(2, 100*time.Second)})
		var mu sync.Mutex
		var closed []time.Time
		for range 6 {
			if _, err := ep.Dial("/socket", &hub.ConnectInfo{Params: hub.Params{"vsn": "2.0.0"}}, func(f hub.PipeFrame) {
				if f.Close {
					mu.Lock()
					defer mu.Unlock()
					closed = append(closed, time.Now())
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		if err := ep.Drain(context.Background()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(closed) != 6 {
			t.Fatalf("%d were closed, want 6", len(closed))
		}
		for i := 0; i < 6; i += 2 {
			if !closed[i].Equal(closed[i+1]) {
				t.Errorf("%d and %d were closed apart", i, i+1)
			}
			if i == 0 {
				continue
			}
			if apart := closed[i].Sub(closed[i-1]); apart < 50*time.Second || apart > 150*time.Second {
				t.Errorf("batch %d came after %v, want 50 s to 150 s", i/2, apart)
			}
		}
	})
}

// The first subprotocol of ours that the client offers is selected, phoenix before others.
func TestWithSubprotocols(t *testing.T) {
	ep := echoAt("/socket", nil, hub.WithSubprotocols("mine", "older"))
	srv := httptest.NewServer(ep)
	defer srv.Close()
	defer ep.Drain(context.Background())
	for offered, want := range map[string]string{
		"older,mine": "mine", "mine,phoenix": "phoenix", "older": "older", "": "", "foreign": "refused",
	} {
		d := websocket.Dialer{}
		if offered != "" {
			d.Subprotocols = strings.Split(offered, ",")
		}
		ws, res, err := d.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/socket/websocket?vsn=2.0.0", nil)
		switch {
		case want == "refused":
			if err == nil || res == nil || res.StatusCode != http.StatusForbidden {
				t.Errorf("%q: got %v, want 403", offered, err)
			}
		case err != nil:
			t.Errorf("%q: %v", offered, err)
		case ws.Subprotocol() != want:
			t.Errorf("%q: got %q, want %q", offered, ws.Subprotocol(), want)
		}
		if ws != nil {
			ws.Close()
		}
	}
}

// What is not served is left to the fallback.
func TestWithoutATransport(t *testing.T) {
	elsewhere := hub.WithFallback(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for name, row := range map[string]struct {
		option             hub.SocketOption
		websocket, polling int // HTTP statuses of a GET
	}{
		"both":         {hub.WithMaxChannels(9), http.StatusBadRequest, http.StatusOK},
		"no WebSocket": {hub.WithoutWebSocket(), http.StatusTeapot, http.StatusOK},
		"no polling":   {hub.WithoutLongPoll(), http.StatusBadRequest, http.StatusTeapot},
	} {
		ep := echoAt("/socket", []hub.Option{elsewhere}, row.option)
		for path, want := range map[string]int{"/socket/websocket": row.websocket, "/socket/longpoll": row.polling} {
			w := httptest.NewRecorder()
			ep.ServeHTTP(w, httptest.NewRequest("GET", path+"?vsn=2.0.0", nil))
			if w.Code != want {
				t.Errorf("%s: GET %s: got %d, want %d", name, path, w.Code, want)
			}
		}
		ep.Drain(context.Background())
	}
}

// Who sets no logger hears of a crash all the same.
func TestLogsByDefault(t *testing.T) {
	var log strings.Builder
	was := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	defer slog.SetDefault(was)
	synctest.Test(t, func(t *testing.T) {
		room := hubtest.Connect(t, newTold(), "/socket", nil).Join("room:a", nil)
		room.Push("crash", nil)
		room.WantError()
	})
	if !strings.Contains(log.String(), `msg="channel crashed" topic=room:a err="asked to"`) {
		t.Errorf("got %q, want the crash", log.String())
	}
}
