package readings

import (
	"slices"
	"strings"

	"devicehub/devices"
)

// Bounds of the device clock.
const (
	aheadMS  = 60_000
	unsetEnd = 1_420_070_400_000 // 2015-01-01
)

// inSeconds reports whether a time before 2015 is one of about now, if taken for
// seconds. It is no more than likely: a device may count ms from its start.
func inSeconds(t, now int64) bool {
	const about = 400 * 24 * 3600_000
	return t*1000 > now-about && t*1000 < now+about
}

const hintSeconds = "t looks like seconds since 1970: send milliseconds; until then the hub's own time stands"

// device is what the judge remembers of one device: the book's record, and
// what was decided since in the group that is not yet durable. It is thrown
// away, and made again from the book, when that group fails.
type device struct {
	rec     *Record
	from    *devices.Device // the record that metrics were made from
	metrics []metric
	boots   []Window
	group   uint64 // of the last group it was touched in
}

// metric is one metric of a device: how it is declared, and which series its
// readings go to at present.
type metric struct {
	name     string
	decl     *devices.Metric // nil: undeclared
	typ      devices.ValueType
	unit     string
	s        *Series // nil before the first reading
	last     int64   // greatest time stored or stamped
	has      bool
	interval int64 // ms, expected; 0: none
	told     int64 // ms, SenML's ut
}

// catalogue holds the default declarations, shared by all devices.
var catalogue = func() map[string]*devices.Metric {
	m := map[string]*devices.Metric{}
	for _, c := range devices.Catalogue() {
		m[c.Name] = &c
	}
	return m
}()

func declared(d *devices.Device, name string) *devices.Metric {
	for i := range d.Metrics {
		if d.Metrics[i].Name == name {
			return &d.Metrics[i]
		}
	}
	return catalogue[name]
}

// load makes the judge's memory of a device from the book.
func load(rec *Record, d *devices.Device) *device {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	js := &device{rec: rec, from: d}
	for _, s := range rec.series {
		if s.listed() {
			js.enter(s)
		}
	}
	js.boots = make([]Window, len(rec.boots), max(1, len(rec.boots)))
	for i := range rec.boots {
		js.boots[i] = rec.boots[i].clone()
	}
	return js
}

// enter adds a series of the book. Of several series of one metric the one
// that fits the declaration goes on, else that with the latest reading; the
// stamps go on from the latest of all.
func (js *device) enter(s *Series) {
	m := js.find(s.Metric)
	if m == nil {
		js.metrics = append(js.metrics, js.fresh(s.Metric))
		m = &js.metrics[len(js.metrics)-1]
	}
	newer := !m.has || s.last.T >= m.last
	if m.decl == nil && newer {
		m.typ, m.unit, m.s = s.Type, s.Unit, s
	} else if m.decl != nil && s.Type == m.typ && s.Unit == m.unit && s.Counter == m.counter() {
		m.s = s
	}
	if newer {
		m.has, m.last = true, s.last.T
	}
	if s.interval > 0 && newer {
		m.told = s.interval
	}
	m.interval = expected(js.from, m.decl, m.told)
}

// fresh is a metric without a reading, as the record or the catalogue has it.
func (js *device) fresh(name string) metric {
	m := metric{name: name, decl: declared(js.from, name)}
	if m.decl != nil {
		m.typ, m.unit = m.decl.Type, m.decl.Unit
	}
	m.interval = expected(js.from, m.decl, 0)
	return m
}

func (m *metric) counter() bool {
	return m.decl != nil && m.decl.Type == devices.TypeFloat && m.decl.StateClass == devices.TotalIncreasing
}

// expected is the interval of a metric in ms: its declaration's, SenML's, else
// the device's; 0 for none.
func expected(d *devices.Device, decl *devices.Metric, told int64) int64 {
	switch {
	case decl != nil && decl.ExpectedIntervalS > 0:
		return int64(decl.ExpectedIntervalS * 1000)
	case told > 0:
		return told
	}
	return int64(d.ExpectedIntervalS * 1000)
}

func (js *device) find(name string) *metric {
	for i := range js.metrics {
		if js.metrics[i].name == name {
			return &js.metrics[i]
		}
	}
	return nil
}

// verdict is what became of one push.
type verdict struct {
	result Result
	err    *devices.Error // the first reading's, when all were refused
	entry  *Entry         // nil when there is nothing to write
	stored int
}

// judge decides every reading of a push that came at now, in ms. suspect: the
// hub's own clock is not to be trusted, and the time rules do not run.
func (js *device) judge(b *Batch, boot string, now, lateMax int64, suspect bool, define func(*metric) *Series) verdict {
	v := verdict{entry: &Entry{Rec: js.rec, At: now, Items: make([]Stored, 0, len(b.items))}}
	if b.Boot != "" {
		boot = b.Boot
	}
	v.entry.Boot = boot
	v.result.Boot = boot
	for i := range b.items {
		it := &b.items[i]
		js.decide(&v, i, it, now, lateMax, suspect, define)
	}
	if boot != "" {
		for i := range js.boots {
			if js.boots[i].Boot == boot {
				v.result.Ack = js.boots[i].Ack
			}
		}
	}
	if len(v.entry.Items) == 0 && len(v.entry.Intervals) == 0 {
		v.entry = nil
	}
	if v.result.Accepted+v.result.Dup > 0 {
		v.err = nil
	}
	return v
}

