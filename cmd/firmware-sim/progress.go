package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"

	sim "devicehub/firmware-sim"
)

// progress shows how a run goes: one line that is written over on a terminal, else a line a second.
type progress struct {
	w        io.Writer
	terminal bool
	mu       sync.Mutex
	width    int
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok {
		p.terminal = term.IsTerminal(int(f.Fd()))
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			p.width = width
		}
	}
	return p
}

func (p *progress) update(s sim.Snapshot) { p.line(s.String()) }

func (p *progress) line(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminal {
		fmt.Fprintln(p.w, line)
		return
	}
	if p.width > 1 && len(line) >= p.width {
		line = line[:p.width-1]
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", line)
}

func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprintln(p.w)
	}
}
