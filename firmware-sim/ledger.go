package sim

import (
	"encoding/json"
	"hash/fnv"
	"math"
	"slices"
	"sync"
	"time"

	"devicehub/firmware-sim/device"
)

// ledger is what one device has measured, and what it was told about it.
type ledger struct {
	mu       sync.Mutex
	metrics  map[string]*measured
	open     []sentOnce // on the present connection
	gaps     []span     // of which nothing is known
	commands map[string][]moment
	reports  []report // of a light, in the order in which they left
}

// measured is the readings of one metric.
type measured struct {
	entries []entry // in the order of t
	sends   []int64 // t of what the hub stamps, in the order of the sendings, some more than once
}

// sentOnce is a reading that was sent at most once: whether it arrived is known when the connection
// has ended.
type sentOnce struct {
	of *measured
	t  int64
}

// entry is one reading.
type entry struct {
	t     int64   // device time, ms
	at    int64   // true time, ms
	v     float64 // the value in the hub's unit, or a number for it
	took  uint32  // ms from at to the answer, or where none comes, to the sending
	state entryState
	form  entryForm
	text  bool // v stands for a string
	late  bool // acknowledged only after it was sent again
}

type entryState uint8

const (
	unanswered entryState = iota
	acknowledged
	refused
	deliberate // a value that the hub may refuse, alter or stamp: not judged by its value
	underWay   // sent at most once, on a connection that stands
	delivered  // sent at most once, on a connection that was closed in order, or stood for long after
	doubtful   // sent at most once, on a connection that broke
)

// required reports whether the hub must have a reading that is in the state.
func (s entryState) required() bool { return s == acknowledged || s == delivered }

var stateNames = map[entryState]string{
	unanswered:   "unanswered",
	acknowledged: "acknowledged",
	refused:      "refused",
	deliberate:   "odd on purpose",
	underWay:     "sent at QoS 0",
	delivered:    "sent at QoS 0",
	doubtful:     "sent at QoS 0 before the connection broke",
}

// entryForm is what of a reading's form matters to the judge.
type entryForm uint8

const (
	stamped  entryForm = 1 << iota // the hub puts the time
	repeated                       // the hub cannot tell when it comes again
)

func formOf(r device.Reading) (out entryForm) {
	if hubStamps(r) {
		out |= stamped
	}
	if !r.Form.Once() || hubStamps(r) && r.Seq == 0 {
		out |= repeated
	}
	return out
}

// clockUnset is before what a hub takes for the time of a clock that was set.
var clockUnset = time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// hubStamps reports whether the hub puts its own time on a reading.
func hubStamps(r device.Reading) bool { return r.Form.Untimed || r.T < clockUnset }

// asNumber turns any value into a number that is equal for equal values.
func asNumber(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case bool:
		if v {
			return 1
		}
		return 0
	case string:
		h := fnv.New32a()
		h.Write([]byte(v))
		return float64(h.Sum32())
	}
	return 0
}

// storedNumber is asNumber of a value in JSON.
func storedNumber(raw json.RawMessage) float64 {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return math.NaN()
	}
	return asNumber(v)
}

// of returns the readings of a metric. The lock is held.
func (l *ledger) of(metric string) *measured {
	if l.metrics == nil {
		l.metrics = make(map[string]*measured)
	}
	m := l.metrics[metric]
	if m == nil {
		m = new(measured)
		l.metrics[metric] = m
	}
	return m
}

// at returns the entry of a reading, which is made if there is none: answers may be quicker than
// the ledger. The lock is held.
func (m *measured) at(r device.Reading) *entry {
	i, ok := find(m.entries, r.T)
	if !ok {
		m.entries = slices.Insert(m.entries, i, entry{t: r.T})
		m.entries[i].take(r)
	}
	return &m.entries[i]
}

func (e *entry) take(r device.Reading) {
	_, e.text = r.Value.(string)
	e.at, e.v, e.form = r.At.UnixMilli(), asNumber(canonical(r.Metric, r.Unit, r.Value)), formOf(r)
}

// measured notes a reading.
func (l *ledger) measured(r device.Reading, state entryState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.gaps); n > 0 && l.gaps[n-1].open {
		l.gaps[n-1].open, l.gaps[n-1].to = false, max(l.gaps[n-1].to, r.T)
	}
	e := l.of(r.Metric).at(r)
	e.take(r)
	if state == deliberate {
		e.state = state
	}
}

func find(es []entry, t int64) (int, bool) {
	return slices.BinarySearchFunc(es, t, func(e entry, t int64) int {
		switch {
		case e.t < t:
			return -1
		case e.t > t:
			return 1
		}
		return 0
	})
}

const mostOpen = 1000

// sent notes readings that were handed to a connection, and returns how many of them nobody will
// acknowledge. sure says that a broker which is not the hub's has no part in it.
func (l *ledger) sent(rs []device.Reading, sure bool) (unheard int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rs {
		m := l.of(r.Metric)
		if hubStamps(r) {
			m.sends = append(m.sends, r.T)
		}
		if r.Form.Delivery != device.AtMostOnce {
			continue
		}
		e := m.at(r)
		if e.state != unanswered {
			continue
		}
		unheard++
		e.took = tookTill(e)
		if e.state = doubtful; sure {
			e.state = underWay
			l.open = append(l.open, sentOnce{m, r.T})
		}
	}
	if len(l.open) > 2*mostOpen { // what went first has stood the time
		l.settle(l.open[:mostOpen], delivered)
		l.open = append(l.open[:0], l.open[mostOpen:]...)
	}
	return unheard
}

// closed notes that a connection has ended; in order, or not: then what was sent last may be lost.
func (l *ledger) closed(inOrder bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := doubtful
	if inOrder {
		state = delivered
	}
	l.settle(l.open, state)
	l.open = nil
}

// unsure notes that of what was sent at most once since a moment all may be lost, though its
// connection was closed in order: a hub that is killed need not have written it down.
func (l *ledger) unsure(since time.Time) {
	const most = 500 // of the newest, which are more than are sent in that time
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.metrics {
		for i := range m.entries[max(0, len(m.entries)-most):] {
			e := &m.entries[len(m.entries)-1-i]
			once := e.state == delivered || e.state == underWay
			if once && e.at+int64(e.took) >= since.UnixMilli() {
				e.state = doubtful
			}
		}
	}
}

// settle says what became of readings that were sent at most once. The lock is held.
func (l *ledger) settle(open []sentOnce, state entryState) {
	for _, o := range open {
		if i, ok := find(o.of.entries, o.t); ok && o.of.entries[i].state == underWay {
			o.of.entries[i].state = state
		}
	}
}

// answered notes an acknowledgement or a refusal.
func (l *ledger) answered(r device.Reading, state entryState, late bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.of(r.Metric).at(r)
	if e.state == unanswered {
		e.state = state
	}
	e.took = tookTill(e)
	e.late = e.late || late
}

// tookTill is how long ago a reading was measured.
func tookTill(e *entry) uint32 {
	return uint32(min(max(time.Now().UnixMilli()-e.at, 0), math.MaxUint32))
}

// when returns the true time of a reading by its own, if the hub has that from the device.
func (l *ledger) when(metric string, t int64) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m := l.metrics[metric]; m != nil {
		if i, ok := find(m.entries, t); ok && m.entries[i].form&stamped == 0 {
			return time.UnixMilli(m.entries[i].at), true
		}
	}
	return time.Time{}, false
}

func stamp(t time.Time) string { return t.Format("15:04:05.000") }
