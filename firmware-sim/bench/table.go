package bench

import (
	"fmt"
	"io"
)

// WriteTable prints a result for people.
func (r *Result) WriteTable(w io.Writer) {
	p := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	p("%s: %d clients, joined in %.2f s (%.0f/s)", r.Kind, r.Clients, r.JoinedIn, float64(r.Joined)/max(r.JoinedIn, 1e-9))
	if r.Failed > 0 || r.Dropped > 0 {
		p("%d connects or joins failed at first, %d connections were lost", r.Failed, r.Dropped)
	}
	switch r.Kind {
	case Fanout:
		p("%d messages, %d copies in %.2f s: %.0f/s; %d missing", r.Pushed, r.Delivered, r.Seconds, r.PerSecond, r.Missing)
	case RequestReply:
		p("%d requests, %d replies in %.2f s: %.0f/s; %d missing", r.Pushed, r.Delivered, r.Seconds, r.PerSecond, r.Missing)
	case Hold:
		p("held for %.1f s", r.Seconds)
	}
	p("%-12s %9s %9s %9s %9s %9s %9s", "latency, ms", "count", "p50", "p90", "p99", "p99.9", "max")
	for _, row := range []struct {
		name string
		s    Spread
	}{{"connect", r.Connect}, {"join", r.Join}, {r.Kind, r.Latency}} {
		if row.s.Count > 0 {
			p("%-12s %9d %9.2f %9.2f %9.2f %9.2f %9.2f", row.name, row.s.Count, row.s.P50, row.s.P90, row.s.P99, row.s.P999, row.s.Max)
		}
	}
	if !r.known {
		return
	}
	p("server: %.2f CPU-s for the joins (%.0f µs each), %.2f CPU-s for the rest, %.1f MB (%+.1f KB a connection)",
		r.JoinCPU, r.JoinCPU/float64(max(r.Joined, 1))*1e6, r.ServerCPU, r.ServerRSS, r.RSSPer)
	if r.PerMillion > 0 {
		p("server: %.2f CPU-s per million", r.PerMillion)
	}
}
