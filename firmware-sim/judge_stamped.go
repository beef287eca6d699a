package sim

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// What is sent without a time is stored at the moment at which it arrived, by the hub's clock. It
// is judged by its value, by the order in which it was sent, and by the stretch of time in which it
// can have arrived.

const (
	clockSlack   = time.Second      // by how much clocks may be further apart than they seem
	unheardSlack = 10 * time.Second // how long a hub may take with what it need not acknowledge
)

// window is when a reading can have been stamped, by the hub's clock. to is 0 if there is no end to
// it.
type window struct{ from, to int64 }

func (w window) holds(t int64) bool { return t >= w.from && (w.to == 0 || t <= w.to) }

// window of an entry. The lock is held.
func (u *unit) window(e entry, offset time.Duration) window {
	w := window{from: e.at + (offset - clockSlack).Milliseconds()}
	decided := e.at + int64(e.took) + (offset + clockSlack).Milliseconds()
	switch {
	case u.group.Via != nil: // it may lie at a broker
	case e.state == acknowledged:
		w.to = decided
	case e.state == delivered:
		w.to = decided + unheardSlack.Milliseconds()
	}
	return w
}

// key is equal for values that are equal but for the last digits of a conversion.
func key(v float64) string { return strconv.FormatFloat(v, 'g', 10, 64) }

// judgeStamped holds rows that the hub has stamped against what was sent for it to stamp. odd of
// the rows may be of readings whose value cannot be foretold. The lock is held.
func (u *unit) judgeStamped(metric string, m *measured, rows []row, odd int, offset time.Duration) (all []found) {
	for _, e := range u.unclaimed(m, rows, offset) {
		verdict, what := "lost_acked", "was acknowledged"
		if e.state == delivered {
			verdict, what = "lost_sent", "was sent at QoS 0 on a connection that did not break"
		}
		f := u.finding(metric, m, e, "= %v %s, and no such value is stored at its time", e.v, what)
		f.Line = append(f.Line, u.rowsNear(rows, e.at+offset.Milliseconds())...)
		all = append(all, found{verdict, f})
	}
	if len(u.ledger.gaps) > 0 {
		return all // of what nothing is known of there can be any row
	}
	for _, x := range u.unexplained(m, rows, offset) {
		if x.verdict == "dup_stored" && odd > 0 {
			odd--
			continue
		}
		r := rows[x.row]
		f := Finding{
			Device: u.id,
			Text:   fmt.Sprintf("%s = %v at %d %s", metric, r.v, r.t, x.text),
			Line:   append(x.lines, u.rowsNear(rows, r.t)...),
		}
		all = append(all, found{x.verdict, f})
	}
	return all
}

// unclaimed are the entries of which a row is missing. How many there are follows from the windows
// of all; which of equal values it is, from when each should have come: what a hub took its time
// with must not take the rows of others. The lock is held.
func (u *unit) unclaimed(m *measured, rows []row, offset time.Duration) []entry {
	c := newClaims(rows)
	missing := c.take(inOrderOfClaims(m.entries), func(e entry) window { return u.window(e, offset) })
	if len(missing) == 0 {
		return nil
	}
	c = newClaims(rows)
	late := c.take(inOrderOfClaims(m.entries), func(e entry) window {
		w := u.window(e, offset)
		if e.state == delivered && w.to > 0 {
			w.to -= unheardSlack.Milliseconds()
		}
		return w
	})
	nearer := c.take(late, func(e entry) window { return u.window(e, offset) })
	if len(nearer) == len(missing) {
		return nearer
	}
	return missing
}

// claims are the rows, by value, that no entry has taken.
type claims struct {
	rows []row
	free map[string][]int
}

func newClaims(rows []row) *claims {
	c := &claims{rows, map[string][]int{}}
	for i, r := range rows {
		k := key(r.v)
		c.free[k] = append(c.free[k], i)
	}
	return c
}

