package hub_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub"
)

// steps are what happened, in order.
type steps struct {
	mu   sync.Mutex
	done []string
}

func (s *steps) add(step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, step)
}

func (s *steps) want(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.done, want) {
		t.Errorf("got %q, want %q", s.done, want)
	}
}

// later answers "ask" after a while.
type later struct {
	steps *steps
	asked chan<- struct{}
}

func (later) Join(context.Context, *hub.Socket, hub.Payload) (hub.Reply, error) {
	return hub.OK(nil), nil
}

func (c later) HandleIn(_ context.Context, s *hub.Socket, _ string, _ hub.Payload) (hub.Reply, error) {
	ref := s.Ref()
	time.AfterFunc(100*time.Millisecond, func() {
		c.steps.add("answered")
		ref.Reply(hub.OK(nil))
	})
	c.asked <- struct{}{}
	return hub.Reply{}, nil
}

func (c later) Terminate(*hub.Socket, error) { c.steps.add("terminated") }

// dialRoom joins room:a over a WebSocket.
func dialRoom(t *testing.T, addr string) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+addr+"/socket/websocket?vsn=2.0.0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.Close() })
	ws.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := ws.WriteMessage(websocket.TextMessage, []byte(`["1","1","room:a","phx_join",{}]`)); err != nil {
		t.Fatal(err)
	}
	if _, reply, err := ws.ReadMessage(); err != nil || !strings.Contains(string(reply), `"ok"`) {
		t.Fatalf("join: got %s, %v", reply, err)
	}
	return ws
}

// Serve goes away in the order that it promises, and leaves nothing behind.
func TestServe(t *testing.T) {
	before := runtime.NumGoroutine()
	did, asked, slow := new(steps), make(chan struct{}, 1), make(chan struct{})
	pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(slow)
		time.Sleep(400 * time.Millisecond)
		did.add("page")
		io.WriteString(w, "a page")
	})
	ep := hub.New(hub.WithFallback(pages))
	r := hub.NewRouter(nil)
	r.Channel("room:*", func() hub.Channel { return later{did, asked} })
	ep.Socket("/socket", r)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- ep.Serve(ctx, l, hub.WithBeforeDrain(func() {
			did.add("told")
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Errorf("the listener is closed already: %v", err)
				return
			}
			nc.Close()
		}))
	}()

	ws := dialRoom(t, addr)
	ws.WriteMessage(websocket.TextMessage, []byte(`["1","2","room:a","ask",{}]`))
	<-asked
	page := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + addr + "/page")
		if err != nil {
			page <- err.Error()
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		page <- string(body)
	}()
	<-slow
	stop()

	if _, reply, err := ws.ReadMessage(); err != nil || string(reply) != `["1","2","room:a","phx_reply",{"response":{},"status":"ok"}]` {
		t.Errorf("what was asked before: got %s, %v", reply, err)
	}
	var ce *websocket.CloseError
	if _, _, err := ws.ReadMessage(); !errors.As(err, &ce) || ce.Code != hub.CloseRestart {
		t.Errorf("got %v, want a close with 1012", err)
	}
	if nc, err := net.Dial("tcp", addr); err == nil {
		nc.Close()
		t.Error("a new connection is let in while the clients are sent away")
	}
	if got := <-page; got != "a page" {
		t.Errorf("the page under way: got %q", got)
	}
	if err := <-served; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	did.want(t, "told", "answered", "terminated", "page")
	http.DefaultClient.CloseIdleConnections()
	for deadline := time.Now().Add(2 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}

// Requests that take too long are closed.
func TestServeCutsOff(t *testing.T) {
	var log strings.Builder
	begun, ended := make(chan struct{}), make(chan struct{})
	srv := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(ended)
	})}
	ep := hub.New(hub.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- ep.Serve(ctx, l, hub.WithServer(srv), hub.WithGrace(time.Second, 50*time.Millisecond))
	}()
	failed := make(chan error, 1)
	go func() {
		_, err := http.Get(fmt.Sprintf("http://%s/", l.Addr()))
		failed <- err
	}()
	<-begun
	stop()
	if err := <-served; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	<-ended
	if err := <-failed; err == nil {
		t.Error("the request was answered, want it closed")
	}
	if !strings.Contains(log.String(), "requests took too long") {
		t.Errorf("log: got %q", log.String())
	}
}

// failing is a listener that fails when it is told to.
type failing struct {
	net.Listener
	err chan error
}

func (l failing) Accept() (net.Conn, error) { return nil, <-l.err }

// The clients of a listener that fails are sent away all the same.
func TestServeAfterFailure(t *testing.T) {
	ep := hub.New()
	r := hub.NewRouter(nil)
	r.Channel("room:*", func() hub.Channel { return answering{} })
	ep.Socket("/socket", r)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken := failing{l, make(chan error)}
	served := make(chan error, 1)
	go func() { served <- ep.Serve(context.Background(), broken) }()
	closed := make(chan int, 1)
	if _, err := ep.Dial("/socket", &hub.ConnectInfo{Params: hub.Params{"vsn": "2.0.0"}}, func(f hub.PipeFrame) {
		if f.Close {
			closed <- f.Code
		}
	}); err != nil {
		t.Fatal(err)
	}
	want := errors.New("no more file descriptors")
	broken.err <- want
	if err := <-served; err != want {
		t.Errorf("got %v, want %v", err, want)
	}
	if code := <-closed; code != hub.CloseRestart {
		t.Errorf("closed with %d, want 1012", code)
	}
}

func TestListenAndServe(t *testing.T) {
	if err := hub.New().ListenAndServe(context.Background(), "127.0.0.1:http-not"); err == nil {
		t.Error("got nil, want an error about the address")
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if err := hub.New().ListenAndServe(ctx, "127.0.0.1:0"); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
