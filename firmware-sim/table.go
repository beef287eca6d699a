package sim

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// WriteTable prints the report for people.
func (r *Report) WriteTable(w io.Writer) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	var by []string
	for _, t := range slices.Sorted(maps.Keys(r.ByTransp)) {
		by = append(by, fmt.Sprintf("%d %s", r.ByTransp[t], t))
	}
	p("")
	p("run %s, seed %d, %.1f s against %s", r.Run, r.Seed, r.Seconds, r.Hub)
	p("%d devices (%s); %.1f CPU-s and %.0f MB of heap here, %.2f CPU-ms and %.1f KB a device", r.Devices, strings.Join(by, ", "),
		r.Machine.CPU, r.Machine.HeapMB, r.Machine.CPUDev, r.Machine.PerDev)
	p("")
	rd, c := r.Readings, r.Commands
	p("%-10s %12s %13s %9s %8s %12s %10s %9s",
		"", "sent", "acknowledged", "at QoS 0", "lost", "duplicates", "refused", "replayed")
	p("%-10s %12d %13d %9d %8s %12s %10d %9d", "readings", rd.Sent, rd.Acknowledged, rd.Unheard,
		r.ifJudged(rd.Lost), r.ifJudged(rd.Duplicates), rd.Refused, rd.Replayed)
	if rd.Unacknowledged > 0 || rd.Unrecorded > 0 {
		p("%-10s %12d unacknowledged at the end, %d not recorded because a device's store was full", "", rd.Unacknowledged, rd.Unrecorded)
	}
	if c.Issued > 0 {
		head, line := fmt.Sprintf("%-10s %12s", "", "issued"), fmt.Sprintf("%-10s %12d", "commands", c.Issued)
		columns := append(c.Columns(),
			column{"executed", c.Executed}, column{"repeated", c.Repeats}, column{"run twice", c.Twice})
		for _, col := range columns {
			width := max(9, len(col.Name))
			head += fmt.Sprintf(" %*s", width, col.Name)
			line += fmt.Sprintf(" %*d", width, col.Count)
		}
		p("%s", head)
		p("%s", line)
	}
	if len(r.Latency) > 0 {
		p("")
		p("%-12s %9s %9s %9s %9s %9s %9s", "latency, ms", "count", "p50", "p90", "p99", "p99.9", "max")
		for _, l := range r.Latency {
			p("%-12s %9d %9.1f %9.1f %9.1f %9.1f %9.1f", strings.TrimSuffix(l.Name, "_ms"), l.Count, l.P50, l.P90, l.P99, l.P999, l.Max)
		}
	}
	if len(r.Errors) > 0 {
		p("")
		p("errors by code:")
		for i, code := range r.errorCodes() {
			if i == 12 {
				p("  and %d other codes", len(r.Errors)-i)
				break
			}
			p("  %8d  %s", r.Errors[code], code)
		}
	}
	r.writeBesieged(p)
	p("")
	if !r.Judged {
		p("What the hub has stored was not read back.")
	}
	for _, v := range r.Verdicts {
		if v.Count == 0 {
			continue
		}
		p("BROKEN  %s: %d of %d", v.Name, v.Count, v.Checked)
		for _, f := range v.First[:min(1, len(v.First))] {
			p("        %s %s", f.Device, f.Text)
			for _, l := range f.Line {
				p("          %s", l)
			}
		}
	}
	for _, u := range r.Unjudged[:min(3, len(r.Unjudged))] {
		p("not judged: %s", u)
	}
	for _, b := range r.Bottleneck {
		p("the generator was the bottleneck: %s", b)
	}
	for _, a := range r.Assertions {
		got, said := fmt.Sprintf("%g", a.Got), "ok"
		if !a.Known {
			got = "not checked: " + a.Why
		}
		switch {
		case a.Idle:
			said = "-"
		case !a.Holds:
			said = "FAILED"
		}
		p("%-6s  %s  (%s)", said, a.Text, got)
	}
	switch r.ExitCode() {
	case 0:
		p("verdict: passed")
	case 1:
		p("verdict: failed")
	default:
		p("verdict: none, the generator was too slow")
	}
}

// writeBesieged prints what became of those who meant harm, and what good devices noticed.
func (r *Report) writeBesieged(p func(format string, args ...any)) {
	if len(r.Besieged) == 0 {
		return
	}
	p("")
	p("%-18s %8s %10s %10s %10s %8s %8s", "hostile", "parties", "tried", "taken", "refused", "cut off", "held up")
	for _, b := range r.Besieged {
		p("%-18s %8d %10d %10d %10d %8d %8d", b.Kind, b.Parties, b.Tried, b.Taken, b.Denied(), b.CutOff, b.HeldUp)
	}
	p("%s", r.Noticed())
}

func (r *Report) ifJudged(n int64) string {
	if !r.Judged {
		return "-"
	}
	return fmt.Sprint(n)
}

func joined(faults []FaultSign) string {
	var texts []string
	for _, f := range faults {
		texts = append(texts, f.Text)
	}
	return strings.Join(texts, ", ")
}

// String is one line for a terminal.
func (s Snapshot) String() string {
	p99 := "-"
	if s.AckP99 > 0 {
		p99 = fmt.Sprintf("%.0f ms", s.AckP99)
	}
	rest := s.AllLinks().String()
	if rest != "" {
		rest = " (" + rest + ")"
	}
	line := fmt.Sprintf("%5.0fs %-9s up %d/%d%s  sent %d  acknowledged %d (%.0f/s, p99 %s)",
		s.Elapsed, s.Phase, s.Up, s.Devices, rest, s.Sent, s.Acked, s.AckedPerS, p99)
	if s.Commands > 0 {
		line += fmt.Sprintf("  commands %d: %d done, %d confirmed, %d unconfirmed, %d failed",
			s.Commands, s.CommandsDone, s.CommandsConfirmed, s.CommandsUnconfirmed, s.CommandsFailed)
	}
	line += fmt.Sprintf("  errors %d", s.Errors)
	if len(s.Faults) > 0 {
		line += "  fault: " + joined(s.Faults)
	}
	return line
}
