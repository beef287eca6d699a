package hubclient

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"devicehub/hub/wire"
)

// A Transport names how frames travel.
type Transport string

// The transports of a Phoenix socket.
const (
	WebSocket Transport = "websocket"
	LongPoll  Transport = "longpoll"
)

// Config says where to connect and how. Only URL is required.
type Config struct {
	// URL is where the socket is mounted, as phoenix.js takes it: ws://host/socket. The schemes ws, wss, http and https
	// are taken; /websocket or /longpoll is added to the path, or replaced if it stands there. Its query is sent along.
	URL string
	// Params are asked for at every connect and sent in the query. Nested ones are spelled as in a form: a[b]=c.
	Params func() url.Values
	// AuthToken is asked for at every connect. It travels as a subprotocol, on long-poll in X-Phoenix-AuthToken.
	AuthToken func() string
	// Header is sent with every HTTP request, the upgrade included.
	Header http.Header

	// Transport is the first to try, WebSocket by default.
	Transport Transport
	// Fallback, if not 0, is how long WebSocket has to open, and again to answer a heartbeat, before the client goes
	// over to long polling for good. A WebSocket that fails before its first answer falls back at once.
	Fallback time.Duration
	// Version of the serializer, V2 by default.
	Version wire.Version

	Timeout   time.Duration // for joins and pushes to be answered, 10 s by default
	Heartbeat time.Duration // between heartbeats, 30 s by default; long polling needs none
	Poll      time.Duration // the longest poll, 20 s by default; must exceed the server's window

	// ReconnectAfter and RejoinAfter return the delay before attempt n, which counts from 1. By default Backoff over
	// tables like those of phoenix.js.
	ReconnectAfter, RejoinAfter func(n int) time.Duration

	// Buffer bounds what waits: pushes before a join, and frames before they are written. 256 by default.
	Buffer int
	// MaxFrame bounds a message from the server, in bytes; 8,000,000 by default.
	MaxFrame int64
	// ReadBuffer is the WebSocket's read buffer in bytes, 1024 by default.
	ReadBuffer int
	// WriteBuffers may be shared by many clients; nil gives the client its own.
	WriteBuffers *sync.Pool
	// Dial connects, for example from a chosen source address; nil is a plain net.Dialer. HTTP, if set, is not
	// affected by it.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS  *tls.Config
	// HTTP serves long polling. Clients may share one; nil gives the client its own, over Dial and TLS.
	HTTP *http.Client

	// OnOpen runs after each successful connect, before the joins; OnClose when a connection ended or could not be made:
	// *RefusedError, *CloseError, or another error of the network.
	OnOpen  func(Opened)
	OnClose func(error)
	// Observe sees every frame, as it is read and as it is written. It is called from the goroutines that read and write,
	// at most one of each, before any other callback sees the frame; while it blocks, nothing is read (or written).
	Observe func(Frame)

	// Log gets connects and their failures at debug level; nil is silent.
	Log *slog.Logger
}

// Opened says how a connection came about.
type Opened struct {
	Transport Transport
	Attempt   int           // since the last connection, from 1
	Connect   time.Duration // until the server accepted: TCP, TLS and upgrade, or the first poll
}

// A Frame is one message as it crossed the network. Data must not be changed or kept.
type Frame struct {
	Out    bool // from this client
	Binary bool
	Data   []byte
}

func (c Config) withDefaults() (Config, *url.URL, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return c, nil, fmt.Errorf("hubclient: %w", err)
	}
	switch u.Scheme {
	case "ws", "wss":
	case "http":
		u.Scheme = "ws"
	case "https":
		u.Scheme = "wss"
	default:
		return c, nil, fmt.Errorf("hubclient: %q is not a ws, wss, http or https URL", c.URL)
	}
	if u.Host == "" {
		return c, nil, fmt.Errorf("hubclient: %q names no host", c.URL)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/websocket"), "/longpoll")
	u.Fragment = ""

	switch c.Transport {
	case "":
		c.Transport = WebSocket
	case WebSocket, LongPoll:
	default:
		return c, nil, fmt.Errorf("hubclient: unknown transport %q", c.Transport)
	}
	if c.Version == 0 {
		c.Version = wire.V2
	}
	c.Timeout = positive(c.Timeout, 10*time.Second)
	c.Heartbeat = positive(c.Heartbeat, 30*time.Second)
	c.Poll = positive(c.Poll, 20*time.Second)
	c.Buffer = positive(c.Buffer, 256)
	c.MaxFrame = positive(c.MaxFrame, 8_000_000)
	c.ReadBuffer = positive(c.ReadBuffer, 1024)
	if c.ReconnectAfter == nil {
		c.ReconnectAfter = Backoff(100*time.Millisecond, 250*time.Millisecond, 500*time.Millisecond, time.Second, 2*time.Second, 5*time.Second)
	}
	if c.RejoinAfter == nil {
		c.RejoinAfter = Backoff(time.Second, 2*time.Second, 5*time.Second, 10*time.Second)
	}
	if c.WriteBuffers == nil {
		c.WriteBuffers = new(sync.Pool)
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, u, nil
}

func positive[T int | int64 | time.Duration](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// Backoff returns delays for Config.ReconnectAfter and RejoinAfter: the n-th of the table, the last from then on, each
// times a random factor between 0.5 and 1.5, so that a thousand clients who lost one server do not return as one.
func Backoff(table ...time.Duration) func(n int) time.Duration {
	return func(n int) time.Duration {
		d := table[min(max(n, 1), len(table))-1]
		return d/2 + rand.N(max(d, 1))
	}
}
