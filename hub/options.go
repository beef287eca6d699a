package hub

import (
	"cmp"
	"encoding/json"
	"net/http"
	"time"
)

// options are the limits and habits of one mount.
type options struct {
	websocket     []string // segments below the mount's; nil: not served
	longpoll      []string
	frameBytes    int
	messageBytes  int
	bodyBytes     int64
	idle          time.Duration
	window        time.Duration
	maxSessions   int
	letIn         func(*http.Request)
	maxChannels   int
	tooMany       string
	inbox         int
	mailbox       int
	outboundBytes int
	sharedOut     int
	sharedIn      int
	outboundAge   time.Duration
	compress      bool
	authToken     bool
	subprotocols  []string
	origin        func(r *http.Request) bool
	cookie        string
	session       func(cookie, csrf string) (map[string]any, error)
	onError       ErrorHandler
	pollRefusal   func(err error) any
}

func defaults() options {
	return options{
		websocket:     []string{"websocket"},
		longpoll:      []string{"longpoll"},
		frameBytes:    65536,
		bodyBytes:     8_000_000,
		idle:          60 * time.Second,
		window:        10 * time.Second,
		maxSessions:   1 << 16,
		letIn:         func(*http.Request) {},
		maxChannels:   100,
		tooMany:       `{"reason":"too many channels joined"}`,
		inbox:         64,
		mailbox:       1024,
		outboundBytes: 256 << 10,
		sharedOut:     4 << 20,
		sharedIn:      1 << 20,
		outboundAge:   10 * time.Second,
		authToken:     true,
		onError:       func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusForbidden) },
		pollRefusal:   func(error) any { return status{pollForbidden} },
	}
}

// SocketOption configures one socket of an Endpoint.
type SocketOption func(*options)

// WithoutLongPoll mounts the WebSocket alone.
func WithoutLongPoll() SocketOption { return func(o *options) { o.longpoll = nil } }

// WithoutWebSocket mounts long polling alone.
func WithoutWebSocket() SocketOption { return func(o *options) { o.websocket = nil } }

// WithWebSocketPath sets where below its mount the WebSocket is, "websocket" by default. Like the
// mount it may hold variables; "" is the mount itself.
func WithWebSocketPath(path string) SocketOption {
	return func(o *options) { o.websocket = segments(path) }
}

// WithLongPollPath is WithWebSocketPath for long polling, which is at "longpoll" by default.
func WithLongPollPath(path string) SocketOption {
	return func(o *options) { o.longpoll = segments(path) }
}

// WithFrameBytes limits a WebSocket frame, header included; a longer one closes the connection
// with 1009. A fragmented message may be as long. The default is 65536.
func WithFrameBytes(n int) SocketOption { return func(o *options) { o.frameBytes = n } }

// WithMessageBytes lets fragmented messages grow beyond the limit of a frame.
func WithMessageBytes(n int) SocketOption { return func(o *options) { o.messageBytes = n } }

func (o *options) maxMessage() int { return cmp.Or(o.messageBytes, o.frameBytes) }

// WithBodyBytes limits the body of a long-poll POST; a longer one gets HTTP 400. The default is
// 8,000,000.
func WithBodyBytes(n int64) SocketOption { return func(o *options) { o.bodyBytes = n } }

// WithIdleTimeout closes a WebSocket with 1002 when nothing was received for so long. The
// default is 60 s; clients send a heartbeat every 30.
func WithIdleTimeout(d time.Duration) SocketOption { return func(o *options) { o.idle = d } }

// WithPollWindow sets how long a poll waits for messages. A session without a poll for one and
// a half windows ends, within three. The default is 10 s.
func WithPollWindow(d time.Duration) SocketOption { return func(o *options) { o.window = d } }

// WithLetIn has f called with each request of a client that the ConnectFunc let in, before it is
// answered: the one that opens a WebSocket, and all of a long-poll session.
func WithLetIn(f func(r *http.Request)) SocketOption { return func(o *options) { o.letIn = f } }

