package sim_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"

	"devicehub/hub"
)

// Where a fake hub listens, in its own network.
const (
	fakeHTTP   = "127.0.0.1:4000"
	fakeMQTT   = "127.0.0.1:1883"
	fakeBroker = "127.0.0.1:1884"
)

// fakeHub keeps the hub's promises to devices in memory, or breaks one on purpose, so that the
// judge is judged. It speaks the hub's routes and topics, over channels and MQTT, as far as the
// simulator uses them. It lives in a bubble: see inVirtualTime.
type fakeHub struct {
	t   *testing.T
	net network

	mu       sync.Mutex
	srv      *http.Server
	ep       *hub.Endpoint
	mq       *mochi.Server
	devices  map[string]*fakeDevice
	commands map[string]*fakeCommand
	bridge   *fakeBridge
	n        int // readings that were taken
	guests   fakeGuests
	harmed   time.Time // when somebody last did too much

	lie lies
}

// lies are what is wrong with a fake hub. Each is asked under the lock.
type lies struct {
	lose        func(n int) bool // the n-th reading is acknowledged and forgotten
	loseUnheard bool             // readings at QoS 0 are forgotten
	twice       func(n int) bool // the n-th reading is stored again a ms later
	alter       func(n int) bool // the n-th reading is stored with another value
	rename      func(n int) bool // the n-th reading is stored under the name of the one before
	swap        bool             // two readings that the hub stamps change places now and then
	ignore      bool             // readings are not answered
	refuse      func(n int) bool // the n-th reading is refused
	slow        time.Duration    // before anything is answered
	slowConnect time.Duration    // before a connection is let in
	slowJoin    time.Duration
	slowFeed    time.Duration // before a live reading is told
	slowBridge  time.Duration // before a bridge is read again

	leak      bool // devices hear what is for people
	backwards bool // live readings are shown with times that go back
	stale     bool // the latest value is the one before
	miscount  bool // a series has one reading less than there are
	straight  bool // the mean of directions is that of numbers
	shortSum  bool // a window of a counter counts from its own first reading

	falseDone     bool          // what is acknowledged is called done
	falseConfirm  bool          // what is done is called confirmed
	falseFailed   bool          // what is done is called failed
	blindToProof  bool          // no report is looked at
	forget        bool          // commands are done, and there is no record of them
	record        string        // what records say in place of confirmed
	resend        bool          // commands are sent again when the device has forgotten their ids
	hold          time.Duration // before a command is sent
	wrongPresence bool          // devices are shown online whatever happens
	oneOfTwo      bool          // two devices of one identity are taken for one
	twoOfOne      bool          // a device that comes back is taken for two
	lost          bool          // a device that leaves in order is called lost
	deny          bool          // no device may join
	denyAgain     bool          // no device may come back
	hidden        bool          // no device is listed

	busy     func(n int) bool // the n-th call is one too many for its caller
	tolerant bool             // nobody ever does too much
	suffer   time.Duration    // before anything is answered while somebody does too much
}

type fakeDevice struct {
	id     string
	kinds  []string
	stored map[string][]fakeRow
	seen   map[string]bool // boot/s
	ack    map[string]uint64
	sent   []map[string]any // envelopes
	state  fakeState
	events []map[string]any // the newest first

	link     *fakeLink
	epoch    int
	replaced []time.Time // when a connection that was alive was replaced
	opened   []time.Time
	dupTill  time.Time
	second   time.Time
	events1s int // since then
}

// fakeLink is a device's connection, of whatever kind.
type fakeLink struct {
	epoch int
	push  func(event string, v any)
	end   func()
	done  chan struct{} // closed when the hub has handled all that it had received there
	hears bool          // over MQTT: it has subscribed
}

type fakeRow struct {
	t int64
	v json.RawMessage
}

func newFakeHub(t *testing.T) *fakeHub {
	h := &fakeHub{t: t, devices: map[string]*fakeDevice{}, commands: map[string]*fakeCommand{}}
	if err := h.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Kill() })
	return h
}

func (h *fakeHub) url() *url.URL { return &url.URL{Scheme: "http", Host: fakeHTTP} }

func (h *fakeHub) mqttURL() *url.URL { return &url.URL{Scheme: "mqtt", Host: fakeMQTT} }

