// Package presence tracks who is on a topic and tells everybody on it.
//
// A [Tracker] holds, for each topic, the metas that were tracked under each key. What changes is
// broadcast on the topic as "presence_diff"; the program pushes "presence_state", the value
// of [Tracker.List], to whoever joins. Both have the shapes that stock Phoenix clients know:
//
//	presence_state  {"key":{"metas":[{"phx_ref":"…",…},…]},…}
//	presence_diff   {"joins":{…},"leaves":{…}}
//
// The first change on a topic is told at once. Further changes within 50 ms are merged into one
// diff, in which who came and went in between does not appear.
package presence

import (
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"devicehub/hub/pubsub"
)

// EventDiff is the event of a diff, EventState that of a state, by convention.
const (
	EventDiff  = "presence_diff"
	EventState = "presence_state"
)

// window is how long changes are merged after a diff.
const window = 50 * time.Millisecond

var (
	// ErrTracked is returned by Track for an owner that is tracked under the key already.
	ErrTracked = errors.New("already tracked")
	// ErrNotTracked is returned by Update for an owner that is not tracked under the key.
	ErrNotTracked = errors.New("not tracked")
	// ErrEnded is returned by Track for an owner that has ended.
	ErrEnded = errors.New("owner has ended")
)

// Meta is what is told of one presence. It must encode to JSON; phx_ref and phx_ref_prev are set
// by the tracker.
type Meta map[string]any

// Entry is what a state or diff has under one key: the metas, and what a fetch hook added.
type Entry struct {
	Metas []Meta
	Extra map[string]any
}

// Diff is one change, as OnDiff sees it.
type Diff struct {
	Joins, Leaves map[string]Entry
}

// Owner is whose presence is tracked: anything that ends, such as a *hub.Socket or a context.
// Owners are compared with ==. One that also has
//
//	OnDone(f func()) (cancel func() bool)
//
// which calls f once it has ended, or returns nil if it has, is spared the channel and the
// goroutine that waits for it.
type Owner interface {
	Done() <-chan struct{}
}

// Option configures a Tracker.
type Option func(*Tracker)

// WithFetch sets a hook that may add to the entries of a state or of one side of a diff, all at
// once, before they are sent: names from a database, say. It must leave the metas alone and not
// call the tracker.
func WithFetch(f func(topic string, entries map[string]Entry) map[string]Entry) Option {
	return func(t *Tracker) { t.fetch = f }
}

// WithOnDiff sets a hook that is called with every diff, in order for each topic, before it is
// broadcast.
func WithOnDiff(f func(topic string, d Diff)) Option { return func(t *Tracker) { t.onDiff = f } }

// WithLogger sets the logger, slog.Default() by default.
func WithLogger(l *slog.Logger) Option { return func(t *Tracker) { t.log = l } }

const shards = 64

// Tracker tracks presences. Its methods may be called from any goroutine.
type Tracker struct {
	ps     pubsub.PubSub
	log    *slog.Logger
	fetch  func(string, map[string]Entry) map[string]Entry
	onDiff func(string, Diff)
	seed   maphash.Seed
	refs   refMaker
	shards [shards]struct {
		mu     sync.Mutex
		topics map[string]*topic
	}
}

// New returns a Tracker that broadcasts on ps. It starts nothing.
func New(ps pubsub.PubSub, opts ...Option) *Tracker {
	t := &Tracker{ps: ps, log: slog.Default(), seed: maphash.MakeSeed()}
	t.refs.seed()
	for i := range t.shards {
		t.shards[i].topics = make(map[string]*topic)
	}
	for _, o := range opts {
		o(t)
	}
	return t
}

// open returns the topic, locked. With make it is made if need be, else it may be nil.
func (t *Tracker) open(name string, make bool) *topic {
	sh := &t.shards[maphash.String(t.seed, name)%shards]
	for {
		sh.mu.Lock()
		tp := sh.topics[name]
		if tp == nil {
			if !make {
				sh.mu.Unlock()
				return nil
			}
			tp = &topic{t: t, name: name}
			sh.topics[name] = tp
		}
		sh.mu.Unlock()
		tp.mu.Lock()
		if !tp.gone {
			return tp
		}
		tp.mu.Unlock()
	}
}