// window returns the window that reading it is counted in, nil for none.
func (js *device) window(it *item, boot string) *Window {
	if it.seq == 0 || boot == "" {
		return nil
	}
	return window(&js.boots, boot)
}

func (js *device) decide(v *verdict, i int, it *item, now, lateMax int64, suspect bool, define func(*metric) *Series) {
	m, p, err := js.check(it)
	w := js.window(it, v.entry.Boot)
	if err != nil {
		js.refuse(v, w, i, it, err, 0)
		return
	}
	if w != nil && w.Decided(it.seq) {
		if w.RefusedOld(it.seq) {
			js.refuse(v, w, i, it, tooOld(it, lateMax), Late)
		} else {
			v.result.Dup++
		}
		return
	}
	if !it.timed {
		p.Q |= ServerTime
	} else if !suspect {
		switch {
		case it.t > now+aheadMS:
			p.Q |= ServerTime | ClockAhead
		case it.t < unsetEnd:
			p.Q |= ServerTime | ClockUnset
			if inSeconds(it.t, now) {
				v.result.Hint = hintSeconds
			}
		case it.t < now-lateMax:
			js.refuse(v, w, i, it, tooOld(it, lateMax), Late)
			return
		}
	}
	p.T = it.t
	if p.Q&ServerTime != 0 {
		p.T = now
		if m.has && now <= m.last {
			p.T = m.last + 1
		}
	}
	if it.interval > 0 && it.interval != m.told {
		m.told = it.interval
		m.interval = expected(js.from, m.decl, m.told)
	}
	if !suspect && (m.has && p.T < m.last || m.interval > 0 && now-p.T > 2*m.interval) {
		p.Q |= Late
		v.result.Late++
	}
	if m.s == nil && !devices.ValidMetricName(m.name) { // as it stands now: it goes into the log and stays there
		js.refuse(v, w, i, it, invalidName(), 0)
		return
	}
	if m.s == nil {
		m.s = define(m)
	}
	if it.interval > 0 && it.interval == m.told {
		v.tell(m)
	}
	if !m.has || p.T > m.last {
		m.has, m.last = true, p.T
	}
	v.entry.Items = append(v.entry.Items, Stored{S: m.s, Point: p, Seq: it.seq})
	v.result.Accepted++
	v.stored++
	if w != nil {
		w.Mark(it.seq)
	}
}

// tell has the series' interval recorded, once a push.
func (v *verdict) tell(m *metric) {
	for i := range v.entry.Intervals {
		if v.entry.Intervals[i].S == m.s {
			v.entry.Intervals[i].MS = m.told
			return
		}
	}
	v.entry.Intervals = append(v.entry.Intervals, Interval{S: m.s, MS: m.told})
}

// refuse refuses a reading for good.
func (js *device) refuse(v *verdict, w *Window, i int, it *item, err *devices.Error, q Quality) {
	if len(v.result.Rejected) == 0 {
		v.err = err
	}
	if v.result.Rejected == nil {
		v.result.Rejected = make([]Rejection, 0, 1+cap(v.entry.Items)-len(v.entry.Items)-v.result.Dup)
	}
	v.result.Rejected = append(v.result.Rejected, Rejection{I: i, Err: err})
	if w == nil || w.Decided(it.seq) {
		return
	}
	mark := Stored{Point: Point{Q: q}, Seq: it.seq}
	w.decide(&mark)
	v.entry.Items = append(v.entry.Items, mark)
}

func tooOld(it *item, lateMax int64) *devices.Error {
	return devices.Refuse(devices.CodeTooOld, "measured longer ago than readings.late_max").With("field", "t").With("expect", lateMax)
}

// check is the validation that does not depend on time: name, type, unit,
// range, limits. The point it returns lacks the time.
func (js *device) check(it *item) (m *metric, p Point, err *devices.Error) {
	if it.err != nil {
		return nil, p, it.err
	}
	if m = js.find(it.metric); m == nil {
		if m, err = js.admit(it); err != nil {
			return nil, p, err
		}
	} else if m.decl == nil && !m.has { // the reading it was admitted for was refused in the end
		m.takeAfter(it)
	}
	if m.decl == nil {
		if js.from.Undeclared == devices.RejectUndeclared {
			return nil, p, undeclared(it.metric)
		}
		p.Q |= Undeclared
	}
	switch m.typ {
	case devices.TypeFloat:
		if it.typ != kindFloat {
			return nil, p, typeConflict(m, it)
		}
		p.F = it.f
	case devices.TypeBool:
		if it.typ != kindBool {
			return nil, p, typeConflict(m, it)
		}
		p.F = it.f
	default:
		if it.typ != kindString && !it.bare {
			return nil, p, typeConflict(m, it)
		}
		if len(it.text) > devices.MaxStringValue {
			return nil, p, devices.Refuse(devices.CodeTooLarge, "a text has at most 255 bytes").
				With("field", "v").With("limit", devices.MaxStringValue)
		}
		if !devices.GoodText(it.text) {
			return nil, p, devices.Invalid("v", devices.WantText)
		}
		p.S = it.text
	}
	if it.unit != "" && it.unit != m.unit {
		if err := m.convert(it.unit, &p); err != nil {
			return nil, p, err
		}
	}
	if d := m.decl; d != nil && outside(d, &p) {
		if d.OnRange == devices.RejectRange {
			return nil, p, outOfRange(d)
		}
		p.Q |= RangeFlag
	}
	return m, p, nil
}

