// Package trace shows what single devices send and get, without secrets, to
// those who follow them.
package trace

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"devicehub/devices"
)

// Tracer hands what devices send and get to those who follow them. While nobody
// follows, recording costs one load. The zero value is ready; a nil Tracer has
// no followers.
type Tracer struct {
	following atomic.Int32
	mu        sync.Mutex
	followers map[devices.ID]map[*Follower]struct{}
}

// Line is one thing that a device sent or got.
type Line struct {
	At        int64             `json:"at"`  // ms since epoch
	Dir       string            `json:"dir"` // In or Out
	Transport devices.Transport `json:"transport"`
	Event     string            `json:"event"`
	About     string            `json:"about,omitempty"` // of a reply: the event that it answers
	Topic     string            `json:"topic,omitempty"`
	Payload   json.RawMessage   `json:"payload,omitempty"` // secrets redacted; base64 of what is not text
	Bytes     int               `json:"bytes"`             // of the payload as it was
	Outcome   string            `json:"outcome,omitempty"` // ok, or the code it was refused with
	Skipped   int64             `json:"skipped,omitempty"` // lines that a slow reader missed before this one
}

// Directions of a Line.
const (
	In  = "in"  // from the device
	Out = "out" // to it
)

const (
	maxFollowers  = 16  // of all devices together
	followerLines = 512 // that wait for a slow reader; beyond them lines are skipped
)

// Follower hears of one device.
type Follower struct {
	tracer  *Tracer
	id      devices.ID
	lines   chan Line
	skipped atomic.Int64
}

// Lines are what the device sent and got since Follow. The channel is never
// closed.
func (f *Follower) Lines() <-chan Line { return f.lines }

// Stop ends the following.
func (f *Follower) Stop() {
	t := f.tracer
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, there := t.followers[f.id][f]; !there {
		return
	}
	delete(t.followers[f.id], f)
	if len(t.followers[f.id]) == 0 {
		delete(t.followers, f.id)
	}
	t.following.Add(-1)
}

// Follow begins to show what the device sends and gets. The error is
// rate_limited when too many follow.
func (t *Tracer) Follow(id devices.ID) (*Follower, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.following.Load() >= maxFollowers {
		return nil, devices.Refuse(devices.CodeRateLimited, "too many traces at once").After(10 * time.Second)
	}
	if t.followers == nil {
		t.followers = map[devices.ID]map[*Follower]struct{}{}
	}
	if t.followers[id] == nil {
		t.followers[id] = map[*Follower]struct{}{}
	}
	f := &Follower{tracer: t, id: id, lines: make(chan Line, followerLines)}
	t.followers[id][f] = struct{}{}
	t.following.Add(1)
	return f, nil
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
func (t *Tracer) Record(id devices.ID, l Line, payload []byte) {
	if !t.Follows(id) {
		return
	}
	l.Bytes, l.Payload = len(payload), redact(payload)
	l.Event, l.About, l.Topic = name(l.Event), name(l.About), name(l.Topic)
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
