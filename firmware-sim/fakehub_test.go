package sim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"devicehub/hub"
)

// fakeHub keeps the hub's promises to devices in memory, or breaks one on purpose, so that the judge is judged. It speaks
// the routes and topics of 1-product and 2-domain as far as the simulator uses them.
type fakeHub struct {
	t    *testing.T
	addr string

	mu       sync.Mutex
	srv      *http.Server
	ep       *hub.Endpoint
	devices  map[string]*fakeDevice
	commands map[string]*fakeCommand

	// What is wrong with it; each is asked under the lock.
	lose      func(n int) bool // the n-th reading is acknowledged and forgotten
	twice     func(n int) bool // the n-th reading is stored again a ms later
	alter     func(n int) bool // the n-th reading is stored with another value
	falseDone bool             // commands are confirmed without being sent
	resend    bool             // commands are sent again when the device has forgotten their ids
	leak      bool             // devices hear what is for people
	backwards bool             // live readings are shown with times that go back
	blind     bool             // devices are shown online whatever happens
	deny      bool             // no device may join
	hidden    bool             // no device is listed
	miscount  bool             // a series has one reading less than there are
	n         int
}

type fakeDevice struct {
	id     string
	kinds  []string
	stored map[string]map[int64]json.RawMessage
	seen   map[string]bool // boot/s
	ack    map[string]uint64
	conn   *hub.Socket
	sent   []map[string]any // envelopes
}

type fakeCommand struct {
	id, status string
	done       chan struct{}
}

func newFakeHub(t *testing.T) *fakeHub {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &fakeHub{t: t, addr: ln.Addr().String(), devices: map[string]*fakeDevice{}, commands: map[string]*fakeCommand{}}
	h.serve(ln)
	t.Cleanup(func() { h.Kill() })
	return h
}

func (h *fakeHub) url() *url.URL { return &url.URL{Scheme: "http", Host: h.addr} }

func (h *fakeHub) serve(ln net.Listener) {
	router := hub.NewRouter(func(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
		id, ok := strings.CutPrefix(info.AuthToken, "token-")
		if !ok && info.AuthToken != "person" {
			return nil, hub.ErrRefused
		}
		if !ok {
			id = "" // a person
		}
		return context.WithValue(ctx, fakeKey{}, id), nil
	})
	for _, kind := range []string{"sensor", "light"} {
		router.Channel(kind+":*", func() hub.Channel { return &fakeChannel{h: h, kind: kind} })
	}
	ep := hub.New()
	ep.Socket("/socket", router)
	mux := http.NewServeMux()
	mux.Handle("/socket/", ep)
	h.routes(mux)
	srv := &http.Server{Handler: mux}
	h.mu.Lock()
	h.srv, h.ep = srv, ep
	h.mu.Unlock()
	go srv.Serve(ln)
}

// Kill and Start are a sim.Server.
func (h *fakeHub) Kill() error {
	h.mu.Lock()
	srv, ep := h.srv, h.ep
	h.srv = nil
	h.mu.Unlock()
	if srv != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		srv.Close()
		ep.Drain(ctx)
	}
	return nil
}

func (h *fakeHub) Start(context.Context) error {
	ln, err := net.Listen("tcp", h.addr)
	if err != nil {
		return err
	}
	h.serve(ln)
	return nil
}

type fakeKey struct{}

