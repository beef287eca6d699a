package hub_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub"
)

// raw writes a frame as it is: first byte, masked or not, body.
func (c *client) raw(first byte, masked bool, body string) {
	c.t.Helper()
	b := []byte{first}
	mask := byte(0x80)
	if !masked {
		mask = 0
	}
	switch n := len(body); {
	case n < 126:
		b = append(b, mask|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, mask|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, mask|127), uint64(n))
	}
	if masked {
		b = append(b, 0, 0, 0, 0)
	}
	if _, err := c.ws.NetConn().Write(append(b, body...)); err != nil {
		c.t.Logf("write: %v", err)
	}
}

func (c *client) wantClose(code int) {
	c.t.Helper()
	c.ws.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		_, data, err := c.ws.ReadMessage()
		var ce *websocket.CloseError
		switch {
		case errors.As(err, &ce):
			if ce.Code != code {
				c.t.Fatalf("got close %d, want %d", ce.Code, code)
			}
			return
		case err != nil:
			c.t.Fatalf("got %v, want close %d", err, code)
		default:
			c.t.Logf("before the close: %.80q", data)
		}
	}
}

func TestProtocolErrorsClose(t *testing.T) {
	ep := newEndpoint(t, hub.WithFrameBytes(1000))
	closing := func(code int, reason string) string {
		return string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason
	}
	type frame struct {
		first byte
		body  string
	}
	for _, c := range []struct {
		name   string
		code   int
		frames []frame
	}{
		{"reserved bit", 1002, []frame{{0xC1, "[]"}}},
		{"reserved opcode", 1002, []frame{{0x83, "[]"}}},
		{"reserved control opcode", 1002, []frame{{0x8B, ""}}},
		{"nothing to continue", 1002, []frame{{0x80, "[]"}}},
		{"message within a message", 1002, []frame{{0x01, "["}, {0x81, "]"}}},
		{"fragmented ping", 1002, []frame{{0x09, "x"}}},
		{"long ping", 1002, []frame{{0x89, strings.Repeat("x", 126)}}},
		{"empty fragment", 1008, []frame{{0x01, "["}, {0x00, ""}}},
		{"text is not UTF-8", 1007, []frame{{0x81, "\xff"}}},
		{"text is not UTF-8 over fragments", 1007, []frame{{0x01, "a"}, {0x80, "\xff"}}},
		{"frame too large", 1009, []frame{{0x81, strings.Repeat("x", 993)}}},
		{"fragments too large", 1009, []frame{{0x01, strings.Repeat("x", 600)}, {0x80, strings.Repeat("x", 600)}}},
		{"no JSON", 1011, []frame{{0x81, "{"}}},
		{"binary of kind 1", 1011, []frame{{0x82, "\x01"}}},
		{"empty binary", 1011, []frame{{0x82, ""}}},
		{"close", 1000, []frame{{0x88, closing(1000, "bye")}}},
		{"close with another code", 1000, []frame{{0x88, closing(3999, "")}}},
		{"close without a code", 1000, []frame{{0x88, ""}}},
		{"close with an invalid code", 1002, []frame{{0x88, closing(1005, "")}}},
		{"close cut short", 1002, []frame{{0x88, "\x03"}}},
		{"close with a code that nobody has defined", 1002, []frame{{0x88, closing(1012, "")}}},
		{"close with a code out of range", 1000, []frame{{0x88, closing(5000, "")}}},
		{"binary topic is not UTF-8", 1011, []frame{{0x82, "\x00\x00\x01\x01\x019\xffe"}}},
		{"close reason is not UTF-8", 1002, []frame{{0x88, closing(1000, "\xff")}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := dial(t, ep)
			for _, f := range c.frames {
				client.raw(f.first, true, f.body)
			}
			client.wantClose(c.code)
		})
	}
	t.Run("version 1 in a binary frame is not UTF-8", func(t *testing.T) {
		client := dialVersion(t, ep, "1.0.0")
		client.raw(0x82, true, `{"topic":"room:a","event":"phx_join","payload":{"a":"`+"\xff"+`"},"ref":"1"}`)
		client.wantClose(1011)
	})
	t.Run("not masked", func(t *testing.T) {
		client := dial(t, ep)
		client.raw(0x81, false, "[]")
		client.wantClose(1002)
	})
}

