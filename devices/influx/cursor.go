package influx

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// cursorVersion of the cursor file.
const cursorVersion = 1

// Gap is a stretch of time, From ≤ t < To in ms since epoch, whose readings
// the log has no more.
type Gap struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
	// Series is the number of the series up to which the gap is filled.
	Series uint32 `json:"series,omitempty"`
	Begun  bool   `json:"begun,omitempty"`
}

// cursor is how far the sink is.
type cursor struct {
	Version int    `json:"version"`
	Pos     uint64 `json:"pos"`  // in the log: all before it is sent, or in a gap
	At      int64  `json:"at"`   // when the last push came that was sent
	Gaps    []Gap  `json:"gaps"` // to be filled
	Lost    []Gap  `json:"lost"` // that cannot be filled any more, the last 100
}

const maxLost = 100

func loadCursor(path string) (c cursor, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return cursor{Version: cursorVersion}, nil
	} else if err != nil {
		return c, fmt.Errorf("the sink's cursor: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("the sink's cursor %s: %w", path, err)
	}
	if c.Version != cursorVersion {
		return c, fmt.Errorf("the sink's cursor %s is of version %d, want %d", path, c.Version, cursorVersion)
	}
	return c, nil
}

// save replaces the file, which is then durable.
func (c *cursor) save(path string) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("the sink's cursor: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("the sink's cursor: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (c *cursor) clone() cursor {
	k := *c
	k.Gaps, k.Lost = slices.Clone(c.Gaps), slices.Clone(c.Lost)
	return k
}

// addGap adds a stretch. One that touches another, not yet begun, joins it.
func (c *cursor) addGap(g Gap) {
	for i := range c.Gaps {
		if o := &c.Gaps[i]; !o.Begun && g.From <= o.To && o.From <= g.To {
			o.From, o.To = min(o.From, g.From), max(o.To, g.To)
			return
		}
	}
	c.Gaps = append(c.Gaps, g)
}

func (c *cursor) addLost(g Gap) {
	c.Lost = append(c.Lost, g)
	if len(c.Lost) > maxLost {
		c.Lost = slices.Clone(c.Lost[len(c.Lost)-maxLost:])
	}
}

// dead is one point that the server will not have, as a line of the
// dead-letter file.
type dead struct {
	At     string `json:"at"`
	Reason string `json:"reason"`
	Line   string `json:"line"` // line protocol, times in ms
}

func appendDead(path, line string, cause error, now time.Time) error {
	b, err := json.Marshal(dead{now.UTC().Format(time.RFC3339), cause.Error(), line})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("the dead-letter file: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("the dead-letter file: %w", err)
	}
	return nil
}

// Replay sends what is in the dead-letter file again, once, in place of Run:
// what the server takes now leaves the file, the rest stays. It returns how
// many points were taken and how many stay.
func (s *Sink) Replay(ctx context.Context) (taken, left int, err error) {
	path := filepath.Join(s.cfg.Dir, deadLetterName)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	} else if err != nil {
		return 0, 0, err
	}
	var all []dead
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var d dead
		if err := json.Unmarshal(lines.Bytes(), &d); err != nil {
			return 0, 0, errors.Join(fmt.Errorf("the dead-letter file: %w", err), f.Close())
		}
		all = append(all, d)
	}
	if err := errors.Join(lines.Err(), f.Close()); err != nil {
		return 0, 0, err
	}
	old := path + ".replayed"
	if err := os.Rename(path, old); err != nil {
		return 0, 0, err
	}
	before := s.Stats().DeadLetter
	for i, d := range all {
		if err := s.sendBatch(ctx, []string{d.Line}); err != nil {
			for _, d := range all[i:] { // back to where it was
				err = errors.Join(err, appendDead(path, d.Line, errors.New(d.Reason), s.cfg.Now()))
			}
			return taken, len(all) - i, err
		}
		if now := s.Stats().DeadLetter; now > before {
			before = now
			left++
		} else {
			taken++
		}
	}
	return taken, left, os.Remove(old)
}
