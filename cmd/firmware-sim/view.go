package main

import (
	"cmp"
	"fmt"
	"image/color"
	"maps"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"

	sim "devicehub/firmware-sim"
)

// view is what a terminal shows of a run: what stands in the newest snapshot, and how it came to it. It hears snapshots,
// a string (one line in place of a run's picture), endingMsg, and the terminal's size.
type view struct {
	now           sim.Snapshot
	line          string
	ending        bool
	width, height int

	acked, delays  []float64       // a second each, the newest last
	seen           map[string]bool // states that some device was in, whose columns stay
	p50, p99       float64         // of acknowledgements, when there were some last
	confirm50      float64
	confirm99      float64
	sentPS, ackdPS float64
}

// endingMsg says that the run was told to end.
type endingMsg struct{}

// Colours are of the terminal's own sixteen: its owner has made them readable.
var (
	title  = lipgloss.NewStyle().Bold(true)
	quiet  = lipgloss.NewStyle().Faint(true)
	good   = lipgloss.NewStyle().Foreground(lipgloss.Green)
	doubt  = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	bad    = lipgloss.NewStyle().Foreground(lipgloss.Red)
	number = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
)

// stateColours by the names of sim.Links.
var stateColours = map[string]color.Color{"up": lipgloss.Green, "connecting": lipgloss.Cyan, "joining": lipgloss.Cyan, "waiting": lipgloss.Yellow,
	"dropped": lipgloss.Magenta, "half open": lipgloss.Magenta, "refused": lipgloss.Red, "gone": lipgloss.Red, "off": lipgloss.BrightBlack}

func newView() *view {
	return &view{width: 80, height: 24, seen: map[string]bool{"up": true}}
}

func (v *view) Init() tea.Cmd { return nil }

func (v *view) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		v.width, v.height = msg.Width, msg.Height
	case sim.Snapshot:
		v.take(msg)
	case string:
		v.line = msg
	case endingMsg:
		v.ending = true
	}
	return v, nil
}

func (v *view) take(s sim.Snapshot) {
	const keep = 400                 // seconds; no terminal is wider
	second := s.Phase == v.now.Phase // or a phase begins
	if !second {                     // it begins between two seconds, and has no rates of its own
		s.LagP99, s.CPUShare = v.now.LagP99, v.now.CPUShare
	}
	v.now = s
	for _, c := range s.AllLinks().All() {
		v.seen[c.State] = v.seen[c.State] && c.State != "off" || c.Count > 0
	}
	if !second {
		return
	}
	v.acked, v.delays = append(v.acked, s.AckedPerS), append(v.delays, s.AckP99)
	v.acked, v.delays = v.acked[max(0, len(v.acked)-keep):], v.delays[max(0, len(v.delays)-keep):]
	v.sentPS, v.ackdPS = s.SentPerS, s.AckedPerS
	if s.AckP99 > 0 {
		v.p50, v.p99 = s.AckP50, s.AckP99
	}
	if s.ConfirmP99 > 0 {
		v.confirm50, v.confirm99 = s.ConfirmP50, s.ConfirmP99
	}
}

// View implements tea.Model. The cursor stands visibly below the picture: nothing has to be put right on the terminal by a
// program that is ended hard.
func (v *view) View() tea.View {
	content := lipgloss.NewStyle().MaxWidth(v.width).MaxHeight(max(1, v.height-1)).Render(v.picture())
	out := tea.NewView(content + "\n")
	out.DisableBracketedPasteMode = true
	out.Cursor = tea.NewCursor(0, lipgloss.Height(content))
	return out
}

// picture is everything, what matters most first: a low terminal shows as much of it as it can.
func (v *view) picture() string {
	if v.line != "" {
		return v.line
	}
	lines := append([]string{v.head(), ""}, v.devices()...)
	lines = append(lines, v.load()...)
	lines = append(lines, v.trouble()...)
	hint := "Ctrl-C ends the run, and the verdict follows"
	if v.ending {
		hint = "ending; Ctrl-C again stops at once, without a verdict"
	}
	return strings.Join(append(lines, "", quiet.Render(hint)), "\n")
}

