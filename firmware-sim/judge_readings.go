package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// row is a stored reading.
type row struct {
	t   int64
	v   float64
	out bool // the hub has flagged it as out of its metric's range
}

// found is a finding with the verdict that it belongs to.
type found struct {
	verdict string
	Finding
}

// stored is what a hub has of one device.
type stored struct {
	rows   map[string][]row // by metric, in the order of t
	odd    []string         // lines of the export that are no readings
	latest map[string]Stored
	offset time.Duration // by how much the hub's clock is ahead of ours, about
}

// judgeReadings holds what the hub has of one device against its ledger: every reading that it must
// have is there once, with its value, under its own name, and nothing is there that was not sent.
func (s *Sim) judgeReadings(ctx context.Context, u *unit) {
	var kept stored
	var all []found
	for try := range 2 {
		var err error
		if kept, err = s.readBack(ctx, u); err != nil {
			s.judge.unable("%s: %v", u.id, err)
			return
		}
		all = u.judgeStored(kept)
		// What nobody acknowledges may have been committed this very moment.
		if len(all) == 0 || try > 0 {
			break
		}
		sleep(ctx, time.Second)
	}
	for _, f := range all {
		s.judge.found(f.verdict, f.Finding)
	}
	s.judge.checked("series_foreign", len(kept.rows)+len(kept.latest))
	s.judge.checked("latest_wrong", len(kept.latest))
	for metric, rows := range kept.rows {
		s.judge.checked("dup_stored", len(rows))
		if m := u.measured(metric); m != nil {
			s.countJudged(u, m)
			s.judgeSeries(ctx, u, metric, m, rows)
		}
	}
	for metric, m := range u.all() {
		if len(kept.rows[metric]) == 0 {
			s.countJudged(u, m)
		}
	}
}

// judgeSilent looks whether a device that measures nothing has readings.
func (s *Sim) judgeSilent(ctx context.Context, u *unit) {
	latest, _, err := s.api.Latest(ctx, u.id)
	if err != nil {
		s.judge.unable("%s: %v", u.id, err)
		return
	}
	s.judge.checked("series_foreign", 1)
	for _, metric := range slices.Sorted(maps.Keys(latest)) {
		r := latest[metric]
		s.judge.found("series_foreign", Finding{
			Device: u.id,
			Text:   fmt.Sprintf("%q stands among the latest values of a device that measures nothing", metric),
			Line:   []string{fmt.Sprintf("%s  shown t=%d v=%s", stamp(time.UnixMilli(r.T)), r.T, r.V)},
		})
	}
}

// countJudged counts what of a metric could be judged.
func (s *Sim) countJudged(u *unit, m *measured) {
	acked, sent, ordered := 0, 0, 0
	u.ledger.mu.Lock()
	for _, e := range m.entries {
		switch e.state {
		case acknowledged:
			acked++
			if e.form&stamped != 0 {
				ordered++
			}
		case delivered:
			sent++
		}
	}
	u.ledger.mu.Unlock()
	s.judge.checked("lost_acked", acked)
	s.judge.checked("value_wrong", acked+sent)
	s.judge.checked("lost_sent", sent)
	s.judge.checked("order_wrong", ordered)
}

// readBack reads all that the hub has of a device; it may be on its way up.
func (s *Sim) readBack(ctx context.Context, u *unit) (kept stored, err error) {
	read := func() error {
		kept = stored{rows: map[string][]row{}}
		return s.api.Export(ctx, u.id, time.UnixMilli(0), time.Now().Add(time.Hour), func(r Stored) {
			kept.rows[r.Metric] = append(
				kept.rows[r.Metric],
				row{r.T, storedNumber(r.V), slices.Contains(r.Q, "out_of_range")},
			)
		}, func(line []byte) { kept.odd = append(kept.odd, string(line[:min(len(line), 200)])) })
	}
	err = read()
	for try := 0; err != nil && try < 5 && ctx.Err() == nil; try++ {
		if e, ok := errors.AsType[*APIError](err); ok && e.Status < 500 && e.Status != 429 {
			break
		}
		sleep(ctx, time.Second)
		err = read()
	}
	if err != nil {
		return kept, err
	}
	for _, rows := range kept.rows {
		slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.t, b.t) })
	}
	asked := time.Now()
	latest, server, err := s.api.Latest(ctx, u.id)
	kept.latest, kept.offset = latest, server.Sub(asked)
	return kept, err
}

