package sim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// before is what the earlier processes of a run have used up.
type before struct {
	elapsed time.Duration
	cpu     float64
}

// takeUp goes on where the journal ends, if it is one of an earlier process.
func (s *Sim) takeUp() error {
	if s.cfg.Journal == nil || s.cfg.Journal.past == nil {
		return nil
	}
	p := s.cfg.Journal.past
	s.cfg.Journal.past = nil // it is large
	s.before.elapsed = p.elapsed()
	if n := len(p.history); n > 0 {
		s.before.cpu = p.history[n-1].CPU
	}
	s.history, s.events = p.history, p.events
	s.note("taken up after %v of play", s.before.elapsed.Round(time.Second))
	s.stats.restore(p.figures)
	for name, b := range p.hist {
		h, err := hdrhistogram.Decode(b)
		if err != nil {
			return fmt.Errorf("journal: histogram %s: %w", name, err)
		}
		s.stats.hist[name] = h
	}
	byN := map[int]*unit{}
	for _, u := range s.units {
		byN[u.n] = u
		if was := p.units[u.n]; was != nil {
			u.takeUp(was)
			s.stats.measured.Add(was.measured)
			s.stats.acked.Add(was.acked)
			s.stats.refused.Add(was.refused)
			s.stats.unheard.Add(was.unheard)
		} else {
			u.ledger.lost(0, p.resumed.UnixMilli())
		}
	}
	for _, c := range p.commands {
		if u := byN[c.n]; u != nil {
			old := &issued{unit: u, id: c.id, op: c.op, given: c.given, status: c.status, old: true, doubt: c.status == ""}
			s.judge.commands.add(old)
			s.stats.commands.Add(1)
		}
	}
	for i, c := range p.figures.Besieged {
		if i < len(s.besiegers) {
			s.besiegers[i].tally.Restore(c)
		}
	}
	for name, n := range p.figures.Checked {
		s.judge.verdict(name).Checked = n
	}
	for _, f := range p.found {
		v := s.judge.verdict(f.verdict)
		if v.Count++; len(v.First) < keepFindings {
			v.First = append(v.First, f.finding)
		}
	}
	return nil
}

// takeUp is a device after a loss of power. Its flash has what the hub has not answered, and the commands that it did.
func (u *unit) takeUp(was *pastUnit) {
	u.ledger.metrics, u.ledger.gaps = was.ledger.metrics, was.ledger.gaps
	u.ledger.commands, u.ledger.reports = was.ledger.commands, was.ledger.reports
	u.stamped = u.stamped || u.config.Style.Untimed
	u.config.Flash.Readings, u.config.Flash.LastT, u.config.Flash.Commands = was.waiting, was.lastT, was.ran
}

// left is how much of a hold is left, but as much as it takes to switch everything on.
func (s *Sim) left(hold time.Duration) time.Duration {
	if s.before.elapsed == 0 {
		return hold
	}
	enough := 5 * time.Second
	if n := len(s.units); n > 0 {
		if last, ever := s.powerOn(n - 1); ever {
			enough += max(0, last.Sub(s.resumed))
		}
	}
	return max(hold-s.before.elapsed, min(enough, hold))
}

// firstBegan is when the first process of the run began.
func (s *Sim) firstBegan() time.Time {
	if s.cfg.Journal.Resumed() {
		return s.cfg.Journal.head.Began
	}
	return s.began
}

// known are the devices of the run that the hub has already, from an earlier process.
func (s *Sim) known(ctx context.Context) (map[string]bool, error) {
	if !s.cfg.Journal.Resumed() {
		return nil, nil
	}
	known := map[string]bool{}
	err := s.api.Devices(ctx, "sim:"+s.run, func(r Row) { known[r.ID] = true })
	return known, err
}

// tokens makes the devices that the hub does not know yet, and returns a token of each.
func (s *Sim) tokens(ctx context.Context, units []*unit, known map[string]bool) (map[string]string, error) {
	var made []NewDevice
	var old []*unit
	for _, u := range units {
		if known[u.id] {
			old = append(old, u)
		} else {
			made = append(made, u.decl)
		}
	}
	tokens := map[string]string{}
	if len(made) > 0 {
		var err error
		if tokens, err = s.api.Register(ctx, made); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	slots := make(chan struct{}, 8)
	for _, u := range old {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			token, err := s.api.Issue(ctx, u.id)
			mu.Lock()
			defer mu.Unlock()
			if tokens[u.id] = token; err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	return tokens, failed
}

// save writes the figures to the journal, with the histograms, which are large, when whole.
func (s *Sim) save(whole bool) {
	j := s.cfg.Journal
	if j == nil {
		return
	}
	f := s.stats.figures()
	s.judge.mu.Lock()
	for name, v := range s.judge.verdicts {
		f.Checked[name] = v.Checked
	}
	s.judge.mu.Unlock()
	for _, b := range s.besiegers {
		f.Besieged = append(f.Besieged, b.tally.Counts())
	}
	j.json(lineFigures, "", f)
	if whole {
		hist := map[string][]byte{}
		for name, h := range s.stats.histograms() {
			if b, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase); err == nil {
				hist[name] = b
			}
		}
		j.json(lineHist, "", hist)
	}
	if err := j.Flush(); err != nil && !s.unsaved {
		s.unsaved = true
		s.cfg.Log.Warn("this run cannot be resumed", "err", err)
	}
}

func (s *stats) figures() figures {
	f := figures{
		Replayed: s.replayed.Load(), Overflow: s.overflow.Load(),
		Connects: s.connects.Load(), Drops: s.drops.Load(), Leaves: s.leaves.Load(),
		Late: s.commandsLate.Load(), Executed: s.executed.Load(), Repeats: s.repeats.Load(),
		Leaked: s.leaked.Load(), Backwards: s.backwards.Load(),
		Errors: s.errorCounts(), Checked: map[string]int64{}, Outcomes: map[string]int64{},
	}
	for o := range outcomes {
		f.Outcomes[outcomeNames[o]] = s.outcomes[o].Load()
	}
	return f
}

func (s *stats) restore(f figures) {
	s.replayed.Store(f.Replayed)
	s.overflow.Store(f.Overflow)
	s.connects.Store(f.Connects)
	s.drops.Store(f.Drops)
	s.leaves.Store(f.Leaves)
	for o := range outcomes {
		s.outcomes[o].Store(f.Outcomes[outcomeNames[o]])
	}
	s.commandsLate.Store(f.Late)
	s.executed.Store(f.Executed)
	s.repeats.Store(f.Repeats)
	s.leaked.Store(f.Leaked)
	s.backwards.Store(f.Backwards)
	for code, n := range f.Errors {
		s.errors[code] = n
	}
}