// forget drops a topic on which nobody is and nothing is to be told, once the window of its last
// diff has ended. The caller holds tp.mu.
func (t *Tracker) forget(tp *topic) {
	if len(tp.groups) > 0 || tp.telling || tp.gone {
		return
	}
	if wait := window - time.Since(tp.told); wait > 0 {
		tp.telling = true
		time.AfterFunc(wait, tp.flush)
		return
	}
	tp.gone = true
	// Nobody holds a shard's lock and takes a topic's.
	sh := &t.shards[maphash.String(t.seed, tp.name)%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.topics[tp.name] == tp {
		delete(sh.topics, tp.name)
	}
}

// Track tells the topic that the owner is there under key, until the owner ends or is untracked.
// One owner may be under many keys and topics, and many owners under one key. It returns the
// phx_ref of the presence, ErrTracked, ErrEnded, or the error of encoding meta.
func (t *Tracker) Track(owner Owner, topic, key string, meta Meta) (ref string, err error) {
	ref = t.refs.next()
	text, err := encodeMeta(meta, ref, "")
	if err != nil {
		return "", err
	}
	tp := t.open(topic, true)
	p, err := tp.join(owner, key, ref, text)
	flush := err == nil && tp.changed()
	t.forget(tp)
	tp.mu.Unlock()
	if err != nil {
		return "", err
	}
	if flush {
		tp.flush()
	}
	if !t.watch(owner, tp, p) {
		t.remove(tp, p)
		return "", ErrEnded
	}
	return ref, nil
}

// watch has p untracked when its owner ends. It reports false when that has happened.
func (t *Tracker) watch(owner Owner, tp *topic, p *presence) bool {
	stop := watchOwner(owner, func() { t.remove(tp, p) })
	if stop == nil {
		return false
	}
	tp.mu.Lock()
	defer tp.mu.Unlock()
	if p.gone {
		stop()
		return true
	}
	p.stop = stop
	return true
}

// watchOwner has f called when the owner ends. It returns nil when the owner has ended; f may
// have been called then.
func watchOwner(owner Owner, f func()) (stop func()) {
	if o, ok := owner.(interface {
		OnDone(f func()) (cancel func() bool)
	}); ok {
		cancel := o.OnDone(f)
		if cancel == nil {
			return nil
		}
		return func() { cancel() }
	}
	select {
	case <-owner.Done():
		return nil
	default:
	}
	if ctx, ok := owner.(context.Context); ok {
		stop := context.AfterFunc(ctx, f)
		return func() { stop() }
	}
	stopped := make(chan struct{})
	var once sync.Once
	go func() {
		select {
		case <-owner.Done():
			f()
		case <-stopped:
		}
	}()
	return func() { once.Do(func() { close(stopped) }) }
}

// remove takes p off its topic, unless that was done.
func (t *Tracker) remove(tp *topic, p *presence) {
	tp.mu.Lock()
	flush := tp.leave(p) && tp.changed()
	stop := p.stop
	p.stop = nil
	if !flush {
		t.forget(tp)
	}
	tp.mu.Unlock()
	if stop != nil {
		stop()
	}
	if flush {
		tp.flush()
	}
}

// Untrack ends what Track began. It does nothing for what is not tracked.
func (t *Tracker) Untrack(owner Owner, topic, key string) {
	tp := t.open(topic, false)
	if tp == nil {
		return
	}
	p := tp.find(owner, key)
	tp.mu.Unlock()
	if p != nil {
		t.remove(tp, p)
	}
}

// Update replaces the meta that the owner has under key. Clients hear of it as one diff, with the
// new meta joining, its phx_ref_prev naming the old one, which leaves. It returns the new
// phx_ref, ErrNotTracked, or the error of encoding meta.
func (t *Tracker) Update(owner Owner, topic, key string, meta Meta) (ref string, err error) {
	tp := t.open(topic, false)
	if tp == nil {
		return "", ErrNotTracked
	}
	p := tp.find(owner, key)
	if p == nil {
		tp.mu.Unlock()
		return "", ErrNotTracked
	}
	ref = t.refs.next()
	text, err := encodeMeta(meta, ref, p.ref)
	if err != nil {
		tp.mu.Unlock()
		return "", err
	}
	tp.update(p, ref, text)
	flush := tp.changed()
	tp.mu.Unlock()
	if flush {
		tp.flush()
	}
	return ref, nil
}

// List returns who is on the topic. It is shared by all who ask before the next change.
func (t *Tracker) List(topic string) State {
	tp := t.open(topic, false)
	if tp == nil {
		return State{text: emptyState}
	}
	defer tp.mu.Unlock()
	return State{text: tp.list()}
}

// GetByKey returns the metas under one key of a topic, in the order in which they were tracked. It
// looks at no other key.
func (t *Tracker) GetByKey(topic, key string) []Meta {
	tp := t.open(topic, false)
	if tp == nil {
		return nil
	}
	defer tp.mu.Unlock()
	g, _ := tp.group(key)
	if g == nil {
		return nil
	}
	return decodeMetas(g.metas())
}

// Count returns how many keys are on the topic.
func (t *Tracker) Count(topic string) int {
	tp := t.open(topic, false)
	if tp == nil {
		return 0
	}
	defer tp.mu.Unlock()
	return len(tp.groups)
}

// State is who is on a topic at one time. It encodes to what stock clients take as
// presence_state, without being encoded anew for each of them.
type State struct{ text []byte }

var emptyState = []byte("{}")

// AppendJSON appends the JSON form of s.
func (s State) AppendJSON(dst []byte) ([]byte, error) { return append(dst, s.json()...), nil }

// MarshalJSON implements json.Marshaler.
func (s State) MarshalJSON() ([]byte, error) { return s.json(), nil }

func (s State) json() []byte {
	if s.text == nil {
		return emptyState
	}
	return s.text
}

// Entries decodes the state.
func (s State) Entries() map[string]Entry {
	var raw map[string]map[string]json.RawMessage
	if err := json.Unmarshal(s.json(), &raw); err != nil {
		return nil // the tracker encoded it
	}
	entries := make(map[string]Entry, len(raw))
	for key, fields := range raw {
		var e Entry
		for name, text := range fields {
			if name == "metas" {
				_ = json.Unmarshal(text, &e.Metas) // it was made by us, or shows nothing
				continue
			}
			if e.Extra == nil {
				e.Extra = make(map[string]any)
			}
			var v any
			_ = json.Unmarshal(text, &v)
			e.Extra[name] = v
		}
		entries[key] = e
	}
	return entries
}
