package httpapi

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"devicehub/devices"
	"devicehub/devices/identity"
)

// call is one request with who made it.
type call struct {
	*http.Request
	api    *API
	w      http.ResponseWriter
	route  *route
	actor  devices.Actor
	who    identity.Principal // zero over the admin socket
	origin devices.Origin
}

// answer is what a handler says: a JSON body, unless it is nil, and a status.
// A body that is a json.RawMessage is sent as it is.
type answer struct {
	status int
	body   any
}

func ok(body any) (answer, error)      { return answer{http.StatusOK, body}, nil }
func created(body any) (answer, error) { return answer{http.StatusCreated, body}, nil }
func none() (answer, error)            { return answer{http.StatusNoContent, nil}, nil }

// streamed is the answer of a handler that wrote by itself.
func streamed() (answer, error) { return answer{}, nil }

func (c *call) write(a answer) {
	if a.status == 0 {
		return
	}
	if a.body == nil {
		c.w.WriteHeader(a.status)
		return
	}
	writeJSON(c.w, a.status, a.body)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	b, made := body.(json.RawMessage)
	var err error
	if !made {
		b, err = json.Marshal(body)
	}
	if err != nil { // a programmer's mistake: the panic handler answers
		panic(fmt.Errorf("marshal an answer: %w", err))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that has gone
}

// fail answers with a refusal, or, for a fault of the hub's, logs it and says
// that the hub is unavailable.
func (c *call) fail(err error) { c.api.fail(c.w, c.Request, c.route.path, err) }

func (a *API) fail(w http.ResponseWriter, r *http.Request, route string, err error) {
	var e *devices.Error
	if !errors.As(err, &e) {
		if r.Context().Err() == nil { // else the client has gone, and nothing failed
			a.cfg.Logger.Error("request failed", "method", r.Method, "route", route, "err", err)
		}
		e = devices.Refuse(devices.CodePlatformUnavailable, "the hub could not do this; it is not your fault")
		err = e
	}
	h := w.Header()
	status := e.HTTPStatus()
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="devicehub"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		if e.RetryAfter > 0 {
			h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(e.RetryAfter.Seconds())), 10))
		}
	}
	// Some refusals say more than the error alone.
	if m, more := err.(json.Marshaler); more {
		writeJSON(w, status, m)
		return
	}
	writeJSON(w, status, e)
}

// body reads the request's JSON object into v: unknown fields, other types and
// anything behind it are invalid.
func (c *call) body(v any) error {
	b, err := c.raw()
	if err != nil {
		return err
	}
	return devices.Decode(b, "body", v)
}

// A client that is slower than that is given up.
const (
	bodyWithin = time.Minute      // until a body is there
	takeWithin = 30 * time.Second // until the next part of a streamed answer is taken
)

// raw reads the body, as far as the route allows.
func (c *call) raw() ([]byte, error) {
	limit := c.api.bodyLimit(c.route)
	conn := http.NewResponseController(c.w)
	_ = conn.SetReadDeadline(time.Now().Add(bodyWithin))
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, limit))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, devices.Refuse(devices.CodeTooLarge, "the body is too large").With("limit", limit)
	}
	if err != nil {
		return nil, devices.Refuse(devices.CodeInvalid, "the body broke off")
	}
	_ = conn.SetReadDeadline(time.Time{}) // it stays after an error: nothing more is waited for
	return b, nil
}

// Lists are paged.
const (
	defaultLimit = 50
	maxLimit     = 500
)

func (c *call) limit() (int, error) { return c.number("limit", defaultLimit, 1, maxLimit) }

// number reads a whole number of the query.
func (c *call) number(name string, unset, min, max int) (int, error) {
	s := c.query(name)
	if s == "" {
		return unset, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, devices.Invalid(name, "a whole number")
	}
	if n < min || n > max {
		return 0, devices.OutOfRange(name, float64(min), float64(max), "")
	}
	return n, nil
}

func (c *call) query(name string) string { return c.URL.Query().Get(name) }

func (c *call) flag(name string) (bool, error) {
	switch c.query(name) {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	}
	return false, devices.Invalid(name, "true or false")
}

// span reads from and to: RFC 3339 or ms since epoch. to defaults to now.
func (c *call) span(unsetFrom time.Duration) (from, to int64, err error) {
	now := c.api.now()
	if to, err = c.instant("to", now.UnixMilli()); err != nil {
		return 0, 0, err
	}
	unset := int64(0)
	if unsetFrom > 0 {
		unset = to - unsetFrom.Milliseconds()
	}
	if from, err = c.instant("from", unset); err != nil {
		return 0, 0, err
	}
	if from > to {
		return 0, 0, devices.Invalid("from", "a time not after to")
	}
	return from, to, nil
}

// instant reads a point in time as ms since epoch.
func (c *call) instant(name string, unset int64) (int64, error) {
	s := c.query(name)
	if s == "" {
		return unset, nil
	}
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil && ms >= 0 && ms <= maxInstant {
		return ms, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil && t.UnixMilli() >= 0 {
		return t.UnixMilli(), nil
	}
	return 0, devices.Invalid(name, "RFC 3339 or ms since epoch")
}

// maxInstant is the year 9999 in ms since epoch.
const maxInstant = 253402300799999

// A cursor is where the next page begins: opaque to clients, good for the list
// it came from.
func cursor(list, at string) string {
	if at == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(list + "\x00" + at))
}

func (c *call) cursor(list string) (at string, err error) {
	s := c.query("cursor")
	if s == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil {
		if of, at, found := strings.Cut(string(b), "\x00"); found && of == list {
			return at, nil
		}
	}
	return "", devices.Invalid("cursor", "one from an earlier answer of this list")
}

// page is limit and cursor.
func (c *call) page(list string) (limit int, at string, err error) {
	if limit, err = c.limit(); err != nil {
		return 0, "", err
	}
	at, err = c.cursor(list)
	return limit, at, err
}

// device returns the device named by the path if the caller has the right over
// it.
func (c *call) device(right devices.Right) (*devices.Device, error) {
	return c.mayOver(c.PathValue("id"), right)
}

// mayOver returns a device over which the caller has one of the rights. One
// outside the caller's scope is refused like one that does not exist.
func (c *call) mayOver(id string, rights ...devices.Right) (*devices.Device, error) {
	if !slices.ContainsFunc(rights, func(r devices.Right) bool { return c.actor.Rights&r == r }) {
		return nil, devices.Refuse(devices.CodeForbidden, "not allowed")
	}
	d, found := c.api.s.Registry.Get(devices.ID(id))
	if !found || !slices.ContainsFunc(rights, func(r devices.Right) bool { return c.actor.May(r, d) }) {
		return nil, devices.NotFound("device")
	}
	return d, nil
}

// administrator refuses who may not administer the hub as a whole.
func (c *call) administrator() error {
	if !c.actor.Admin() || c.actor.Kind == devices.ActorService && !c.actor.Scope.All() {
		return devices.Refuse(devices.CodeForbidden, "administrators only")
	}
	return nil
}

// record writes an audit entry for an action that ended with err and that no
// service records itself.
func (c *call) record(action, target string, after any, err error) {
	if c.api.s.Audit != nil {
		c.api.s.Audit.Record(c.origin, identity.Entry(c.actor, action, target, nil, after, err))
	}
}

type actorKey struct{}

type known struct {
	actor devices.Actor
	via   string
}

// WithActor makes requests with this context those of actor, by the way via:
// for a listener that only its owner can reach, such as the admin socket.
func WithActor(ctx context.Context, actor devices.Actor, via string) context.Context {
	return context.WithValue(ctx, actorKey{}, known{actor, via})
}
