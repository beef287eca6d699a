package tsdb

import (
	"io"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"devicehub/devices/readings"
	"devicehub/hub/poison"
)

// mergerName is recorded by Pebble in the store; another name is another
// format.
const mergerName = "devicehub.readings.v1"

// merging makes the merge operator: the values written to one key over time,
// chunks or roll-ups, become one. Of two readings of the same time the one that
// was written later stands.
func merging(zip *zipper) *pebble.Merger {
	pool := &sync.Pool{}
	pool.New = func() any { return &merge{c: coder{zip: zip}, pool: pool} }
	return &pebble.Merger{Name: mergerName, Merge: func(_, value []byte) (pebble.ValueMerger, error) {
		m := pool.Get().(*merge)
		m.buf, m.came = m.buf[:0], m.came[:0]
		return m, m.MergeNewer(value)
	}}
}

// merge collects the operands of one key. It is used again when its value was
// closed.
type merge struct {
	c        coder
	pool     *sync.Pool
	buf      []byte // the operands as they came
	came     []operand
	operands [][]byte
	out      []byte
}

// operand is one in merge.buf.
type operand struct {
	from, to int
	older    bool // than all before
}

func (m *merge) MergeNewer(v []byte) error { return m.add(v, false) }

func (m *merge) MergeOlder(v []byte) error { return m.add(v, true) }

func (m *merge) add(v []byte, older bool) error {
	from := len(m.buf)
	m.buf = append(m.buf, v...)
	m.came = append(m.came, operand{from, len(m.buf), older})
	return nil
}

func (m *merge) Finish(bool) (_ []byte, _ io.Closer, err error) {
	if len(m.came) == 1 {
		return m.buf, m, nil
	}
	m.operands = m.operands[:0] // the oldest first
	for _, o := range slices.Backward(m.came) {
		if o.older {
			m.operands = append(m.operands, m.buf[o.from:o.to])
		}
	}
	for _, o := range m.came {
		if !o.older {
			m.operands = append(m.operands, m.buf[o.from:o.to])
		}
	}
	version := byte(0)
	if first := m.operands[0]; len(first) > 0 {
		version = first[0]
	}
	switch version {
	case rollupVersion, rollupFirst:
		m.out, err = mergeRollups(m.out[:0], m.operands)
	case meterVersion:
		m.out, err = mergeMeterDays(m.out[:0], m.operands)
	default:
		m.out, err = m.c.mergeChunks(m.out[:0], m.operands)
	}
	if err != nil {
		return nil, nil, err
	}
	return m.out, m, nil
}

// Close lets the value be overwritten by the next merge.
func (m *merge) Close() error {
	m.c.forget()
	poison.Bytes(m.buf)
	poison.Bytes(m.out)
	m.pool.Put(m)
	return nil
}

// ranked is a block with its turn: of two that overlap, the greater rank is the
// later one.
type ranked struct {
	block
	rank int
}

// mergeChunks appends what chunks, the oldest first, are together.
func (c *coder) mergeChunks(out []byte, chunks [][]byte) ([]byte, error) {
	all := c.ranked[:0]
	kind := byte(0)
	for i, chunk := range chunks {
		k, bs, err := splitChunk(c.blocks[:0], chunk)
		c.blocks = bs
		if err != nil || i > 0 && k != kind {
			return out, errCorrupt
		}
		kind = k
		for _, b := range bs {
			all = append(all, ranked{b, len(all)})
		}
	}
	c.ranked = all
	slices.SortStableFunc(all, func(a, b ranked) int { return int(a.first - b.first) })

	out = append(out, chunkVersion, kind)
	var err error
	from, n := 0, 0 // the blocks from there to i, of n readings, do not overlap and fit into one together
	for i := 0; i < len(all); {
		j, last := i+1, all[i].last
		for j < len(all) && all[j].first <= last {
			last = max(last, all[j].last)
			j++
		}
		alone := j == i+1
		if !alone || n+all[i].n > blockMax {
			if out, err = c.join(out, kind, all[from:i]); err != nil {
				return out, err
			}
			from, n = i, 0
		}
		if alone {
			n += all[i].n
		} else {
			slices.SortFunc(all[i:j], func(a, b ranked) int { return a.rank - b.rank })
			if out, err = c.join(out, kind, all[i:j]); err != nil {
				return out, err
			}
			from = j
		}
		i = j
	}
	return c.join(out, kind, all[from:])
}

// join appends the readings of blocks, the later ones behind, in new blocks.
func (c *coder) join(out []byte, kind byte, blocks []ranked) ([]byte, error) {
	if len(blocks) == 1 {
		return append(out, blocks[0].raw...), nil
	}
	c.points = c.points[:0]
	var err error
	for i := range blocks {
		if c.points, err = c.decode(c.points, kind, &blocks[i].block, 0); err != nil {
			return out, err
		}
	}
	return c.appendBlocks(out, kind, settle(c.points)), nil
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
