package hub

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/websocket"
)

// serveWebSocket checks and upgrades a request. Source of the order of the checks:
// phoenix lib/phoenix/transports/websocket.ex, call.
func (ep *Endpoint) serveWebSocket(w http.ResponseWriter, r *http.Request, m *mount, vars Params) {
	if r.Method != http.MethodGet {
		fault(w, http.StatusBadRequest, "a WebSocket is opened with GET")
		return
	}
	info, err := m.connectInfo(r, "websocket", vars)
	if err != nil {
		fault(w, http.StatusBadRequest, "malformed query: "+err.Error())
		return
	}
	if !m.originAllowed(r) {
		ep.counters.connectsRefused.Add(1)
		ep.log.Warn("origin refused", "origin", r.Header.Get("Origin"), "remote", r.RemoteAddr)
		w.WriteHeader(http.StatusForbidden)
		return
	}
	protocol, err := m.subprotocol(r, info)
	if protocol != "" {
		w.Header().Set("Sec-Websocket-Protocol", protocol)
	}
	var a *admission
	if err == nil {
		a, err = m.admit(info)
	}
	if err != nil {
		ep.refuse(w, r, m, err)
		return
	}
	m.opts.letIn(r)
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 {
		a.cancel(errProto)
		fault(w, http.StatusBadRequest, "a WebSocket needs HTTP/1.1")
		return
	}
	if err := ep.begin(); err != nil {
		a.cancel(err)
		fault(w, http.StatusServiceUnavailable, "the server is shutting down")
		return
	}
	deflates := m.opts.compress && offersDeflate(r)
	up := websocket.Upgrader{
		CheckOrigin:       func(*http.Request) bool { return true },
		EnableCompression: deflates,
		Error: func(w http.ResponseWriter, _ *http.Request, _ int, reason error) {
			fault(w, http.StatusBadRequest, reason.Error())
		},
	}
	var header http.Header
	if protocol != "" {
		header = http.Header{"Sec-Websocket-Protocol": {protocol}}
	}
	c := ep.newConn(m, a)
	c.deflates = deflates
	ws, err := up.Upgrade(w, r, header)
	if err != nil {
		c.forget()
		ep.shares.leave(c.id, c.share)
		a.cancel(err)
		ep.tasks.Done()
		return
	}
	t := newStream(c, ws.NetConn(), r.RemoteAddr)
	c.tr = t
	// The request's goroutine has a stack and buffers that a connection which is idle for
	// most of its life does not need.
	go t.run()
}

var errProto = errors.New("not HTTP/1.1")

// refuse answers a request that was not let in.
func (ep *Endpoint) refuse(w http.ResponseWriter, r *http.Request, m *mount, err error) {
	ep.counters.connectsRefused.Add(1)
	var p *PanicError
	switch {
	case errors.As(err, &p):
		ep.log.Error("connect crashed", "err", err, "remote", r.RemoteAddr, "stack", string(p.Stack))
		fault(w, http.StatusInternalServerError, "internal error")
	case errors.Is(err, ErrRefused):
		if errors.Is(err, errVersion) || errors.Is(err, errToken) {
			ep.log.Warn("connect refused", "err", err, "remote", r.RemoteAddr)
		}
		w.WriteHeader(http.StatusForbidden)
	default:
		m.opts.onError(w, r, err)
	}
}

// offersDeflate reports whether the client offers permessage-deflate on terms that we can keep.
// We compress with the full window, so an offer that asks the server for a smaller one must be
// declined (RFC 7692 §7.1.2.1).
func offersDeflate(r *http.Request) bool {
	for _, line := range r.Header.Values("Sec-Websocket-Extensions") {
		for offer := range strings.SplitSeq(line, ",") {
			params := strings.Split(offer, ";")
			if strings.TrimSpace(params[0]) == "permessage-deflate" && !slices.ContainsFunc(params[1:], limitsWindow) {
				return true
			}
		}
	}
	return false
}

func limitsWindow(param string) bool {
	name, _, _ := strings.Cut(param, "=")
	return strings.TrimSpace(name) == "server_max_window_bits"
}
