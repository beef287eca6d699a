package sim

import (
	"encoding/json"
	"math"
	"time"

	"devicehub/firmware-sim/device"
)

// moment is something that happened to a command on its device.
type moment struct {
	at   int64 // ms
	what momentKind
}

type momentKind uint8

const (
	arrived     momentKind = iota
	ran                    // it was executed
	saidAcked              // an answer left
	saidDone               // likewise
	saidFailed             // or rejected
	doneTaken              // the hub has acknowledged that answer
	failedTaken            // likewise
)

var momentNames = [...]string{
	arrived:     "envelope arrived",
	ran:         "executed",
	saidAcked:   "said acked",
	saidDone:    "said done",
	saidFailed:  "said failed",
	doneTaken:   "the hub took the answer that it is done",
	failedTaken: "the hub took the answer that it failed",
}

// report is a state that a light reported.
type report struct {
	at, taken  int64 // ms: when it left, and when the hub had acknowledged it; 0: it has not
	on, moving bool
	brightness uint8
}

func (l *ledger) command(id string, what momentKind) {
	l.commandAt(id, moment{time.Now().UnixMilli(), what})
}

func (l *ledger) commandAt(id string, m moment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.commands == nil {
		l.commands = make(map[string][]moment)
	}
	l.commands[id] = append(l.commands[id], m)
}

// answering notes an answer to a command; what it returns, that the hub has it.
func (l *ledger) answering(id, status string) (taken func()) {
	said, done := saidAcked, arrived
	switch status {
	case "done":
		said, done = saidDone, doneTaken
	case "failed", "rejected":
		said, done = saidFailed, failedTaken
	}
	l.command(id, said)
	if said == saidAcked {
		return nil
	}
	return func() { l.command(id, done) }
}

// reporting notes a report; what it returns, that the hub has it.
func (l *ledger) reporting(s device.LightState) (taken func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := len(l.reports)
	l.reports = append(
		l.reports,
		report{at: time.Now().UnixMilli(), on: s.On, moving: s.Transitioning, brightness: uint8(s.Brightness)},
	)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.reports[i].taken = time.Now().UnixMilli()
	}
}

// count is how often something happened to a command. The lock is held.
func (l *ledger) count(id string, what momentKind) (n int) {
	for _, m := range l.commands[id] {
		if m.what == what {
			n++
		}
	}
	return n
}

// last is when something happened to a command last, 0 if never. The lock is held.
func (l *ledger) last(id string, what momentKind) (at int64) {
	for _, m := range l.commands[id] {
		if m.what == what {
			at = m.at
		}
	}
	return at
}

// told is what happened to a command, for the time line of a finding. The lock is held.
func (l *ledger) told(id string) (lines []string) {
	for _, m := range l.commands[id] {
		lines = append(lines, stamp(time.UnixMilli(m.at))+"  "+momentNames[m.what])
	}
	if lines == nil {
		lines = []string{"the device never heard of it"}
	}
	return lines
}

// wanted is what a set asks of a light, as far as people here ask.
type wanted struct {
	On         *bool `json:"on"`
	Brightness *int  `json:"brightness"`
}

// want is what shows that a command was carried out; false if nothing does.
func want(op string, params json.RawMessage) (w wanted, ok bool) {
	if op != "set" || json.Unmarshal(params, &w) != nil {
		return w, false
	}
	return w, w.On != nil || w.Brightness != nil
}

// shows reports whether a report is of a light that is as it was wanted.
func (r *report) shows(w wanted) bool {
	return !r.moving && (w.On == nil || r.on == *w.On) &&
		(w.Brightness == nil || int(r.brightness) == *w.Brightness)
}

// mayShow reports whether a hub may take a report for what was wanted: it compares in the coarsest
// scale that lights have, and one that is off has no brightness.
func (r *report) mayShow(w wanted) bool {
	if r.moving || w.On != nil && r.on != *w.On {
		return false
	}
	off := w.On != nil && !*w.On
	return off || w.Brightness == nil || percent(int(r.brightness)) == percent(*w.Brightness)
}

// percent is a brightness as a light with a hundred levels has it.
func percent(brightness int) int {
	if brightness == 0 {
		return 0
	}
	return max(1, int(math.Round(float64(brightness)*100/255)))
}

// proves is a report that left at a moment or later, that the hub has acknowledged, and that shows
// what was wanted; nil if there is none. The lock is held.
func (l *ledger) proves(w wanted, from int64) *report {
	return l.since(from, func(r *report) bool { return r.taken > 0 && r.shows(w) })
}

// mayProve is one that the hub may have heard, and may take for proof.
func (l *ledger) mayProve(w wanted, from int64) *report {
	return l.since(from, func(r *report) bool { return r.mayShow(w) })
}

// since is the newest report of a kind that left at a moment or later. The lock is held.
func (l *ledger) since(from int64, is func(*report) bool) *report {
	for i := len(l.reports) - 1; i >= 0 && l.reports[i].at >= from; i-- {
		if r := &l.reports[i]; is(r) {
			return r
		}
	}
	return nil
}
