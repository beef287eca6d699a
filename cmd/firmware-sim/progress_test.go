package main

import (
	"bytes"
	"strings"
	"testing"

	sim "devicehub/firmware-sim"
)

func TestProgress(t *testing.T) {
	var plain bytes.Buffer
	p := newProgress(&plain)
	p.update(sim.Snapshot{Devices: 3, Up: 2})
	p.update(sim.Snapshot{Devices: 3, Up: 3})
	if got := plain.String(); strings.Count(got, "\n") != 2 || strings.Contains(got, "\x1b") || !strings.Contains(got, "up 2/3") {
		t.Errorf("without a terminal: %q", got)
	}
	var view bytes.Buffer
	p = &progress{w: &view, terminal: true, width: 80}
	p.update(sim.Snapshot{Devices: 4, Up: 2, AckP99: 3})
	first := view.Len()
	p.update(sim.Snapshot{Devices: 4, Up: 4, AckP99: 9})
	again := view.String()[first:]
	if !strings.HasPrefix(again, "\x1b[6A") || strings.Count(again, "\n") != 6 {
		t.Errorf("the view is not drawn over: %q", again)
	}
	for l := range strings.Lines(strings.ReplaceAll(view.String(), "\x1b[K", "")) {
		if n := len([]rune(strings.TrimSpace(l))); n > 80 {
			t.Errorf("a line of %d characters: %q", n, l)
		}
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