func (h *fakeHub) routes(mux *http.ServeMux) {
	answer := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("POST /api/v1/login", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Username, Password string }
		json.NewDecoder(r.Body).Decode(&in)
		if in.Password != "secret" {
			answer(w, 401, map[string]string{"code": "unauthorized", "reason": "wrong name or password"})
			return
		}
		answer(w, 200, map[string]any{"token": "person", "expires_at": 0})
	})
	mux.HandleFunc("POST /api/v1/devices", func(w http.ResponseWriter, r *http.Request) {
		var in []struct {
			ID    string
			Kinds []string
		}
		json.NewDecoder(r.Body).Decode(&in)
		var out []any
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, d := range in {
			h.devices[d.ID] = &fakeDevice{id: d.ID, kinds: d.Kinds, stored: map[string]map[int64]json.RawMessage{}, seen: map[string]bool{}, ack: map[string]uint64{}}
			out = append(out, map[string]any{"device": map[string]any{"id": d.ID}, "token": "token-" + d.ID})
		}
		answer(w, 201, map[string]any{"devices": out})
	})
	mux.HandleFunc("GET /api/v1/devices", func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		var out []any
		for id, d := range h.devices {
			if h.hidden || r.FormValue("label") != "sim:"+strings.Split(id, "-")[1] {
				continue
			}
			link := "down"
			if d.conn != nil || h.blind {
				link = "up"
			}
			out = append(out, map[string]any{"id": id, "status": map[string]any{"state": "online", "link": link}})
		}
		answer(w, 200, map[string]any{"devices": out, "total": len(out)})
	})
	mux.HandleFunc("DELETE /api/v1/devices/{id}", func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.devices, r.PathValue("id"))
		w.WriteHeader(204)
	})
	mux.HandleFunc("GET /api/v1/devices/{id}/export", func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for metric, rows := range h.devices[r.PathValue("id")].stored {
			for t, v := range rows {
				fmt.Fprintf(w, `{"device":%q,"metric":%q,"t":%d,"v":%s}`+"\n", r.PathValue("id"), metric, t, v)
			}
		}
	})
	mux.HandleFunc("GET /api/v1/devices/{id}/series", func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		counts := map[int64]int64{}
		for t := range h.devices[r.PathValue("id")].stored[r.FormValue("metric")] {
			counts[t-t%100]++
		}
		buckets := []map[string]int64{}
		for _, t := range slices.Sorted(maps.Keys(counts)) {
			buckets = append(buckets, map[string]int64{"t": t, "count": counts[t]})
		}
		if h.miscount {
			buckets[len(buckets)/2]["count"]--
		}
		answer(w, 200, map[string]any{"buckets": buckets})
	})
	mux.HandleFunc("POST /api/v1/devices/{id}/commands", h.postCommand)
	mux.HandleFunc("POST /api/v1/devices/{id}/tokens", func(w http.ResponseWriter, r *http.Request) {
		answer(w, 201, map[string]any{"token": "token-" + r.PathValue("id")})
	})
	mux.HandleFunc("GET /api/v1/devices/{id}/commands/{cmd}", func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		c := h.commands[r.PathValue("cmd")]
		if c == nil {
			answer(w, 404, map[string]string{"code": "not_found"})
			return
		}
		answer(w, 200, map[string]string{"cmd_id": c.id, "status": c.status})
	})
}

func (h *fakeHub) postCommand(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Op     string          `json:"op"`
		Params json.RawMessage `json:"params"`
		ID     string          `json:"cmd_id"`
	}
	json.NewDecoder(r.Body).Decode(&in)
	h.mu.Lock()
	d := h.devices[r.PathValue("id")]
	c := &fakeCommand{id: in.ID, status: "sent", done: make(chan struct{})}
	h.commands[in.ID] = c
	if in.Op == "toggle" || in.Op == "step" { // resolved by the hub
		in.Op, in.Params = "set", json.RawMessage(`{"on":true}`)
	}
	envelope := map[string]any{"cmd_id": in.ID, "op": in.Op, "params": in.Params, "ttl_ms": 10000}
	if h.falseDone {
		c.status = "confirmed"
		close(c.done)
	} else if d.conn != nil {
		d.conn.Push("command", envelope)
		d.conn.Push("command", envelope) // at least once, as the hub says
		d.sent = append(d.sent, envelope)
		if n := len(d.sent) - 33; h.resend && n >= 0 { // a device remembers 32
			d.conn.Push("command", d.sent[n])
		}
	}
	h.mu.Unlock()
	select {
	case <-c.done:
	case <-time.After(time.Second):
		w.WriteHeader(504)
		return
	}
	json.NewEncoder(w).Encode(map[string]string{"cmd_id": c.id, "status": c.status})
}

// fakeChannel is a device's topic, or a person's view of it.
type fakeChannel struct {
	h      *fakeHub
	kind   string
	d      *fakeDevice
	person bool
	s      *hub.Socket
}

