// Package fleet shows many devices at once: filtered, sorted and paged at the
// hub, and kept current while somebody looks.
//
// A view hears of every event but passes on only what changes in the rows that
// it shows, at most four times a second and within a budget of bytes, so that a
// dashboard of ten thousand devices costs what a page of them does.
package fleet

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"devicehub/devices"
)

// Config is what a Fleet is made of. Registry and Status are required; the
// functions are called with no lock of the caller held.
type Config struct {
	Registry *devices.Registry
	Status   func(devices.ID) devices.Status
	Latest   func(devices.ID) map[string]Latest
	Light    func(devices.ID) (on bool, brightness int, at int64, ok bool)
	Command  func(devices.ID) (Command, bool)
	Logger   *slog.Logger
	Now      func() time.Time // time.Now unless set
}

// Fleet keeps views. It is a devices.Feed. Safe for concurrent use.
type Fleet struct {
	cfg  Config
	now  func() time.Time
	wake chan struct{} // the first view was opened

	mu    sync.Mutex
	views map[*View]struct{}
	dirty map[devices.ID]concern // since the last tick; bounded by the number of devices
	index map[devices.ID]int     // every device's place in the views' books
}

var _ devices.Feed = (*Fleet)(nil)

const (
	tickEvery  = 250 * time.Millisecond
	sweepEvery = 5 * time.Second // visible rows are looked at for what changes without an event
)

// New returns a fleet without views.
func New(cfg Config) *Fleet {
	f := &Fleet{cfg: cfg, now: cfg.Now, wake: make(chan struct{}, 1),
		views: map[*View]struct{}{}, dirty: map[devices.ID]concern{}, index: map[devices.ID]int{}}
	if f.now == nil {
		f.now = time.Now
	}
	if f.cfg.Logger == nil {
		f.cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Registry.Watch(func(c devices.Change) { f.mark(c.ID(), aboutRecord) })
	return f
}

// Publish notes what an event is about; it never blocks.
func (f *Fleet) Publish(e devices.Event) {
	switch e.Name {
	case "status":
		f.mark(e.Device, aboutStatus)
	case "reading", "backfill":
		f.mark(e.Device, aboutReadings)
	case "state":
		f.mark(e.Device, aboutLight)
	case "command_status":
		f.mark(e.Device, aboutCommand)
	}
}

func (f *Fleet) mark(id devices.ID, c concern) {
	f.mu.Lock()
	if len(f.views) > 0 {
		f.dirty[id] |= c
	}
	f.mu.Unlock()
}

// Run keeps the views current until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	tick.Stop()
	swept := f.now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
			tick.Reset(tickEvery)
			continue
		case <-tick.C:
		}
		f.mu.Lock()
		dirty := f.dirty
		f.dirty = map[devices.ID]concern{}
		views := make([]*View, 0, len(f.views))
		for v := range f.views {
			views = append(views, v)
		}
		f.mu.Unlock()
		if len(views) == 0 {
			tick.Stop()
			continue
		}
		now := f.now()
		sweep := now.Sub(swept) >= sweepEvery
		if sweep {
			swept = now
		}
		for _, v := range views {
			v.tick(dirty, sweep, now)
		}
	}
}

// place is the device's place in the views' books.
func (f *Fleet) place(id devices.ID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := f.index[id]
	if !ok {
		i = len(f.index)
		f.index[id] = i
	}
	return i
}

// Matcher returns what tells whether a device matches a search of who, or an
// invalid error that names what is wrong with it.
func (f *Fleet) Matcher(who devices.Actor, q string) (func(*devices.Device) bool, error) {
	flt, err := parseQuery(q)
	if err == nil {
		err = f.checkKeys(who, flt)
	}
	if err != nil {
		return nil, err
	}
	return func(d *devices.Device) bool {
		s := subject{f: f, dev: d}
		return flt.beside(&s) && flt.ofStatus(&s)
	}, nil
}

