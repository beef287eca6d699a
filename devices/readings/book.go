package readings

import (
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"devicehub/devices"
)

// MaxBoots is how many boots of a device have a window; the oldest gives way.
// AckThrough tells of the last four.
const MaxBoots = 8

// gapsLearned is how many gaps between readings an interval is learned from.
const gapsLearned = 8

// Book is what a store has kept of every device besides its history. It is
// changed by the store alone, group by group, and read by anybody.
type Book struct {
	mu     sync.RWMutex
	recs   map[devices.ID]*Record
	byNum  map[uint32]*Record
	series []*Series // at ID−1; nil where the device is forgotten
	nums   uint32    // numbers of devices given so far
	names  map[string]string
}

// NewBook returns an empty book.
func NewBook() *Book {
	return &Book{recs: map[devices.ID]*Record{}, byNum: map[uint32]*Record{}, names: map[string]string{}}
}

// Record is one device in the book. Num names it in the store's files and is
// not given again.
type Record struct {
	ID  devices.ID
	Num uint32

	mu      sync.Mutex
	series  []*Series
	boots   []Window // the oldest first
	booted  uint32   // boots met so far
	applied uint64   // the position in the log behind the last entry applied
	gone    bool     // forgotten
}

// Series is one metric of one device in one type and unit. A metric whose
// declaration changes goes on as another series. The exported fields never
// change.
type Series struct {
	ID      uint32 // from 1, not given again
	Rec     *Record
	Metric  string
	Type    devices.ValueType
	Unit    string // of the values, canonical
	Counter bool   // a total that only rises, but for resets

	aside   bool        // it was misnamed when it was made
	dropped atomic.Bool // erased: only its number and type are still known

	// Guarded by Rec.mu.
	has      bool
	last     Point
	interval int64 // ms, as SenML's "ut" said last, 0: never
	gaps     [gapsLearned]uint32
	gapped   uint32 // gaps seen, however many
}

// ErrMisnamed is what a store answers that is to keep readings of a misnamed
// series.
var ErrMisnamed = errors.New("a series whose name is no metric's name")

// Misnamed reports whether no device can have sent the series' name: it was
// damaged in memory, by this build or by the one that wrote it. Such a series is
// kept as it was found, for [Ingest.Check], and shown to nobody.
func (s *Series) Misnamed() bool { return !devices.ValidMetricName(s.Metric) }

// Aside reports whether the series was misnamed when it was made, most likely by
// another build: what is kept of it stays, and nothing is added.
func (s *Series) Aside() bool { return s.aside }

// Dropped reports whether the series is erased.
func (s *Series) Dropped() bool { return s.dropped.Load() }

// listed reports whether the series is shown. The caller holds the record.
func (s *Series) listed() bool { return s.has && !s.Misnamed() }

// Point is one reading of a series. A bool's F is 0 or 1.
type Point struct {
	T int64 // ms since epoch
	F float64
	S string
	Q Quality
}

// Stored is one reading that was decided: to be stored, or, where S is nil,
// refused for good (Q is 0, or Late for one that came too old).
type Stored struct {
	S     *Series
	Point Point
	Seq   int64 // 0: none
}

// Interval is an expected interval that a device told for a series.
type Interval struct {
	S  *Series
	MS int64
}

// Entry is what became of one push.
type Entry struct {
	Rec       *Record
	Boot      string // empty: unknown
	At        int64  // when it came, ms since epoch
	Items     []Stored
	Intervals []Interval
	Forget    bool // the device and all its readings are erased
	Bytes     int  // that the store took for it; set by Append
}

// ClockMark is the hub's clock as the log knows it.
type ClockMark struct {
	Wall    int64 // the greatest wall time that was trusted, ms since epoch
	Suspect bool  // the clock was under suspicion
}

// Group is what is made durable together.
type Group struct {
	Entries  []*Entry
	Readings int        // to be stored
	Clock    *ClockMark // recorded with the group, where not nil
}

// Lookup returns the record of a device, if the book has one.
func (b *Book) Lookup(id devices.ID) (*Record, bool) {
	b.mu.RLock()
	r, ok := b.recs[id]
	b.mu.RUnlock()
	return r, ok
}