func (c *fakeChannel) Join(ctx context.Context, s *hub.Socket, _ hub.Payload) (hub.Reply, error) {
	id := strings.TrimPrefix(s.Topic(), c.kind+":")
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.d, c.s = c.h.devices[id], s
	c.person = ctx.Value(fakeKey{}) == ""
	if c.d == nil || !c.person && c.h.deny || !c.person && ctx.Value(fakeKey{}) != id || !slices.Contains(c.d.kinds, c.kind) {
		return hub.Refuse("unauthorized"), nil
	}
	if c.person {
		return hub.OK(map[string]any{}), nil
	}
	c.d.conn = s
	var through []any
	for boot, n := range c.d.ack {
		through = append(through, map[string]any{"boot": boot, "s": n})
	}
	return hub.OK(map[string]any{"server_time": time.Now().UnixMilli(), "ack_through": through}), nil
}

func (c *fakeChannel) HandleIn(_ context.Context, s *hub.Socket, event string, p hub.Payload) (hub.Reply, error) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	switch event {
	case "reading", "readings":
		return c.readings(s, event, p), nil
	case "ack":
		var in struct {
			ID     string `json:"cmd_id"`
			Status string `json:"status"`
		}
		p.Decode(&in)
		if cmd := c.h.commands[in.ID]; cmd != nil && in.Status == "done" && cmd.status == "sent" {
			cmd.status = "confirmed"
			close(cmd.done)
		}
	case "state":
		return hub.OK(map[string]int{"ver": 1}), nil
	}
	return hub.OK(nil), nil
}

func (c *fakeChannel) readings(s *hub.Socket, event string, p hub.Payload) hub.Reply {
	var in struct {
		M    string              `json:"m"`
		V    json.RawMessage     `json:"v"`
		T    int64               `json:"t"`
		S    uint64              `json:"s"`
		Boot string              `json:"boot"`
		S0   uint64              `json:"s0"`
		T0   int64               `json:"t0"`
		R    [][]json.RawMessage `json:"r"`
	}
	if p.Decode(&in) != nil || event == "reading" && (in.M != "temperature" && in.M != "humidity" || in.V == nil || in.V[0] == '{' || in.V[0] == '"') {
		return hub.Error(map[string]any{"code": "invalid", "reason": "malformed"})
	}
	if event == "reading" {
		in.S0, in.T0 = in.S, in.T
		m, _ := json.Marshal(in.M)
		in.R = [][]json.RawMessage{{m, in.V}}
	}
	dup := 0
	var live []any
	for i, e := range in.R {
		var metric string
		json.Unmarshal(e[0], &metric)
		t := in.T0
		if len(e) > 2 {
			dt, _ := strconv.ParseInt(string(e[2]), 10, 64)
			t += dt
		}
		seq := in.S0 + uint64(i)
		key := in.Boot + "/" + strconv.FormatUint(seq, 10)
		if c.d.seen[key] {
			dup++
			continue
		}
		c.d.seen[key] = true
		for c.d.seen[in.Boot+"/"+strconv.FormatUint(c.d.ack[in.Boot]+1, 10)] {
			c.d.ack[in.Boot]++
		}
		c.h.n++
		if c.h.lose != nil && c.h.lose(c.h.n) {
			continue
		}
		rows := c.d.stored[metric]
		if rows == nil {
			rows = map[int64]json.RawMessage{}
			c.d.stored[metric] = rows
		}
		rows[t] = e[1]
		if c.h.alter != nil && c.h.alter(c.h.n) {
			rows[t] = json.RawMessage("99.5")
		}
		if c.h.twice != nil && c.h.twice(c.h.n) {
			rows[t+1] = e[1]
		}
		if c.h.backwards {
			t -= int64(c.h.n) * 1000
		}
		live = append(live, map[string]any{"m": metric, "v": e[1], "t": t})
	}
	if c.h.leak {
		s.Push("reading", map[string]any{"device": c.d.id, "r": live})
	}
	s.BroadcastFrom("reading", map[string]any{"device": c.d.id, "r": live})
	return hub.OK(map[string]any{"ack": c.d.ack[in.Boot], "accepted": len(in.R) - dup, "dup": dup, "rejected": []any{}})
}

// Devices get no broadcasts.
func (c *fakeChannel) Intercepts() []string { return []string{"reading"} }

func (c *fakeChannel) HandleOut(_ context.Context, s *hub.Socket, event string, p hub.Payload) error {
	if !c.person {
		return nil
	}
	return s.Push(event, json.RawMessage(p.Bytes()))
}

func (c *fakeChannel) Terminate(s *hub.Socket, _ error) {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	if c.d != nil && c.d.conn == s {
		c.d.conn = nil
	}
}
