package sim

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// stats counts what happens. Its methods may be called from any goroutine.
type stats struct {
	measured, acked, replayed, refused, overflow atomic.Int64
	connects, drops                              atomic.Int64
	unheard                                      atomic.Int64 // readings sent at most once, each time
	leaves                                       atomic.Int64 // connections closed in order
	commands                                     atomic.Int64
	outcomes                                     [outcomes]atomic.Int64 // of commands, as their givers were told
	commandsLate                                 atomic.Int64           // not issued in time: the generator's fault
	executed, repeats                            atomic.Int64
	leaked, backwards                            atomic.Int64
	warm                                         atomic.Bool // from here on histograms count

	mu     sync.Mutex
	errors map[string]int64
	hist   map[string]*hdrhistogram.Histogram
	second map[string]*hdrhistogram.Histogram // of the present second, warm-up or not
}

// Histograms hold microseconds, to three digits, up to an hour.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 3_600_000_000, 3) }

func newStats() *stats {
	return &stats{errors: map[string]int64{}, hist: map[string]*hdrhistogram.Histogram{},
		second: map[string]*hdrhistogram.Histogram{"ack_ms": newHistogram(), "confirm_ms": newHistogram(), "lag_ms": newHistogram()}}
}

func (s *stats) outcome(o outcome) { s.outcomes[o].Add(1) }

// commandCounts is how the commands stand, as their givers were told.
func (s *stats) commandCounts() Commands {
	c := Commands{Issued: s.commands.Load(), Executed: s.executed.Load(), Repeats: s.repeats.Load()}
	c.Open = c.Issued
	for o := isDone; o < outcomes; o++ {
		n := s.outcomes[o].Load()
		*c.of(o) = n
		c.Open -= n
	}
	return c
}

func (s *stats) failed(code string) {
	if code == "" {
		code = "unknown"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.errors[code]; !ok && len(s.errors) >= 200 {
		code = "others"
	}
	s.errors[code]++
}

// record adds a duration to the histogram of this second, and to that of the run once the warm-up is over.
func (s *stats) record(name string, d time.Duration) {
	us := min(max(d.Microseconds(), 1), 3_600_000_000)
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.second[name]; h != nil {
		_ = h.RecordValue(us) // within the bounds
	}
	if !s.warm.Load() {
		return
	}
	h := s.hist[name]
	if h == nil {
		h = newHistogram()
		s.hist[name] = h
	}
	_ = h.RecordValue(us)
}

// tick returns the 50th and the 99th percentile of a histogram since it was asked last, in ms; 0 without any.
func (s *stats) tick(name string) (p50, p99 float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.second[name]
	if h.TotalCount() == 0 {
		return 0, 0
	}
	p50, p99 = float64(h.ValueAtPercentile(50))/1000, float64(h.ValueAtPercentile(99))/1000
	h.Reset()
	return p50, p99
}

func (s *stats) errorCounts() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.errors)
}

// histograms returns a copy of every histogram, by name.
func (s *stats) histograms() map[string]*hdrhistogram.Histogram {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]*hdrhistogram.Histogram, len(s.hist))
	for name, h := range s.hist {
		out[name] = hdrhistogram.Import(h.Export())
	}
	return out
}

// percentile of a histogram in ms; false if it is empty.
func (r *Report) percentile(name string, p float64) (float64, bool) {
	h := r.hist[name]
	if h == nil || h.TotalCount() == 0 {
		return 0, false
	}
	if p >= 100 {
		return float64(h.Max()) / 1000, true
	}
	return float64(h.ValueAtPercentile(p)) / 1000, true
}

// latencies summarizes histograms, by name.
func latencies(hist map[string]*hdrhistogram.Histogram) []Latency {
	var out []Latency
	for _, name := range slices.Sorted(maps.Keys(hist)) {
		h := hist[name]
		at := func(p float64) float64 { return float64(h.ValueAtPercentile(p)) / 1000 }
		l := Latency{Name: name, Count: h.TotalCount(), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: float64(h.Max()) / 1000}
		for _, b := range h.CumulativeDistribution() {
			l.Distribution = append(l.Distribution, [2]float64{b.Quantile, float64(b.ValueAt) / 1000})
		}
		out = append(out, l)
	}
	return out
}

// Latency is one histogram, in ms.
type Latency struct {
	Name         string       `json:"name"`
	Count        int64        `json:"count"`
	P50          float64      `json:"p50"`
	P90          float64      `json:"p90"`
	P99          float64      `json:"p99"`
	P999         float64      `json:"p999"`
	Max          float64      `json:"max"`
	Distribution [][2]float64 `json:"distribution,omitempty"` // percentile, ms
}
