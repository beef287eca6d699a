package sim

import (
	"strings"
	"testing"
)

func TestAxes(t *testing.T) {
	for v, want := range map[float64]float64{0: 1, 0.3: 0.4, 1: 1, 11: 20, 40: 40, 583: 600, 999: 1000, 3001: 4000} {
		if got := scale(v); got < want*0.999 || got > want*1.001 {
			t.Errorf("the axis of %g ends at %g, want %g", v, got, want)
		}
	}
	for v, want := range map[float64]string{0.5: "0.5", 999: "999", 12345: "12\u202f345", 1234567: "1\u202f234\u202f567"} {
		if got := number(v); got != want {
			t.Errorf("%g is written %q, want %q", v, got, want)
		}
	}
	if clock(59.6) != "1:00" || clock(3725) != "1:02:05" {
		t.Errorf("got %s and %s", clock(59.6), clock(3725))
	}
}

// A second without a value leaves a gap, one between two gaps is a dot; a second without an event is nought.
func TestChartsOverTime(t *testing.T) {
	r := &Report{Devices: 4}
	for i, p99 := range []float64{10, 0, 20, 0, 40} {
		r.History = append(r.History, Snapshot{Elapsed: float64(i), AckP99: p99, Links: map[string]Links{"mqtt": {Up: i, Off: 4 - i}}})
	}
	charts := map[string]chart{}
	for _, c := range r.charts() {
		charts[c.Title] = c
	}
	p99 := charts["Acknowledgement of a reading, in each second"].Lines[0]
	if p99.Path != "M0.0 75.0h0M500.0 50.0h0M1000.0 0.0h0" {
		t.Errorf("got %s", p99.Path)
	}
	errors := charts["Trouble"].Lines[0]
	if strings.Count(errors.Path, "M") != 1 || strings.Count(errors.Path, " 100.0") != 5 {
		t.Errorf("got %s", errors.Path)
	}
	states := charts["Devices by state of their connection"]
	if len(states.Lines) != 2 || states.Lines[0].Name != "up" || states.Lines[0].Path != "M0.0 100.0L250.0 75.0L500.0 50.0L750.0 25.0L1000.0 0.0"+
		"L1000.0 100.0L750.0 100.0L500.0 100.0L250.0 100.0L0.0 100.0Z" {
		t.Errorf("got %+v", states.Lines)
	}
	if _, there := charts["Commands"]; there {
		t.Error("commands are drawn, and none was issued")
	}
}
