package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/term"

	sim "devicehub/firmware-sim"
)

// progress shows how a run goes: on a terminal by a view that is drawn over, else by a line a second. It is an io.Writer for
// what is to be said meanwhile, whole lines at a time, which stands above the view.
type progress struct {
	terminal *os.File // nil: there is none
	ctx      context.Context

	mu      sync.Mutex
	w       io.Writer
	program *tea.Program // nil: nothing was shown yet, or nothing is any more
	done    chan struct{}
}

// newProgress shows on w until close. When ctx is done, the view says that the run is about to end.
func newProgress(ctx context.Context, w io.Writer) *progress {
	p := &progress{ctx: ctx, w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.terminal = f
	}
	return p
}

// open draws the view, which is with the first thing that it has to show.
func (p *progress) open() *tea.Program {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal == nil || p.program != nil {
		return p.program
	}
	// Standard input may be a pipe that holds a password, and signals are the run's: the program gets neither. Without input
	// it asks the terminal nothing, and leaves it as it is, so that Ctrl-C stays a signal.
	program := tea.NewProgram(newView(), tea.WithOutput(p.terminal), tea.WithInput(nil), tea.WithoutSignalHandler(), tea.WithFPS(10))
	done := make(chan struct{})
	go func() { // close waits for it
		defer close(done)
		defer context.AfterFunc(p.ctx, func() {
			io.WriteString(p.terminal, "\r\x1b[K") // over the ^C that the terminal has echoed
			program.Send(endingMsg{})
		})()
		if _, err := program.Run(); err != nil {
			fmt.Fprintln(p.terminal, "the view has ended:", err) // the run goes on unseen
		}
	}()
	p.program, p.done = program, done
	return program
}

// close leaves the last view standing. What comes later is written plainly.
func (p *progress) close() {
	p.mu.Lock()
	program := p.program
	p.terminal, p.program = nil, nil
	p.mu.Unlock()
	if program != nil {
		program.Quit()
		<-p.done
	}
}

// update shows a second of a run.
func (p *progress) update(s sim.Snapshot) {
	if program := p.open(); program != nil {
		program.Send(s)
		return
	}
	p.Write([]byte(s.String() + "\n"))
}

// line shows one line in place of the last.
func (p *progress) line(line string) {
	if program := p.open(); program != nil {
		program.Send(line)
		return
	}
	p.Write([]byte(line + "\n"))
}

// Write implements io.Writer.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.program != nil {
		p.program.Println(strings.TrimRight(string(b), "\n"))
		return len(b), nil
	}
	return p.w.Write(b)
}