// all is what the device has measured, with its double, if it had one: that has metrics of its own.
func (u *unit) all() map[string]*measured {
	u.ledger.mu.Lock()
	defer u.ledger.mu.Unlock()
	out := maps.Clone(u.ledger.metrics)
	if out == nil {
		out = map[string]*measured{}
	}
	if u.twin != nil {
		maps.Copy(out, u.twin.metrics)
	}
	return out
}

func (u *unit) measured(metric string) *measured { return u.all()[metric] }

// judgeStored finds what is wrong with what is stored of a device.
func (u *unit) judgeStored(kept stored) (all []found) {
	add := func(verdict string, f Finding) { all = append(all, found{verdict, f}) }
	foreign := func(lines []string, text string, args ...any) {
		add("series_foreign", Finding{Device: u.id, Text: fmt.Sprintf(text, args...), Line: lines})
	}
	known := u.all()
	u.ledger.mu.Lock()
	defer u.ledger.mu.Unlock()
	for _, line := range kept.odd {
		foreign([]string{fmt.Sprintf("%q", line)}, "a line of the export is no reading")
	}
	for _, metric := range slices.Sorted(maps.Keys(kept.rows)) {
		if known[metric] == nil {
			rows := kept.rows[metric]
			foreign(u.around(known, metric, rows[0], kept.offset),
				"%q holds %d readings, and was never sent", metric, len(rows))
		}
	}
	for _, metric := range slices.Sorted(maps.Keys(kept.latest)) {
		if known[metric] == nil && len(kept.rows[metric]) == 0 {
			r := kept.latest[metric]
			foreign(u.around(known, metric, row{r.T, storedNumber(r.V), false}, kept.offset),
				"%q stands among the latest values, and was never sent", metric)
		}
	}
	for _, metric := range slices.Sorted(maps.Keys(known)) {
		all = append(all, u.judgeMetric(metric, known[metric], kept.rows[metric], kept.offset)...)
		if f, ok := u.judgeLatest(metric, kept); ok {
			add("latest_wrong", f)
		}
	}
	return all
}

// around is what the device sent when a row came about that is none of its own. The lock is held.
func (u *unit) around(known map[string]*measured, metric string, r row, offset time.Duration) (lines []string) {
	const near = 3
	type sent struct {
		metric string
		entry
	}
	at := r.t - offset.Milliseconds()
	var all []sent
	for name, m := range known {
		for _, e := range m.entries {
			all = append(all, sent{name, e})
		}
	}
	slices.SortFunc(all, func(a, b sent) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.metric, b.metric))
	})
	i, _ := slices.BinarySearchFunc(all, at, func(s sent, at int64) int { return cmp.Compare(s.at, at) })
	tell := func(at int64, text string, args ...any) {
		lines = append(lines, stamp(time.UnixMilli(at))+"  "+fmt.Sprintf(text, args...))
	}
	for _, x := range all[max(0, i-near):i] {
		tell(x.at, "sent %s = %v, %s", x.metric, x.v, stateNames[x.state])
	}
	tell(r.t, "stored t=%d %q = %v  <--", r.t, metric, r.v)
	for _, x := range all[i:min(len(all), i+near)] {
		tell(x.at, "sent %s = %v, %s", x.metric, x.v, stateNames[x.state])
	}
	return lines
}

