package tsdb

import (
	"io"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"devicehub/devices/readings"
)

// mergerName is recorded by Pebble in the store; another name is another
// format.
const mergerName = "devicehub.readings.v1"

// merging makes the merge operator: the values written to one key over time,
// chunks or roll-ups, become one. Of two readings of the same time the one that
// was written later stands.
func merging(zip *zipper) *pebble.Merger {
	coders := &sync.Pool{New: func() any { return &coder{zip: zip} }}
	return &pebble.Merger{Name: mergerName, Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		m := &merge{coders: coders}
		m.operands = append(m.operands, slices.Clone(value))
		return m, nil
	}}
}

// merge collects the operands of one key, the oldest first.
type merge struct {
	coders   *sync.Pool
	operands [][]byte
	older    [][]byte // the newest first
}

func (m *merge) MergeNewer(v []byte) error {
	m.operands = append(m.operands, slices.Clone(v))
	return nil
}

func (m *merge) MergeOlder(v []byte) error {
	m.older = append(m.older, slices.Clone(v))
	return nil
}

func (m *merge) Finish(bool) ([]byte, io.Closer, error) {
	slices.Reverse(m.older)
	all := append(m.older, m.operands...)
	if len(all) == 1 {
		return all[0], nil, nil
	}
	c := m.coders.Get().(*coder)
	defer m.coders.Put(c)
	if len(all[0]) > 1 && all[0][0] == rollupVersion {
		v, err := mergeRollups(all)
		return v, nil, err
	}
	v, err := c.mergeChunks(all)
	return v, nil, err
}

// ranked is a block with its turn: of two that overlap, the greater rank is the
// later one.
type ranked struct {
	block
	rank int
}

// mergeChunks merges chunks, the oldest first.
func (c *coder) mergeChunks(chunks [][]byte) ([]byte, error) {
	var list []block
	var all []ranked
	kind := byte(0)
	size := 2
	for i, chunk := range chunks {
		k, bs, err := splitChunk(list[:0], chunk)
		if err != nil || i > 0 && k != kind {
			return nil, errCorrupt
		}
		kind, list = k, bs
		for _, b := range bs {
			all = append(all, ranked{b, len(all)})
		}
		size += len(chunk)
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return int(a.first - b.first) })

	out := append(make([]byte, 0, size), chunkVersion, kind)
	var waiting []ranked // blocks that do not overlap and fit into one together
	n := 0
	var points []readings.Point
	flush := func() error {
		var err error
		if len(waiting) == 1 {
			out = append(out, waiting[0].raw...)
		} else if len(waiting) > 1 {
			points = points[:0]
			for i := range waiting {
				if points, err = c.decode(points, kind, &waiting[i].block, 0); err != nil {
					return err
				}
			}
			out = c.appendBlocks(out, kind, points)
		}
		waiting, n = waiting[:0], 0
		return nil
	}
	for i := 0; i < len(all); {
		j, last := i+1, all[i].last
		for j < len(all) && all[j].first <= last {
			last = max(last, all[j].last)
			j++
		}
		if j == i+1 && n+all[i].n <= blockMax {
			waiting = append(waiting, all[i])
			n += all[i].n
			i = j
			continue
		}
		if err := flush(); err != nil {
			return nil, err
		}
		if j == i+1 {
			waiting, n = append(waiting, all[i]), all[i].n
			i = j
			continue
		}
		slices.SortFunc(all[i:j], func(a, b ranked) int { return a.rank - b.rank })
		var err error
		points = points[:0]
		for k := i; k < j; k++ {
			if points, err = c.decode(points, kind, &all[k].block, 0); err != nil {
				return nil, err
			}
		}
		points = settle(points)
		out = c.appendBlocks(out, kind, points)
		i = j
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return out, nil
}

// settle puts readings in rising time; of those with the same time the last
// stays.
func settle(ps []readings.Point) []readings.Point {
	rising := true
	for i := 1; i < len(ps) && rising; i++ {
		rising = ps[i].T > ps[i-1].T
	}
	if rising {
		return ps
	}
	slices.SortStableFunc(ps, func(a, b readings.Point) int {
		switch {
		case a.T < b.T:
			return -1
		case a.T > b.T:
			return 1
		}
		return 0
	})
	n := 0
	for i := range ps {
		if n > 0 && ps[n-1].T == ps[i].T {
			n--
		}
		ps[n] = ps[i]
		n++
	}
	return ps[:n]
}
