package hub

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
)

// mount is one socket of an Endpoint: a path, its router, its options. A connection keeps the one
// that it came in by.
type mount struct {
	path   []string // those that begin with : are variables
	router *Router
	opts   options
}

// Socket mounts the router at path: the WebSocket at path/websocket and long polling at
// path/longpoll, unless options say otherwise. A segment of the path that begins with a colon is a
// variable, and becomes a connect parameter. It must not be called while the endpoint serves.
func (ep *Endpoint) Socket(path string, r *Router, opts ...SocketOption) {
	m := &mount{path: segments(path), router: r, opts: defaults()}
	for _, o := range opts {
		o(&m.opts)
	}
	at := new(atomic.Pointer[mount])
	at.Store(m)
	ep.mounts = append(ep.mounts, at)
}

// Change puts options over those that the socket was mounted at path with, also while the endpoint
// serves: for connections from now on, those that stand keep theirs. It panics for a path without
// a socket. Calls of it must not overlap.
func (ep *Endpoint) Change(path string, opts ...SocketOption) {
	for _, at := range ep.mounts {
		if m := *at.Load(); slices.Equal(m.path, segments(path)) {
			for _, o := range opts {
				o(&m.opts)
			}
			at.Store(&m)
			return
		}
	}
	panic("hub: no socket is mounted at " + path)
}

// segments splits a path. It is not nil.
func segments(path string) []string {
	return append([]string{}, strings.FieldsFunc(path, func(r rune) bool { return r == '/' })...)
}

// requestSegments splits the path of a request. A slash that is escaped does not split.
func requestSegments(u *url.URL) []string {
	if u.RawPath == "" {
		return segments(u.Path)
	}
	path := segments(u.RawPath)
	for i, s := range path {
		if plain, err := url.PathUnescape(s); err == nil {
			path[i] = plain
		}
	}
	return path
}

// match returns the transport that a path names, and the variables in it.
func (m *mount) match(path []string) (transport string, vars Params) {
	if vars, ok := matchSegments(m.path, m.opts.websocket, path); ok {
		return "websocket", vars
	}
	if vars, ok := matchSegments(m.path, m.opts.longpoll, path); ok {
		return "longpoll", vars
	}
	return "", nil
}

// matchSegments holds a path against a pattern in two parts.
func matchSegments(mount, sub, path []string) (vars Params, ok bool) {
	if sub == nil || len(path) != len(mount)+len(sub) {
		return nil, false
	}
	for i, got := range path {
		var want string
		if i < len(mount) {
			want = mount[i]
		} else {
			want = sub[i-len(mount)]
		}
		switch {
		case strings.HasPrefix(want, ":"):
			if vars == nil {
				vars = Params{}
			}
			vars[want[1:]] = got
		case want != got:
			return nil, false
		}
	}
	return vars, true
}

// ServeHTTP serves the sockets, and hands other requests to the fallback.
func (ep *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := requestSegments(r.URL)
	for _, at := range ep.mounts {
		m := at.Load()
		switch transport, vars := m.match(path); transport {
		case "websocket":
			ep.serveWebSocket(w, r, m, vars)
			return
		case "longpoll":
			ep.serveLongPoll(w, r, m, vars)
			return
		}
	}
	ep.fallback.ServeHTTP(w, r)
}
