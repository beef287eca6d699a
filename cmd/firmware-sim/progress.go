package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	sim "devicehub/firmware-sim"
)

// progress shows how a run goes: a view that is drawn over on a terminal, else a line a second.
type progress struct {
	w        io.Writer
	terminal bool
	width    int

	mu     sync.Mutex
	drawn  int // lines of the view that stand
	rates  []float64
	delays []float64
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, width: 80}
	if f, ok := w.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd()))
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 20 {
			p.width = width
		}
	}
	return p
}

// update shows a second of a run.
func (p *progress) update(s sim.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminal {
		fmt.Fprintln(p.w, s.String())
		return
	}
	p.rates = append(p.rates, s.AckedPerS)
	p.delays = append(p.delays, s.AckP99)
	p.draw(p.view(s))
}

// view is the terminal's picture of a second.
func (p *progress) view(s sim.Snapshot) []string {
	bar := p.width - 34
	up := 0
	if s.Devices > 0 {
		up = int(s.Up) * bar / s.Devices
	}
	return []string{
		fmt.Sprintf("firmware-sim  %s  %.0f s", s.Phase, s.Elapsed),
		fmt.Sprintf("  devices up  %7d of %-7d %s%s", s.Up, s.Devices, strings.Repeat("█", up), strings.Repeat("░", bar-up)),
		fmt.Sprintf("  readings    %9d sent  %9d acknowledged  %7.0f/s  %s", s.Sent, s.Acked, s.AckedPerS, spark(p.rates, p.width-66)),
		fmt.Sprintf("  ack p99     %9.1f ms  %s", s.AckP99, spark(p.delays, p.width-30)),
		fmt.Sprintf("  commands    %9d given %9d confirmed", s.Commands, s.CommandsOK),
		fmt.Sprintf("  trouble     %9d errors  %7d connections lost", s.Errors, s.Drops),
	}
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

// draw replaces what stands with lines.
func (p *progress) draw(lines []string) {
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn)
	}
	for _, l := range lines {
		if r := []rune(l); len(r) >= p.width {
			l = string(r[:p.width-1])
		}
		b.WriteString("\r\x1b[K" + l + "\n")
	}
	p.drawn = len(lines)
	io.WriteString(p.w, b.String())
}

// line shows one line in place of the last.
func (p *progress) line(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		return
	}
	p.draw([]string{line})
}
