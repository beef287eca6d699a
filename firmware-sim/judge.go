package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// A Finding is one counter-example: where a promise was broken.
type Finding struct {
	Device string   `json:"device,omitempty"`
	Text   string   `json:"text"`
	Line   []string `json:"time_line,omitempty"` // what happened around it, oldest first
}

// A Verdict is one invariant: how often it was broken, and the first cases.
type Verdict struct {
	Name    string    `json:"name"`
	Count   int64     `json:"count"`
	Checked int64     `json:"checked"`
	Idle    string    `json:"idle,omitempty"` // why there was nothing to check, if the profile does not ask for any of it
	First   []Finding `json:"first,omitempty"`
}

// Seen reports whether anything was looked at: of what nobody saw, it is not known whether it holds.
func (v Verdict) Seen() bool { return v.Checked > 0 || v.Count > 0 }

const keepFindings = 5

// judge gathers what is found, during the run and after it.
type judge struct {
	commands commandLog
	journal  *Journal

	mu       sync.Mutex
	verdicts map[string]*Verdict
	failures []string // what could not be judged
}

func (j *judge) verdict(name string) *Verdict {
	if j.verdicts == nil {
		j.verdicts = make(map[string]*Verdict)
	}
	v := j.verdicts[name]
	if v == nil {
		v = &Verdict{Name: name}
		j.verdicts[name] = v
	}
	return v
}

func (j *judge) found(name string, f Finding) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.journal.json(lineFound, name, f)
	v := j.verdict(name)
	v.Count++
	if len(v.First) < keepFindings {
		v.First = append(v.First, f)
	}
}

func (j *judge) checked(name string, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.verdict(name).Checked += int64(n)
}

func (j *judge) unable(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.failures) < 20 {
		j.failures = append(j.failures, fmt.Sprintf(format, args...))
	}
}

// judgeAll compares what the devices know with what the hub says, over its public routes.
func (s *Sim) judgeAll(ctx context.Context) {
	var wg sync.WaitGroup
	units := make(chan *unit)
	for range 8 {
		wg.Go(func() {
			for u := range units {
				s.judgeReadings(ctx, u)
			}
		})
	}
	for _, u := range s.units {
		if u.group.Sensor {
			units <- u
		}
	}
	close(units)
	wg.Wait()
	s.judgeCommands(ctx)
}

// judgeReadings holds the export of one device against its ledger: every acknowledged reading is there once, with its value,
// and nothing is there that was not sent.
func (s *Sim) judgeReadings(ctx context.Context, u *unit) {
	stored := map[string]map[int64][]float64{}
	from := time.UnixMilli(0)
	to := time.Now().Add(time.Hour)
	rows := func(r Stored) {
		m := stored[r.Metric]
		if m == nil {
			m = map[int64][]float64{}
			stored[r.Metric] = m
		}
		m[r.T] = append(m[r.T], storedNumber(r.V))
	}
	err := s.api.Export(ctx, u.id, from, to, rows)
	for try := 0; err != nil && try < 5 && ctx.Err() == nil; try++ { // the hub may be on its way up
		if e, ok := errors.AsType[*APIError](err); ok && e.Status < 500 && e.Status != 429 {
			break
		}
		time.Sleep(time.Second)
		clear(stored)
		err = s.api.Export(ctx, u.id, from, to, rows)
	}
	if err != nil {
		s.judge.unable("%s: %v", u.id, err)
		return
	}
	u.ledger.mu.Lock()
	defer u.ledger.mu.Unlock()
	for metric, entries := range u.ledger.metrics {
		there := stored[metric]
		sent, acked := 0, 0
		odd := 0 // whose stored time or value cannot be foretold
		for _, e := range entries {
			sent++
			values := there[e.t]
			switch {
			case e.state == deliberate:
				odd++
				continue
			case len(values) > 1:
				s.judge.found("dup_stored", u.finding(metric, e, "is stored %d times", len(values)))
			}
			if e.state != acknowledged {
				continue
			}
			acked++
			switch {
			case len(values) == 0:
				s.judge.found("lost_acked", u.finding(metric, e, "was acknowledged and is not stored"))
			case !same(values[0], e.v):
				s.judge.found("value_wrong", u.finding(metric, e, "was %v and is stored as %v", e.v, values[0]))
			}
		}
		total, strange := 0, 0
		var example int64
		for t, vs := range there {
			total += len(vs)
			if _, ok := find(entries, t); ok {
				continue
			}
			n := len(vs)
			if u.ledger.inGap(t) {
				n-- // one may be of what nothing is known of
			}
			if strange += n; n > 0 {
				example = t
			}
		}
		if u.stamped && len(u.ledger.gaps) > 0 {
			strange = 0 // what nothing is known of can have any time at all
		}
		// A reading that the hub stamped itself has a time that we do not know; there is one for each at most.
		if strange > odd {
			s.judge.found("dup_stored", u.finding(metric, entry{t: example},
				"is one of %d rows that are stored at times that the device never sent; at most %d could be", strange, odd))
		}
		s.judge.checked("lost_acked", acked)
		s.judge.checked("dup_stored", total)
		s.judge.checked("value_wrong", acked)
		if total == 0 || isText(entries) {
			continue
		}
		n, buckets, err := s.api.Counted(ctx, u.id, metric, from, to)
		if err != nil {
			s.judge.unable("%s: %v", u.id, err)
			continue
		}
		if n != total {
			s.judge.found("series_differs", Finding{Device: u.id, Text: fmt.Sprintf("%s: series counts %d readings, export %d", metric, n, total),
				Line: bucketLines(there, buckets)})
		}
		s.judge.checked("series_differs", 1)
	}
}

