package tsdb

import (
	"math"
	"slices"
	"sync/atomic"

	"devicehub/devices/readings"
	"devicehub/hub/poison"
)

// blockBits is the binary logarithm of how many readings a block of the head
// holds.
const blockBits = 14

// headPoint is one reading of the head: of a text, v is its number in texts.
type headPoint struct {
	t    int64
	v    uint64
	prev uint32 // place + 1 of the series' reading before, 0: none
	q    readings.Quality
}

type headBlock [1 << blockBits]headPoint

// gen is one generation of the head: readings that are in the log and not yet
// in the chunks, in the order in which they came, each chained to the one of
// its series before. One goroutine adds; others read through view.
type gen struct {
	blocks []*headBlock
	n      uint32
	last   []uint32 // by series, place + 1 of its newest reading
	texts  []string
	top    uint32 // greatest number of a series

	pos     uint64             // in the log, behind the last entry; set when it freezes
	clock   readings.ClockMark // likewise
	touched bitset             // records, by number, whose state has changed
	devs    []*readings.Record // first defined here
	series  []*readings.Series
	forgot  []*readings.Record

	refs atomic.Int32
	pool *blockPool
}

// blockPool keeps the blocks of generations that are done with, so that the
// head costs what two generations hold and no more: blocks are outside the
// heap where the system has a way, and the collector does not leave room for as
// much again (355 MB with 100,000 series became 250).
type blockPool struct {
	free chan *headBlock
}

func newBlockPool(readings int) *blockPool {
	return &blockPool{free: make(chan *headBlock, readings>>blockBits+2)}
}

func (p *blockPool) get() *headBlock {
	select {
	case b := <-p.free:
		return b
	default:
		return newBlock()
	}
}

func (p *blockPool) put(b *headBlock) {
	poison.Fill(b[:], headPoint{t: -1, v: 1<<64 - 1, prev: 1<<32 - 1, q: 1<<16 - 1})
	select {
	case p.free <- b:
	default:
		freeBlock(b)
	}
}

// close gives back the blocks that nobody uses.
func (p *blockPool) close() {
	for {
		select {
		case b := <-p.free:
			freeBlock(b)
		default:
			return
		}
	}
}

func newGen(pool *blockPool, series int) *gen {
	g := &gen{pool: pool, last: make([]uint32, 0, series)}
	g.refs.Store(1)
	return g
}

// add enters a reading of series s.
func (g *gen) add(s *readings.Series, p *readings.Point, text bool) {
	id := s.ID
	for int(id) >= len(g.last) {
		g.last = append(g.last, 0)
	}
	at := g.n
	if int(at>>blockBits) == len(g.blocks) {
		g.blocks = append(g.blocks, g.pool.get())
	}
	h := &g.blocks[at>>blockBits][at&(1<<blockBits-1)]
	h.t, h.q, h.prev = p.T, p.Q, g.last[id]
	if text {
		h.v = uint64(len(g.texts))
		g.texts = append(g.texts, p.S)
	} else {
		h.v = math.Float64bits(p.F)
	}
	g.last[id] = at + 1
	g.top = max(g.top, id)
	g.n++
}

func (g *gen) empty() bool {
	return g.n == 0 && len(g.touched) == 0 && len(g.forgot) == 0 && len(g.devs) == 0
}

// release gives up one hold on the generation; the last lets its blocks be
// used again.
func (g *gen) release() {
	if g.refs.Add(-1) == 0 {
		for _, b := range g.blocks {
			g.pool.put(b)
		}
		g.blocks = nil
	}
}

// view is what a generation held of one series at a moment. It is released
// when it was read.
type view struct {
	g      *gen
	blocks []*headBlock
	texts  []string
	last   uint32
}

// look takes a view; nil when there is nothing of the series. The caller holds
// the lock that keeps add out.
func (g *gen) look(id uint32) *view {
	if g == nil || int(id) >= len(g.last) || g.last[id] == 0 {
		return nil
	}
	g.refs.Add(1)
	return &view{g: g, blocks: g.blocks, texts: g.texts, last: g.last[id]}
}

func (v *view) release() { v.g.release() }

// points appends the readings from ≤ t < to, in rising time, the newest of
// those with the same time.
func (v *view) points(dst []readings.Point, text bool, from, to int64) []readings.Point {
	start := len(dst)
	for at := v.last; at != 0; {
		h := &v.blocks[(at-1)>>blockBits][(at-1)&(1<<blockBits-1)]
		if h.t >= from && h.t < to {
			dst = append(dst, h.point(text, v.texts))
		}
		at = h.prev
	}
	slices.Reverse(dst[start:])
	return dst[:start+len(settle(dst[start:]))]
}

func (h *headPoint) point(text bool, texts []string) readings.Point {
	if text {
		return readings.Point{T: h.t, Q: h.q, S: texts[h.v]}
	}
	return readings.Point{T: h.t, Q: h.q, F: math.Float64frombits(h.v)}
}

// lanes is how many series a flush gathers at a time. What a chain leads to is
// seldom in the processor's cache: of several chains it fetches the next
// readings at once.
const lanes = 16

// lane is a series of a generation on its way out.
type lane struct {
	s    *readings.Series
	kind byte
	at   uint32 // place + 1 of the next reading, the newest first
	ps   []readings.Point
}

// gather puts the readings of each lane's series, in rising time, into its
// points. Nothing is added to the generation any more.
func (g *gen) gather(ls []lane) {
	for more := true; more; {
		more = false
		for i := range ls {
			l := &ls[i]
			if l.at == 0 {
				continue
			}
			h := &g.blocks[(l.at-1)>>blockBits][(l.at-1)&(1<<blockBits-1)]
			l.ps = append(l.ps, h.point(l.kind >= kindString, g.texts))
			l.at = h.prev
			more = true
		}
	}
	for i := range ls {
		slices.Reverse(ls[i].ps)
		ls[i].ps = settle(ls[i].ps)
	}
}
