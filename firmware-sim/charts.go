package sim

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// chart is a picture of the report: lines or stacked areas in an SVG of 1000 × 100 that is stretched to its frame, and the
// words around it, placed in per cent, which are not stretched with it.
type chart struct {
	Title, Unit string
	Lines       []line
	Y, X        []tick
	Marks       []mark
}

// line is a path. Colour is a number of the style sheet's palette.
type line struct {
	Name, Path string
	Colour     int
	Filled     bool
}

// tick is a label of an axis, At per cent from the left or from the top.
type tick struct {
	At   float64
	Text string
}

// mark is a numbered moment of the time line.
type mark struct {
	At   float64
	N    int
	Text string
}

const chartWidth, chartHeight = 1000.0, 100.0

// series is one figure of every second.
type series struct {
	name   string
	colour int
	gaps   bool // 0 means that there was nothing
	value  func(before, now Snapshot) float64
}

// charts draws what can be drawn of the history, and the histograms.
func (r *Report) charts() []chart {
	var out []chart
	if c, ok := r.states(); ok {
		out = append(out, c)
	}
	add := func(title, unit string, all ...series) {
		if c, ok := r.over(title, unit, all); ok {
			out = append(out, c)
		}
	}
	of := func(f func(Snapshot) float64) func(_, now Snapshot) float64 {
		return func(_, now Snapshot) float64 { return f(now) }
	}
	rate := func(f func(Snapshot) int64) func(before, now Snapshot) float64 {
		return func(before, now Snapshot) float64 {
			return float64(f(now)-f(before)) / max(now.Elapsed-before.Elapsed, 1e-9)
		}
	}
	add("Readings", "per second", series{"sent", 5, false, of(func(s Snapshot) float64 { return s.SentPerS })},
		series{"acknowledged", 0, false, of(func(s Snapshot) float64 { return s.AckedPerS })})
	add("Acknowledgement of a reading, in each second", "ms", series{"p99", 1, true, of(func(s Snapshot) float64 { return s.AckP99 })},
		series{"p50", 0, true, of(func(s Snapshot) float64 { return s.AckP50 })})
	if r.Commands.Issued > 0 {
		add("Commands", "per second", series{"issued", 5, false, rate(func(s Snapshot) int64 { return s.Commands })},
			series{"done", 2, false, rate(func(s Snapshot) int64 { return s.CommandsDone })},
			series{"confirmed", 0, false, rate(func(s Snapshot) int64 { return s.CommandsConfirmed })},
			series{"unconfirmed", 1, false, rate(func(s Snapshot) int64 { return s.CommandsUnconfirmed })},
			series{"failed", 3, false, rate(func(s Snapshot) int64 { return s.CommandsFailed })})
		add("Confirmation of a command, in each second", "ms", series{"p99", 1, true, of(func(s Snapshot) float64 { return s.ConfirmP99 })},
			series{"p50", 0, true, of(func(s Snapshot) float64 { return s.ConfirmP50 })})
	}
	add("Trouble", "per second", series{"errors", 3, false, rate(func(s Snapshot) int64 { return s.Errors })},
		series{"connections lost", 1, false, rate(func(s Snapshot) int64 { return s.Drops })})
	if c, ok := r.percentiles(); ok {
		out = append(out, c)
	}
	add("The simulator's own schedule, how late", "ms, p99", series{"late", 4, false, of(func(s Snapshot) float64 { return s.LagP99 })})
	add("The simulator's CPU", "% of all cores", series{"CPU", 4, false, of(func(s Snapshot) float64 { return 100 * s.CPUShare })})
	return out
}

func (r *Report) frame(title, unit string) chart {
	last := r.History[len(r.History)-1].Elapsed
	c := chart{Title: title, Unit: unit}
	for i := range 5 {
		c.X = append(c.X, tick{25 * float64(i), clock(last * float64(i) / 4)})
	}
	for i, f := range r.faults() {
		if at := f.At.Sub(r.Began).Seconds() / last * 100; at >= 0 && at <= 100 {
			c.Marks = append(c.Marks, mark{at, i + 1, f.Text})
		}
	}
	return c
}

// faultEvent begins the text of events that are faults.
const faultEvent = "fault: "

// faults are the events of the time line that are marked.
func (r *Report) faults() (out []Event) {
	for _, e := range r.Events {
		if strings.HasPrefix(e.Text, faultEvent) {
			out = append(out, e)
		}
	}
	return out
}