func (h *fakeHub) serve(ln, mqtt net.Listener) {
	router := hub.NewRouter(func(ctx context.Context, info *hub.ConnectInfo) (context.Context, error) {
		id, ok := strings.CutPrefix(info.AuthToken, "token-")
		if !ok && info.AuthToken != "person" {
			return nil, hub.ErrRefused
		}
		if !ok && info.Transport == "longpoll" && !h.letsPoll() {
			return nil, hub.ErrRefused
		}
		if !ok {
			id = "" // a person
		} else if h.refuses(id) {
			return nil, hub.ErrRefused
		}
		return context.WithValue(ctx, fakeKey{}, id), nil
	})
	for _, kind := range []string{"sensor", "light"} {
		router.Channel(kind+":*", func() hub.Channel { return &fakeChannel{h: h, kind: kind} })
	}
	ep := hub.New()
	ep.Socket("/socket", router)
	mux := http.NewServeMux()
	mux.HandleFunc("/socket/", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(h.lied().slowConnect)
		ep.ServeHTTP(w, r)
	})
	h.routes(mux)
	srv := &http.Server{Handler: h.inTurn(mux), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second}
	mq := h.serveMQTT(mqtt)
	h.mu.Lock()
	h.srv, h.ep, h.mq = srv, ep, mq
	bridge := h.bridge
	h.mu.Unlock()
	go srv.Serve(ln)
	if bridge != nil {
		bridge.resume()
	}
}

// inTurn refuses calls of whoever makes too many.
func (h *fakeHub) inTurn(next http.Handler) http.Handler {
	calls := 0
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		calls++
		busy := h.lie.busy != nil && h.lie.busy(calls) && strings.HasPrefix(r.URL.Path, "/api/")
		h.mu.Unlock()
		if busy {
			answer(w, 429, map[string]any{"code": "rate_limited", "retry_after_ms": 200})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuses reports whether a device is not let in.
func (h *fakeHub) refuses(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := h.devices[id]
	return d == nil || h.lie.denyAgain && d.epoch > 0
}

func (h *fakeHub) lied() lies {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lie
}

// Kill and Start are a sim.Server.
func (h *fakeHub) Kill() error {
	h.mu.Lock()
	srv, ep, mq, bridge := h.srv, h.ep, h.mq, h.bridge
	h.srv = nil
	h.mu.Unlock()
	if srv != nil {
		if bridge != nil {
			bridge.pause()
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		srv.Close()
		ep.Drain(ctx)
		mq.Close()
	}
	return nil
}

func (h *fakeHub) Start(context.Context) error {
	ln, err := h.net.listen(fakeHTTP)
	if err != nil {
		return err
	}
	mq, err := h.net.listen(fakeMQTT)
	if err != nil {
		return err
	}
	h.serve(ln, mq)
	return nil
}

type fakeKey struct{}

var quiet = slog.New(slog.DiscardHandler)

// open makes a connection the device's, and ends the one before; the lock is held. It reports what
// waited for the device.
func (h *fakeHub) open(d *fakeDevice, l *fakeLink) {
	now := time.Now()
	d.epoch++
	l.epoch = d.epoch
	if old := d.link; old != nil {
		d.replaced = append(d.replaced, now)
		h.event(d, "online", "online", "replaced")
		go old.end()
	}
	d.opened = append(d.opened, now)
	recent := func(all []time.Time) (n int) {
		for _, t := range all {
			if now.Sub(t) < time.Minute {
				n++
			}
		}
		return n
	}
	if recent(d.replaced) >= 2 && !h.lie.oneOfTwo || recent(d.opened) >= 3 && h.lie.twoOfOne {
		d.dupTill = now.Add(time.Minute)
	}
	d.link = l
	h.event(d, "offline", "online", "")
	h.resendTo(d)
}

// closed ends a connection, unless a newer one has taken over; the lock is held.
func (h *fakeHub) closed(d *fakeDevice, l *fakeLink, reason string) {
	if d.link != l {
		return
	}
	if reason == "client_close" && h.lie.lost {
		reason = "connection_lost"
	}
	d.link = nil
	h.event(d, "online", "offline", reason)
}

func (h *fakeHub) event(d *fakeDevice, from, to, reason string) {
	e := map[string]any{"at": time.Now().UnixMilli(), "from": from, "to": to, "reason": reason}
	d.events = append([]map[string]any{e}, d.events...)
}

func (h *fakeHub) status(d *fakeDevice) map[string]any {
	s := map[string]any{"state": "offline", "link": "down"}
	if d.link != nil || h.lie.wrongPresence {
		s = map[string]any{"state": "online", "link": "up"}
	}
	if time.Now().Before(d.dupTill) {
		s["flapping"], s["reason"] = true, "duplicate_identity"
	}
	return s
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func (h *fakeHub) routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 4096)) })
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /api/v1/login", func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Username, Password string }
		json.NewDecoder(r.Body).Decode(&in)
		h.mu.Lock()
		own, guest := h.guests.passwords[in.Username]
		h.mu.Unlock()
		if in.Password != "secret" && (!guest || in.Password != own) {
			answer(w, 401, map[string]string{"code": "unauthorized", "reason": "wrong name or password"})
			return
		}
		answer(w, 200, map[string]any{"token": "person", "expires_at": 0})
	})
	h.guestRoutes(mux)
	mux.HandleFunc("POST /api/v1/devices", h.register)
	mux.HandleFunc("GET /api/v1/devices", func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		defer h.mu.Unlock()
		var out []any
		for id, d := range h.devices {
			if !h.lie.hidden && r.FormValue("label") == "sim:"+strings.Split(id, "-")[1] {
				out = append(out, map[string]any{"id": id, "status": h.status(d)})
			}
		}
		answer(w, 200, map[string]any{"devices": out, "total": len(out)})
	})
	device := func(pattern string, f func(w http.ResponseWriter, r *http.Request, d *fakeDevice)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			h.mu.Lock()
			defer h.mu.Unlock()
			if d := h.devices[r.PathValue("id")]; d != nil {
				f(w, r, d)
			} else {
				answer(w, 404, map[string]string{"code": "not_found"})
			}
		})
	}
	device("GET /api/v1/devices/{id}", func(w http.ResponseWriter, _ *http.Request, d *fakeDevice) {
		answer(w, 200, map[string]any{"id": d.id, "status": h.status(d)})
	})
	device("DELETE /api/v1/devices/{id}", func(w http.ResponseWriter, _ *http.Request, d *fakeDevice) {
		delete(h.devices, d.id)
		w.WriteHeader(204)
	})
	device("GET /api/v1/devices/{id}/events", func(w http.ResponseWriter, _ *http.Request, d *fakeDevice) {
		answer(w, 200, map[string]any{"events": d.events})
	})
	device("POST /api/v1/devices/{id}/tokens", func(w http.ResponseWriter, _ *http.Request, d *fakeDevice) {
		answer(w, 201, map[string]any{"token": "token-" + d.id})
	})
	device("GET /api/v1/devices/{id}/export", h.export)
	device("GET /api/v1/devices/{id}/series", h.series)
	device("GET /api/v1/devices/{id}/latest", h.latest)
	device("GET /api/v1/devices/{id}/commands", h.listCommands)
	device("GET /api/v1/devices/{id}/commands/{cmd}", h.oneCommand)
	mux.HandleFunc("POST /api/v1/devices/{id}/commands", h.postCommand)
	mux.HandleFunc("GET /api/v1/bridges", func(w http.ResponseWriter, _ *http.Request) {
		out := []any{}
		if h.bridge != nil {
			out = append(out, h.bridge.shown())
		}
		answer(w, 200, map[string]any{"bridges": out})
	})
}

