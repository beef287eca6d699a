package sim

import (
	"context"
	"fmt"
	"sync"
)

// A Finding is one counter-example: where a promise was broken.
type Finding struct {
	Device string   `json:"device,omitempty"`
	Text   string   `json:"text"`
	Line   []string `json:"time_line,omitempty"` // what happened around it, oldest first
}

// A Verdict is one invariant: how often it was broken, and the first cases.
type Verdict struct {
	Name    string    `json:"name"`
	Count   int64     `json:"count"`
	Checked int64     `json:"checked"`
	Idle    string    `json:"idle,omitempty"` // why there was nothing to check, if the profile does not ask for any of it
	First   []Finding `json:"first,omitempty"`
}

// Seen reports whether anything was looked at: of what nobody saw, it is not known whether it holds.
func (v Verdict) Seen() bool { return v.Checked > 0 || v.Count > 0 }

const keepFindings = 5

// judge gathers what is found, during the run and after it.
type judge struct {
	commands commandLog
	journal  *Journal

	mu       sync.Mutex
	verdicts map[string]*Verdict
	failures []string        // what could not be judged
	outcomes [outcomes]int64 // of commands, by the hub's records
}

func (j *judge) outcome(o outcome) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.outcomes[o]++
}

func (j *judge) verdict(name string) *Verdict {
	if j.verdicts == nil {
		j.verdicts = make(map[string]*Verdict)
	}
	v := j.verdicts[name]
	if v == nil {
		v = &Verdict{Name: name}
		j.verdicts[name] = v
	}
	return v
}

func (j *judge) found(name string, f Finding) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.journal.json(lineFound, name, f)
	v := j.verdict(name)
	v.Count++
	if len(v.First) < keepFindings {
		v.First = append(v.First, f)
	}
}

func (j *judge) checked(name string, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.verdict(name).Checked += int64(n)
}

func (j *judge) unable(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.failures) < 20 {
		j.failures = append(j.failures, fmt.Sprintf(format, args...))
	}
}

// judgeAll compares what the devices know with what the hub says, over its public routes.
func (s *Sim) judgeAll(ctx context.Context) {
	var wg sync.WaitGroup
	commands := s.judge.commands.byUnit()
	units := make(chan *unit)
	for range 8 {
		wg.Go(func() {
			for u := range units {
				if u.group.Sensor {
					s.judgeReadings(ctx, u)
				} else {
					s.judgeSilent(ctx, u)
				}
				s.judgeCloses(ctx, u)
				if u.group.Light {
					s.judgeCommands(ctx, u, commands[u])
				}
			}
		})
	}
	for _, u := range s.units {
		units <- u
	}
	close(units)
	wg.Wait()
}

// judgeDevices judges what the devices know by themselves: that each command ran at most once. Whoever was up would have
// noticed what is not meant for it.
func (s *Sim) judgeDevices() {
	for _, u := range s.units {
		u.ledger.mu.Lock()
		for id := range u.ledger.commands {
			if n := u.ledger.count(id, ran); n > 1 {
				s.judge.found("cmd_run_twice", Finding{Device: u.id, Text: fmt.Sprintf("command %s ran %d times", id, n), Line: u.ledger.told(id)})
			}
		}
		s.judge.checked("cmd_run_twice", len(u.ledger.commands))
		u.ledger.mu.Unlock()
		u.mu.Lock()
		if !u.since.IsZero() {
			s.judge.checked("leaked", 1)
		}
		u.mu.Unlock()
	}
}
