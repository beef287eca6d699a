package hubtest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"devicehub/hub"
	"devicehub/hub/wire"
)

// Patience is how much virtual time a Want waits.
const Patience = 5 * time.Second

// Option changes what a client says of itself.
type Option func(*hub.ConnectInfo)

// WithToken connects with an auth token.
func WithToken(token string) Option {
	return func(info *hub.ConnectInfo) { info.AuthToken, info.HasAuthToken = token, true }
}

// WithInfo changes anything that the ConnectFunc sees.
func WithInfo(f func(info *hub.ConnectInfo)) Option { return f }

// Client is a connected client. Its methods are for the test's goroutine.
type Client struct {
	t    testing.TB
	pipe *hub.Pipe
	ref  int

	mu      sync.Mutex
	frames  []*frame           // pushes and broadcasts not yet wanted
	replies map[string]*frame  // by ref
	ignored map[[2]string]bool // by topic and event
	close   *hub.PipeFrame
}

type frame struct {
	joinRef, topic, event string
	status                string // of a reply
	payload               hub.Payload
}

func (f *frame) String() string {
	return fmt.Sprintf("%s %s %s", f.topic, f.event, f.payload.Bytes())
}

// Connect connects a client to the socket at path. It fails the test if the client is refused.
// The connection is closed at the end of the test.
func Connect(t testing.TB, ep *hub.Endpoint, path string, params map[string]string, opts ...Option) *Client {
	t.Helper()
	c, err := Dial(t, ep, path, params, opts...)
	if err != nil {
		t.Fatalf("connect %s: %v", path, err)
	}
	return c
}

// Refused connects a client that is to be refused, and returns the ConnectFunc's error. It fails
// the test if the client is let in.
func Refused(t testing.TB, ep *hub.Endpoint, path string, params map[string]string, opts ...Option) error {
	t.Helper()
	_, err := Dial(t, ep, path, params, opts...)
	if err == nil {
		t.Fatalf("connect %s: let in, want refused", path)
	}
	return err
}

// Dial is Connect for a client that may be refused: the error is the ConnectFunc's.
func Dial(t testing.TB, ep *hub.Endpoint, path string, params map[string]string, opts ...Option) (*Client, error) {
	t.Helper()
	wantBubble(t)
	info := &hub.ConnectInfo{Params: hub.Params{"vsn": "2.0.0"}, RemoteAddr: "192.0.2.1:1234"}
	for name, v := range params {
		info.Params[name] = v
	}
	for _, o := range opts {
		o(info)
	}
	c := &Client{t: t, replies: make(map[string]*frame), ignored: make(map[[2]string]bool)}
	pipe, err := ep.Dial(path, info, c.receive)
	if err != nil {
		return nil, err
	}
	c.pipe = pipe
	t.Cleanup(func() {
		c.pipe.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, f := range c.frames {
			if f.event == wire.EventError {
				t.Errorf("channel of %s crashed", f.topic)
			}
		}
	})
	return c, nil
}

// receive is called by the hub.
func (c *Client) receive(pf hub.PipeFrame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if pf.Close {
		c.close = &pf
		return
	}
	f, ref, err := decode(append([]byte(nil), pf.Data...), pf.Binary)
	if err != nil {
		c.t.Errorf("the hub sent %q: %v", pf.Data, err)
		return
	}
	if f.event == wire.EventReply {
		c.replies[ref] = f
		return
	}
	if !c.ignores(f) {
		c.frames = append(c.frames, f)
	}
}

// ignores reports whether a frame is left out. The caller holds mu.
func (c *Client) ignores(f *frame) bool { return c.ignored[[2]string{f.topic, f.event}] }

func decode(data []byte, binary bool) (f *frame, ref string, err error) {
	var m wire.Message
	if binary {
		err = wire.DecodeServer(&m, data)
	} else {
		err = wire.V2.DecodeText(&m, data)
	}
	if err != nil {
		return nil, "", err
	}
	f = &frame{joinRef: m.JoinRef.String(), topic: m.Topic.String(), event: m.Event.String()}
	switch {
	case m.Binary:
		f.payload, f.status = hub.BinaryPayload(m.Payload), string(m.Status)
	case f.event == wire.EventReply:
		var r struct {
			Response json.RawMessage
			Status   string
		}
		if err := json.Unmarshal(m.Payload, &r); err != nil {
			return nil, "", err
		}
		f.payload, f.status = hub.JSONPayload(r.Response), r.Status
	default:
		f.payload = hub.JSONPayload(m.Payload)
	}
	return f, m.Ref.String(), nil
}

