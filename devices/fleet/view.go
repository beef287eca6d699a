package fleet

import (
	"encoding/json"
	"slices"
	"sort"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/quota"
)

const (
	countsEvery = time.Second
	orderEvery  = time.Second
	// A view's patches may be so many bytes a second; what does not fit is
	// merged with what comes after. A dashboard has two views, and shall cost
	// less than 30 kB/s.
	patchBytes = 12_000
)

// Reply is a page of rows.
type Reply struct {
	Rows       []Row                 `json:"rows"`
	Total      int                   `json:"total"`  // matching
	Counts     map[devices.State]int `json:"counts"` // matching but for their status
	NextCursor string                `json:"next_cursor"`
	ServerTime int64                 `json:"server_time"`
}

// View is one page of the list of devices, kept current. Safe for concurrent
// use.
type View struct {
	f     *Fleet
	actor func() (devices.Actor, error)
	push  func(event string, payload any) bool

	mu     sync.Mutex
	closed bool
	q      query
	who    devices.Actor
	rights string // of who, to tell when they change

	rows    []shown
	visible map[devices.ID]int // into rows
	more    bool               // there are rows after the page
	book    []entry            // of every device, by its place
	total   int
	counts  [8]int // by state

	changed   map[devices.ID]struct{} // visible rows to look at
	removed   []devices.ID
	recount   bool
	reordered bool
	patchedAt time.Time
	countedAt time.Time
	orderedAt time.Time
	budget    *quota.Limiter // bytes of rows
}

type shown struct {
	key key
	row Row
}

// entry is what a view knows of a device: 0 is nothing, else the place of its
// state in ranks, and whether it matches.
type entry uint8

const (
	counted entry = 8 // in scope and matching but for its status
	matched entry = 16
)

// Open makes a view of the devices that the actor may read, and its first page.
// actor is asked for the rights of the moment whenever something is told; push
// must not block, and its false ends the view. The error is forbidden, invalid
// or range, or the actor's.
func (f *Fleet) Open(actor func() (devices.Actor, error), p Params, push func(event string, payload any) bool) (*View, Reply, error) {
	v := &View{f: f, actor: actor, push: push, budget: quota.NewLimiter(quota.Rate{PerSecond: patchBytes, Burst: patchBytes})}
	v.mu.Lock()
	defer v.mu.Unlock()
	// Listed before the page is drawn: what changes meanwhile is told.
	f.mu.Lock()
	f.views[v] = struct{}{}
	f.mu.Unlock()
	r, err := v.draw(p)
	if err != nil {
		v.close()
		return nil, Reply{}, err
	}
	select {
	case f.wake <- struct{}{}:
	default:
	}
	return v, r, nil
}

// Update turns the view to other parameters and returns the page.
func (v *View) Update(p Params) (Reply, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.draw(p)
}

// Refresh looks at the actor's rights at once, not at the next event.
func (v *View) Refresh() { v.tick(nil, true, v.f.now()) }

// Close ends the view.
func (v *View) Close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.close()
}

func (v *View) close() {
	v.closed = true
	v.f.mu.Lock()
	delete(v.f.views, v)
	v.f.mu.Unlock()
}

func (v *View) draw(p Params) (Reply, error) {
	q, err := p.parse()
	if err != nil {
		return Reply{}, err
	}
	who, err := v.actor()
	if err != nil {
		return Reply{}, err
	}
	if who.Rights&devices.RightRead == 0 {
		return Reply{}, devices.Refuse(devices.CodeForbidden, "you may not see devices")
	}
	if err := v.f.checkKeys(who, q.filter); err != nil {
		return Reply{}, err
	}
	v.q, v.who, v.rights = q, who, rightsOf(who)
	v.scan()
	now := v.f.now()
	r := Reply{Rows: make([]Row, len(v.rows)), Total: v.total, Counts: v.countsMap(), ServerTime: now.UnixMilli()}
	for i := range v.rows {
		r.Rows[i] = v.rows[i].row
	}
	if v.more {
		r.NextCursor = v.rows[len(v.rows)-1].key.cursor(q.sort)
	}
	// The reply shall be there before what follows it.
	v.patchedAt, v.countedAt, v.orderedAt = now, now, now
	return r, nil
}