func TestFragmentsAndPings(t *testing.T) {
	c := dial(t, newEndpoint(t))
	pongs := make(chan string, 1)
	c.ws.SetPongHandler(func(data string) error { pongs <- data; return nil })
	c.raw(0x01, true, `[null,"1","phoe`)
	c.raw(0x89, true, "between")
	c.raw(0x00, true, `nix","heartbeat"`)
	c.raw(0x80, true, `,{}]`)
	c.want(`[null,"1","phoenix","phx_reply",{"response":{},"status":"ok"}]`)
	if got := <-pongs; got != "between" {
		t.Errorf("got pong %q, want between", got)
	}
}

// A frame that dribbles in byte by byte, and many that come at once, are read alike.
func TestAnyPacketing(t *testing.T) {
	c := dial(t, newEndpoint(t))
	var stream []byte
	for range 3 {
		body := `[null,"1","phoenix","heartbeat",{"pad":"` + strings.Repeat("x", 5000) + `"}]`
		stream = append(stream, 0x81, 0x80|126, byte(len(body)>>8), byte(len(body)), 0, 0, 0, 0)
		stream = append(stream, body...)
	}
	for len(stream) > 14000 {
		c.ws.NetConn().Write(stream[:1])
		stream = stream[1:]
	}
	c.ws.NetConn().Write(stream)
	for range 3 {
		c.want(`[null,"1","phoenix","phx_reply",{"response":{},"status":"ok"}]`)
	}
}

func TestSlowConsumerNeverBlocksAPublisher(t *testing.T) {
	ep := newEndpoint(t, hub.WithOutbound(64<<10, time.Second))
	slow, quick := dial(t, ep), dial(t, ep)
	for _, c := range []*client{slow, quick} {
		c.send(`["1","1","room:a","phx_join",{}]`)
		c.want(`["1","1","room:a","phx_reply",{"response":{},"status":"ok"}]`)
	}
	var read atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for read.Load() < 2000 {
			quick.ws.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, _, err := quick.ws.ReadMessage(); err != nil {
				return
			}
			read.Add(1)
		}
	}()
	// As fast as the one who reads can follow, whatever the other does.
	pad := strings.Repeat("x", 8000)
	for sent := range int64(2000) {
		if err := ep.Broadcast("room:a", "e", map[string]string{"pad": pad}); err != nil {
			t.Fatal(err)
		}
		for patience := time.Now().Add(5 * time.Second); sent-read.Load() > 4 && time.Now().Before(patience); {
			time.Sleep(20 * time.Microsecond)
		}
	}
	<-done
	if n := read.Load(); n != 2000 {
		t.Errorf("who reads got %d of 2000", n)
	}
	deadline := time.Now().Add(5 * time.Second)
	for ep.Stats().SlowConsumers == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if got := ep.Stats().SlowConsumers; got != 1 {
		t.Errorf("got %d slow consumers, want 1", got)
	}
}

// Over TLS there is no descriptor to write to: everything goes through the queue.
func TestOverTLS(t *testing.T) {
	ep := newEndpoint(t)
	srv := httptest.NewTLSServer(ep)
	t.Cleanup(srv.Close)
	d := websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	ws, _, err := d.Dial("wss"+strings.TrimPrefix(srv.URL, "https")+"/socket/websocket?vsn=2.0.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t, ws}
	c.send(`["1","1","room:a","phx_join",{}]`)
	c.want(`["1","1","room:a","phx_reply",{"response":{},"status":"ok"}]`)
	pad := strings.Repeat("x", 30000)
	for range 5 {
		for range 4 {
			c.send(`["1","2","room:a","echo",{"p":"` + pad + `"}]`)
		}
		for range 4 {
			c.want(`["1","2","room:a","phx_reply",{"response":{"p":"` + pad + `"},"status":"ok"}]`)
		}
	}
	c.raw(0x88, true, "\x03\xe8")
	c.wantClose(1000)
}

func TestCompression(t *testing.T) {
	ep := newEndpoint(t, hub.WithCompression())
	srv := httptest.NewServer(ep)
	t.Cleanup(srv.Close)
	d := websocket.Dialer{EnableCompression: true}
	connect := func() *client {
		ws, res, err := d.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/socket/websocket?vsn=2.0.0", nil)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(res.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate") {
			t.Fatal("compression is not negotiated")
		}
		return &client{t, ws}
	}
	c := connect()
	c.send(`["1","1","room:a","phx_join",{}]`)
	c.want(`["1","1","room:a","phx_reply",{"response":{},"status":"ok"}]`)
	text := strings.Repeat("again and ", 500)
	c.send(`["1","2","room:a","shout",{"p":"` + text + `"}]`)
	c.want(`[null,null,"room:a","shout",{"p":"` + text + `"}]`)
	c.want(`["1","2","room:a","phx_reply",{"response":{},"status":"ok"}]`)

	for offer, accepted := range map[string]bool{
		"permessage-deflate; server_max_window_bits=10":                     false, // we do not keep to a smaller window
		"permessage-deflate; server_max_window_bits=10, permessage-deflate": true,
	} {
		res := upgrade(t, srv.URL+"/socket/websocket", http.Header{"Sec-Websocket-Extensions": {offer}})
		if got := res.Header.Get("Sec-Websocket-Extensions") != ""; res.StatusCode != 101 || got != accepted {
			t.Errorf("%s: got HTTP %d, accepted %v, want %v", offer, res.StatusCode, got, accepted)
		}
	}

	bomb := connect()
	bomb.ws.WriteMessage(websocket.TextMessage, bytes.Repeat([]byte(" "), 10<<20))
	bomb.wantClose(1009)
}