// Conn returns the server's side of the connection.
func (c *Client) Conn() *hub.Conn { return c.pipe.Conn() }

// Close closes the connection as a client does, and returns when its channels have ended.
func (c *Client) Close() { c.pipe.Close() }

// Break ends the connection as if it were lost.
func (c *Client) Break() { c.pipe.Break() }

// Pause makes the client stop reading, until Resume.
func (c *Client) Pause() { c.pipe.Pause() }

// Resume makes the client read on.
func (c *Client) Resume() { c.pipe.Resume() }

// Send sends a text frame as it is.
func (c *Client) Send(frame string) { c.pipe.Send([]byte(frame), false) }

// send sends a message and returns its ref.
func (c *Client) send(joinRef, topic, event string, payload any) string {
	c.t.Helper()
	c.ref++
	ref := strconv.Itoa(c.ref)
	m := &wire.Message{JoinRef: wire.Str(joinRef), Ref: wire.Str(ref), Topic: wire.Str(topic), Event: wire.Str(event)}
	if event == wire.EventJoin {
		m.JoinRef = m.Ref
	}
	switch p := payload.(type) {
	case nil:
		m.Payload = []byte("{}")
	case hub.Binary:
		m.Payload, m.Binary = p, true
	case json.RawMessage:
		m.Payload = p
	default:
		var err error
		if m.Payload, err = json.Marshal(p); err != nil {
			c.t.Fatalf("%s %s: %v", topic, event, err)
		}
	}
	data, binary, err := wire.V2.AppendMessage(nil, m)
	if err != nil {
		c.t.Fatalf("%s %s: %v", topic, event, err)
	}
	c.pipe.Send(data, binary)
	return ref
}

// Join joins a topic. It fails the test unless the join is accepted.
func (c *Client) Join(topic string, payload any) *Channel {
	c.t.Helper()
	ch := c.TryJoin(topic, payload)
	ch.Joined.WantReply("ok", nil)
	return ch
}

// TryJoin sends a join; its reply is that of Joined.
func (c *Client) TryJoin(topic string, payload any) *Channel {
	c.t.Helper()
	ref := c.send("", topic, wire.EventJoin, payload)
	return &Channel{c: c, topic: topic, joinRef: ref, Joined: &Pushed{c: c, what: "join " + topic, ref: ref}}
}

// Heartbeat sends a heartbeat.
func (c *Client) Heartbeat() *Pushed {
	c.t.Helper()
	return &Pushed{c: c, what: "heartbeat", ref: c.send("", wire.TopicPhoenix, wire.EventHeartbeat, nil)}
}

// WantClose waits for the server to close the connection with a code.
func (c *Client) WantClose(code int) {
	c.t.Helper()
	c.wait(func() bool { return c.close != nil })
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.close == nil || c.close.Code != code {
		c.t.Fatalf("got close %+v, want %d", c.close, code)
	}
}

// WantQuiet fails the test if anything was sent that the test has not wanted, replies
// included. It waits until the hub has nothing more to do at this time.
func (c *Client) WantQuiet() {
	c.t.Helper()
	settle(c.t)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		c.t.Errorf("got %s, want nothing more", f)
	}
	for _, f := range c.replies {
		c.t.Errorf("got reply %s %s %s, want nothing more", f.topic, f.status, f.payload.Bytes())
	}
	if c.close != nil {
		c.t.Errorf("got close %d, want nothing more", c.close.Code)
	}
}

// wait waits until ok, called with mu, or until patience is out.
func (c *Client) wait(ok func() bool) {
	c.t.Helper()
	deadline := time.Now().Add(Patience)
	for {
		settle(c.t)
		c.mu.Lock()
		done := ok()
		c.mu.Unlock()
		if done || !time.Now().Before(deadline) {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