func rightsOf(a devices.Actor) string {
	return string(a.Role) + " " + string(rune('0'+a.Rights)) + " " + a.Scope.String()
}

// scan fills the page and the book from every device.
func (v *View) scan() {
	v.book = v.book[:0]
	v.total, v.counts = 0, [8]int{}
	v.changed, v.removed, v.recount, v.reordered = map[devices.ID]struct{}{}, nil, false, false
	var page []shown
	after := 0 // matching, after the cursor
	places := v.f.places()
	v.book = slices.Grow(v.book, len(places))
	for d := range v.f.cfg.Registry.All() {
		s := &subject{f: v.f, dev: d}
		e := v.judge(s)
		if e == 0 {
			continue
		}
		i, ok := places[d.ID]
		if !ok {
			i = v.f.place(d.ID)
		}
		v.enter(i, e)
		if e&matched == 0 {
			continue
		}
		k := v.q.key(s)
		if v.q.after != nil && v.q.compare(k, *v.q.after) <= 0 {
			continue
		}
		after++
		if len(page) == v.q.limit && v.q.compare(k, page[len(page)-1].key) > 0 {
			continue
		}
		at := sort.Search(len(page), func(i int) bool { return v.q.compare(page[i].key, k) > 0 })
		page = slices.Insert(page, at, shown{key: k})
		if len(page) > v.q.limit {
			page = page[:v.q.limit]
		}
	}
	v.more = after > len(page)
	v.rows, v.visible = page, make(map[devices.ID]int, len(page))
	kept := page[:0]
	for _, sh := range page {
		d, ok := v.f.cfg.Registry.Get(sh.key.id)
		if !ok {
			continue // deleted a moment ago; the next tick counts it out
		}
		sh.row = (&subject{f: v.f, dev: d}).row(v.q.metrics)
		v.visible[sh.key.id] = len(kept)
		kept = append(kept, sh)
	}
	v.rows = kept
}

// places is a copy of every device's place.
func (f *Fleet) places() map[devices.ID]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := make(map[devices.ID]int, len(f.index))
	for id, i := range f.index {
		m[id] = i
	}
	return m
}

// judge is the device's entry by the filter and the actor's rights.
func (v *View) judge(s *subject) entry {
	if !v.who.May(devices.RightRead, s.dev) || !v.q.filter.beside(s) {
		return 0
	}
	e := counted | entry(max(0, slices.Index(ranks, s.st().State)))
	if v.q.filter.ofStatus(s) {
		e |= matched
	}
	return e
}

// enter writes a device's entry and keeps the counts; it returns the old one.
func (v *View) enter(i int, e entry) (old entry) {
	if i >= len(v.book) {
		v.book = append(v.book, make([]entry, i+1-len(v.book))...)
	}
	old, v.book[i] = v.book[i], e
	if old == e {
		return old
	}
	if old&counted != 0 {
		v.counts[old&7]--
	}
	if e&counted != 0 {
		v.counts[e&7]++
	}
	if old&matched != 0 {
		v.total--
	}
	if e&matched != 0 {
		v.total++
	}
	return old
}

func (v *View) countsMap() map[devices.State]int {
	m := map[devices.State]int{}
	for i, st := range ranks {
		if v.counts[i] > 0 {
			m[st] = v.counts[i]
		}
	}
	return m
}

// tick takes in what changed and tells what is due.
func (v *View) tick(dirty map[devices.ID]concern, sweep bool, now time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	who, err := v.actor()
	if err != nil || who.Rights&devices.RightRead == 0 {
		return // whoever opened the view closes it
	}
	if rights := rightsOf(who); rights != v.rights {
		v.who, v.rights = who, rights
		v.redraw()
	}
	v.who = who
	for id, about := range dirty {
		v.consider(id, about)
	}
	if sweep {
		for id := range v.visible {
			v.changed[id] = struct{}{}
		}
	}
	if !v.tell(now) {
		v.close()
	}
}

