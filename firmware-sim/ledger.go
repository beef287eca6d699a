package sim

import (
	"encoding/json"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"devicehub/firmware-sim/device"
)

// ledger is what one device has measured, and what it was told about it.
type ledger struct {
	mu       sync.Mutex
	metrics  map[string][]entry
	commands map[string][]moment // by command id
	gaps     []span              // of which nothing is known
}

// moment is when an envelope of a command arrived, or when it was executed.
type moment struct {
	at  time.Time
	ran bool
}

// entry is one reading. Those of a metric stand in the order of t.
type entry struct {
	t     int64   // device time, ms
	at    int64   // true time, ms
	v     float64 // the value, or a number for it
	text  bool    // v stands for a string
	state entryState
	late  bool // acknowledged only after it was sent again
}

type entryState uint8

const (
	unanswered entryState = iota
	acknowledged
	refused
	deliberate // a value that the hub may refuse, alter or stamp: not judged by its value
)

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
		return 0
	}
	return asNumber(v)
}

func (l *ledger) measured(r device.Reading, state entryState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.metrics == nil {
		l.metrics = make(map[string][]entry)
	}
	if n := len(l.gaps); n > 0 && l.gaps[n-1].open {
		l.gaps[n-1].open, l.gaps[n-1].to = false, max(l.gaps[n-1].to, r.T)
	}
	es := l.metrics[r.Metric]
	_, text := r.Value.(string)
	e := entry{t: r.T, at: r.At.UnixMilli(), v: asNumber(r.Value), text: text, state: state}
	// The answer may be quicker than this line; then the entry stands already.
	if i, ok := find(es, r.T); ok {
		es[i].at, es[i].v, es[i].text = e.at, e.v, e.text
		if state == deliberate {
			es[i].state = state
		}
		return
	}
	l.metrics[r.Metric] = append(es, e)
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

// answered notes an acknowledgement or a refusal.
func (l *ledger) answered(r device.Reading, state entryState, late bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.metrics == nil {
		l.metrics = make(map[string][]entry)
	}
	es := l.metrics[r.Metric]
	i, ok := find(es, r.T)
	if !ok {
		es = slices.Insert(es, i, entry{t: r.T, at: r.At.UnixMilli(), v: asNumber(r.Value)})
		l.metrics[r.Metric] = es
	}
	if es[i].state == unanswered {
		es[i].state = state
	}
	es[i].late = es[i].late || late
}

// when returns the true time of a reading.
func (l *ledger) when(metric string, t int64) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := find(l.metrics[metric], t); ok {
		return time.UnixMilli(l.metrics[metric][i].at), true
	}
	return time.Time{}, false
}

func (l *ledger) command(id string, ran bool) { l.commandAt(id, moment{time.Now(), ran}) }

func (l *ledger) commandAt(id string, m moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.commands == nil {
		l.commands = make(map[string][]moment)
	}
	l.commands[id] = append(l.commands[id], m)
}

// executions is how often a command ran. The lock is held.
func (l *ledger) executions(id string) (n int) {
	for _, m := range l.commands[id] {
		if m.ran {
			n++
		}
	}
	return n
}

// told is what happened to a command, for the time line of a finding. The lock is held.
func (l *ledger) told(id string) (lines []string) {
	for _, m := range l.commands[id] {
		lines = append(lines, stamp(m.at)+map[bool]string{true: "  executed", false: "  envelope arrived"}[m.ran])
	}
	if lines == nil {
		lines = []string{"the device never heard of it"}
	}
	return lines
}

func stamp(t time.Time) string { return t.Format("15:04:05.000") }