// WithMaxSessions limits the long-poll sessions of the endpoint. A client that would open another
// takes the place of one which is not polled; where all are, it gets HTTP 503. The default
// is 65536.
func WithMaxSessions(n int) SocketOption { return func(o *options) { o.maxSessions = n } }

// WithMaxChannels limits the channels of one connection; a join beyond it is refused. The
// default is 100.
func WithMaxChannels(n int) SocketOption { return func(o *options) { o.maxChannels = n } }

// WithTooManyChannels sets the response to a join beyond the limit of channels. The default is
// Phoenix's, {"reason":"too many channels joined"}. It panics for what does not encode.
func WithTooManyChannels(response any) SocketOption {
	text, err := json.Marshal(response)
	if err != nil {
		panic(err)
	}
	return func(o *options) { o.tooMany = string(text) }
}

// WithInbox limits the messages that wait for one channel: those of the client, beyond which its
// connection is not read until there is room (default 64), and those from inside the program,
// beyond which the channel ends with ErrOverloaded (default 1024).
func WithInbox(client, inside int) SocketOption {
	return func(o *options) { o.inbox, o.mailbox = max(client, 1), max(inside, 1) }
}

// WithOutbound limits what waits for one client, in bytes (default 256 KiB) and in the time
// without progress (default 10 s). Over it the policy of the topic says what happens.
func WithOutbound(bytes int, age time.Duration) SocketOption {
	return func(o *options) { o.outboundBytes, o.outboundAge = bytes, age }
}

// WithShared limits what waits for and from all connections with the same id together, in bytes
// (default 4 MiB and 1 MiB). Over the one, the policy of the topic says what happens on the
// connection that more would wait for, unless it is less than 16 KiB there; over the other, none of
// them is read until there is room. A connection without an id is on its own.
func WithShared(outbound, inbound int) SocketOption {
	return func(o *options) { o.sharedOut, o.sharedIn = outbound, inbound }
}

// WithCompression offers permessage-deflate (RFC 7692), without context takeover.
func WithCompression() SocketOption { return func(o *options) { o.compress = true } }

// WithSubprotocols sets subprotocols besides "phoenix". The first of "phoenix" and these that
// the client offers is selected; a client that offers others alone is refused.
func WithSubprotocols(names ...string) SocketOption {
	return func(o *options) { o.subprotocols = names }
}

// WithoutAuthToken leaves the token in the subprotocol alone, and lets in a client that offers
// other subprotocols than ours.
func WithoutAuthToken() SocketOption { return func(o *options) { o.authToken = false } }

// ErrorHandler answers a WebSocket request that connect refused with an error of its own.
type ErrorHandler func(w http.ResponseWriter, r *http.Request, err error)

// WithErrorHandler sets the handler of refused WebSocket requests. The default answers 403 with
// an empty body, as Phoenix does. For long polling see WithPollRefusal.
func WithErrorHandler(h ErrorHandler) SocketOption { return func(o *options) { o.onError = h } }

// WithPollRefusal sets the body of the answer to a long-poll client that connect or OnOpen refused
// with an error of its own. Clients look for its field "status"; the default is Phoenix's,
// {"status":403}. The HTTP status is 200 in any case.
func WithPollRefusal(body func(err error) any) SocketOption {
	return func(o *options) { o.pollRefusal = body }
}

// WithCheckOrigin sets the check of requests that carry an Origin header. See also WithOrigins.
// Without it every origin is let in.
func WithCheckOrigin(check func(r *http.Request) bool) SocketOption {
	return func(o *options) { o.origin = check }
}

// WithSession gives the ConnectFunc the session of a cookie. It is nil when there is no such cookie,
// and when open, which gets its value and the parameter _csrf_token, returns an error: a foreign
// page can make a browser send the cookie, but does not know the token. With a Plug program's sessions,
//
//	sessions, err := token.NewSessions(secretKeyBase, signingSalt, encryptionSalt)
//	ep.Socket("/socket", r, hub.WithSession("_my_app_key", sessions.Open))
func WithSession(cookie string, open func(cookie, csrf string) (map[string]any, error)) SocketOption {
	return func(o *options) { o.cookie, o.session = cookie, open }
}
