package httpapi

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"devicehub/devices"
)

// repeats are the answers to what was made under an Idempotency-Key. Who never
// heard the answer sends the same again under the same key, and gets it: the same
// device, with the same token, and not a conflict with what they made themselves.
//
// They are in memory alone, for keptFor and within maxKept and maxKeptBytes, the
// oldest first to go; a hub that starts has none. So a repeat that comes after
// them does what it would do without a key. Only what succeeded is kept: a refusal
// made nothing, and is judged anew.
type repeats struct {
	secret []byte // of this process: what is kept tells nothing about requests

	mu    sync.Mutex
	kept  map[[32]byte]*repeat
	order *list.List // of what has its answer, the oldest in front
	bytes int
}

const (
	keptFor      = 24 * time.Hour
	maxKept      = 10_000
	maxKeptBytes = 32 << 20 // two answers to the longest list of devices fit
)

// repeat is a request under a key, and its answer.
type repeat struct {
	key     [32]byte
	asked   [32]byte // what was asked for
	by      string   // the actor
	decided chan struct{}

	// Set before decided closes; ok is false for a refusal.
	answer answer
	ok     bool
	at     time.Time
}

func (r *repeat) size() int {
	body, _ := r.answer.body.(json.RawMessage)
	return len(body) + 512
}

func newRepeats() *repeats {
	secret := make([]byte, 32)
	rand.Read(secret) // never fails
	return &repeats{secret: secret, kept: map[[32]byte]*repeat{}, order: list.New()}
}

// sum is a keyed hash of the parts.
func (rs *repeats) sum(parts ...[]byte) (sum [32]byte) {
	h := hmac.New(sha256.New, rs.secret)
	for _, p := range parts {
		inner := sha256.Sum256(p)
		h.Write(inner[:])
	}
	h.Sum(sum[:0])
	return sum
}

// claim returns the repeat of a key, and whether the caller is the one to decide
// it.
func (rs *repeats) claim(key, asked [32]byte, by string, now time.Time) (r *repeat, mine bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.expire(now)
	if r := rs.kept[key]; r != nil {
		return r, false
	}
	r = &repeat{key: key, asked: asked, by: by, decided: make(chan struct{})}
	rs.kept[key] = r
	return r, true
}

// decide ends a claim, and keeps the answer of what succeeded.
func (rs *repeats) decide(r *repeat, a answer, ok bool, now time.Time) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r.answer, r.ok, r.at = a, ok, now
	close(r.decided)
	if rs.kept[r.key] != r { // forgotten meanwhile
		return
	}
	if !ok {
		delete(rs.kept, r.key)
		return
	}
	rs.order.PushBack(r)
	rs.bytes += r.size()
	for rs.bytes > maxKeptBytes || rs.order.Len() > maxKept {
		rs.drop(rs.order.Front())
	}
}

func (rs *repeats) expire(now time.Time) {
	for e := rs.order.Front(); e != nil && now.Sub(e.Value.(*repeat).at) >= keptFor; e = rs.order.Front() {
		rs.drop(e)
	}
}

func (rs *repeats) drop(e *list.Element) {
	r := rs.order.Remove(e).(*repeat)
	rs.bytes -= r.size()
	delete(rs.kept, r.key)
}

// forget drops what an actor made who is no more: another of the name inherits
// none of it.
func (rs *repeats) forget(by string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var next *list.Element
	for e := rs.order.Front(); e != nil; e = next {
		next = e.Next()
		if e.Value.(*repeat).by == by {
			rs.drop(e)
		}
	}
	for key, r := range rs.kept {
		if r.by == by {
			delete(rs.kept, key) // under way
		}
	}
}

const keyHeader = "Idempotency-Key"

// idempotencyKey is the caller's key for the request, "" where there is none.
func (c *call) idempotencyKey() (string, error) {
	keys := c.Header.Values(keyHeader)
	if len(keys) == 0 {
		return "", nil
	}
	if len(keys) > 1 || keys[0] == "" || len(keys[0]) > devices.MaxText {
		return "", devices.Invalid(keyHeader, "one, of 1 to 255 bytes")
	}
	return keys[0], nil
}

// once has the route's handler answer, or gives the answer that it gave to the same
// request under the same key. The key is the caller's as long as their rights stay.
func (c *call) once() (answer, error) {
	key, err := c.idempotencyKey()
	if err != nil {
		return answer{}, err
	}
	if key == "" {
		return c.handled()
	}
	body, err := c.raw()
	if err != nil {
		return answer{}, err
	}
	rs, by := c.api.repeats, c.actor.String()
	who := []byte(by + "\x00" + c.actor.Scope.String() + "\x00" + string(rune(c.actor.Rights)))
	id, asked := rs.sum([]byte(key), who), rs.sum([]byte(c.Method+" "+c.URL.Path+"?"+c.URL.RawQuery), body)
	for {
		r, mine := rs.claim(id, asked, by, c.api.now())
		if mine {
			return c.decided(r)
		}
		if r.asked != asked {
			return answer{}, devices.Refuse(devices.CodeConflict, "the "+keyHeader+" was used for another request")
		}
		select {
		case <-r.decided:
		case <-c.Context().Done():
			return answer{}, c.Context().Err()
		}
		if r.ok {
			c.w.Header().Set("Idempotent-Replayed", "true")
			c.record("request.repeat", c.Method+" "+c.route.path, nil, nil)
			return r.answer, nil
		}
	}
}

// decided has the handler answer for r.
func (c *call) decided(r *repeat) (a answer, err error) {
	made := false
	defer func() { c.api.repeats.decide(r, a, made, c.api.now()) }() // also of a handler that crashes
	a, err = c.handled()
	if err != nil {
		return answer{}, err
	}
	a.body = json.RawMessage(marshal(a.body))
	made = a.status == http.StatusCreated
	return a, nil
}