// upgrade asks for a WebSocket with the given headers besides the usual ones.
func upgrade(t *testing.T, url string, header http.Header) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	maps.Copy(req.Header, header)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestHandshakeRefusals(t *testing.T) {
	ep := hub.New()
	r := hub.NewRouter(func(_ context.Context, info *hub.ConnectInfo) (context.Context, error) {
		switch info.Params.Get("do") {
		case "refuse":
			return nil, hub.ErrRefused
		case "fail":
			return nil, errors.New("slow down")
		case "panic":
			panic("no")
		}
		return nil, nil
	})
	ep.Socket("/socket", r, hub.WithOrigins("https://example.com", "//*.ex.com", "//host:81"), hub.WithErrorHandler(
		func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusTooManyRequests)
		}))
	for _, c := range []struct {
		name, method, target string
		header               map[string]string
		status               int
	}{
		{"post", "POST", "/socket/websocket", nil, 400},
		{"no upgrade", "GET", "/socket/websocket", nil, 400},
		{"refused before the headers are looked at", "GET", "/socket/websocket?do=refuse", nil, 403},
		{"error handler", "GET", "/socket/websocket?do=fail", nil, 429},
		{"panic", "GET", "/socket/websocket?do=panic", nil, 500},
		{"bad query", "GET", "/socket/websocket?a=%ff", nil, 400},
		{"bad vsn", "GET", "/socket/websocket?vsn=9", nil, 403},
		{"vsn is a map", "GET", "/socket/websocket?vsn[a]=1", nil, 403},
		{"elsewhere", "GET", "/other", nil, 404},
		{"origin", "GET", "/socket/websocket", map[string]string{"Origin": "https://example.com"}, 400},
		{"origin with port", "GET", "/socket/websocket", map[string]string{"Origin": "https://example.com:443"}, 400},
		{"origin of another scheme", "GET", "/socket/websocket", map[string]string{"Origin": "http://example.com"}, 403},
		{"origin of a subdomain", "GET", "/socket/websocket", map[string]string{"Origin": "http://a.b.ex.com"}, 400},
		{"origin of a lookalike", "GET", "/socket/websocket", map[string]string{"Origin": "http://prefix-ex.com"}, 403},
		{"origin on the port", "GET", "/socket/websocket", map[string]string{"Origin": "http://host:81"}, 400},
		{"origin on another port", "GET", "/socket/websocket", map[string]string{"Origin": "http://host"}, 403},
		{"origin null", "GET", "/socket/websocket", map[string]string{"Origin": "null"}, 403},
		{"origin empty", "GET", "/socket/websocket", map[string]string{"Origin": ""}, 403},
		{"other subprotocol", "GET", "/socket/websocket", map[string]string{"Sec-Websocket-Protocol": "mqtt"}, 403},
		{"junk token", "GET", "/socket/websocket", map[string]string{"Sec-Websocket-Protocol": "phoenix, base64url.bearer.phx.!"}, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			req := httptest.NewRequest(c.method, c.target, nil)
			for name, v := range c.header {
				req.Header.Set(name, v)
			}
			w := httptest.NewRecorder()
			ep.ServeHTTP(w, req)
			if w.Code != c.status {
				t.Errorf("got status %d, want %d", w.Code, c.status)
			}
		})
	}
}

