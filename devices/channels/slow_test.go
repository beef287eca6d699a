package channels

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A watcher that falls behind a chatty sensor stays, and gets the newest values with
// the number of events that were left out.
func TestSlowWatcherGetsTheNewest(t *testing.T) {
	inHouse(t, func(h *house) {
		dev := h.connect(h.device("t-1", sensor))
		dev.join("sensor:t-1")
		w := h.connect(h.person("ana", "viewer", ""))
		w.join("sensor:t-1")
		w.never("sensor:t-1", "reading")
		w.Pause()

		const pushes = 20
		batch := func(metric string, t0 int64, n int) string {
			entries := make([]string, 500)
			for i := range entries {
				entries[i] = fmt.Sprintf("[%q,%d,%d]", metric, n*500+i, i)
			}
			return fmt.Sprintf(`{"t0":%d,"r":[%s]}`, t0, strings.Join(entries, ","))
		}
		for n := range pushes {
			for _, metric := range []string{"temperature_a", "temperature_b"} {
				if status, r := dev.ask("sensor:t-1", "readings", batch(metric, time.Now().UnixMilli()-500, n)); status != "ok" {
					t.Fatal(r)
				}
			}
			time.Sleep(time.Millisecond)
		}
		w.Resume()
		if !w.open() {
			t.Fatalf("closed: %v", context.Cause(w.Conn().Context()))
		}
		skipped := map[string]float64{}
		last := map[string]float64{}
		for _, p := range w.topic("sensor:t-1").All("reading") {
			told := object(p)
			r := told["r"].([]any)
			newest := r[len(r)-1].(map[string]any)
			n, _ := told["skipped"].(float64)
			skipped[newest["m"].(string)] += n + 1
			last[newest["m"].(string)] = newest["v"].(float64)
		}
		for _, metric := range []string{"temperature_a", "temperature_b"} {
			if skipped[metric] != pushes || last[metric] != pushes*500-1 {
				t.Errorf("%s: got %v events up to %v, want %d, told or skipped, up to %d", metric, skipped[metric], last[metric], pushes, pushes*500-1)
			}
		}
		if s := h.app.Endpoint.Stats(); s.SlowConsumers != 0 || s.Conflated == 0 {
			t.Errorf("got %d slow consumers and %d conflated, want none and some", s.SlowConsumers, s.Conflated)
		}
	})
}