func (h *fakeHub) register(w http.ResponseWriter, r *http.Request) {
	var in []struct {
		ID    string
		Kinds []string
	}
	json.NewDecoder(r.Body).Decode(&in)
	var out []any
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range in {
		h.devices[d.ID] = &fakeDevice{
			id:     d.ID,
			kinds:  d.Kinds,
			stored: map[string][]fakeRow{},
			seen:   map[string]bool{},
			ack:    map[string]uint64{},
		}
		out = append(out, map[string]any{"device": map[string]any{"id": d.ID}, "token": "token-" + d.ID})
	}
	answer(w, 201, map[string]any{"devices": out})
}

func (h *fakeHub) latest(w http.ResponseWriter, _ *http.Request, d *fakeDevice) {
	out := map[string]any{}
	for metric, rows := range d.stored {
		newest := rows[len(rows)-1]
		if h.lie.stale && len(rows) > 1 {
			newest = rows[len(rows)-2]
		}
		out[metric] = map[string]any{"v": newest.v, "t": newest.t}
	}
	answer(w, 200, map[string]any{"metrics": out, "server_time": time.Now().UnixMilli()})
}

func (h *fakeHub) export(w http.ResponseWriter, _ *http.Request, d *fakeDevice) {
	for metric, rows := range d.stored {
		for _, r := range rows {
			fmt.Fprintf(w, `{"device":%q,"metric":%q,"t":%d,"v":%s,"q":[]}`+"\n", d.id, metric, r.t, r.v)
		}
	}
}