// take gives each entry that must be there the first row of its value in its window, and returns
// those for which there is none.
func (c *claims) take(es []entry, in func(entry) window) (left []entry) {
	for _, e := range es {
		if e.form&stamped == 0 || !e.state.required() {
			continue
		}
		w, k := in(e), key(e.v)
		free := c.free[k]
		switch i := slices.IndexFunc(free, func(i int) bool { return w.holds(c.rows[i].t) }); {
		case i < 0:
			left = append(left, e)
		case i == 0:
			c.free[k] = free[1:]
		default:
			c.free[k] = slices.Delete(free, i, i+1)
		}
	}
	return left
}

// inOrderOfClaims sorts entries: what was acknowledged takes its row first, and among equals what
// was decided first.
func inOrderOfClaims(es []entry) []entry {
	out := slices.Clone(es)
	slices.SortStableFunc(out, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.state, b.state), cmp.Compare(a.at+int64(a.took), b.at+int64(b.took)))
	})
	return out
}

// unexplained is a row that no sending explains.
type unexplained struct {
	row     int
	verdict string
	text    string
	lines   []string
}

// sendsFrom shows what was sent from one sending on, and a little before.
func (m *measured) sendsFrom(next int) (lines []string) {
	for i := max(0, next-3); i < min(len(m.sends), next+5); i++ {
		if e, ok := m.entry(m.sends[i]); ok {
			lines = append(lines, fmt.Sprintf("%s  measured v=%v, %s, sent as number %d",
				stamp(time.UnixMilli(e.at)), e.v, stateNames[e.state], i+1))
		}
	}
	return lines
}

// unexplained finds the rows that did not come about as things were sent: what is stored is a part
// of what went to the connections, in that order, and of what the hub knows again each reading
// once. Through a broker the order is the broker's. The lock is held.
func (u *unit) unexplained(m *measured, rows []row, offset time.Duration) (out []unexplained) {
	left := map[string]int{}     // by value: how often it may be stored yet
	places := map[string][]int{} // by value: where it stands among the sendings
	windows := make([]window, len(m.sends))
	once := map[int64]bool{}
	for i, t := range m.sends {
		e, ok := m.entry(t)
		if !ok {
			continue
		}
		k := key(e.v)
		windows[i], places[k] = u.window(e, offset), append(places[k], i)
		if e.form&repeated != 0 || !once[t] {
			left[k]++
			once[t] = true
		}
	}
	anyOrder, repeats := u.group.Via != nil, u.group.Via != nil
	next := 0
	for i, r := range rows {
		k := key(r.v)
		switch {
		case len(places[k]) == 0:
			out = append(out, unexplained{i, "value_wrong", "is a value that was never sent", nil})
			continue
		case left[k] == 0 && !repeats:
			out = append(out, unexplained{i, "dup_stored", "is stored more often than it was sent", nil})
			continue
		}
		left[k]--
		if anyOrder {
			continue
		}
		from, _ := slices.BinarySearch(places[k], next)
		at := slices.IndexFunc(places[k][from:], func(at int) bool { return windows[at].holds(r.t) })
		if at < 0 {
			out = append(
				out,
				unexplained{i, "order_wrong", "does not stand where it was sent, among the others", m.sendsFrom(next)},
			)
			continue
		}
		next = places[k][from+at] + 1
	}
	return out
}

func (m *measured) entry(t int64) (entry, bool) {
	i, ok := find(m.entries, t)
	if !ok {
		return entry{}, false
	}
	return m.entries[i], true
}

// rowsNear shows what is stored about a time.
func (u *unit) rowsNear(rows []row, t int64) (lines []string) {
	i, _ := at(rows, t)
	for _, r := range rows[max(0, i-3):min(len(rows), i+4)] {
		line := fmt.Sprintf("%s  stored t=%d v=%v", stamp(time.UnixMilli(r.t)), r.t, r.v)
		if r.t == t {
			line += "  <--"
		}
		lines = append(lines, line)
	}
	return lines
}