// Record returns the record of a device, a new one if need be.
func (b *Book) Record(id devices.ID) *Record {
	if r, ok := b.Lookup(id); ok {
		return r
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.recs[id]
	if !ok {
		b.nums++
		r = &Record{ID: id, Num: b.nums}
		b.recs[id], b.byNum[r.Num] = r, r
	}
	return r
}

// Define returns the series of a metric, type and unit, a new one if need be.
func (b *Book) Define(r *Record, metric string, typ devices.ValueType, unit string, counter bool) *Series {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.series {
		if s.Metric == metric && s.Type == typ && s.Unit == unit && s.Counter == counter && !s.Dropped() {
			return s
		}
	}
	s := &Series{Rec: r, Type: typ, Unit: unit, Counter: counter, aside: !devices.ValidMetricName(metric)}
	b.mu.Lock()
	name, ok := b.names[metric]
	if !ok {
		name = metric
		b.names[name] = name
	}
	s.Metric = name
	b.series = append(b.series, s)
	s.ID = uint32(len(b.series))
	b.mu.Unlock()
	r.series = append(r.series, s)
	return s
}

// Restore puts back a record as a store has read it from its files. Of two of
// the same id the one with the greater number is the device of now; the other
// is about to be forgotten.
func (b *Book) Restore(id devices.ID, num uint32) *Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.byNum[num]; r != nil {
		return r
	}
	r := &Record{ID: id, Num: num}
	b.byNum[num] = r
	if of := b.recs[id]; of == nil || of.Num < num {
		b.recs[id] = r
	}
	b.nums = max(b.nums, num)
	return r
}

// RestoreSeries puts back a series with the number it had. One without a name
// is what is left of a dropped one.
func (b *Book) RestoreSeries(r *Record, id uint32, metric string, typ devices.ValueType, unit string, counter bool) *Series {
	b.mu.Lock()
	defer b.mu.Unlock()
	if int(id) <= len(b.series) && b.series[id-1] != nil {
		return b.series[id-1]
	}
	if name, ok := b.names[metric]; ok {
		metric = name
	} else {
		b.names[metric] = metric
	}
	s := &Series{ID: id, Rec: r, Metric: metric, Type: typ, Unit: unit, Counter: counter, aside: !devices.ValidMetricName(metric)}
	s.dropped.Store(metric == "")
	for len(b.series) < int(id) {
		b.series = append(b.series, nil)
	}
	b.series[id-1] = s
	r.mu.Lock()
	r.series = append(r.series, s)
	r.mu.Unlock()
	return s
}

// Reserve keeps numbers up to those given from being given again.
func (b *Book) Reserve(num, series uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nums = max(b.nums, num)
	for len(b.series) < int(series) {
		b.series = append(b.series, nil)
	}
}

// Numbers are the greatest numbers of a record and of a series given so far.
func (b *Book) Numbers() (num, series uint32) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.nums, uint32(len(b.series))
}

// Series returns the series of a number; nil when it is forgotten or was never
// given.
func (b *Book) Series(id uint32) *Series {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if id == 0 || int(id) > len(b.series) {
		return nil
	}
	return b.series[id-1]
}

// Numbered returns the record of a number, nil when it is forgotten or was
// never given.
func (b *Book) Numbered(num uint32) *Record {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byNum[num]
}

// All yields the records as they were when the iteration began, in no order.
func (b *Book) All() iter.Seq[*Record] {
	b.mu.RLock()
	recs := make([]*Record, 0, len(b.recs))
	for _, r := range b.recs {
		recs = append(recs, r)
	}
	b.mu.RUnlock()
	return slices.Values(recs)
}

// Apply enters what has become durable. Entries of one device are applied in
// the order of the log; pos is the position behind the entry, and an entry that
// the record has seen already is passed over, so that a log may be replayed
// over records of any later time. It reports whether the readings belong into
// the history: not when the device was forgotten.
func (b *Book) Apply(e *Entry, pos uint64) bool {
	r := e.Rec
	if e.Forget {
		b.forget(r)
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return false
	}
	if pos != 0 && pos <= r.applied {
		return true
	}
	r.applied = pos
	var w *Window
	for i := range e.Items {
		it := &e.Items[i]
		if it.Seq > 0 && e.Boot != "" {
			if w == nil {
				if w = window(&r.boots, e.Boot); w.Num == 0 {
					r.booted++
					w.Num = r.booted
				}
			}
			w.decide(it)
		}
		if it.S != nil {
			it.S.apply(&it.Point)
		}
	}
	for _, iv := range e.Intervals {
		iv.S.interval = iv.MS
	}
	return true
}