func TestWebSocketNeedsHTTP11(t *testing.T) {
	srv := httptest.NewServer(newEndpoint(t))
	t.Cleanup(srv.Close)
	nc, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "GET /socket/websocket HTTP/1.0\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 400 {
		t.Errorf("got HTTP %d, want 400", res.StatusCode)
	}
}

func TestPathsOfTransports(t *testing.T) {
	var got []string
	ep := hub.New()
	r := hub.NewRouter(func(_ context.Context, info *hub.ConnectInfo) (context.Context, error) {
		got = append(got, info.Transport+" "+info.Params.Get("site")+" "+info.Params.Get("name"))
		return nil, hub.ErrRefused
	})
	ep.Socket("/at/:site", r, hub.WithWebSocketPath("/ws/:name"), hub.WithLongPollPath(""))
	for _, path := range []string{"/at/here/ws/tom", "/at/a%2Fb/ws/%C3%A9", "/at/here/", "/at/here/websocket", "/at/here/ws", "/at/here/longpoll"} {
		ep.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	if want := []string{"websocket here tom", "websocket a/b é", "longpoll here "}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAuthToken(t *testing.T) {
	var got []string
	ep := hub.New()
	r := hub.NewRouter(func(_ context.Context, info *hub.ConnectInfo) (context.Context, error) {
		token := "none"
		if info.HasAuthToken {
			token = info.AuthToken
		}
		got = append(got, token)
		return nil, hub.ErrRefused
	})
	ep.Socket("/socket", r)
	for _, c := range []struct{ header, value, want string }{
		{"Sec-Websocket-Protocol", "phoenix, base64url.bearer.phx.fn8_fg", "~\x7f?~"},
		{"Sec-Websocket-Protocol", "base64url.bearer.phx.fn8/fg==,phoenix", "~\x7f?~"},
		{"Sec-Websocket-Protocol", "base64url.bearer.phx.fn8/fg", "~\x7f?~"},
		{"Sec-Websocket-Protocol", "phoenix, base64url.bearer.phx.", ""},
		{"Sec-Websocket-Protocol", "base64url.bearer.phx.YQ, base64url.bearer.phx.YQ", "none"},
		{"Sec-Websocket-Protocol", "phoenix", "none"},
		{"X-Phoenix-AuthToken", "raw", "raw"},
		{"Authorization", "Bearer abc", "abc"},
		{"Authorization", "Basic abc", "none"},
	} {
		got = nil
		req := httptest.NewRequest("GET", "/socket/websocket", nil)
		req.Header.Set(c.header, c.value)
		ep.ServeHTTP(httptest.NewRecorder(), req)
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: %s: got %q, want %q", c.header, c.value, got, c.want)
		}
	}
}

// stacks returns the goroutines that are in the hub.
func stacks() string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var out []string
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, "devicehub/hub.") && !strings.Contains(g, "testing.tRunner") {
			out = append(out, g)
		}
	}
	return strings.Join(out, "\n\n")
}

func TestDrainLeavesNoGoroutine(t *testing.T) {
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.Channel("room:*", func() hub.Channel { return echo{} })
	ep.Socket("/socket", r)
	srv := httptest.NewServer(ep)
	var clients []*client
	for range 20 {
		ws, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(srv.URL, "http")+"/socket/websocket?vsn=2.0.0", nil)
		if err != nil {
			t.Fatal(err)
		}
		c := &client{t, ws}
		c.send(`["1","1","room:a","phx_join",{}]`)
		c.want(`["1","1","room:a","phx_reply",{"response":{},"status":"ok"}]`)
		clients = append(clients, c)
	}
	res, err := http.Get(srv.URL + "/socket/longpoll?vsn=2.0.0")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	clients[0].ws.Close()
	done := make(chan error)
	go func() { done <- ep.Drain(context.Background()) }()
	for _, c := range clients[1:] {
		c.wantClose(1012)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	srv.Close()
	deadline := time.Now().Add(2 * time.Second)
	for stacks() != "" && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if left := stacks(); left != "" {
		t.Errorf("goroutines left:\n%s", left)
	}
	if s := ep.Stats(); s.WebSockets != 0 || s.LongPolls != 0 || s.Channels != 0 {
		t.Errorf("got %+v", s)
	}
}
