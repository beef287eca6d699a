package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/devices"
	"devicehub/devices/connects"
	"devicehub/devices/identity"
	"devicehub/devices/liveness"
	"devicehub/devices/quota"
	"devicehub/devices/readings"
	"devicehub/devices/shadow"
	"devicehub/devices/trace"
)

// Where sign-in is taken from without TLS.
const (
	InsecurePrivate = "private" // loopback and private addresses, the default
	InsecureAny     = "any"
)

// Config is what an API needs beside its services.
type Config struct {
	Logger        *slog.Logger
	Now           func() time.Time
	Origins       Origins
	PublicURL     string // the hub as browsers reach it; https makes the cookie Secure
	InsecureLogin string // InsecurePrivate or InsecureAny
	MaxBody       int64  // bytes of a request's body; default 65536
	MetricsAccess string // who may read /metrics besides loopback: token (default), open, off
	Bridges       []string
	OriginRefused func(r *http.Request) // is told of a call from a page of another origin; may be nil
	Refusals      *connects.Log         // of tokens that were not taken; may be nil
	// Observe, if set, is told of every request that was answered, by its
	// route's pattern.
	Observe func(method, route string, status int, d time.Duration)
	// Known, if set, is told of the request of a caller whose token is good, before it is
	// answered.
	Known func(*http.Request)
}

// Services are what the API translates for. Registry, Identity and Audit are
// required; a route of a service that is nil answers platform_unavailable.
type Services struct {
	Registry *devices.Registry
	Identity *identity.Service
	Audit    devices.AuditLog

	// Quota bounds what each caller may ask for; nil bounds nothing.
	Quota *quota.Quota

	Door     Door
	Readings Readings
	Liveness Liveness
	Shadows  Shadows
	Commands Commands
	// Search turns the query language of lists into a test that a device passes
	// or not; its error is invalid.
	Search func(who devices.Actor, q string) (func(*devices.Device) bool, error)
	Trace  *trace.Tracer
	// Starts names the adapters of the hub's own broker that begin to work when a service
	// account may use the topics; nil where there is no such broker.
	Starts func(topics []string) []string
	// Discovered lists the devices that adapters have met and nobody has adopted;
	// nil without adapters.
	Discovered func() []Discovery

	// Nodes, Bridges and Sinks answer for the routes of that name, with the
	// whole body: {"nodes":[…]}. Nil: an empty list.
	Nodes, Bridges, Sinks func(ctx context.Context) (any, error)
	// Replay sends again what a sink has put aside. Nil: there is no sink.
	Replay func(ctx context.Context, sink string) (any, error)
	// MQTT lists and ends sessions of the MQTT listener. Nil: it is off.
	MQTT MQTTSessions
	// Backup writes everything the hub keeps, consistent while it runs.
	Backup func(ctx context.Context, w io.Writer, withoutKeys bool) error
	// Ready tells what the hub still waits for.
	Ready   func(ctx context.Context) []Check
	Metrics http.Handler
}

// Door takes in what a device sends; session.Door is one.
type Door interface {
	Post(p identity.Principal, id devices.ID, body []byte, reply func(any, error))
}

// Readings are questions about what was measured; readings.Ingest is one.
type Readings interface {
	AppendLatest(b []byte, id devices.ID) []byte
	Series(ctx context.Context, q readings.SeriesQuery) (readings.Chart, error)
	Across(ctx context.Context, q readings.AcrossQuery) (readings.Chart, error)
	Export(ctx context.Context, w io.Writer, q readings.ExportQuery) error
	Gaps(id devices.ID) []readings.Gap
	ClockOffsetMS(id devices.ID) (int64, bool)
	Forget(ctx context.Context, id devices.ID) error
	Clock() readings.ClockState
	AcceptClock(ctx context.Context) error
	Check(ctx context.Context) ([]readings.Finding, error)
	Repair(ctx context.Context, misfiled bool) (erased, left []readings.Finding, err error)
}