func (v *view) head() string {
	s := v.now
	phase := s.Phase
	if s.Warming {
		phase += ", warming up"
	}
	times := clock(s.Elapsed)
	if s.Left > 0 {
		times += " of " + clock(s.Elapsed+s.Left) + ", " + clock(s.Left) + " left"
	}
	return title.Render("firmware-sim") + "  " + number.Render(phase) + "  " + times
}

func clock(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second)).Round(time.Second)
	if d >= time.Hour {
		return fmt.Sprintf("%d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// devices is a bar of all devices by state, and a table of states by transport.
func (v *view) devices() []string {
	all := v.now.AllLinks()
	lines := []string{row("devices", fmt.Sprintf("%d of %d up  ", all.Up, v.now.Devices)+v.bar(all, v.width-40)), ""}
	states := v.states(all, 2)
	if lipgloss.Width(states) > v.width {
		states = v.states(all, 1)
	}
	return append(lines, states, "")
}

// states is a table of devices by transport and state, with so many blanks between the columns.
func (v *view) states(all sim.Links, gap int) string {
	var columns []string
	for _, c := range all.All() {
		if v.seen[c.State] {
			columns = append(columns, c.State)
		}
	}
	t := table.New().Border(lipgloss.HiddenBorder()).BorderTop(false).BorderBottom(false).BorderLeft(false).BorderRight(false).
		BorderColumn(false).BorderHeader(false).Wrap(false).
		Headers(append([]string{"transport", "all"}, columns...)...).
		StyleFunc(func(row, col int) lipgloss.Style {
			s := lipgloss.NewStyle()
			if col > 0 {
				s = s.PaddingLeft(gap).Align(lipgloss.Right)
			}
			if col == 0 || row == table.HeaderRow {
				return s.Faint(true)
			}
			if col > 1 {
				s = s.Foreground(stateColours[columns[col-2]])
			}
			return s
		})
	add := func(name string, l sim.Links) {
		cells := []string{name, fmt.Sprint(l.Devices())}
		for _, c := range l.All() {
			switch {
			case c.Count > 0:
				cells = append(cells, fmt.Sprint(c.Count))
			case v.seen[c.State]:
				cells = append(cells, "")
			}
		}
		t.Row(cells...)
	}
	for _, path := range slices.Sorted(maps.Keys(v.now.Links)) {
		add(path, v.now.Links[path])
	}
	return t.String()
}

// bar shows the shares of the states, n characters wide; a state that somebody is in has one at least.
func (v *view) bar(l sim.Links, n int) string {
	total := l.Devices()
	if total == 0 || n < 10 {
		return ""
	}
	var b strings.Builder
	used, seen := 0, 0
	order := l.All()
	slices.SortStableFunc(order, func(a, b sim.LinkCount) int { return cmp.Compare(rank[a.State], rank[b.State]) })
	for _, c := range order {
		if c.Count == 0 {
			continue
		}
		seen += c.Count
		width := min(max(1, seen*n/total-used), n-used)
		used += width
		glyph := "█"
		if c.State == "off" {
			glyph = "░"
		}
		b.WriteString(lipgloss.NewStyle().Foreground(stateColours[c.State]).Render(strings.Repeat(glyph, width)))
	}
	return b.String()
}

// rank orders the bar: who is up stands left, who is not there right.
var rank = map[string]int{"up": 0, "joining": 1, "connecting": 2, "waiting": 3, "dropped": 4, "half open": 5, "refused": 6, "gone": 7, "off": 8}

func (v *view) load() []string {
	s := v.now
	open := max(0, s.Sent-s.Acked-s.Unheard-s.Refused)
	lines := []string{
		row("readings", fmt.Sprintf("%s/s sent  %s/s acknowledged  ", figure(v.sentPS), figure(v.ackdPS))+good.Render(spark(v.acked, v.width-50))),
		row("", quiet.Render(fmt.Sprintf("%d sent  %d acknowledged  %d at QoS 0  %d refused  %d not yet",
			s.Sent, s.Acked, s.Unheard, s.Refused, open))),
		row("ack", fmt.Sprintf("p50 %s  p99 %s  ", ms(v.p50), ms(v.p99))+number.Render(spark(v.delays, v.width-50))),
	}
	if s.Commands > 0 {
		lines = append(lines,
			row("commands", fmt.Sprintf("%d given  %d done  %d confirmed  %d unconfirmed  %d failed",
				s.Commands, s.CommandsDone, s.CommandsConfirmed, s.CommandsUnconfirmed, s.CommandsFailed)),
			row("confirm", fmt.Sprintf("p50 %s  p99 %s", ms(v.confirm50), ms(v.confirm99))))
	}
	return lines
}

// trouble is what goes wrong: by itself, on purpose, and here.
func (v *view) trouble() []string {
	s := v.now
	errors := good.Render("none")
	if s.Errors > 0 {
		errors = bad.Render(fmt.Sprint(s.Errors)) + "  " + topCodes(s.Codes, 5)
	}
	lines := []string{row("errors", lipgloss.NewStyle().Width(max(20, v.width-labels)).Render(errors))}
	if s.Drops > 0 {
		lines = append(lines, row("lost", fmt.Sprintf("%d connections", s.Drops)))
	}
	if s.Leaves > 0 {
		lines = append(lines, row("left", fmt.Sprintf("%d connections, in order", s.Leaves)))
	}
	for _, f := range s.Faults {
		text := doubt.Render(f.Text)
		if f.Left > 0 {
			text += fmt.Sprintf(", %s left", clock(f.Left))
		}
		lines = append(lines, row("fault now", text))
	}
	if s.Next != nil {
		lines = append(lines, row("fault in", clock(s.Next.Left)+"  "+quiet.Render(s.Next.Text)))
	}
	lag := lipgloss.NewStyle()
	if s.LagP99 > 100 { // 250 is a bottleneck
		lag = doubt
	}
	cpu := lipgloss.NewStyle()
	if s.CPUShare > 0.6 { // 0.85 is
		cpu = doubt
	}
	return append(lines, row("generator", lag.Render(fmt.Sprintf("%.1f ms late (p99)", s.LagP99))+"  "+cpu.Render(fmt.Sprintf("%.0f %% of the CPUs", 100*s.CPUShare))+
		fmt.Sprintf("  %.0f MB of heap", s.HeapMB)))
}

// topCodes lists the most frequent codes.
func topCodes(codes map[string]int64, n int) string {
	names := slices.SortedFunc(maps.Keys(codes), func(a, b string) int { return cmp.Or(cmp.Compare(codes[b], codes[a]), cmp.Compare(a, b)) })
	var out []string
	for _, name := range names[:min(n, len(names))] {
		out = append(out, fmt.Sprintf("%d %s", codes[name], name))
	}
	if len(names) > n {
		out = append(out, fmt.Sprintf("and %d more", len(names)-n))
	}
	return strings.Join(out, ", ")
}

const labels = 14 // the width of the first column

func row(label, text string) string {
	return lipgloss.JoinHorizontal(lipgloss.Top, quiet.Width(labels).Render(label), text)
}

func figure(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func ms(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v < 10:
		return fmt.Sprintf("%.1f ms", v)
	}
	return fmt.Sprintf("%.0f ms", v)
}

// spark draws the newest values as a row of n bars, the tallest being the greatest of them.
func spark(vs []float64, n int) string {
	if n < 1 {
		return ""
	}
	vs = vs[max(0, len(vs)-n):]
	top := 0.0
	for _, v := range vs {
		top = max(top, v)
	}
	levels := []rune("▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, v := range vs {
		i := 0
		if top > 0 {
			i = int(v / top * float64(len(levels)-1))
		}
		b.WriteRune(levels[i])
	}
	return b.String()
}
