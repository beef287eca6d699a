package httpapi

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"devicehub/devices"
)

// deviceLists keeps every device in the orders that lists are asked for most,
// until the registry changes: a page out of 100,000 devices costs one pass over
// pointers and no sorting.
type deviceLists struct {
	mu      sync.Mutex
	version int64
	byID    []*devices.Device
	byName  []*devices.Device
}

func (l *deviceLists) get(reg *devices.Registry, name bool) []*devices.Device {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v := reg.Version(); l.byID == nil || v != l.version {
		ds := make([]*devices.Device, 0, reg.Len())
		for d := range reg.All() {
			ds = append(ds, d)
		}
		slices.SortFunc(ds, func(a, b *devices.Device) int { return cmp.Compare(a.ID, b.ID) })
		l.version, l.byID, l.byName = v, ds, nil
	}
	if !name {
		return l.byID
	}
	if l.byName == nil {
		l.byName = sortedBy(l.byID, nameKey)
	}
	return l.byName
}

// sortedBy orders ds by their keys, each made once; equals stay as they stand.
func sortedBy(ds []*devices.Device, key func(*devices.Device) string) []*devices.Device {
	type keyed struct {
		key string
		d   *devices.Device
	}
	list := make([]keyed, len(ds))
	for i, d := range ds {
		list[i] = keyed{key(d), d}
	}
	slices.SortStableFunc(list, func(a, b keyed) int { return cmp.Compare(a.key, b.key) })
	sorted := make([]*devices.Device, len(ds))
	for i := range list {
		sorted[i] = list[i].d
	}
	return sorted
}

func nameKey(d *devices.Device) string { return strings.ToLower(d.Title()) }

// listQuery is what a list of devices is narrowed and ordered by.
type listQuery struct {
	kind   devices.Kind
	status string
	labels map[string]string
	match  func(*devices.Device) bool
	sort   string // one of sorts
}

// sorts are the orders of lists of devices, each followed by its exact opposite: by
// id, by name, by status (the state that needs attention most first), by when they
// were last seen (the last first).
var sorts = []string{"id", "-id", "name", "-name", "status", "-status", "-last", "last"}

// order is the sort of which this is one, or the opposite of one.
func order(sort string) (by string, backwards bool) {
	i := slices.Index(sorts, sort)
	return sorts[i&^1], i&1 == 1
}

func (c *call) listQuery() (q listQuery, err error) {
	if q.kind = devices.Kind(c.query("kind")); q.kind != "" && !slices.Contains(devices.Kinds(), q.kind) {
		return q, devices.Invalid("kind", "sensor or light")
	}
	if q.status = c.query("status"); q.status != "" && !slices.Contains(states, devices.State(q.status)) {
		return q, devices.Invalid("status", "online, quiet, unresponsive, data_only, sleeping, offline or never_seen")
	}
	if q.labels, err = c.labels(); err != nil {
		return q, err
	}
	if q.sort = cmp.Or(c.query("sort"), "id"); !slices.Contains(sorts, q.sort) {
		return q, devices.Invalid("sort", strings.Join(sorts, ", "))
	}
	if text := c.query("q"); text != "" {
		if c.api.s.Search == nil {
			_, err = unavailable("search")
			return q, err
		}
		q.match, err = c.api.s.Search(c.actor, text)
	}
	return q, err
}

// states from the one that needs attention least to most; lists by status begin
// with the last.
var states = []devices.State{devices.Online, devices.DataOnly, devices.Sleeping, devices.NeverSeen, devices.Quiet, devices.Unresponsive, devices.Offline}

// labels reads label=k:v, as often as it is given.
func (c *call) labels() (map[string]string, error) {
	m := map[string]string{}
	for _, s := range c.params["label"] {
		k, v, found := strings.Cut(s, ":")
		if _, twice := m[k]; !found || k == "" || twice {
			return nil, devices.Invalid("label", "key:value, each key once")
		}
		m[k] = v
	}
	return m, nil
}

func (q *listQuery) picks(c *call, d *devices.Device) bool {
	if !c.actor.May(devices.RightRead, d) || q.kind != "" && !d.Is(q.kind) {
		return false
	}
	for k, v := range q.labels {
		if got, has := d.Labels[k]; !has || got != v {
			return false
		}
	}
	if q.match != nil && !q.match(d) {
		return false
	}
	return q.status == "" || string(c.api.state(d.ID)) == q.status
}

func (a *API) state(id devices.ID) devices.State {
	if a.s.Liveness == nil {
		return devices.NeverSeen
	}
	return a.s.Liveness.Status(id).State
}

func (c *call) listDevices() (answer, error) {
	if c.actor.Rights&devices.RightRead == 0 {
		return answer{}, devices.Refuse(devices.CodeForbidden, "not allowed")
	}
	q, err := c.listQuery()
	if err != nil {
		return answer{}, err
	}
	limit, at, err := c.page("devices." + q.sort)
	if err != nil {
		return answer{}, err
	}
	by, backwards := order(q.sort)
	picked := make([]*devices.Device, 0, limit)
	for _, d := range c.api.lists.get(c.api.s.Registry, by == "name") {
		if q.picks(c, d) {
			picked = append(picked, d)
		}
	}
	key := c.api.sortKey(by)
	if by == "status" || by == "-last" {
		picked = sortedBy(picked, key)
	}
	if backwards {
		slices.Reverse(picked)
	}
	start := 0
	if at != "" {
		start, _ = slices.BinarySearchFunc(picked, at, func(d *devices.Device, at string) int {
			if k := key(d); k == at || (k < at) != backwards {
				return -1
			}
			return 1
		})
	}
	page := picked[start:min(start+limit, len(picked))]
	next := ""
	if start+len(page) < len(picked) {
		next = key(page[len(page)-1])
	}
	docs := make([]deviceDoc, len(page))
	for i, d := range page {
		docs[i] = c.document(d)
	}
	return ok(map[string]any{"devices": docs, "next_cursor": cursor("devices."+q.sort, next), "total": len(picked)})
}

// sortKey is what a list is ordered by, with the id behind it to tell equals
// apart; a cursor is the key of the last entry.
func (a *API) sortKey(by string) func(*devices.Device) string {
	switch by {
	case "name":
		return func(d *devices.Device) string { return nameKey(d) + "\x00" + string(d.ID) }
	case "status":
		return func(d *devices.Device) string {
			worst := len(states) - 1 - slices.Index(states, a.state(d.ID))
			return string(rune('a'+worst)) + string(d.ID)
		}
	case "-last":
		return func(d *devices.Device) string {
			var seen int64
			if a.s.Liveness != nil {
				seen = a.s.Liveness.LastSeen(d.ID)
			}
			return descending(seen) + string(d.ID)
		}
	}
	return func(d *devices.Device) string { return string(d.ID) }
}

// descending is n as text of fixed length that sorts the other way round.
func descending(n int64) string {
	const digits = "0123456789"
	b := [16]byte{}
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = digits[9-n%10]
		n /= 10
	}
	return string(b[:])
}
