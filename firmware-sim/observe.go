package sim

import (
	"context"
	"runtime"
	"runtime/metrics"
	"time"
)

// A Snapshot is one second of a run.
type Snapshot struct {
	At         time.Time `json:"at"`
	Phase      string    `json:"phase"`
	Elapsed    float64   `json:"elapsed_s"`
	Devices    int       `json:"devices"`
	Up         int64     `json:"up"`
	Sent       int64     `json:"sent"`
	Acked      int64     `json:"acknowledged"`
	AckedPerS  float64   `json:"acknowledged_per_s"`
	Commands   int64     `json:"commands"`
	CommandsOK int64     `json:"commands_confirmed"`
	Errors     int64     `json:"errors"`
	AckP99     float64   `json:"ack_p99_ms"` // of this second; 0 without any
	Drops      int64     `json:"drops"`
	Goroutines int       `json:"goroutines"`
	HeapMB     float64   `json:"heap_mb"`
	CPU        float64   `json:"cpu_s"` // of this process, since it began
}

// Live returns the figures of this moment.
func (s *Sim) Live() Snapshot {
	s.mu.Lock()
	phase := s.phase
	s.mu.Unlock()
	now := Snapshot{At: time.Now(), Phase: phase, Devices: len(s.units), Up: s.stats.up.Load(), Sent: s.stats.measured.Load(),
		Acked: s.stats.acked.Load(), Commands: s.stats.commands.Load(), CommandsOK: s.stats.commandsOK.Load(), Drops: s.stats.drops.Load(),
		Goroutines: runtime.NumGoroutine()}
	if !s.began.IsZero() {
		now.Elapsed = time.Since(s.began).Seconds()
	}
	for _, n := range s.stats.errorCounts() {
		now.Errors += n
	}
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	now.HeapMB = float64(samples[0].Value.Uint64()) / (1 << 20)
	now.CPU = cpuSeconds()
	return now
}

// observe keeps a snapshot of every second, and shows it.
func (s *Sim) observe(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var before Snapshot
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := s.Live()
		now.AckP99 = s.stats.tick()
		if dt := now.At.Sub(before.At).Seconds(); !before.At.IsZero() && dt > 0 {
			now.AckedPerS = float64(now.Acked-before.Acked) / dt
		}
		before = now
		s.mu.Lock()
		if s.history = append(s.history, now); len(s.history) > 4000 {
			s.history = thin(s.history)
		}
		s.mu.Unlock()
		if s.cfg.Progress != nil {
			s.cfg.Progress(now)
		}
	}
}

// thin drops every other of the older half, so that a run of days has a history too.
func thin(h []Snapshot) []Snapshot {
	half := len(h) / 2
	kept := h[:0]
	for i, x := range h {
		if i >= half || i%2 == 0 {
			kept = append(kept, x)
		}
	}
	return kept
}
