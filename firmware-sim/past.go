package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"devicehub/firmware-sim/device"
	"devicehub/firmware-sim/hostile"
)

// past is what a journal tells of a run.
type past struct {
	head     head
	ended    bool
	resumed  time.Time // the last time, if ever
	units    map[int]*pastUnit
	commands []*pastCommand
	byID     map[string]*pastCommand
	found    []pastFinding
	events   []Event
	history  []Snapshot
	figures  figures
	hist     map[string][]byte
}

// pastUnit is what is known of one device.
type pastUnit struct {
	ledger   ledger
	lastT    int64 // of the newest reading by the device's clock, and by the true one
	lastAt   time.Time
	waiting  []device.Reading // not answered, oldest first; some have been since, see answers
	answers  map[readingKey]bool
	measured int64
	acked    int64
	refused  int64
	unheard  int64
	ran      []string // commands, oldest first
}

type readingKey struct {
	metric string
	t      int64
}

type pastCommand struct {
	n              int
	id, op, status string
	given          time.Time
}

type pastFinding struct {
	verdict string
	finding Finding
}

// figures are the counters that do not follow from the other lines.
type figures struct {
	Replayed  int64            `json:"replayed"`
	Overflow  int64            `json:"overflow"`
	Connects  int64            `json:"connects"`
	Drops     int64            `json:"drops"`
	Leaves    int64            `json:"left"`
	Outcomes  map[string]int64 `json:"outcomes"`
	Late      int64            `json:"commands_late"`
	Executed  int64            `json:"executed"`
	Repeats   int64            `json:"repeats"`
	Leaked    int64            `json:"leaked"`
	Backwards int64            `json:"backwards"`
	Errors    map[string]int64 `json:"errors"`
	Checked   map[string]int64 `json:"checked"`
	Besieged  []hostile.Counts `json:"hostile,omitempty"` // in the profile's order
}

var errJournal = errors.New("not a journal")

// readJournal reads as far as lines are whole, and returns how many bytes that is.
func readJournal(r io.Reader) (*past, int64, error) {
	p := &past{units: map[int]*pastUnit{}, byID: map[string]*pastCommand{}}
	in := bufio.NewReaderSize(r, 1<<16)
	good := int64(0)
	for {
		line, err := in.ReadBytes('\n')
		if err == io.EOF {
			break
		} else if err != nil {
			return nil, 0, err
		}
		if err := p.take(bytes.TrimSuffix(line, []byte{'\n'})); err != nil {
			if good == 0 {
				return nil, 0, err
			}
			break // what a disk kept of the moments before a crash
		}
		good += int64(len(line))
	}
	if good == 0 {
		return nil, 0, errJournal
	}
	for _, u := range p.units {
		u.settle()
	}
	return p, good, nil
}

func (p *past) take(line []byte) (err error) {
	if len(line) < 2 || line[1] != '\t' || (p.head.Run == "") != (line[0] == lineHead) {
		return errJournal
	}
	kind, rest := line[0], line[2:]
	f := fields{rest: rest}
	switch kind {
	case lineHead:
		if err = json.Unmarshal(rest, &p.head); err == nil && p.head.Run == "" {
			err = errJournal
		}
	case lineResumed:
		if p.lost(time.UnixMilli(f.number())); f.err != nil {
			return f.err
		}
	case lineEnded:
		p.ended = true
	case lineMeasured:
		u, r := p.unit(f.number()), device.Reading{Metric: f.text(), T: f.number(), At: time.UnixMilli(f.number()), Seq: uint64(f.number()), Boot: f.text(), Unit: f.text()}
		value, state := f.text(), entryState(f.number())
		if r.Form = unpackForm(f.optional()); f.err == nil {
			f.err = json.Unmarshal([]byte(value), &r.Value)
		}
		if f.err == nil {
			u.measure(r, state)
		}
	case lineSent:
		u, r := p.unit(f.number()), device.Reading{Metric: f.text(), T: f.number()}
		if r.Form = unpackForm(f.number()); f.err == nil {
			u.sent(r)
		}
	case lineAcked, lineRefused:
		u, key := p.unit(f.number()), readingKey{f.text(), f.number()}
		state, late := refused, false
		if kind == lineAcked {
			state, late = acknowledged, f.text() == "true"
		}
		if f.err == nil {
			u.answer(key, state, late)
		}
	case lineGiven:
		c := &pastCommand{n: int(f.number()), id: f.text(), op: f.text()}
		if at := f.optional(); at > 0 {
			c.given = time.UnixMilli(at)
		}
		p.commands = append(p.commands, c)
		p.byID[c.id] = c
	case lineTold:
		if c := p.byID[f.text()]; c != nil {
			c.status = f.text()
		}
	case lineArrived, lineRan:
		u, id, at := p.unit(f.number()), f.text(), time.UnixMilli(f.number())
		if f.err == nil {
			m := moment{at.UnixMilli(), arrived}
			if kind == lineRan {
				m.what = ran
				u.ran = append(u.ran, id)
			}
			u.ledger.commandAt(id, m)
		}
	case lineReported:
		u, r := p.unit(f.number()), report{at: f.number(), on: f.text() == "true"}
		r.brightness, r.moving = uint8(f.number()), f.text() == "true"
		u.ledger.reports = append(u.ledger.reports, r)
	case lineFound:
		var found pastFinding
		found.verdict = f.text()
		err = json.Unmarshal(f.rest, &found.finding)
		p.found = append(p.found, found)
	case lineEvent:
		var e Event
		err = json.Unmarshal(rest, &e)
		p.events = append(p.events, e)
	case lineSecond:
		var s Snapshot
		err = json.Unmarshal(rest, &s)
		if p.history = append(p.history, s); len(p.history) > 4000 {
			p.history = thin(p.history)
		}
	case lineFigures:
		p.figures = figures{}
		err = json.Unmarshal(rest, &p.figures)
	case lineHist:
		p.hist = nil
		err = json.Unmarshal(rest, &p.hist)
	default:
		return fmt.Errorf("%w: line %q", errJournal, line[:1])
	}
	return errors.Join(err, f.err)
}

