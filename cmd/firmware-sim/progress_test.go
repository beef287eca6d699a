package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/creack/pty"

	sim "devicehub/firmware-sim"
)

func TestProgressWithoutTerminal(t *testing.T) {
	var plain bytes.Buffer
	p := newProgress(t.Context(), &plain)
	p.update(sim.Snapshot{Devices: 3, Up: 2, Links: map[string]sim.Links{"mqtt": {Up: 2, Refused: 1}}})
	p.update(sim.Snapshot{Devices: 3, Up: 3})
	p.Write([]byte("a warning\n"))
	p.line("3 of 3 joined")
	p.close()
	got := plain.String()
	if strings.Count(got, "\n") != 4 || strings.Contains(got, "\x1b") || !strings.Contains(got, "up 2/3 (1 refused)") || !strings.Contains(got, "a warning\n3 of 3 joined\n") {
		t.Errorf("got %q", got)
	}
}

var second = sim.Snapshot{Phase: "playing", Elapsed: 42, Left: 258, Devices: 20, Up: 14, Sent: 5000, Acked: 4990, SentPerS: 120, AckedPerS: 118,
	AckP50: 1.2, AckP99: 4, Unheard: 4, Refused: 1,
	Commands: 40, CommandsDone: 3, CommandsConfirmed: 33, CommandsUnconfirmed: 2, CommandsFailed: 1,
	ConfirmP50: 21, ConfirmP99: 90, Errors: 9, Drops: 6, Leaves: 2, LagP99: 0.4, CPUShare: 0.12, HeapMB: 23,
	Codes:  map[string]int64{"unauthorized": 5, "rate_limited": 2, "command:expired": 1, "no_answer": 1},
	Faults: []sim.FaultSign{{Text: "drop 20 % for 30s", Left: 12}}, Next: &sim.FaultSign{Text: "flap 5 % every 2s", Left: 48},
	Links: map[string]sim.Links{"websocket": {Up: 10, Connecting: 1, Joining: 1}, "mqtt5": {Up: 3, Waiting: 1, Dropped: 2, HalfOpen: 1}, "bridged": {Up: 1}}}

// picture is what a view of some size shows, without its colours.
func picture(width, height int, msgs ...tea.Msg) string {
	v := newView()
	v.Update(tea.WindowSizeMsg{Width: width, Height: height})
	for _, m := range msgs {
		v.Update(m)
	}
	return ansi.Strip(v.View().Content)
}

