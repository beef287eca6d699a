package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"devicehub/devices"
	"devicehub/devices/identity"
)

// call is one request with who made it.
type call struct {
	*http.Request
	api    *API
	w      http.ResponseWriter
	route  *route
	params url.Values // of the query
	fields []string   // of each record in the answer; nil: all
	actor  devices.Actor
	who    identity.Principal // zero over the admin socket
	origin devices.Origin

	sent []byte // the body
	read bool   // it was read
}

// answer is what a handler says: a JSON body, unless it is nil, and a status.
// A body that is a json.RawMessage is sent as it is.
type answer struct {
	status   int
	body     any
	location string // where what was made is found
	ver      *int64 // of the record in the body; nil: it has none
	live     bool   // the body holds more than the version is about
	tag      string // the entity tag of a body without a version
}

func ok(body any) (answer, error)      { return answer{status: http.StatusOK, body: body}, nil }
func created(body any) (answer, error) { return answer{status: http.StatusCreated, body: body}, nil }
func none() (answer, error)            { return answer{status: http.StatusNoContent}, nil }

// streamed is the answer of a handler that wrote by itself.
func streamed() (answer, error) { return answer{}, nil }

func (c *call) write(a answer) {
	if a.status == 0 {
		return
	}
	if a.location != "" {
		c.w.Header().Set("Location", a.location)
	}
	if a.body == nil {
		c.w.WriteHeader(a.status)
		return
	}
	body := marshal(a.body)
	if a.ver != nil {
		a.tag = entityTag(*a.ver, a.live, body)
	}
	if a.tag == "" || !c.answered(a.tag) {
		sendJSON(c.w, a.status, body)
	}
}

// answered sets the tag of the answer, and answers itself where a GET is only to
// be answered with another.
func (c *call) answered(tag string) bool {
	c.w.Header().Set("ETag", tag)
	if c.Method != http.MethodGet && c.Method != http.MethodHead {
		return false // expect was asked before anything changed
	}
	noneMatch, err := readTags(c.Header, "If-None-Match")
	switch {
	case err != nil:
		c.fail(err)
	case noneMatch != nil && noneMatch.has(tag): // RFC 9110 §13.1.2
		c.w.WriteHeader(http.StatusNotModified)
	default:
		return false
	}
	return true
}

func writeJSON(w http.ResponseWriter, status int, body any) { sendJSON(w, status, marshal(body)) }

func marshal(body any) []byte {
	if made, isMade := body.(json.RawMessage); isMade {
		return made
	}
	b, err := json.Marshal(body)
	if err != nil { // a programmer's mistake: the panic handler answers
		panic(fmt.Errorf("marshal an answer: %w", err))
	}
	return b
}

func sendJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(slices.Clip(body), '\n')) // a client that has gone
}

// refusal is an error that is answered with another status than its code's.
type refusal struct {
	err    *devices.Error
	status int
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

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
	if other := (*refusal)(nil); errors.As(err, &other) {
		status = other.status
	}
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="devicehub"`)
	}
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(e.RetryAfter.Seconds())), 10))
	}
	// Some refusals say more than the error alone.
	if m, more := err.(json.Marshaler); more {
		writeJSON(w, status, m)
		return
	}
	writeJSON(w, status, e)
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