// Liveness says who is there; liveness.Tracker is one.
type Liveness interface {
	Status(id devices.ID) devices.Status
	LastSeen(id devices.ID) int64
	History(ctx context.Context, id devices.ID, limit int, cursor string) ([]liveness.Transition, string, error)
}

// Shadows keep desired and reported states; shadow.Shadows is one.
type Shadows interface {
	Doc(id devices.ID) (shadow.Doc, bool)
	Patch(ctx context.Context, a devices.Actor, o devices.Origin, id devices.ID, r shadow.PatchRequest) (shadow.Doc, error)
}

// Check is one thing that readiness waits for.
type Check struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// API is the handler of /api, /healthz, /readyz and /metrics.
type API struct {
	cfg     Config
	s       Services
	now     func() time.Time
	mux     *http.ServeMux
	routes  []route
	lists   deviceLists
	repeats *repeats
	body    atomic.Int64
	charts  chan struct{} // has one for each that is being made
	// document is that of /api/openapi.json.
	document func() *documentation

	adopting sync.Mutex   // held from looking for a discovered device until it is registered
	deleting sync.RWMutex // held for reading from deleting a device until its readings are erased

	leaving context.Context // ends when the hub stops
	leave   context.CancelFunc
}

// New returns the API. It starts nothing.
func New(cfg Config, s Services) *API {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Origins.PublicURL == "" {
		cfg.Origins.PublicURL = cfg.PublicURL
	}
	a := &API{cfg: cfg, s: s, now: cfg.Now, mux: http.NewServeMux(), routes: routes(), repeats: newRepeats(),
		charts: make(chan struct{}, 4*runtime.GOMAXPROCS(0))}
	selections(a.routes)
	a.document = sync.OnceValue(func() *documentation { return documented(a.routes) })
	a.leaving, a.leave = context.WithCancel(context.Background())
	a.SetMaxBody(cfg.MaxBody)
	compress := compressing()
	for i := range a.routes {
		r := &a.routes[i]
		h := http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { a.serve(w, req, r) })
		if r.method == http.MethodGet && !r.plain {
			h = compress(h)
		}
		a.mux.Handle(r.method+" "+r.path, h)
	}
	a.mux.HandleFunc("/", a.unknown)
	return a
}

// SetMaxBody changes how large a request's body may be; 0 means 65536.
func (a *API) SetMaxBody(bytes int64) {
	if bytes <= 0 {
		bytes = 65536
	}
	a.body.Store(bytes)
}

// Leave has answers end that wait or go on until something happens: the hub
// stops.
func (a *API) Leave() { a.leave() }

func (a *API) bodyLimit(r *route) int64 { return max(a.body.Load(), r.bodyLimit) }

// ServeHTTP serves one request, whatever happens.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	Headers(http.HandlerFunc(a.guarded)).ServeHTTP(w, r)
}

func (a *API) guarded(w http.ResponseWriter, r *http.Request) {
	start := a.now()
	rec := &recorder{ResponseWriter: w}
	_, pattern := a.mux.Handler(r)
	_, route, _ := strings.Cut(pattern, " ")
	if route == "" {
		route = "unknown"
	}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			a.cfg.Logger.Error("request crashed", "method", r.Method, "route", route, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			if rec.status != 0 { // too late for an answer: the client sees the stream break
				panic(http.ErrAbortHandler)
			}
			writeJSON(rec, http.StatusServiceUnavailable, devices.Refuse(devices.CodePlatformUnavailable, "the hub could not do this; it is not your fault"))
		}
		took := a.now().Sub(start)
		// The pattern and not the path: a path or query may hold anything.
		a.cfg.Logger.Debug("request", "method", methodLabel(r.Method), "route", route, "status", rec.status, "took", took)
		if a.cfg.Observe != nil {
			a.cfg.Observe(methodLabel(r.Method), route, rec.status, took)
		}
	}()
	if !shortest(r.URL.Path) {
		a.fail(rec, r, "unknown", devices.NotFound("route"))
		return
	}
	if !a.cfg.Origins.OK(r) {
		if a.cfg.OriginRefused != nil {
			a.cfg.OriginRefused(r)
		}
		a.fail(rec, r, route, devices.Refuse(devices.CodeForbidden, "this origin may not call the hub"))
		return
	}
	a.mux.ServeHTTP(rec, r)
}