// outside reports whether a value is outside a metric's plausible range, or none
// of its options.
func outside(d *devices.Metric, p *Point) bool {
	switch d.Type {
	case devices.TypeFloat:
		return d.Min != nil && p.F < *d.Min || d.Max != nil && p.F > *d.Max
	case devices.TypeEnum:
		return len(d.Options) > 0 && !slices.Contains(d.Options, p.S)
	}
	return false
}

// admit takes up a metric that the device has not sent before, if there is
// room for it. It stays only when a reading of it is stored.
func (js *device) admit(it *item) (*metric, *devices.Error) {
	if !devices.ValidMetricName(it.metric) {
		return nil, invalidName()
	}
	m := js.fresh(it.metric)
	if m.decl == nil && js.from.Undeclared == devices.RejectUndeclared {
		return nil, undeclared(it.metric)
	}
	total, loose := 0, 0
	for i := range js.metrics {
		if js.metrics[i].s == nil && !js.metrics[i].has { // admitted for a reading that was refused in the end
			js.metrics[i] = js.metrics[len(js.metrics)-1]
			js.metrics = js.metrics[:len(js.metrics)-1]
			return js.admit(it)
		}
		total++
		if js.metrics[i].decl == nil {
			loose++
		}
	}
	if total >= devices.MaxMetrics {
		return nil, devices.Refuse(devices.CodeTooLarge, "a device has at most 64 metrics").With("field", "m").With("limit", devices.MaxMetrics)
	}
	if m.decl == nil {
		if loose >= devices.MaxUndeclared {
			return nil, devices.Refuse(devices.CodeUndeclaredMetric, "a device has at most 16 undeclared metrics").With("field", "m").With("limit", devices.MaxUndeclared)
		}
		m.takeAfter(it)
	}
	js.metrics = append(js.metrics, m)
	return &js.metrics[len(js.metrics)-1], nil
}

// takeAfter gives an undeclared metric the type and unit of its first reading.
func (m *metric) takeAfter(it *item) {
	m.unit = ""
	switch it.typ {
	case kindFloat:
		m.typ, m.unit = devices.TypeFloat, devices.NormalizeUnit(it.unit)
	case kindBool:
		m.typ = devices.TypeBool
	default:
		m.typ = devices.TypeString
	}
}

// convert brings a value sent in another unit to the metric's.
func (m *metric) convert(from string, p *Point) *devices.Error {
	from = devices.NormalizeUnit(from)
	if from == m.unit {
		return nil
	}
	if m.typ == devices.TypeFloat {
		if m.unit == "" {
			switch from {
			case "/", "1", "count", "pH": // SenML's units of plain numbers (RFC 8428 §12.1)
				return nil
			}
		}
		if f, ok := devices.ConvertUnit(p.F, from, m.unit); ok {
			if f-f != 0 {
				return devices.Invalid("v", "a finite number")
			}
			p.F = f
			p.Q |= Converted
			return nil
		}
	}
	expect, reason := []string{}, m.name+" has no unit: leave out u"
	if m.unit != "" {
		expect = devices.ConvertibleTo(m.unit)
		reason = m.name + " is not measured in " + from + ": send " + strings.Join(expect, ", ")
	}
	return devices.Refuse(devices.CodeUnitMismatch, reason).With("field", "u").With("expect", expect)
}

func invalidName() *devices.Error {
	return devices.Invalid("m", "a-z, then up to 31 of a-z, 0-9 and _")
}

func undeclared(name string) *devices.Error {
	return devices.Refuse(devices.CodeUndeclaredMetric, "the device declares no such metric").With("field", name)
}

func outOfRange(d *devices.Metric) *devices.Error {
	if d.Type == devices.TypeEnum {
		return devices.Refuse(devices.CodeRange, d.Name+" is none of its options").
			With("field", d.Name).With("expect", d.Options)
	}
	e := devices.Refuse(devices.CodeRange, d.Name+" is outside its plausible range").With("field", d.Name).With("unit", d.Unit)
	if d.Min != nil {
		e = e.With("min", *d.Min)
	}
	if d.Max != nil {
		e = e.With("max", *d.Max)
	}
	return e
}
