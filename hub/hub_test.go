package hub_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub"
)

// echo answers every event with its payload, and does what some events say.
type echo struct{}

func (echo) Join(_ context.Context, s *hub.Socket, p hub.Payload) (hub.Reply, error) {
	switch s.Topic() {
	case "room:no":
		return hub.Refuse("unauthorized"), nil
	case "room:panic":
		panic("join")
	}
	return hub.OK(p.Any()), nil
}

func (echo) HandleIn(_ context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	switch event {
	case "crash":
		return hub.Reply{}, errors.New("asked to")
	case "stop":
		return hub.OK(nil), hub.ErrStop
	case "shout":
		return hub.OK(nil), s.Broadcast("shout", p)
	case "push":
		return hub.OK(nil), s.Push("pushed", p)
	case "what":
		return hub.Reply{}, hub.Unhandled(event)
	}
	return hub.OK(p), nil
}

func newEndpoint(t *testing.T, opts ...hub.SocketOption) *hub.Endpoint {
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.Channel("room:*", func() hub.Channel { return echo{} })
	ep.Socket("/socket", r, opts...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := ep.Drain(ctx); err != nil {
			t.Error("drain:", err)
		}
	})
	return ep
}

// client is a WebSocket client that sends and expects frames as they are.
type client struct {
	t  *testing.T
	ws *websocket.Conn
}

func dial(t *testing.T, ep *hub.Endpoint) *client { return dialVersion(t, ep, "2.0.0") }

func dialVersion(t *testing.T, ep *hub.Endpoint, vsn string) *client {
	srv := httptest.NewServer(ep)
	t.Cleanup(srv.Close)
	ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/socket/websocket?vsn="+vsn, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	return &client{t, ws}
}

func (c *client) send(frame string) {
	c.t.Helper()
	if err := c.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) want(frame string) {
	c.t.Helper()
	c.ws.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, got, err := c.ws.ReadMessage()
	if err != nil {
		c.t.Fatalf("got %v, want %.200s", err, frame)
	}
	if string(got) != frame {
		c.t.Fatalf("got  %.200s\nwant %.200s", got, frame)
	}
}

func (c *client) read() string {
	c.t.Helper()
	c.ws.SetReadDeadline(time.Now().Add(5 * time.Second))
	_, got, err := c.ws.ReadMessage()
	if err != nil {
		c.t.Fatal(err)
	}
	return string(got)
}

func TestConversation(t *testing.T) {
	c := dial(t, newEndpoint(t))
	c.send(`["1","1","room:a","phx_join",{"a":1}]`)
	c.want(`["1","1","room:a","phx_reply",{"response":{"a":1},"status":"ok"}]`)
	c.send(`["1","2","room:a","echo",{"n":[1,2]}]`)
	c.want(`["1","2","room:a","phx_reply",{"response":{"n":[1,2]},"status":"ok"}]`)
	c.send(`["1","3","room:a","what",{}]`)
	c.want(`["1","3","room:a","phx_reply",{"response":{"reason":"unknown event","code":"invalid"},"status":"error"}]`)
	c.send(`["1","4","room:a","shout",{"n":1}]`)
	c.want(`[null,null,"room:a","shout",{"n":1}]`)
	c.want(`["1","4","room:a","phx_reply",{"response":{},"status":"ok"}]`)
	c.send(`["1","5","room:a","crash",{}]`)
	c.want(`["1","1","room:a","phx_error",{"reason":"channel_crash"}]`)
	c.send(`["2","6","room:no","phx_join",{}]`)
	c.want(`["2","6","room:no","phx_reply",{"response":{"reason":"unauthorized"},"status":"error"}]`)
	c.send(`["2","6","room:panic","phx_join",{}]`)
	c.want(`["2","6","room:panic","phx_reply",{"response":{"reason":"join crashed"},"status":"error"}]`)
	c.send(`["7","7","room:a","phx_join",{}]`)
	c.want(`["7","7","room:a","phx_reply",{"response":{},"status":"ok"}]`)
	c.send(`["7","8","room:a","stop",{}]`)
	c.want(`["7","8","room:a","phx_reply",{"response":{},"status":"ok"}]`)
	c.want(`["7","7","room:a","phx_close",{}]`)
	c.send(`[null,"9","phoenix","heartbeat",{}]`)
	c.want(`[null,"9","phoenix","phx_reply",{"response":{},"status":"ok"}]`)
}
