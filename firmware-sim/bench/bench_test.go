package bench_test

import (
	"bytes"
	"context"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"devicehub/firmware-sim/bench"
	"devicehub/hub"
	"devicehub/hub/hubclient"
)

// room answers echo and broadcasts shout, as the fixture program does.
type room struct{}

func (room) Join(_ context.Context, s *hub.Socket, _ hub.Payload) (hub.Reply, error) {
	if strings.HasSuffix(s.Topic(), "forbidden") {
		return hub.Refuse("unauthorized"), nil
	}
	return hub.OK(nil), nil
}

func (room) HandleIn(_ context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	var v any
	if err := p.Decode(&v); err != nil {
		return hub.Reply{}, err
	}
	if event == "shout" {
		return hub.Reply{}, s.Broadcast("shout", v)
	}
	return hub.OK(v), nil
}

func newServer(t *testing.T) string {
	t.Helper()
	router := hub.NewRouter(func(ctx context.Context, _ *hub.ConnectInfo) (context.Context, error) { return ctx, nil })
	router.Channel("room:*", func() hub.Channel { return room{} })
	ep := hub.New()
	ep.Socket("/socket", router)
	srv := httptest.NewServer(ep)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		ep.Drain(ctx)
		srv.Close()
	})
	return "ws" + strings.TrimPrefix(srv.URL, "http") + "/socket/websocket?id=d%i"
}

func TestKinds(t *testing.T) {
	t.Parallel()
	u := newServer(t)
	for _, kind := range []string{bench.Fanout, bench.RequestReply, bench.Storm, bench.Hold} {
		for _, rate := range []float64{0, 50} {
			topic := "room:%i"
			if kind == bench.Fanout {
				topic = "room:all"
			}
			r, err := bench.Run(t.Context(), kind, bench.Config{URL: u, Topic: topic, N: 5, Duration: 300 * time.Millisecond, Rate: rate, Pid: os.Getpid()})
			if err != nil {
				t.Fatalf("%s: %v", kind, err)
			}
			if r.Joined != 5 || r.Missing != 0 || r.Connect.Count != 5 {
				t.Errorf("%s: %+v", kind, r)
			}
			if loaded := kind == bench.Fanout || kind == bench.RequestReply; loaded && (r.Delivered == 0 || r.Latency.Count != r.Delivered) {
				t.Errorf("%s: %d delivered, %d latencies", kind, r.Delivered, r.Latency.Count)
			}
			var out bytes.Buffer
			r.WriteTable(&out)
			if !strings.Contains(out.String(), kind+": 5 clients") {
				t.Errorf("table:\n%s", out.String())
			}
		}
	}
}

func TestLongPoll(t *testing.T) {
	t.Parallel()
	r, err := bench.Run(t.Context(), bench.RequestReply, bench.Config{URL: newServer(t), Topic: "room:%i", N: 3, Transport: hubclient.LongPoll, Duration: 200 * time.Millisecond})
	if err != nil || r.Delivered == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]bench.Config{
		"no clients": {URL: "ws://x/socket", Topic: "t"}, "no topic": {URL: "ws://x/socket", N: 1}, "no URL": {Topic: "t", N: 1},
	} {
		if _, err := bench.Run(t.Context(), bench.Hold, cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := bench.Run(t.Context(), "race", bench.Config{URL: "ws://x/socket", Topic: "t", N: 1}); err == nil {
		t.Error("an unknown kind: no error")
	}
}

// A measurement of which nobody is let in ends, and says why.
func TestNobodyIsLetIn(t *testing.T) {
	t.Parallel()
	u := newServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for what, cfg := range map[string]bench.Config{
		"join refused":                     {URL: u, Topic: "room:forbidden", N: 3},
		"connect refused with status 404":  {URL: strings.Replace(u, "/socket/", "/nothing/", 1), Topic: "room:a", N: 3},
		"bench: no number may be below 0":  {URL: u, Topic: "room:a", N: 3, Size: -1},
		"nothing is known of a process -7": {URL: u, Topic: "room:a", N: 3, Pid: -7},
	} {
		if _, err := bench.Run(ctx, bench.Hold, cfg); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want %q", err, what)
		}
	}
}
