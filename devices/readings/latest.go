package readings

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"devicehub/devices"
)

// Latest is the reading of a metric with the greatest time.
type Latest struct {
	V          any      `json:"v"` // float64, bool or string
	U          string   `json:"u"`
	T          int64    `json:"t"`
	AgeMS      int64    `json:"age_ms"`
	Stale      bool     `json:"stale"`
	Quality    []string `json:"quality"`
	Undeclared bool     `json:"undeclared,omitempty"` // nothing declares the metric: not charted
}

// BootAck is how far the readings of one boot of a device are decided.
type BootAck struct {
	Boot string `json:"boot"`
	S    int64  `json:"s"`
}

// ackedBoots is how many boots AckThrough tells of.
const ackedBoots = 4

// AckThrough lists, for the last four boots of a device, the newest last, the
// number through which all is durably decided.
func (in *Ingest) AckThrough(id devices.ID) []BootAck {
	list := []BootAck{}
	rec, ok := in.book.Lookup(id)
	if !ok {
		return list
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i := max(0, len(rec.boots)-ackedBoots); i < len(rec.boots); i++ {
		list = append(list, BootAck{rec.boots[i].Boot, rec.boots[i].Ack})
	}
	return list
}

// Gap is what is missing of one boot of a device: numbers that never came.
type Gap struct {
	Boot   string  `json:"boot"`
	Lost   int64   `json:"lost"`
	Ranges []Range `json:"ranges"` // the last 16
}

// Gaps lists the boots of a device of which numbers are missing.
func (in *Ingest) Gaps(id devices.ID) []Gap {
	list := []Gap{}
	rec, ok := in.book.Lookup(id)
	if !ok {
		return list
	}
	for _, w := range rec.Windows() {
		if w.Lost > 0 {
			list = append(list, Gap{w.Boot, w.Lost, w.Gaps})
		}
	}
	return list
}

// unrecorded is the record of devices that have none: it declares nothing.
var unrecorded devices.Device

// record is the device's record; one that nobody knows has no declarations of
// its own. It is not changed.
func (in *Ingest) record(id devices.ID) *devices.Device {
	if in.cfg.Device != nil {
		if d, ok := in.cfg.Device(id); ok {
			return d
		}
	}
	return &unrecorded
}

// Latest returns the latest reading of each metric of a device.
func (in *Ingest) Latest(id devices.ID) map[string]Latest {
	rec, ok := in.book.Lookup(id)
	if !ok {
		return map[string]Latest{}
	}
	d := in.record(id)
	now := in.cfg.Now().UnixMilli()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	out := make(map[string]Latest, len(rec.series))
	for _, s := range rec.series {
		if s.listed() && !rec.superseded(s) {
			l := s.latest(d, now)
			out[s.Metric] = Latest{V: l.v.Any(), U: l.u, T: s.last.T, AgeMS: l.age, Stale: l.stale, Quality: s.last.Q.Names(), Undeclared: l.undeclared}
		}
	}
	return out
}

// AppendLatest appends what Latest returns as encoding/json writes it, at a
// fraction of the cost.
func (in *Ingest) AppendLatest(b []byte, id devices.ID) []byte {
	rec, ok := in.book.Lookup(id)
	if !ok {
		return append(b, "{}"...)
	}
	d := in.record(id)
	now := in.cfg.Now().UnixMilli()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	var few [16]*Series
	list := few[:0]
	for _, s := range rec.series {
		if s.listed() && !rec.superseded(s) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *Series) int { return strings.Compare(a.Metric, b.Metric) })
	b = append(b, '{')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		l := s.latest(d, now)
		b = appendString(b, s.Metric)
		b = append(b, `:{"v":`...)
		b = l.v.AppendJSON(b)
		b = append(b, `,"u":`...)
		b = appendString(b, l.u)
		b = append(b, `,"t":`...)
		b = strconv.AppendInt(b, s.last.T, 10)
		b = append(b, `,"age_ms":`...)
		b = strconv.AppendInt(b, l.age, 10)
		b = append(b, `,"stale":`...)
		b = strconv.AppendBool(b, l.stale)
		b = append(b, `,"quality":`...)
		b = s.last.Q.appendJSON(b)
		if l.undeclared {
			b = append(b, `,"undeclared":true`...)
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

// latest is what is told of a series' last reading besides the reading.
type latest struct {
	v                 Value
	u                 string
	age               int64
	stale, undeclared bool
}

// latest is the last reading as it is told at now: in the unit that d declares.
// The caller holds the record.
func (s *Series) latest(d *devices.Device, now int64) latest {
	decl := declared(d, s.Metric)
	l := latest{v: Value{s.Type, s.last.F, s.last.S}, u: s.Unit, age: now - s.last.T, undeclared: decl == nil}
	if iv := staleAfter(d, decl, s); iv > 0 {
		l.stale = l.age > iv
	}
	if decl != nil && decl.Unit != s.Unit && s.Type == devices.TypeFloat {
		if f, ok := devices.ConvertUnit(s.last.F, s.Unit, decl.Unit); ok {
			l.v.F, l.u = f, decl.Unit
		} else if s.Unit == "" { // it is taken for the unit that was declared since
			l.u = decl.Unit
		}
	}
	return l
}

// EachLatest calls f for the latest reading of every metric of every device,
// in no order, until f returns false: a walk through memory that makes
// nothing.
func (in *Ingest) EachLatest(f func(id devices.ID, metric, unit string, v Value, t int64, q Quality) bool) {
	for rec := range in.book.All() {
		if !rec.eachLatest(f) {
			return
		}
	}
}

func (r *Record) eachLatest(f func(id devices.ID, metric, unit string, v Value, t int64, q Quality) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.series {
		if s.listed() && !r.superseded(s) && !f(r.ID, s.Metric, s.Unit, Value{s.Type, s.last.F, s.last.S}, s.last.T, s.last.Q) {
			return false
		}
	}
	return true
}

// staleAfter is the age in ms beyond which a series is stale: three times the
// interval that is declared for the metric, told by SenML, given for the
// device's floats, or learned; 0 for never.
func staleAfter(d *devices.Device, decl *devices.Metric, s *Series) int64 {
	switch {
	case decl != nil && decl.ExpectedIntervalS > 0:
		return int64(3000 * decl.ExpectedIntervalS)
	case s.interval > 0:
		return 3 * s.interval
	case s.Type != devices.TypeFloat:
		return 0
	case d.ExpectedIntervalS > 0:
		return int64(3000 * d.ExpectedIntervalS)
	}
	return 3 * s.learned()
}

// Freshness tells whether the device has readings at all, whether any of its
// metrics is stale at now, and when the next one will be (zero: never).
func (in *Ingest) Freshness(id devices.ID, now time.Time) (stale, any bool, next time.Time) {
	rec, ok := in.book.Lookup(id)
	if !ok {
		return false, false, time.Time{}
	}
	d := in.record(id)
	ms := now.UnixMilli()
	var first int64
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, s := range rec.series {
		if !s.listed() || rec.superseded(s) {
			continue
		}
		any = true
		iv := staleAfter(d, declared(d, s.Metric), s)
		if iv == 0 {
			continue
		}
		at := s.last.T + iv + 1
		if at <= ms {
			stale = true
		} else if first == 0 || at < first {
			first = at
		}
	}
	if first > 0 {
		next = time.UnixMilli(first)
	}
	return stale, any, next
}

// superseded reports whether another series of the same metric has a later
// reading. The caller holds the record.
func (r *Record) superseded(s *Series) bool {
	for _, o := range r.series {
		if o != s && o.Metric == s.Metric && o.has && (o.last.T > s.last.T || o.last.T == s.last.T && o.ID > s.ID) {
			return true
		}
	}
	return false
}

// Forget erases a device: its readings, its latest values and its windows. It
// returns when that is durable; the disk space comes back later.
func (in *Ingest) Forget(ctx context.Context, id devices.ID) error {
	rec, ok := in.book.Lookup(id)
	if !ok {
		return nil
	}
	in.offsets.forget(id)
	return in.wait(ctx, &job{forget: rec})
}

// offsets estimates how far the clocks of devices are from the hub's: of the
// last pushes with times, the one that came with the least delay tells.
type offsets struct {
	mu sync.Mutex
	of map[devices.ID]*offset
}

type offset struct {
	last [8]int64
	n    int
}

func (o *offsets) note(id devices.ID, b *Batch, now int64) {
	newest := int64(-1)
	for i := range b.items {
		if b.items[i].timed && b.items[i].err == nil {
			newest = max(newest, b.items[i].t)
		}
	}
	if newest < 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.of[id]
	if d == nil {
		d = new(offset)
		o.of[id] = d
	}
	d.last[d.n%len(d.last)] = newest - now
	d.n++
}

func (o *offsets) forget(id devices.ID) {
	o.mu.Lock()
	delete(o.of, id)
	o.mu.Unlock()
}

// ClockOffsetMS estimates how far the device's clock is ahead of the hub's, in
// ms; false while nothing is known. A push that comes late looks like a clock that
// is behind, so that is said only after as many pushes as are remembered, and is how late
// the promptest of them was.
func (in *Ingest) ClockOffsetMS(id devices.ID) (int64, bool) {
	in.offsets.mu.Lock()
	defer in.offsets.mu.Unlock()
	d := in.offsets.of[id]
	if d == nil {
		return 0, false
	}
	best := d.last[0]
	for i := 1; i < min(d.n, len(d.last)); i++ {
		best = max(best, d.last[i])
	}
	return best, best >= 0 || d.n >= len(d.last)
}
