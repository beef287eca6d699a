package httpapi

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"devicehub/devices"
)

// Tracer shows what single devices send and get to those who follow them.
// While nobody follows, recording costs one load. The zero value is ready.
type Tracer struct {
	following atomic.Int32
	mu        sync.Mutex
	followers map[devices.ID]map[*follower]struct{}
}

// TraceLine is one thing that a device sent or got.
type TraceLine struct {
	At        int64           `json:"at"`  // ms since epoch
	Dir       string          `json:"dir"` // in: from the device; out: to it
	Transport string          `json:"transport"`
	Event     string          `json:"event"`
	Topic     string          `json:"topic,omitempty"`
	Payload   json.RawMessage `json:"payload,omitempty"` // secrets redacted; base64 of what is not text
	Bytes     int             `json:"bytes"`             // of the payload as it was
	Outcome   string          `json:"outcome,omitempty"` // ok, or the code it was refused with
	Skipped   int64           `json:"skipped,omitempty"` // lines that a slow reader missed before this one
}

const (
	maxFollowers   = 16  // of all devices together
	followerLines  = 512 // that wait for a slow reader; beyond them lines are skipped
	maxTracedBytes = 4096
	redacted       = "[redacted]"
)

type follower struct {
	lines   chan TraceLine
	skipped atomic.Int64
}

// Follows reports whether anybody follows the device: ask before preparing what
// Record needs.
func (t *Tracer) Follows(id devices.ID) bool {
	if t == nil || t.following.Load() == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.followers[id]) > 0
}

// Record shows a line to those who follow the device. payload is as it was on
// the wire; Record redacts it. It never blocks.
func (t *Tracer) Record(id devices.ID, l TraceLine, payload []byte) {
	if !t.Follows(id) {
		return
	}
	l.Bytes, l.Payload = len(payload), redact(payload)
	if l.At == 0 {
		l.At = time.Now().UnixMilli()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for f := range t.followers[id] {
		line := l
		line.Skipped = f.skipped.Swap(0)
		select {
		case f.lines <- line:
		default:
			f.skipped.Add(line.Skipped + 1)
		}
	}
}

func (t *Tracer) follow(id devices.ID) (f *follower, stop func(), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.following.Load() >= maxFollowers {
		return nil, nil, devices.Refuse(devices.CodeRateLimited, "too many traces at once").After(10 * time.Second)
	}
	if t.followers == nil {
		t.followers = map[devices.ID]map[*follower]struct{}{}
	}
	if t.followers[id] == nil {
		t.followers[id] = map[*follower]struct{}{}
	}
	f = &follower{lines: make(chan TraceLine, followerLines)}
	t.followers[id][f] = struct{}{}
	t.following.Add(1)
	return f, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.followers[id], f)
		if len(t.followers[id]) == 0 {
			delete(t.followers, id)
		}
		t.following.Add(-1)
	}, nil
}

// redact returns payload as JSON without secrets, cut to maxTracedBytes.
func redact(payload []byte) json.RawMessage {
	if len(payload) == 0 {
		return nil
	}
	var v any
	if err := json.Unmarshal(payload, &v); err != nil {
		switch {
		case !utf8.Valid(payload):
			v = "base64:" + base64.StdEncoding.EncodeToString(payload[:min(len(payload), maxTracedBytes)])
		default:
			v = string(payload[:min(len(payload), maxTracedBytes)])
		}
	}
	b, err := json.Marshal(withoutSecrets(v))
	if err != nil {
		return nil // what was just decoded
	}
	if len(b) > maxTracedBytes {
		b, _ = json.Marshal(strings.ToValidUTF8(string(b[:maxTracedBytes]), "") + "…")
	}
	return b
}

// withoutSecrets blanks fields that carry secrets, and strings that look like
// tokens wherever they stand.
func withoutSecrets(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			switch strings.ToLower(k) {
			case "token", "access_token", "password", "authtoken", "secret":
				v[k] = redacted
			default:
				v[k] = withoutSecrets(e)
			}
		}
	case []any:
		for i, e := range v {
			v[i] = withoutSecrets(e)
		}
	case string:
		if strings.HasPrefix(v, "dh1.") || strings.Contains(v, "eyJ") && strings.Count(v, ".") >= 2 {
			return redacted
		}
	}
	return v
}

// trace streams NDJSON until the client leaves or may no longer see it.
func (c *call) trace() (answer, error) {
	d, err := c.device(devices.RightAdmin)
	if err != nil {
		return answer{}, err
	}
	if c.api.s.Trace == nil {
		return unavailable("trace")
	}
	f, stop, err := c.api.s.Trace.follow(d.ID)
	if err != nil {
		return answer{}, err
	}
	defer stop()
	c.record("device.trace", "device:"+string(d.ID), nil, nil)
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	c.w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(c.w)
	_ = flush.SetWriteDeadline(time.Time{}) // as long as it takes
	_ = flush.Flush()
	check := time.NewTicker(time.Second)
	defer check.Stop()
	enc := json.NewEncoder(c.w)
	for {
		select {
		case <-c.Context().Done():
			return streamed()
		case <-check.C:
			if !c.stillAdministers(d.ID) {
				return streamed()
			}
		case l := <-f.lines:
			if enc.Encode(l) != nil || len(f.lines) == 0 && flush.Flush() != nil {
				return streamed()
			}
		}
	}
}

// stillAdministers asks again for the rights of a caller whose answer goes on.
func (c *call) stillAdministers(id devices.ID) bool {
	if c.who.Kind != "" {
		a, err := c.api.s.Identity.Actor(c.who)
		if err != nil {
			return false
		}
		c.actor = a
	}
	d, found := c.api.s.Registry.Get(id)
	return found && c.actor.May(devices.RightAdmin, d)
}
