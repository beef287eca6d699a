package influx

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
