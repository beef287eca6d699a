package hub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub"
)

// counting is a channel that counts what it is sent, slowly.
type counting struct{ n *atomic.Int64 }

func (c counting) Join(context.Context, *hub.Socket, hub.Payload) (hub.Reply, error) {
	return hub.OK(nil), nil
}

func (c counting) HandleIn(context.Context, *hub.Socket, string, hub.Payload) (hub.Reply, error) {
	time.Sleep(time.Millisecond)
	c.n.Add(1)
	return hub.Reply{}, nil
}

// settling is an endpoint, its latest connection, and the answers to our closes.
func settling(t *testing.T) (base string, latest *atomic.Pointer[hub.Conn], n *atomic.Int64, answers chan bool) {
	latest, n, answers = new(atomic.Pointer[hub.Conn]), new(atomic.Int64), make(chan bool, 10)
	r := hub.NewRouter(nil, hub.WithOnOpen(func(ctx context.Context, c *hub.Conn) (context.Context, error) {
		c.OnAnswer(func(echoed bool) { answers <- echoed })
		latest.Store(c)
		return ctx, nil
	}))
	r.Channel("room:*", func() hub.Channel { return counting{n} })
	ep := hub.New()
	ep.Socket("/socket", r)
	srv := httptest.NewServer(ep)
	t.Cleanup(func() {
		if err := ep.Drain(context.Background()); err != nil {
			t.Error(err)
		}
		srv.Close()
	})
	return srv.URL, latest, n, answers
}

func dialSettling(t *testing.T, base string) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(base, "http")+"/socket/websocket?vsn=2.0.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`["1","1","room:a","phx_join",{}]`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ws.ReadMessage(); err != nil {
		t.Fatal(err)
	}
	return ws
}

// Whoever waits for a connection finds handled what its client had sent, and finds
// it over when that ended with a goodbye.
func TestSettleWaitsForWhatWasSent(t *testing.T) {
	base, latest, n, _ := settling(t)
	ws := dialSettling(t, base)
	for i := range 30 {
		if err := ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `["1","%d","room:a","shout",{}]`, i+2)); err != nil {
			t.Fatal(err)
		}
	}
	if over := latest.Load().Settle(time.Minute, time.Minute); over || n.Load() != 30 {
		t.Errorf("over is %t after %d events, want 30", over, n.Load())
	}
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`["1","40","room:a","shout",{}]`)); err != nil {
		t.Fatal(err)
	}
	_ = ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""))
	if over := latest.Load().Settle(time.Minute, time.Minute); !over {
		t.Error("a goodbye was not heard")
	}
	<-latest.Load().Done()
}

// A client that answers our close tells so, and whether it was that which it meant.
func TestAnswersToACloseAreTold(t *testing.T) {
	base, latest, _, answers := settling(t)
	for want, code := range map[bool]int{true: 4409, false: 1000} {
		ws := dialSettling(t, base)
		ws.SetCloseHandler(func(int, string) error {
			return ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second))
		})
		latest.Load().Close(4409, "replaced")
		_, _, _ = ws.ReadMessage()
		if got := <-answers; got != want {
			t.Errorf("answered with %d: echoed is %t", code, got)
		}
	}
	var body struct {
		Status int
		Token  string
	}
	poll := func() {
		res, err := http.Get(base + "/socket/longpoll?vsn=2.0.0&token=" + body.Token)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
	}
	poll()
	latest.Load().Close(4409, "replaced")
	poll()
	if got := <-answers; got {
		t.Error("a poll says what it means")
	}
}
