package hub

import (
	"errors"
	"net/http"
	"strings"

	"github.com/gorilla/websocket"
)

// serveWebSocket checks and upgrades a request. Source of the order of the checks:
// phoenix lib/phoenix/transports/websocket.ex, call.
func (ep *Endpoint) serveWebSocket(w http.ResponseWriter, r *http.Request, m *mount, vars Params) {
	if r.Method != http.MethodGet {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	info, err := connectInfo(r, "websocket", vars)
	if err != nil {
		http.Error(w, "Bad Request", http.StatusBadRequest)
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
	if err := ep.begin(); err != nil {
		a.cancel(err)
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	up := websocket.Upgrader{
		CheckOrigin:       func(*http.Request) bool { return true },
		EnableCompression: m.opts.compress,
		Error: func(w http.ResponseWriter, _ *http.Request, _ int, reason error) {
			http.Error(w, reason.Error(), http.StatusBadRequest)
		},
	}
	var header http.Header
	if protocol != "" {
		header = http.Header{"Sec-Websocket-Protocol": {protocol}}
	}
	ws, err := up.Upgrade(w, r, header)
	if err != nil {
		a.cancel(err)
		ep.tasks.Done()
		return
	}
	c := ep.newConn(m, a)
	c.deflates = m.opts.compress && offersDeflate(r)
	t := newStream(c, ws.NetConn(), r.RemoteAddr)
	c.tr = t
	// The request's goroutine has a stack and buffers that a connection which is idle for
	// most of its life does not need.
	go t.run()
}

// refuse answers a request that was not let in.
func (ep *Endpoint) refuse(w http.ResponseWriter, r *http.Request, m *mount, err error) {
	ep.counters.connectsRefused.Add(1)
	var p *PanicError
	switch {
	case errors.As(err, &p):
		ep.log.Error("connect crashed", "err", err, "stack", string(p.Stack))
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
	case errors.Is(err, ErrRefused):
		if errors.Is(err, errVersion) || errors.Is(err, errToken) {
			ep.log.Warn("connect refused", "err", err, "remote", r.RemoteAddr)
		}
		w.WriteHeader(http.StatusForbidden)
	default:
		m.opts.onError(w, r, err)
	}
}

// offersDeflate reports whether the client offers permessage-deflate.
func offersDeflate(r *http.Request) bool {
	for _, line := range r.Header.Values("Sec-Websocket-Extensions") {
		for ext := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(ext, ";")
			if strings.TrimSpace(name) == "permessage-deflate" {
				return true
			}
		}
	}
	return false
}
