package hub_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub"
	"devicehub/hub/hubtest"
)

func TestOnClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := hub.New()
		r := hub.NewRouter(nil, hub.WithID(func(context.Context) string { return "someone" }),
			hub.WithOnClosing(func(c *hub.Conn, cause error) { c.Push("room:a", "bye", map[string]string{"why": cause.Error()}) }))
		r.Channel("room:*", func() hub.Channel { return echo{} })
		ep.Socket("/socket", r)
		for _, c := range []struct {
			end  func(c *hubtest.Client)
			code int
			bye  string
		}{
			{func(*hubtest.Client) { ep.Disconnect("someone") }, 1001, "disconnected"},
			{func(c *hubtest.Client) { c.Send("{") }, 1011, "protocol error"},
			{func(c *hubtest.Client) { c.Conn().Close(4000, "") }, 4000, ""},
			{func(*hubtest.Client) { ep.Drain(t.Context()) }, 1012, "endpoint is draining"},
		} {
			client := hubtest.Connect(t, ep, "/socket", nil)
			room := client.Join("room:a", nil)
			c.end(client)
			if c.bye != "" {
				room.Want("bye", map[string]string{"why": c.bye})
			}
			client.WantClose(c.code)
			room.WantQuiet()
		}
	})
}

// hijacked calls f when the response is taken over, which is just before the client hears that it
// is let in.
type hijacked struct {
	http.ResponseWriter
	f func()
}

func (w hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.f()
	return w.ResponseWriter.(http.Hijacker).Hijack()
}

func TestDisconnectOnTheWayIn(t *testing.T) {
	ep := hub.New()
	r := hub.NewRouter(nil, hub.WithID(func(context.Context) string { return "someone" }))
	r.Channel("room:*", func() hub.Channel { return echo{} })
	ep.Socket("/socket", r)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ep.ServeHTTP(hijacked{w, func() { ep.Disconnect("someone") }}, r)
	}))
	defer srv.Close()
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/socket/websocket?vsn=2.0.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	ws.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, _, err := ws.ReadMessage(); !websocket.IsCloseError(err, hub.CloseGoingAway) {
		t.Errorf("got %v, want close 1001", err)
	}
	if err := ep.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

// slowEnd is a channel that takes its time to terminate.
type slowEnd struct{ echo }

func (slowEnd) Terminate(*hub.Socket, error) { time.Sleep(time.Minute) }

func TestTheLeftTopicMakesRoomAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ep := hub.New()
		r := hub.NewRouter(nil)
		r.Channel("room:*", func() hub.Channel { return slowEnd{} })
		ep.Socket("/socket", r, hub.WithMaxChannels(2))
		c := hubtest.Connect(t, ep, "/socket", nil)
		for i := range 2 {
			c.Join(fmt.Sprint("room:", i), nil)
		}
		full := map[string]string{"reason": "too many channels joined"}
		c.TryJoin("room:x", nil).Joined.WantReply("error", full)
		c.Send(`["1","1000","room:0","phx_leave",{}]`)
		c.Send(`[null,"1001","room:1","stop",{}]`)
		synctest.Wait()
		for i := range 2 {
			c.Join(fmt.Sprint("room:", 2+i), nil)
		}
		c.TryJoin("room:x", nil).Joined.WantReply("error", full)
		time.Sleep(2 * time.Minute)
		c.TryJoin("room:x", nil).Joined.WantReply("error", full)
		ep.Drain(t.Context())
	})
}