func TestViewShowsEverything(t *testing.T) {
	got := picture(100, 40, second, second)
	for _, want := range []string{
		"playing  0:42 of 5:00, 4:18 left", "14 of 20 up",
		"transport  all  connecting  joining  up  waiting  dropped  half open",
		"bridged      1                        1", "mqtt5        7                        3        1        2          1", "websocket   12           1        1  10",
		"120/s sent  118/s acknowledged", "█", "5000 sent  4990 acknowledged  4 at QoS 0  1 refused  5 not yet",
		"p50 1.2 ms  p99 4.0 ms", "40 given  3 done  33 confirmed  2 unconfirmed  1 failed", "p50 21 ms  p99 90 ms",
		"9  5 unauthorized, 2 rate_limited, 1 command:expired, 1 no_answer", "6 connections", "2 connections, in order",
		"drop 20 % for 30s, 0:12 left", "0:48  flap 5 % every 2s",
		"0.4 ms late (p99)  12 % of the CPUs  23 MB of heap", "Ctrl-C ends the run, and the verdict follows",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	t.Log("\n" + got)
}

func TestViewFits(t *testing.T) {
	if got := strings.TrimSpace(picture(80, 24, "3 of 9 joined")); got != "3 of 9 joined" {
		t.Errorf("one line is shown as %q", got)
	}
	for _, size := range [][2]int{{80, 24}, {40, 10}, {20, 3}, {250, 60}} {
		got := picture(size[0], size[1], second, second)
		if w, h := lipgloss.Width(got), lipgloss.Height(got); w > size[0] || h > size[1] {
			t.Errorf("%d × %d on a terminal of %d × %d:\n%s", w, h, size[0], size[1], got)
		}
		if !strings.Contains(got, "firmware-sim") {
			t.Errorf("%v: no head:\n%s", size, got)
		}
	}
}

// Even with devices in every state, a terminal of 80 columns has room for them.
func TestViewOfAllStates(t *testing.T) {
	s := second
	s.Links = map[string]sim.Links{"websocket": {Off: 1, Connecting: 2, Joining: 3, Up: 4, Waiting: 5, Dropped: 6, HalfOpen: 7, Refused: 8, Gone: 9}}
	got := picture(80, 24, s)
	if !strings.Contains(got, "websocket  45   1          2       3  4       5       6         7       8    9") {
		t.Errorf("got\n%s", got)
	}
	if got := topCodes(map[string]int64{"a": 1, "b": 3, "c": 2}, 2); got != "3 b, 2 c, and 1 more" {
		t.Errorf("got %s", got)
	}
}

// What was measured last stays while there is nothing new, and a state that was seen keeps its column.
func TestViewKeepsWhatItKnew(t *testing.T) {
	calm := second
	calm.AckP50, calm.AckP99, calm.ConfirmP50, calm.ConfirmP99, calm.Links = 0, 0, 0, 0, map[string]sim.Links{"mqtt5": {Up: 20}}
	got := picture(100, 40, second, second, calm, endingMsg{})
	for _, want := range []string{"p99 4.0 ms", "p99 90 ms", "half open", "Ctrl-C again stops at once"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

// On a real terminal the view is drawn and drawn over, follows the terminal's size, lets other lines pass above, and leaves
// the terminal as it was.
func TestProgressOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	master, tty, err := pty.Open()
	if err != nil {
		t.Skip("no pseudo-terminal:", err)
	}
	defer master.Close()
	pty.Setsize(master, &pty.Winsize{Rows: 40, Cols: 100})
	chunks := make(chan string)
	go func() {
		defer close(chunks)
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if err != nil {
				return
			}
			chunks <- string(b[:n])
		}
	}()
	var all strings.Builder
	wait := func(want string) {
		t.Helper()
		limit := time.After(10 * time.Second)
		for !strings.Contains(all.String(), want) {
			select {
			case c := <-chunks:
				all.WriteString(c)
			case <-limit:
				t.Fatalf("no %q in %q", want, all.String())
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := newProgress(ctx, tty)
	p.Write([]byte("before\n"))
	p.update(second)
	wait("0:42 of 5:00")
	p.Write([]byte("level=WARN msg=oops\n"))
	wait("oops")
	later := second
	later.Elapsed = 43
	pty.Setsize(master, &pty.Winsize{Rows: 20, Cols: 60})
	p.update(later)
	cancel()
	wait("ending;")
	p.close()
	tty.WriteString("the table follows\n")
	wait("the table follows")
	tty.Close()
	got := all.String()
	for _, want := range []string{"\x1b[?2004h", "\x1b[?1049h", "\x1b[6n", "\x1b]11;?", "\x1b[c", "\x1b[>"} { // modes that outlive it, questions
		if strings.Contains(got, want) {
			t.Errorf("the view sends %q", want)
		}
	}
	if strings.LastIndex(got, "\x1b[?25l") > strings.LastIndex(got, "\x1b[?25h") {
		t.Error("the cursor is left hidden")
	}
}

func TestSpark(t *testing.T) {
	if got := spark([]float64{9, 0, 7, 3.5}, 3); got != "▁█▄" {
		t.Errorf("got %s", got)
	}
	if spark(nil, 5) != "" || spark([]float64{1}, 0) != "" || spark([]float64{0}, 1) != "▁" {
		t.Error("nothing to show is not shown well")
	}
}