func clock(seconds float64) string {
	d := time.Duration(math.Round(seconds)) * time.Second
	if d >= time.Hour {
		return fmt.Sprintf("%d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// scale rounds up to a number that people would write at an axis, half of which is one too.
func scale(v float64) float64 {
	if v <= 0 {
		return 1
	}
	ten := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 4, 5, 6, 8, 10} {
		if f*ten >= v*(1-1e-9) {
			return f * ten
		}
	}
	return 10 * ten
}

func (c *chart) linear(top float64) {
	for i := range 3 {
		c.Y = append(c.Y, tick{50 * float64(i), number(top * (1 - float64(i)/2))})
	}
}

// number is short, with a blank between thousands.
func number(v float64) string {
	if v < 1000 {
		return fmt.Sprintf("%.4g", v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// over draws figures over the time of the run.
func (r *Report) over(title, unit string, all []series) (chart, bool) {
	if len(r.History) < 2 {
		return chart{}, false
	}
	values := make([][]float64, len(all))
	top := 0.0
	for i, s := range all {
		before := r.History[0]
		for _, h := range r.History {
			v := s.value(before, h)
			values[i], top, before = append(values[i], v), max(top, v), h
		}
	}
	top = scale(top)
	c := r.frame(title, unit)
	c.linear(top)
	for i, s := range all {
		var b strings.Builder
		pen := false
		for j, v := range values[i] {
			if s.gaps && v == 0 {
				pen = false
				continue
			}
			x, y := r.x(j), chartHeight*(1-v/top)
			if pen {
				fmt.Fprintf(&b, "L%.1f %.1f", x, y)
			} else {
				fmt.Fprintf(&b, "M%.1f %.1fh0", x, y) // a dot, if nothing follows
			}
			pen = true
		}
		c.Lines = append(c.Lines, line{Name: s.name, Path: b.String(), Colour: s.colour})
	}
	return c, true
}

func (r *Report) x(i int) float64 {
	return r.History[i].Elapsed / max(r.History[len(r.History)-1].Elapsed, 1e-9) * chartWidth
}

// states draws devices by the state of their connection, one upon the other.
func (r *Report) states() (chart, bool) {
	if len(r.History) < 2 || r.Devices == 0 {
		return chart{}, false
	}
	c := r.frame("Devices by state of their connection", "devices")
	top := scale(float64(r.Devices))
	c.linear(top)
	colours := map[string]int{"up": 2, "connecting": 0, "joining": 6, "waiting": 1, "dropped": 4, "half open": 7, "refused": 3, "gone": 8, "off": 5}
	below := make([]float64, len(r.History))
	for _, state := range []string{"up", "joining", "connecting", "waiting", "dropped", "half open", "refused", "gone", "off"} {
		var upper, lower strings.Builder
		any := false
		for i := range r.History {
			n := 0
			for _, s := range r.History[i].AllLinks().All() {
				if s.State == state {
					n = s.Count
				}
			}
			fmt.Fprintf(&upper, "%c%.1f %.1f", "ML"[min(i, 1)], r.x(i), chartHeight*(1-(below[i]+float64(n))/top))
			any = any || n > 0
			below[i] += float64(n)
		}
		if !any {
			continue
		}
		for i := len(r.History) - 1; i >= 0; i-- {
			n := 0
			for _, s := range r.History[i].AllLinks().All() {
				if s.State == state {
					n = s.Count
				}
			}
			fmt.Fprintf(&lower, "L%.1f %.1f", r.x(i), chartHeight*(1-(below[i]-float64(n))/top))
		}
		c.Lines = append(c.Lines, line{Name: state, Path: upper.String() + lower.String() + "Z", Colour: colours[state], Filled: true})
	}
	return c, len(c.Lines) > 0
}

// percentiles draws every histogram against 1/(1-p), in decades, and ms in decades.
func (r *Report) percentiles() (chart, bool) {
	c := chart{Title: "Latency by percentile, both axes logarithmic", Unit: "ms"}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, l := range r.Latency {
		if l.Count > 0 {
			lo, hi = min(lo, max(l.P50/4, 0.01)), max(hi, l.Max)
		}
	}
	if math.IsInf(lo, 1) || hi <= lo {
		return c, false
	}
	lo, hi = math.Pow(10, math.Floor(math.Log10(lo))), math.Pow(10, math.Ceil(math.Log10(hi)))
	y := func(ms float64) float64 {
		return chartHeight * (1 - (math.Log(max(ms, lo))-math.Log(lo))/(math.Log(hi)-math.Log(lo)))
	}
	for ms := lo; ms <= hi*1.001; ms *= 10 {
		c.Y = append(c.Y, tick{y(ms) / chartHeight * 100, number(ms)})
	}
	for i, text := range []string{"0 %", "90 %", "99 %", "99.9 %", "99.99 %"} {
		c.X = append(c.X, tick{25 * float64(i), text})
	}
	for i, l := range r.Latency {
		var b strings.Builder
		for _, d := range l.Distribution {
			x := math.Log10(1/max(1-d[0]/100, 1e-4)) / 4 * chartWidth
			fmt.Fprintf(&b, "%c%.1f %.1f", "ML"[min(b.Len(), 1)], x, y(d[1]))
		}
		c.Lines = append(c.Lines, line{Name: strings.TrimSuffix(l.Name, "_ms"), Path: b.String(), Colour: i % 9})
	}
	return c, true
}
