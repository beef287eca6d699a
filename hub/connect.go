package hub

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"devicehub/hub/wire"
)

// ConnectInfo is what a ConnectFunc may know of the client. Other headers, cookies among them,
// are left out on purpose: a foreign page can make a browser send them. See WithSession.
type ConnectInfo struct {
	// Params are the query parameters and the variables of the path.
	Params Params
	// AuthToken comes from the subprotocol base64url.bearer.phx.<token>, from the header
	// X-Phoenix-AuthToken, or from Authorization: Bearer. HasAuthToken tells "" from none.
	AuthToken    string
	HasAuthToken bool
	// Transport is "websocket", "longpoll" or "memory".
	Transport  string
	RemoteAddr string // host and port of the peer
	UserAgent  string
	// URI is the request's, with scheme and host.
	URI *url.URL
	// XHeaders are the headers whose names begin with X-, TraceContext traceparent and
	// tracestate, WebSocketHeaders those that begin with Sec-Websocket-, but for the token.
	XHeaders, TraceContext, WebSocketHeaders http.Header
	// Session is what WithSession found in the cookie, nil without it.
	Session map[string]any
}

// ErrRefused, returned by a ConnectFunc, refuses with an empty 403, past the error handler.
var ErrRefused = errors.New("connect refused")

// admission is a client that may come in.
type admission struct {
	ctx     context.Context
	base    context.Context
	cancel  context.CancelCauseFunc
	version wire.Version
	id      string
}

var (
	errVersion = errors.New("unsupported vsn")
	errToken   = errors.New("malformed token in the subprotocol")
)

// admit negotiates the version and asks the router. The error is ErrRefused, *PanicError, or what the
// ConnectFunc returned.
func (m *mount) admit(info *ConnectInfo) (*admission, error) {
	a := new(admission)
	vsn, ok := "1.0.0", true
	if v, there := info.Params["vsn"]; there {
		vsn, ok = v.(string)
	}
	var err error
	if a.version, err = wire.Negotiate(vsn); err != nil || !ok {
		return nil, errors.Join(ErrRefused, errVersion)
	}
	a.base, a.cancel = context.WithCancelCause(context.Background())
	a.ctx = a.base
	if m.router.connect != nil {
		ctx, err := protect(func() (context.Context, error) { return m.router.connect(a.base, info) })
		if err != nil {
			a.cancel(err)
			return nil, err
		}
		if ctx != nil {
			a.ctx = ctx
		}
	}
	if m.router.id != nil {
		id, err := protect(func() (string, error) { return m.router.id(a.ctx), nil })
		if err != nil {
			a.cancel(err)
			return nil, err
		}
		a.id = id
	}
	return a, nil
}

// connectInfo gathers what the ConnectFunc may know.
func (m *mount) connectInfo(r *http.Request, transport string, vars Params) (*ConnectInfo, error) {
	params, err := ParseParams(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	for name, v := range vars {
		params[name] = v
	}
	uri := *r.URL
	uri.Host, uri.Scheme = r.Host, "http"
	if r.TLS != nil {
		uri.Scheme = "https"
	}
	info := &ConnectInfo{Params: params, Transport: transport, RemoteAddr: r.RemoteAddr, UserAgent: r.UserAgent(), URI: &uri}
	for name, values := range r.Header {
		switch {
		case strings.EqualFold(name, "X-Phoenix-AuthToken"):
		case begins(name, "X-"):
			info.XHeaders = with(info.XHeaders, name, values)
		case strings.EqualFold(name, "Traceparent") || strings.EqualFold(name, "Tracestate"):
			info.TraceContext = with(info.TraceContext, name, values)
		case begins(name, "Sec-Websocket-") && !strings.EqualFold(name, "Sec-Websocket-Protocol"):
			info.WebSocketHeaders = with(info.WebSocketHeaders, name, values)
		}
	}
	if v := r.Header.Values("X-Phoenix-AuthToken"); len(v) > 0 {
		info.AuthToken, info.HasAuthToken = v[0], true
	} else if v := r.Header.Get("Authorization"); len(v) > 7 && strings.EqualFold(v[:7], "Bearer ") {
		info.AuthToken, info.HasAuthToken = strings.TrimSpace(v[7:]), true
	}
	if m.opts.session != nil {
		if cookie, err := r.Cookie(m.opts.cookie); err == nil {
			if info.Session, err = m.opts.session(cookie.Value, params.Get("_csrf_token")); err != nil {
				info.Session = nil
			}
		}
	}
	return info, nil
}

// begins reports whether the name of a header begins with prefix, whatever the case.
func begins(name, prefix string) bool {
	return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
}

func with(h http.Header, name string, values []string) http.Header {
	if h == nil {
		h = make(http.Header)
	}
	h[name] = values
	return h
}

const tokenProtocol = "base64url.bearer.phx."

// subprotocol selects one of those that a WebSocket request offers and takes the auth token out
// of them. A client that offers none that we speak is ErrRefused.
func (m *mount) subprotocol(r *http.Request, info *ConnectInfo) (selected string, err error) {
	var offered, tokens []string
	for _, line := range r.Header.Values("Sec-Websocket-Protocol") {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.TrimSpace(name)
			if token, ok := strings.CutPrefix(name, tokenProtocol); ok {
				tokens = append(tokens, token)
			} else if name != "" {
				offered = append(offered, name)
			}
		}
	}
	if len(tokens) == 1 && m.opts.authToken {
		token, err := decodeToken(tokens[0])
		if err != nil {
			return "", errors.Join(ErrRefused, errToken)
		}
		info.AuthToken, info.HasAuthToken = token, true
	}
	for _, ours := range append([]string{"phoenix"}, m.opts.subprotocols...) {
		for _, name := range offered {
			if name == ours {
				return ours, nil
			}
		}
	}
	if len(offered) > 0 && (m.opts.authToken || len(m.opts.subprotocols) > 0) {
		return "", ErrRefused
	}
	return "", nil
}

// decodeToken takes both alphabets of base64, with or without padding. phoenix.js sends the
// standard one, in spite of the prefix.
func decodeToken(s string) (string, error) {
	s = strings.TrimRight(s, "=")
	s = strings.NewReplacer("+", "-", "/", "_").Replace(s)
	b, err := base64.RawURLEncoding.DecodeString(s)
	return string(b), err
}
