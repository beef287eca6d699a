package hubclient_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"devicehub/hub/hubclient"
	"devicehub/hub/wire"
)

// server is a scripted Phoenix server on an in-memory network, so that it works in a synctest bubble. By itself it answers
// heartbeats, joins and leaves with ok, and every other event with ok and its own payload.
type server struct {
	t    *testing.T
	http http.Server
	ln   *pipeListener

	// on, if it returns true, has dealt with the message.
	on func(p *peer, m wire.Message) bool
	// refuse, if not nil, answers a connect instead.
	refuse func(w http.ResponseWriter, r *http.Request) bool

	mu       sync.Mutex
	peers    []*peer
	connects []*http.Request
	sessions map[string]*peer
	posts    []int // lines of each POST
}

// peer is the server's end of one connection.
type peer struct {
	s     *server
	ws    *websocket.Conn
	mu    sync.Mutex
	got   []string // topic and event of each message
	poll  []string // long-poll: waiting frames
	wake  chan struct{}
	gone  chan struct{}
	token string
}

func newServer(t *testing.T) *server {
	s := &server{t: t, ln: &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}, sessions: map[string]*peer{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/socket/websocket", s.serveWS)
	mux.HandleFunc("/socket/longpoll", s.serveLP)
	s.http.Handler = mux
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.http.Serve(s.ln)
	}()
	t.Cleanup(func() {
		s.http.Close()
		s.drop()
		<-done
	})
	return s
}

func (s *server) connected(p *peer, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers = append(s.peers, p)
	s.connects = append(s.connects, r)
}

// last returns the newest connection.
func (s *server) last() *peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.peers[len(s.peers)-1]
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.peers)
}

// drop breaks every connection.
func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.peers {
		if p.ws != nil {
			p.ws.Close()
		} else if s.sessions[p.token] != nil {
			close(p.gone)
		}
	}
	clear(s.sessions)
}

func (s *server) serveWS(w http.ResponseWriter, r *http.Request) {
	if s.refuse != nil && s.refuse(w, r) {
		return
	}
	up := websocket.Upgrader{Subprotocols: []string{"phoenix"}}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	p := &peer{s: s, ws: conn}
	s.connected(p, r)
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		p.receive(data, kind == websocket.BinaryMessage)
	}
}

func (s *server) serveLP(w http.ResponseWriter, r *http.Request) {
	answer := func(v map[string]any) { json.NewEncoder(w).Encode(v) }
	tok := r.Header.Get("X-Phoenix-Longpoll-Token")
	s.mu.Lock()
	p := s.sessions[tok]
	s.mu.Unlock()
	if r.Method == http.MethodPost {
		if p == nil {
			answer(map[string]any{"status": 410})
			return
		}
		body, _ := io.ReadAll(r.Body)
		lines := strings.Split(string(body), "\n")
		s.mu.Lock()
		s.posts = append(s.posts, len(lines))
		s.mu.Unlock()
		for _, line := range lines {
			if strings.HasPrefix(line, "[") {
				p.receive([]byte(line), false)
			} else {
				raw, err := base64.StdEncoding.DecodeString(line)
				if err != nil {
					s.t.Errorf("POST line %q: %v", line, err)
				}
				p.receive(raw, true)
			}
		}
		answer(map[string]any{"status": 200})
		return
	}
	if p == nil {
		if s.refuse != nil && s.refuse(w, r) {
			return
		}
		p = &peer{s: s, wake: make(chan struct{}, 1), gone: make(chan struct{})}
		s.connected(p, r)
		tok = strconv.Itoa(s.count())
		s.mu.Lock()
		p.token = tok
		s.sessions[tok] = p
		s.mu.Unlock()
		answer(map[string]any{"status": 410, "token": tok, "messages": []string{}})
		return
	}
	window := time.After(10 * time.Second)
	for {
		p.mu.Lock()
		messages := p.poll
		p.poll = nil
		p.mu.Unlock()
		if len(messages) > 0 {
			answer(map[string]any{"status": 200, "token": tok, "messages": messages})
			return
		}
		select {
		case <-p.wake:
		case <-p.gone:
			answer(map[string]any{"status": 410})
			return
		case <-r.Context().Done():
			return
		case <-window:
			answer(map[string]any{"status": 204, "token": tok, "messages": []string{}})
			return
		}
	}
}

func (p *peer) receive(data []byte, binary bool) {
	var m wire.Message
	var err error
	if binary {
		err = wire.DecodePush(&m, data)
	} else {
		err = wire.V2.DecodeText(&m, data)
	}
	if err != nil {
		p.s.t.Errorf("frame %q: %v", data, err)
		return
	}
	p.mu.Lock()
	p.got = append(p.got, m.Topic.String()+" "+m.Event.String())
	p.mu.Unlock()
	if p.s.on != nil && p.s.on(p, m) {
		return
	}
	switch m.Event.String() {
	case wire.EventHeartbeat, wire.EventJoin, wire.EventLeave:
		p.reply(m, "ok", "{}")
	default:
		if m.Binary {
			b, _ := wire.AppendBinaryReply(nil, m.JoinRef, m.Ref, m.Topic, "ok", m.Payload)
			p.send(b, true)
		} else {
			p.reply(m, "ok", string(m.Payload))
		}
	}
}

func (p *peer) reply(m wire.Message, status, response string) {
	p.send(wire.V2.AppendReply(nil, m.JoinRef, m.Ref, m.Topic, status, []byte(response)), false)
}

// push sends an event; joinRef "" is a broadcast.
func (p *peer) push(joinRef, topic, event, payload string) {
	var jr wire.Value
	if joinRef != "" {
		jr = wire.Str(joinRef)
	}
	p.send(wire.V2.AppendPush(nil, jr, wire.Value{}, wire.Str(topic), wire.Str(event), []byte(payload)), false)
}

func (p *peer) send(data []byte, binary bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ws == nil {
		if binary {
			data = []byte(base64.StdEncoding.EncodeToString(data))
		}
		p.poll = append(p.poll, string(data))
		select {
		case p.wake <- struct{}{}:
		default:
		}
		return
	}
	kind := websocket.TextMessage
	if binary {
		kind = websocket.BinaryMessage
	}
	p.ws.WriteMessage(kind, data)
}

func (p *peer) close(code int) {
	p.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), time.Now().Add(time.Second))
	p.ws.Close()
}

// events returns what came so far, without heartbeats.
func (p *peer) events() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, e := range p.got {
		if e != "phoenix heartbeat" {
			out = append(out, e)
		}
	}
	return out
}

// pipeListener is a network of net.Pipe.
type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, srv := net.Pipe()
	select {
	case l.conns <- srv:
		return client, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// start runs a client against s until the test ends.
func start(t *testing.T, s *server, cfg hubclient.Config) *hubclient.Client {
	t.Helper()
	cfg.URL, cfg.Dial = "ws://hub/socket", s.ln.dial
	c, err := hubclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return c
}

// log gathers lines from callbacks.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(parts ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.Join(parts, " "))
}

func (l *log) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.lines
	l.lines = nil
	return out
}

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// bubble runs a test in virtual time; its clean-ups run inside.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func bothTransports(t *testing.T, f func(t *testing.T, tr hubclient.Transport)) {
	for _, tr := range []hubclient.Transport{hubclient.WebSocket, hubclient.LongPoll} {
		t.Run(string(tr), func(t *testing.T) {
			bubble(t, func(t *testing.T) { f(t, tr) })
		})
	}
}
