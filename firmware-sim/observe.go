package sim

import (
	"context"
	"runtime"
	"runtime/metrics"
	"time"
)

// A Snapshot is one second of a run.
type Snapshot struct {
	At        time.Time `json:"at"`
	Phase     string    `json:"phase"`
	Elapsed   float64   `json:"elapsed_s"`
	Left      float64   `json:"left_s,omitzero"` // of the hold; 0: none, or until stopped
	Warming   bool      `json:"warming,omitzero"`
	Devices   int       `json:"devices"`
	Up        int64     `json:"up"`
	Sent      int64     `json:"sent"`
	SentPerS  float64   `json:"sent_per_s"`
	Acked     int64     `json:"acknowledged"`
	AckedPerS float64   `json:"acknowledged_per_s"`
	Unheard   int64     `json:"at_qos_0"`
	Refused   int64     `json:"refused"`
	Commands  int64     `json:"commands"`

	// What their givers were told became of them. Those that are missing have not ended, or were
	// refused or superseded.
	CommandsDone        int64 `json:"commands_done"`
	CommandsConfirmed   int64 `json:"commands_confirmed"`
	CommandsUnconfirmed int64 `json:"commands_unconfirmed"`
	CommandsFailed      int64 `json:"commands_failed"`

	Errors     int64   `json:"errors"`
	Drops      int64   `json:"drops"`
	Leaves     int64   `json:"left"` // connections that devices have closed in order, and come back
	Goroutines int     `json:"goroutines"`
	HeapMB     float64 `json:"heap_mb"`
	CPU        float64 `json:"cpu_s"`     // of this process, since it began
	CPUShare   float64 `json:"cpu_share"` // of all cores, in this second

	// Percentiles of this second; 0 without any. Lag is how late the schedule was.
	AckP50     float64 `json:"ack_p50_ms"`
	AckP99     float64 `json:"ack_p99_ms"`
	ConfirmP50 float64 `json:"confirm_p50_ms,omitzero"`
	ConfirmP99 float64 `json:"confirm_p99_ms,omitzero"`
	LagP99     float64 `json:"lag_p99_ms"`

	Links map[string]Links `json:"links,omitempty"` // by transport, or "bridged"

	// For those who watch; the report's history leaves them out.
	Codes  map[string]int64 `json:"codes,omitempty"`  // Errors by code
	Faults []FaultSign      `json:"faults,omitempty"` // in force
	Next   *FaultSign       `json:"next,omitempty"`   // the next of the profile
}

// A FaultSign is a fault that is in force or to come, and for how long yet; 0: that is not known.
type FaultSign struct {
	Text string  `json:"text"`
	Left float64 `json:"left_s,omitzero"`
}

// AllLinks is the sum over the transports.
func (s Snapshot) AllLinks() (sum Links) {
	for _, l := range s.Links {
		sum = sum.Add(l)
	}
	return sum
}

// Live returns the figures of this moment.
func (s *Sim) Live() Snapshot {
	s.mu.Lock()
	phase, began, hold := s.phase, s.began, s.hold
	s.mu.Unlock()
	commands := s.stats.commandCounts()
	now := Snapshot{At: time.Now(), Phase: phase, Devices: len(s.units), Sent: s.stats.measured.Load(),
		Acked: s.stats.acked.Load(), Unheard: s.stats.unheard.Load(), Refused: s.stats.refused.Load(),
		Commands: commands.Issued, CommandsDone: commands.Done, CommandsConfirmed: commands.Confirmed,
		CommandsUnconfirmed: commands.Unconfirmed, CommandsFailed: commands.Failed,
		Drops: s.stats.drops.Load(), Leaves: s.stats.leaves.Load(),
		Goroutines: runtime.NumGoroutine(), Links: s.links(), Codes: s.stats.errorCounts()}
	now.Up = int64(now.AllLinks().Up)
	if !began.IsZero() {
		now.Elapsed = time.Since(began).Seconds()
	}
	if phase == playing {
		now.Warming = !s.stats.warm.Load()
		now.Left = max(0, (hold - time.Since(began)).Seconds())
		now.Faults, now.Next = s.faultSigns(time.Since(began))
	}
	for _, n := range now.Codes {
		now.Errors += n
	}
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(samples)
	now.HeapMB = float64(samples[0].Value.Uint64()) / (1 << 20)
	now.CPU = s.before.cpu + cpuSeconds()
	return now
}

// observe keeps a snapshot of every second, and shows it.
func (s *Sim) observe(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	defer s.save(true)
	var before Snapshot
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := s.Live()
		now.AckP50, now.AckP99 = s.stats.tick("ack_ms")
		now.ConfirmP50, now.ConfirmP99 = s.stats.tick("confirm_ms")
		_, now.LagP99 = s.stats.tick("lag_ms")
		if dt := now.At.Sub(before.At).Seconds(); !before.At.IsZero() && dt > 0 {
			now.SentPerS = float64(now.Sent-before.Sent) / dt
			now.AckedPerS = float64(now.Acked-before.Acked) / dt
			now.CPUShare = (now.CPU - before.CPU) / dt / float64(runtime.GOMAXPROCS(0))
		}
		before = now
		kept := now
		kept.Codes, kept.Faults, kept.Next = nil, nil, nil
		s.mu.Lock()
		if s.history = append(s.history, kept); len(s.history) > 4000 {
			s.history = thin(s.history)
		}
		s.mu.Unlock()
		s.cfg.Journal.json(lineSecond, "", kept)
		s.save(n%5 == 0)
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
