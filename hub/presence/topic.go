package presence

import (
	"slices"
	"strings"
	"sync"
	"time"

	"devicehub/hub/pubsub"
)

// presence is one owner under one key of one topic.
type presence struct {
	owner Owner
	key   string
	ref   string
	meta  []byte // JSON, with phx_ref
	gone  bool
	stop  func() // ends the watch over the owner
}

// group is all presences under one key, and their JSON: `"key":{"metas":[…]}`.
type group struct {
	key     string
	members []*presence
	text    []byte // nil: to be built
}

func (g *group) metas() [][]byte {
	metas := make([][]byte, len(g.members))
	for i, p := range g.members {
		metas[i] = p.meta
	}
	return metas
}

// topic is what a Tracker knows of one topic.
type topic struct {
	t    *Tracker
	name string

	mu     sync.Mutex
	groups []*group // in the order of their keys
	state  []byte   // the JSON of all; nil: to be built
	gone   bool

	// What is to be told. Only refs that were told, or that a List has shown, appear in leaves.
	joins, leaves []change
	listed        bool      // since the last diff
	telling       bool      // a diff is being told, or will be when the window ends
	told          time.Time // when the last diff was told

	order sync.Mutex // keeps the diffs in order
}

// change is one meta that joined or left.
type change struct {
	key, ref string
	meta     []byte
}

// group returns the group under key and where it stands, or nil and where it would.
func (tp *topic) group(key string) (*group, int) {
	i, found := slices.BinarySearchFunc(tp.groups, key, func(g *group, key string) int { return strings.Compare(g.key, key) })
	if !found {
		return nil, i
	}
	return tp.groups[i], i
}

func (tp *topic) find(owner Owner, key string) *presence {
	if g, _ := tp.group(key); g != nil {
		for _, p := range g.members {
			if p.owner == owner {
				return p
			}
		}
	}
	return nil
}

func (tp *topic) join(owner Owner, key, ref string, meta []byte) (*presence, error) {
	g, i := tp.group(key)
	if g == nil {
		g = &group{key: key}
		tp.groups = slices.Insert(tp.groups, i, g)
	}
	for _, p := range g.members {
		if p.owner == owner {
			return nil, ErrTracked
		}
	}
	p := &presence{owner: owner, key: key, ref: ref, meta: meta}
	g.members = append(g.members, p)
	tp.touch(g)
	tp.joins = append(tp.joins, change{key, ref, meta})
	return p, nil
}

func (tp *topic) leave(p *presence) bool {
	if p.gone {
		return false
	}
	p.gone = true
	g, at := tp.group(p.key)
	i := slices.Index(g.members, p)
	g.members = slices.Delete(g.members, i, i+1)
	tp.touch(g)
	if len(g.members) == 0 {
		tp.groups = slices.Delete(tp.groups, at, at+1)
	}
	tp.left(p)
	return true
}

func (tp *topic) update(p *presence, ref string, meta []byte) {
	tp.left(p)
	p.ref, p.meta = ref, meta
	g, _ := tp.group(p.key)
	tp.touch(g)
	tp.joins = append(tp.joins, change{p.key, ref, meta})
}

// left notes that the present meta of p leaves. If its joining was not told yet, that is taken
// back, and its leaving need not be told, unless a List has shown it.
func (tp *topic) left(p *presence) {
	for i, c := range tp.joins {
		if c.ref == p.ref {
			tp.joins = slices.Delete(tp.joins, i, i+1)
			if !tp.listed {
				return
			}
			break
		}
	}
	tp.leaves = append(tp.leaves, change{p.key, p.ref, p.meta})
}

func (tp *topic) touch(g *group) { g.text, tp.state = nil, nil }

// changed reports whether the caller is to call flush; else what changed is told when the
// window ends. A topic that rests has no timer.
func (tp *topic) changed() bool {
	if tp.telling || len(tp.joins)+len(tp.leaves) == 0 {
		return false
	}
	tp.telling = true
	if wait := window - time.Since(tp.told); wait > 0 {
		time.AfterFunc(wait, tp.flush)
		return false
	}
	return true
}

// flush tells what has changed, and sees to it that what changes meanwhile is told in a window's
// time. changed has set telling.
func (tp *topic) flush() {
	tp.order.Lock()
	defer tp.order.Unlock()
	tp.mu.Lock()
	joins, leaves := tp.joins, tp.leaves
	tp.joins, tp.leaves, tp.listed = nil, nil, false
	tp.mu.Unlock()
	if len(joins)+len(leaves) > 0 {
		tp.tell(joins, leaves)
	}
	tp.mu.Lock()
	defer tp.mu.Unlock()
	if len(joins)+len(leaves) > 0 {
		tp.told = time.Now()
	}
	if tp.telling = len(tp.joins)+len(tp.leaves) > 0; tp.telling {
		time.AfterFunc(window, tp.flush)
	}
	tp.t.forget(tp)
}

func (tp *topic) tell(joins, leaves []change) {
	t := tp.t
	var text []byte
	var err error
	if t.fetch == nil {
		text = append(text, `{"joins":`...)
		text = appendChanges(text, joins)
		text = append(text, `,"leaves":`...)
		text = appendChanges(text, leaves)
		text = append(text, '}')
	} else if text, err = t.fetchedDiff(tp.name, joins, leaves); err != nil {
		t.log.Error("presence fetch", "topic", tp.name, "err", err)
		return
	}
	if t.onDiff != nil {
		t.onDiff(tp.name, Diff{Joins: entries(joins), Leaves: entries(leaves)})
	}
	if err := t.ps.LocalBroadcast(&pubsub.Message{Topic: tp.name, Event: EventDiff, Payload: State{text: text}}); err != nil {
		t.log.Error("presence diff", "topic", tp.name, "err", err)
	}
}

// list returns the JSON of the state.
func (tp *topic) list() []byte {
	tp.listed = true
	if tp.state != nil {
		return tp.state
	}
	if tp.t.fetch != nil {
		if text, err := tp.t.fetchedState(tp); err == nil {
			tp.state = text
			return text
		} else {
			tp.t.log.Error("presence fetch", "topic", tp.name, "err", err)
		}
	}
	if len(tp.groups) == 1 { // most topics, of which there may be many: not worth keeping
		g := tp.groups[0]
		return append(appendEntry([]byte{'{'}, g.key, g.metas()), '}')
	}
	size := 2
	for _, g := range tp.groups {
		size += len(g.json()) + 1
	}
	text := append(make([]byte, 0, size), '{')
	for i, g := range tp.groups {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(text, g.text...)
	}
	tp.state = append(text, '}')
	return tp.state
}

func (g *group) json() []byte {
	if g.text == nil {
		g.text = appendEntry(nil, g.key, g.metas())
	}
	return g.text
}

func appendEntry(dst []byte, key string, metas [][]byte) []byte {
	dst = appendString(dst, key)
	dst = append(dst, `:{"metas":[`...)
	for i, m := range metas {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, m...)
	}
	return append(dst, "]}"...)
}

// appendChanges appends one side of a diff, its keys in order.
func appendChanges(dst []byte, changes []change) []byte {
	slices.SortStableFunc(changes, func(a, b change) int {
		switch {
		case a.key < b.key:
			return -1
		case a.key > b.key:
			return 1
		}
		return 0
	})
	dst = append(dst, '{')
	for i := 0; i < len(changes); {
		j := i
		var metas [][]byte
		for ; j < len(changes) && changes[j].key == changes[i].key; j++ {
			metas = append(metas, changes[j].meta)
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendEntry(dst, changes[i].key, metas)
		i = j
	}
	return append(dst, '}')
}