// bucketLines holds the buckets of a series against the rows of an export: those that differ, with the one before and after.
func bucketLines(rows map[int64][]float64, buckets []Bucket) (lines []string) {
	exported, early := make([]int, len(buckets)), 0
	for t, vs := range rows {
		i, found := slices.BinarySearchFunc(buckets, t, func(b Bucket, t int64) int { return cmp.Compare(b.T, t) })
		if !found {
			i--
		}
		if i < 0 {
			early += len(vs)
			continue
		}
		exported[i] += len(vs)
	}
	if early > 0 {
		lines = append(lines, fmt.Sprintf("before the first bucket  series 0, export %d  <--", early))
	}
	const most = 10
	for i, b := range buckets {
		differs := func(i int) bool { return i >= 0 && i < len(buckets) && buckets[i].Count != exported[i] }
		if !differs(i-1) && !differs(i) && !differs(i+1) {
			continue
		}
		line := fmt.Sprintf("%s  bucket t=%d  series %d, export %d", stamp(time.UnixMilli(b.T)), b.T, b.Count, exported[i])
		if differs(i) {
			line += "  <--"
		}
		if lines = append(lines, line); len(lines) == most {
			break
		}
	}
	return lines
}

// isText reports strings, which have no series of numbers.
func isText(es []entry) bool {
	return slices.ContainsFunc(es, func(e entry) bool { return e.text })
}

func same(a, b float64) bool { return a == b || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b)) }

// finding tells of one reading, with what was said about its neighbours.
func (u *unit) finding(metric string, e entry, format string, args ...any) Finding {
	f := Finding{Device: u.id, Text: fmt.Sprintf("%s at %d ", metric, e.t) + fmt.Sprintf(format, args...)}
	es := u.ledger.metrics[metric]
	i, _ := find(es, e.t)
	names := map[entryState]string{unanswered: "unanswered", acknowledged: "acknowledged", refused: "refused", deliberate: "odd on purpose"}
	for _, x := range es[max(0, i-3):min(len(es), i+4)] {
		line := fmt.Sprintf("%s  t=%d v=%v %s", stamp(time.UnixMilli(x.at)), x.t, x.v, names[x.state])
		if x.late {
			line += ", sent again"
		}
		if x.t == e.t {
			line += "  <--"
		}
		f.Line = append(f.Line, line)
	}
	return f
}

// judgeDevices judges what the devices know by themselves: that each command ran at most once. Whoever was up would have
// noticed what is not meant for it.
func (s *Sim) judgeDevices() {
	for _, u := range s.units {
		u.ledger.mu.Lock()
		for id := range u.ledger.commands {
			if n := u.ledger.executions(id); n > 1 {
				s.judge.found("cmd_run_twice", Finding{Device: u.id, Text: fmt.Sprintf("command %s ran %d times", id, n), Line: u.ledger.told(id)})
			}
		}
		s.judge.checked("cmd_run_twice", len(u.ledger.commands))
		u.ledger.mu.Unlock()
		u.mu.Lock()
		if !u.since.IsZero() {
			s.judge.checked("leaked", 1)
		}
		u.mu.Unlock()
	}
}

// judgeCommands checks that no command is called done that did not run, nor one refused that did.
func (s *Sim) judgeCommands(ctx context.Context) {
	s.judge.commands.mu.Lock()
	all := slices.Clone(s.judge.commands.all)
	s.judge.commands.mu.Unlock()
	for _, c := range all {
		status := c.status
		if status == "" { // no answer came: the hub says what it knows
			rec, err := s.api.CommandByID(ctx, c.unit.id, c.id)
			if e, ok := errors.AsType[*APIError](err); ok && e.Status == 404 {
				status = "never issued"
			} else if err != nil {
				s.judge.unable("command %s: %v", c.id, err)
				continue
			} else {
				status = rec.Status
			}
		}
		s.judge.checked("cmd_false_done", 1)
		c.unit.ledger.mu.Lock()
		ran, told := c.unit.ledger.executions(c.id), c.unit.ledger.told(c.id)
		c.unit.ledger.mu.Unlock()
		switch {
		case (status == "done" || status == "confirmed" || status == "late_done") && ran == 0 && !c.doubt:
			s.judge.found("cmd_false_done", Finding{Device: c.unit.id, Text: fmt.Sprintf("command %s (%s) is %s and never ran", c.id, c.op, status), Line: told})
		case (status == "never issued" || status == "refused") && ran > 0:
			s.judge.found("cmd_false_done", Finding{Device: c.unit.id, Text: fmt.Sprintf("command %s (%s) is %s, and ran", c.id, c.op, status), Line: told})
		}
	}
}