// redraw looks at every device anew, for other rights.
func (v *View) redraw() {
	before := v.rows
	removed := v.removed
	v.scan()
	v.removed = removed
	for _, sh := range before {
		i, ok := v.visible[sh.key.id]
		if !ok {
			v.removed = append(v.removed, sh.key.id)
			continue
		}
		v.rows[i].row = sh.row // as it was told
		v.changed[sh.key.id] = struct{}{}
	}
	v.recount, v.reordered = true, true
	// What is new on the page is not shown before it is asked for.
	kept := v.rows[:0]
	for _, sh := range v.rows {
		if slices.ContainsFunc(before, func(b shown) bool { return b.key.id == sh.key.id }) {
			kept = append(kept, sh)
		}
	}
	v.rows = kept
	v.renumber()
}

func (v *View) renumber() {
	clear(v.visible)
	for i := range v.rows {
		v.visible[v.rows[i].key.id] = i
	}
}

// consider takes in what changed about one device.
func (v *View) consider(id devices.ID, about concern) {
	at, visible := v.visible[id]
	if visible {
		v.changed[id] = struct{}{}
	}
	if about&(aboutRecord|aboutStatus|v.q.filter.uses|v.q.moves()) == 0 {
		return
	}
	var s *subject
	var e entry
	if d, ok := v.f.cfg.Registry.Get(id); ok {
		s = &subject{f: v.f, dev: d}
		e = v.judge(s)
	}
	old := v.enter(v.f.place(id), e)
	if old != e {
		v.recount = true
	}
	switch {
	case visible && e&matched == 0:
		v.rows = slices.Delete(v.rows, at, at+1)
		v.renumber()
		v.removed = append(v.removed, id)
		delete(v.changed, id)
		v.reordered = v.reordered || v.more
	case visible:
		k := v.q.key(s)
		if v.q.compare(k, v.rows[at].key) == 0 {
			return
		}
		v.rows[at].key = k
		if at > 0 && v.q.compare(k, v.rows[at-1].key) < 0 || at+1 < len(v.rows) && v.q.compare(k, v.rows[at+1].key) > 0 ||
			at+1 == len(v.rows) && v.more {
			v.reordered = true
		}
	case e&matched != 0 && (old&matched == 0 || about&v.q.moves() != 0):
		v.reordered = v.reordered || v.onPage(v.q.key(s))
	case e&matched == 0 && old&matched != 0 && v.q.after != nil:
		v.reordered = true // it may have gone from a page before
	}
}

// onPage reports whether a key belongs on the page.
func (v *View) onPage(k key) bool {
	if v.q.after != nil && v.q.compare(k, *v.q.after) <= 0 {
		return false
	}
	return !v.more || len(v.rows) == 0 || v.q.compare(k, v.rows[len(v.rows)-1].key) < 0
}

// tell pushes what is due; false: nobody listens.
func (v *View) tell(now time.Time) bool {
	if ok := v.tellRows(now); !ok {
		return false
	}
	if v.recount && now.Sub(v.countedAt) >= countsEvery {
		v.recount, v.countedAt = false, now
		if !v.push("counts", map[string]any{"total": v.total, "counts": v.countsMap()}) {
			return false
		}
	}
	if v.reordered && now.Sub(v.orderedAt) >= orderEvery {
		v.reordered, v.orderedAt = false, now
		return v.push("order_changed", struct{}{})
	}
	return true
}

func (v *View) tellRows(now time.Time) bool {
	if len(v.changed)+len(v.removed) == 0 || now.Sub(v.patchedAt) < tickEvery || v.budget.Overspent(now) && len(v.removed) == 0 {
		return true
	}
	patch := []map[string]any{}
	for id := range v.changed {
		at, ok := v.visible[id]
		d, known := v.f.cfg.Registry.Get(id)
		if !ok || !known || !v.who.May(devices.RightRead, d) {
			continue
		}
		row := (&subject{f: v.f, dev: d}).row(v.q.metrics)
		if p := row.patch(&v.rows[at].row); p != nil {
			patch = append(patch, p)
		}
		v.rows[at].row = row
	}
	clear(v.changed)
	removed := v.removed
	if removed == nil {
		removed = []devices.ID{}
	}
	v.removed = nil
	if len(patch)+len(removed) == 0 {
		return true
	}
	b, err := json.Marshal(map[string]any{"patch": patch, "removed": removed, "server_time": now.UnixMilli()})
	if err != nil {
		v.f.cfg.Logger.Error("rows not told", "err", err)
		return true
	}
	v.patchedAt = now
	v.budget.Spend(now, float64(len(b)))
	return v.push("rows", json.RawMessage(b))
}