// elapsed is how long the run has played.
func (p *past) elapsed() time.Duration {
	if len(p.history) == 0 {
		return 0
	}
	return time.Duration(p.history[len(p.history)-1].Elapsed * float64(time.Second))
}

func (p *past) unit(n int64) *pastUnit {
	u := p.units[int(n)]
	if u == nil {
		u = &pastUnit{answers: map[readingKey]bool{}}
		if !p.resumed.IsZero() {
			u.lost(p.resumed)
		}
		p.units[int(n)] = u
	}
	return u
}

func (u *pastUnit) measure(r device.Reading, state entryState) {
	u.ledger.measured(r, state)
	u.measured++
	u.lastT, u.lastAt = max(u.lastT, r.T), r.At
	u.waiting = append(u.waiting, r)
}

// sent is a reading that went to a connection. What is sent at most once waits for no answer, and
// may have been lost with the process.
func (u *pastUnit) sent(r device.Reading) {
	u.ledger.sent([]device.Reading{r}, false)
	if r.Form.Delivery == device.AtMostOnce {
		u.answers[readingKey{r.Metric, r.T}] = true
		u.unheard++
	}
}

// answer notes one, of a reading whose own line stands a little further down, or before it, or is lost.
func (u *pastUnit) answer(k readingKey, state entryState, late bool) {
	u.answers[k] = true
	if state == acknowledged {
		u.acked++
	} else {
		u.refused++
	}
	u.ledger.answered(device.Reading{Metric: k.metric, T: k.t}, state, late)
	if len(u.answers) > 1000 {
		u.settle()
	}
}

// lost is a gap, which ends now: what any device did after its last line is unknown.
func (p *past) lost(now time.Time) {
	p.resumed = now
	for _, u := range p.units {
		u.lost(now)
	}
}

// lost is a gap of one device. What it measured in that time is not known, and an answer to that is void. A clock that was
// ahead then may not be now: what it recorded can have a time after that of its next reading.
func (u *pastUnit) lost(now time.Time) {
	u.settle()
	for k := range u.answers {
		u.unanswer(k)
	}
	clear(u.answers)
	u.ledger.lost(u.lastT, u.lastT+max(0, now.Sub(u.lastAt).Milliseconds())+1000)
}

// unanswer forgets an answer to a reading of which nothing more is known.
func (u *pastUnit) unanswer(k readingKey) {
	switch state, ok := u.ledger.forget(k.metric, k.t); {
	case !ok:
	case state == acknowledged:
		u.acked--
	case state == refused:
		u.refused--
	case state == doubtful:
		u.unheard--
	}
}

// settle takes what was answered out of what waits.
func (u *pastUnit) settle() {
	kept := u.waiting[:0]
	for _, r := range u.waiting {
		k := readingKey{r.Metric, r.T}
		if u.answers[k] {
			delete(u.answers, k)
			continue
		}
		kept = append(kept, r)
	}
	u.waiting = kept
}

// fields cuts a line.
type fields struct {
	rest []byte
	err  error
}

func (f *fields) text() string {
	field, rest, more := bytes.Cut(f.rest, []byte{'\t'})
	if !more {
		rest = nil
	}
	f.rest = rest
	return string(field)
}

// optional is a number that earlier programs did not write.
func (f *fields) optional() int64 {
	if len(f.rest) == 0 {
		return 0
	}
	return f.number()
}

func (f *fields) number() int64 {
	n, err := strconv.ParseInt(f.text(), 10, 64)
	if f.err == nil {
		f.err = err
	}
	return n
}

// span is a stretch of a device's time of which nothing is known.
type span struct {
	from, to int64
	open     bool // it has no end yet
}

// lost opens one, after the last reading that is known. The next one ends it, but not before that time.
func (l *ledger) lost(after, until int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gaps = append(l.gaps, span{after, until, true})
}

// inGap reports whether t falls where nothing is known. The lock is held.
func (l *ledger) inGap(t int64) bool {
	for _, g := range l.gaps {
		if t > g.from && (g.open || t < g.to) {
			return true
		}
	}
	return false
}

// forget takes a reading out.
func (l *ledger) forget(metric string, t int64) (entryState, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.of(metric)
	i, ok := find(m.entries, t)
	if !ok {
		return 0, false
	}
	state := m.entries[i].state
	m.entries = append(m.entries[:i], m.entries[i+1:]...)
	return state, true
}
