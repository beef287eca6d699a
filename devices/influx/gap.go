package influx

import (
	"context"
	"path/filepath"

	"devicehub/devices/readings"
)

const day = 24 * 3600 * 1000

// bound keeps the log that waits within SpoolMax: the oldest tenth of it is
// given up, its times being kept as gaps.
func (s *Sink) bound() error {
	_, end := s.src.LogBounds()
	pos := s.cur.Pos
	if end <= pos || int64(end-pos) <= s.cfg.SpoolMax {
		return nil
	}
	target := end - uint64(s.cfg.SpoolMax-s.cfg.SpoolMax/10)
	days := map[int64]Gap{}
	var at int64
	for pos < target {
		n := 0
		next, err := s.src.Tail(pos, func(r []readings.Stored, came int64) bool {
			at = max(at, came)
			for i := range r {
				if r[i].S == nil {
					continue
				}
				t := r[i].Point.T
				g, ok := days[t/day]
				if !ok {
					g = Gap{From: t, To: t + 1}
				}
				days[t/day] = Gap{From: min(g.From, t), To: max(g.To, t+1)}
			}
			n++
			return n < 1000
		})
		if err != nil {
			return err
		}
		if next == pos {
			break
		}
		pos = next
	}
	s.mu.Lock()
	for _, g := range days {
		s.cur.addGap(g)
	}
	s.mu.Unlock()
	s.cfg.Logger.Warn("the spool of the sink is full: its oldest part is filled from the store later", "sink", pinName, "bytes", s.cfg.SpoolMax)
	return s.advance(pos, at)
}

// fillGap sends a part of the first gap from the store. It returns false when
// there is none.
func (s *Sink) fillGap(ctx context.Context) (bool, error) {
	s.mu.Lock()
	if len(s.cur.Gaps) == 0 {
		s.mu.Unlock()
		return false, nil
	}
	s.cur.Gaps[0].Begun = true // what comes up meanwhile is another gap
	g := s.cur.Gaps[0]
	if kept := s.src.Kept(readings.Raw); g.From < kept {
		s.cur.addLost(Gap{From: g.From, To: min(g.To, kept)})
		s.cfg.Logger.Error("readings are lost to the sink: the store keeps them no longer", "sink", pinName, "from", g.From, "to", min(g.To, kept))
		g.From = kept
	}
	s.mu.Unlock()
	_, last := s.src.Book().Numbers()
	var lines []string
	for g.From < g.To && g.Series < last && len(lines) < s.cfg.Batch {
		g.Series++
		x := s.src.Book().Series(g.Series)
		if x == nil || !s.sends(x) {
			continue
		}
		err := s.src.Scan(ctx, x, g.From, g.To, func(ps []readings.Point) error {
			for i := range ps {
				lines = append(lines, line(x, &ps[i]))
			}
			if len(lines) >= 4*s.cfg.Batch { // a long one goes out in parts
				err := s.send(ctx, lines)
				lines = lines[:0]
				return err
			}
			return nil
		})
		if err != nil {
			return true, err
		}
	}
	if err := s.send(ctx, lines); err != nil {
		return true, err
	}
	s.mu.Lock()
	if g.From >= g.To || g.Series >= last {
		s.cur.Gaps = append([]Gap(nil), s.cur.Gaps[1:]...)
	} else {
		s.cur.Gaps[0] = g
	}
	cur := s.cur.clone()
	s.mu.Unlock()
	return true, cur.save(filepath.Join(s.cfg.Dir, cursorName))
}