// Params ask for a view.
type Params struct {
	Q       string   `json:"q,omitempty"`
	Sort    string   `json:"sort,omitempty"`  // one of sorts; id (default)
	Limit   int      `json:"limit,omitempty"` // 50, at most 200
	Cursor  string   `json:"cursor,omitempty"`
	Metrics []string `json:"metrics,omitempty"` // of latest; all that are declared if absent
}

const (
	defaultLimit = 50
	maxLimit     = 200
)

// sorts are the orders of a view, each followed by its exact opposite: by id, by
// name, by status (the state that needs attention most first), by the last reading
// (the newest first). Their names are those of GET /devices.
var sorts = []string{"id", "-id", "name", "-name", "status", "-status", "-last", "last"}

// query is what Params mean.
type query struct {
	filter  *filter
	sort    string // as it was asked for
	by      string // the order of which sort is one, or the opposite of one
	sign    int    // 1, or -1 for an opposite
	limit   int
	after   *key
	metrics []string
}

func (p Params) parse() (query, error) {
	q := query{sort: p.Sort, limit: p.Limit, metrics: p.Metrics}
	var err error
	if q.filter, err = parseQuery(p.Q); err != nil {
		return q, err
	}
	q.sort = cmp.Or(q.sort, "id")
	i := slices.Index(sorts, q.sort)
	if i < 0 {
		return q, devices.Invalid("sort", strings.Join(sorts, ", "))
	}
	q.by, q.sign = sorts[i&^1], 1-2*(i&1)
	switch {
	case q.limit == 0:
		q.limit = defaultLimit
	case q.limit < 0 || q.limit > maxLimit:
		return q, devices.OutOfRange("limit", 1, maxLimit, "")
	}
	if len(q.metrics) > devices.MaxMetrics {
		return q, devices.Invalid("metrics", "at most 64")
	}
	for _, m := range q.metrics {
		if !devices.ValidMetricName(m) {
			return q, devices.Invalid("metrics", "names of metrics")
		}
	}
	if p.Cursor != "" {
		q.after, err = parseCursor(p.Cursor, q.sort)
	}
	return q, err
}

// key is where a device stands in a sorted list.
type key struct {
	rank int64
	text string
	id   devices.ID
}

// compare says which of two keys comes first in the query's order.
func (q *query) compare(k, o key) int {
	return q.sign * cmp.Or(cmp.Compare(k.rank, o.rank), strings.Compare(k.text, o.text), strings.Compare(string(k.id), string(o.id)))
}

// ranks list the states that need somebody first.
var ranks = []devices.State{devices.Offline, devices.Unresponsive, devices.Quiet, devices.NeverSeen, devices.Sleeping, devices.DataOnly, devices.Online}

func (q *query) key(s *subject) key {
	k := key{id: s.dev.ID}
	switch q.by {
	case "name":
		k.text = strings.ToLower(s.dev.Title())
	case "status":
		k.rank = int64(slices.Index(ranks, s.st().State))
	case "-last":
		for _, l := range s.last() {
			k.rank = min(k.rank, -l.T)
		}
	}
	return k
}

// moves is what changes the place of a device in the list.
func (q *query) moves() concern {
	switch q.by {
	case "name":
		return aboutRecord
	case "status":
		return aboutStatus
	case "-last":
		return aboutReadings
	}
	return 0
}

func (k key) cursor(sort string) string {
	b, _ := json.Marshal([]any{sort, k.rank, k.text, k.id}) // strings and a number
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseCursor(s, sort string) (*key, error) {
	want := devices.Invalid("cursor", "one that the hub gave for this order")
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, want
	}
	var of string
	k := key{}
	parts := []any{&of, &k.rank, &k.text, &k.id}
	if err := json.Unmarshal(b, &parts); err != nil || len(parts) != 4 || of != sort {
		return nil, want
	}
	return &k, nil
}