// methodLabel bounds what a stranger can make appear in metrics.
func methodLabel(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}

// serve runs one route.
func (a *API) serve(w http.ResponseWriter, req *http.Request, r *route) {
	c := &call{Request: req, api: a, w: w, route: r}
	err := c.identify()
	if err != nil && !r.open {
		c.logRefused(err)
		c.fail(err)
		return
	}
	if err == nil {
		if a.cfg.Known != nil {
			a.cfg.Known(req)
		}
		done, err := c.admit()
		if err != nil {
			c.fail(err)
			return
		}
		defer done()
	}
	if c.params, err = r.parameters(req.URL.RawQuery); err != nil {
		c.fail(err)
		return
	}
	ans, err := c.answer()
	if err != nil {
		c.fail(err)
		return
	}
	c.write(ans)
}

// answer has the route's handler answer, once the headers are found to ask for
// nothing that it would pass over.
func (c *call) answer() (answer, error) {
	if err := c.readFields(); err != nil {
		return answer{}, err
	}
	if c.route.body == "" {
		if err := c.noBody(); err != nil {
			return answer{}, err
		}
	}
	if !c.route.versioned && c.Method != http.MethodGet && c.Method != http.MethodHead {
		if err := c.noVersion(); err != nil {
			return answer{}, err
		}
	}
	if c.route.once {
		return c.once()
	}
	return c.handled()
}

// handled is the handler's answer, of the fields that were asked for.
func (c *call) handled() (answer, error) {
	a, err := c.route.handle(c)
	if err != nil || c.fields == nil {
		return a, err
	}
	body, err := c.selected(marshal(a.body))
	a.body = json.RawMessage(body)
	return a, err
}

// unknown answers for paths that no route has, and methods that a path has not.
// OPTIONS is told what there is.
func (a *API) unknown(w http.ResponseWriter, r *http.Request) {
	routes := a.routesOf(r)
	if len(routes) == 0 {
		a.fail(w, r, "unknown", devices.NotFound("route"))
		return
	}
	var allowed []string
	for _, at := range routes {
		if allowed = append(allowed, at.method); at.method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
		if at.method == http.MethodPatch {
			w.Header().Set("Accept-Patch", strings.Join(at.takes(), ", ")) // RFC 5789 §3.1
		}
	}
	allowed = append(allowed, http.MethodOptions)
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	writeJSON(w, http.StatusMethodNotAllowed, devices.Invalid("method", strings.Join(allowed, ", ")))
}

// routesOf are those of the request's path, one a method.
func (a *API) routesOf(r *http.Request) []*route {
	var routes []*route
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		probe := r.Clone(r.Context())
		probe.Method = m
		_, pattern := a.mux.Handler(probe)
		i := slices.IndexFunc(a.routes, func(at route) bool { return at.method+" "+at.path == pattern })
		if i >= 0 {
			routes = append(routes, &a.routes[i])
		}
	}
	return routes
}

// Owns reports whether a path is the API's, also if it is not written in its
// shortest form. Where http.ServeMux would redirect such a path, with a page of
// HTML, the API answers that there is no such route.
func Owns(urlPath string) bool {
	switch p := path.Clean("/" + urlPath); p {
	case "/api", "/healthz", "/readyz", "/metrics":
		return true
	default:
		return strings.HasPrefix(p, "/api/")
	}
}

// shortest reports whether a path is written without "//", "." and "..".
func shortest(urlPath string) bool {
	clean := path.Clean(urlPath)
	return clean == urlPath || clean+"/" == urlPath
}

// unavailable is the answer of a route whose service is not there.
func unavailable(what string) (answer, error) {
	return answer{}, devices.Refuse(devices.CodePlatformUnavailable, "this hub has no "+what)
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