// judgeLatest holds the latest value of a metric against the newest row.
func (u *unit) judgeLatest(metric string, kept stored) (f Finding, wrong bool) {
	rows := kept.rows[metric]
	r, there := kept.latest[metric]
	f = Finding{Device: u.id, Text: "nothing is shown as the latest " + metric}
	if there {
		f.Text = fmt.Sprintf("the latest %s is %s at %d", metric, r.V, r.T)
		f.Line = append(f.Line, fmt.Sprintf("%s  shown  t=%d v=%s  <--", stamp(time.UnixMilli(r.T)), r.T, r.V))
	}
	if len(rows) == 0 {
		f.Text += ", and nothing is stored"
		return f, there
	}
	newest := rows[len(rows)-1]
	f.Text += fmt.Sprintf("; the newest that is stored is %v at %d", newest.v, newest.t)
	f.Line = append(f.Line, u.rowsNear(rows, newest.t)...)
	return f, !there || r.T != newest.t || !same(storedNumber(r.V), newest.v)
}

// judgeMetric holds the rows of one metric against what was sent. The lock is held.
func (u *unit) judgeMetric(metric string, m *measured, rows []row, offset time.Duration) (all []found) {
	add := func(verdict string, e entry, format string, args ...any) {
		all = append(all, found{verdict, u.finding(metric, m, e, format, args...)})
	}
	taken := make([]bool, len(rows))
	odd := 0 // whose stored time or value cannot be foretold
	for _, e := range m.entries {
		if e.form&stamped != 0 {
			continue
		}
		from, to := at(rows, e.t)
		for i := from; i < to; i++ {
			taken[i] = true
		}
		switch n := to - from; {
		case e.state == deliberate:
			odd++
		case n > 1:
			add("dup_stored", e, "is stored %d times", n)
		case n == 0 && e.state == acknowledged:
			add("lost_acked", e, "was acknowledged and is not stored")
		case n == 0 && e.state == delivered:
			add("lost_sent", e, "was sent at QoS 0 on a connection that did not break, and is not stored")
		case n == 1 && e.state != refused && !same(rows[from].v, e.v):
			add("value_wrong", e, "was %v and is stored as %v", e.v, rows[from].v)
		}
	}
	var rest []row
	for i, r := range rows {
		if !taken[i] {
			rest = append(rest, r)
		}
	}
	if slices.ContainsFunc(m.entries, func(e entry) bool { return e.form&stamped != 0 }) {
		return append(all, u.judgeStamped(metric, m, rest, odd, offset)...)
	}
	strange := 0
	var example int64
	for _, r := range rest {
		if !u.ledger.inGap(r.t) { // of what nothing is known of there may be one for each time
			strange++
			example = r.t
		}
	}
	if u.stamped && len(u.ledger.gaps) > 0 {
		strange = 0 // what nothing is known of can have any time at all
	}
	// A reading that the hub stamped itself has a time that we do not know; there is one for each
	// at most.
	if strange > odd {
		add("dup_stored", entry{t: example},
			"is one of %d rows that are stored at times that the device never sent; at most %d could be",
			strange, odd)
	}
	return all
}

// at is where the rows of a time are: from that index to before the other.
func at(rows []row, t int64) (from, to int) {
	from, _ = slices.BinarySearchFunc(rows, t, func(r row, t int64) int { return cmp.Compare(r.t, t) })
	for to = from; to < len(rows) && rows[to].t == t; to++ {
	}
	return from, to
}

func same(a, b float64) bool {
	return a == b || math.Abs(a-b) <= 1e-9*max(1, math.Abs(a), math.Abs(b))
}

// finding tells of one reading, with what was said about its neighbours.
func (u *unit) finding(metric string, m *measured, e entry, format string, args ...any) Finding {
	f := Finding{Device: u.id, Text: fmt.Sprintf("%s at %d ", metric, e.t) + fmt.Sprintf(format, args...)}
	i, _ := find(m.entries, e.t)
	for _, x := range m.entries[max(0, i-3):min(len(m.entries), i+4)] {
		line := fmt.Sprintf("%s  t=%d v=%v %s", stamp(time.UnixMilli(x.at)), x.t, x.v, stateNames[x.state])
		if x.late {
			line += ", sent again"
		}
		if x.form&stamped != 0 {
			line += ", without a time"
		}
		if x.t == e.t {
			line += "  <--"
		}
		f.Line = append(f.Line, line)
	}
	return f
}