// Clamp tells the book where the log ends: without fsync a crash of the machine
// may have taken entries of it that the records know already, and what is
// written in their place counts.
func (b *Book) Clamp(end uint64) {
	for r := range b.All() {
		r.mu.Lock()
		r.applied = min(r.applied, end)
		r.mu.Unlock()
	}
}

// decide marks the number of a decided reading.
func (w *Window) decide(it *Stored) {
	if it.S == nil && it.Point.Q&Late != 0 {
		w.MarkOld(it.Seq)
	} else {
		w.Mark(it.Seq)
	}
}

// window returns the window of a boot, a new one if need be.
func window(boots *[]Window, boot string) *Window {
	for i := len(*boots) - 1; i >= 0; i-- {
		if (*boots)[i].Boot == boot {
			return &(*boots)[i]
		}
	}
	if len(*boots) == MaxBoots {
		*boots = append((*boots)[:0], (*boots)[1:]...)
	}
	*boots = append(*boots, Window{Boot: boot})
	return &(*boots)[len(*boots)-1]
}

// apply moves the latest reading to p unless p is older.
func (s *Series) apply(p *Point) {
	if s.has && p.T < s.last.T {
		return
	}
	if s.has && p.T > s.last.T && s.Type == devices.TypeFloat {
		s.gaps[s.gapped%gapsLearned] = uint32(min(p.T-s.last.T, 1<<32-1))
		s.gapped++
		if s.gapped == 2*gapsLearned { // the count need only tell whether it is 8, and the place
			s.gapped = gapsLearned
		}
	}
	s.has, s.last = true, *p
}

// forget takes the device out. Its number and those of its series are not
// given again.
func (b *Book) forget(r *Record) {
	b.mu.Lock()
	if b.recs[r.ID] == r {
		delete(b.recs, r.ID)
	}
	delete(b.byNum, r.Num)
	r.mu.Lock()
	for _, s := range r.series {
		b.series[s.ID-1] = nil
	}
	r.gone, r.boots = true, nil
	r.mu.Unlock()
	b.mu.Unlock()
}

// Drop erases series from the book, but for their numbers and types: a log may
// still have readings of them.
func (b *Book) Drop(list []*Series) {
	for _, s := range list {
		s.Rec.mu.Lock()
		s.dropped.Store(true)
		s.has, s.last, s.interval, s.gapped = false, Point{}, 0, 0
		s.Rec.mu.Unlock()
	}
}

// Series lists the series of the device that have a reading and are not
// misnamed.
func (r *Record) Series() []*Series {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]*Series, 0, len(r.series))
	for _, s := range r.series {
		if s.listed() {
			list = append(list, s)
		}
	}
	return list
}

// AllSeries lists the series of the device, those without a reading, the
// misnamed and the dropped too.
func (r *Record) AllSeries() []*Series {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.series)
}

// Last is the reading with the greatest time.
func (s *Series) Last() (Point, bool) {
	s.Rec.mu.Lock()
	defer s.Rec.mu.Unlock()
	return s.last, s.has
}

// Windows returns copies of the windows of the device's boots, the oldest
// first.
func (r *Record) Windows() []Window {
	r.mu.Lock()
	defer r.mu.Unlock()
	ws := make([]Window, len(r.boots))
	for i := range r.boots {
		ws[i] = r.boots[i].clone()
	}
	return ws
}

// misnamed is how many series of the device are, and not dropped.
func (r *Record) misnamed() (n int) {
	for _, s := range r.AllSeries() {
		if s.Misnamed() && !s.Dropped() {
			n++
		}
	}
	return n
}

// BootNum is the number of a boot that has a window, 0 for another.
func (r *Record) BootNum(boot string) uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.boots) - 1; i >= 0; i-- {
		if r.boots[i].Boot == boot {
			return r.boots[i].Num
		}
	}
	return 0
}

// BootOf is the boot of a number, "" when its window is gone.
func (r *Record) BootOf(num uint32) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.boots {
		if r.boots[i].Num == num {
			return r.boots[i].Boot
		}
	}
	return ""
}

// learned is the median of the last gaps, at least 20 s; 0 before there are 8.
func (s *Series) learned() int64 {
	if s.gapped < gapsLearned {
		return 0
	}
	g := s.gaps
	slices.Sort(g[:])
	return max(20_000, (int64(g[gapsLearned/2-1])+int64(g[gapsLearned/2]))/2)
}
