package tsdb

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"devicehub/devices/readings"
)

func randomPoints(r *rand.Rand, kind byte, n int) []readings.Point {
	at := map[int64]readings.Point{}
	v := float64(r.IntN(1000))
	for range n {
		p := readings.Point{T: r.Int64N([]int64{2000, 600_000, dayMS}[r.IntN(3)])}
		switch kind {
		case kindFloat:
			v += float64(r.IntN(7) - 3)
			p.F = []float64{v / 10, v, r.NormFloat64(), float64(float32(v / 3)), math.MaxFloat64, 5e-324, 0}[min(6, r.IntN(40)%8)]
		case kindBool:
			p.F = float64(r.IntN(2))
		default:
			p.S = []string{"", "on", "off", "a longer text that repeats itself", string(rune(r.IntN(0xd000)))}[r.IntN(5)]
		}
		if r.IntN(5) == 0 {
			p.Q = readings.Quality(r.IntN(128))
		}
		at[p.T] = p
	}
	ps := make([]readings.Point, 0, len(at))
	for _, p := range at {
		ps = append(ps, p)
	}
	slices.SortFunc(ps, func(a, b readings.Point) int { return int(a.T - b.T) })
	return ps
}

func read(t testing.TB, c *coder, chunk []byte) []readings.Point {
	t.Helper()
	ps, err := c.readChunk(nil, chunk, 0, 0, 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func TestChunkRoundTrip(t *testing.T) {
	c := &coder{zip: new(zipper)}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		kind := byte(r.IntN(4))
		ps := randomPoints(r, kind, 1+r.IntN(1500))
		got := read(t, c, c.appendChunk(nil, kind, ps))
		if !slices.Equal(got, ps) {
			t.Fatalf("seed %d: got %d readings, want %d", seed, len(got), len(ps))
		}
		from := r.Int64N(dayMS)
		to := from + r.Int64N(dayMS/2)
		part, err := c.readChunk(nil, c.appendChunk(nil, kind, ps), 0, from, to)
		want := slices.DeleteFunc(slices.Clone(ps), func(p readings.Point) bool { return p.T < from || p.T >= to })
		if err != nil || !slices.Equal(part, want) {
			t.Fatalf("seed %d: got %d readings from %d to %d, want %d, %v", seed, len(part), from, to, len(want), err)
		}
	}
}

// TestMergeAgainstAMap merges pieces, in the groupings in which Pebble may
// meet them, and compares with a map into which they are put in order.
func TestMergeAgainstAMap(t *testing.T) {
	op := merging(new(zipper))
	c := &coder{zip: new(zipper)}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		kind := byte(r.IntN(4))
		want := map[int64]readings.Point{}
		var pieces [][]byte
		for range 1 + r.IntN(12) {
			ps := randomPoints(r, kind, 1+r.IntN(200))
			for _, p := range ps {
				want[p.T] = p
			}
			pieces = append(pieces, c.appendChunk(nil, kind, ps))
		}
		for len(pieces) > 1 { // some neighbours become one, as in a compaction
			from := r.IntN(len(pieces) - 1)
			n := 2 + r.IntN(min(4, len(pieces)-from-1))
			n = min(n, len(pieces)-from)
			start := from + r.IntN(n)
			m, err := op.Merge(nil, pieces[start])
			if err != nil {
				t.Fatal(err)
			}
			for lo, hi := start-1, start+1; lo >= from || hi < from+n; {
				if hi >= from+n || lo >= from && r.IntN(2) == 0 {
					err = m.MergeOlder(pieces[lo])
					lo--
				} else {
					err = m.MergeNewer(pieces[hi])
					hi++
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			v, done, err := m.Finish(r.IntN(2) == 0)
			if err != nil {
				t.Fatal(err)
			}
			pieces = slices.Replace(pieces, from, from+n, slices.Clone(v))
			clear(v)
			if err := done.Close(); err != nil {
				t.Fatal(err)
			}
		}
		got := read(t, c, pieces[0])
		if len(got) != len(want) {
			t.Fatalf("seed %d: got %d readings, want %d", seed, len(got), len(want))
		}
		for i, p := range got {
			if p != want[p.T] || i > 0 && got[i-1].T >= p.T {
				t.Fatalf("seed %d: got %+v, want %+v", seed, p, want[p.T])
			}
		}
		again, err := c.mergeChunks(nil, [][]byte{pieces[0], pieces[0]})
		if err != nil || !slices.Equal(read(t, c, again), got) {
			t.Fatalf("seed %d: merged with itself it changes: %v", seed, err)
		}
	}
}

func TestRollupsRoundTripAndMerge(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		kind := byte(r.IntN(4))
		ps := randomPoints(r, kind, 2+r.IntN(500))
		for i := range ps {
			if math.Abs(ps[i].F) > 1e300 {
				ps[i].F = 1
			}
		}
		tier := []readings.Tier{readings.Quarter, readings.Hour}[r.IntN(2)]
		nature := readings.Plain
		if kind == kindFloat {
			nature = readings.Nature(r.IntN(4))
		}
		roll := func(ps []readings.Point) []byte {
			return appendRollups(nil, kind, nature, readings.Roll(nil, ps, tier.Step(), nature), tier.Step())
		}
		want := readings.Roll(nil, ps, tier.Step(), nature)
		back, err := decodeRollups(nil, roll(ps), 0)
		if err != nil || !slices.Equal(back.buckets, want) || back.nature != nature {
			t.Fatalf("seed %d: got %+v, want %+v, %v", seed, back, want, err)
		}
		// In two parts of time they merge into the same.
		cut := r.IntN(len(ps))
		merged, err := mergeRollups(nil, [][]byte{roll(ps[cut:]), roll(ps[:cut])})
		if err != nil {
			t.Fatal(err)
		}
		back, err = decodeRollups(nil, merged, 0)
		got := back.buckets
		if err != nil || len(got) != len(want) {
			t.Fatalf("seed %d: got %d buckets, want %d, %v", seed, len(got), len(want), err)
		}
		for i := range got {
			g, w := got[i], want[i]
			size := max(1, math.Abs(w.Max), math.Abs(w.Min)) * float64(w.Count) * 1e-9
			if math.Abs(g.Sum-w.Sum) > size || math.Abs(g.Rise-w.Rise) > size || math.Abs(g.Sin-w.Sin) > size || math.Abs(g.Cos-w.Cos) > size {
				t.Errorf("seed %d: got %+v, want %+v", seed, g, w)
			}
			for _, b := range []*readings.Bucket{&g, &w} {
				b.Sum, b.Rise, b.Sin, b.Cos = 0, 0, 0, 0
			}
			if g != w {
				t.Errorf("seed %d: got %+v, want %+v", seed, g, w)
			}
		}
	}
}

func FuzzChunk(f *testing.F) {
	c := &coder{zip: new(zipper)}
	r := rand.New(rand.NewPCG(1, 1))
	for kind := range byte(4) {
		f.Add(c.appendChunk(nil, kind, randomPoints(r, kind, 40)))
		for _, n := range []readings.Nature{readings.Plain, readings.Meter, readings.Degrees} {
			if kind == kindFloat || n == readings.Plain {
				f.Add(appendRollups(nil, kind, n, readings.Roll(nil, randomPoints(r, kind, 40), 900_000, n), 900_000))
			}
		}
	}
	f.Add(appendMeterDay(nil, 300, readings.Roll(nil, randomPoints(r, kindFloat, 40), 900_000, readings.Meter)))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &coder{zip: new(zipper)}
		if ps, err := c.readChunk(nil, b, 0, 0, 1<<62); err == nil && len(ps) > 0 {
			rising := slices.IsSortedFunc(ps, func(a, b readings.Point) int { return int(a.T - b.T) })
			if m, err := c.mergeChunks(nil, [][]byte{b, b}); err != nil {
				t.Errorf("it is read, and not merged: %v", err)
			} else if back, err := c.readChunk(nil, m, 0, 0, 1<<62); err != nil || rising && !slices.Equal(back, settle(ps)) {
				t.Errorf("merged with itself: %v", err)
			}
		}
		if r, err := decodeRollups(nil, b, 0); err == nil && len(r.buckets) > 0 {
			if _, err := mergeRollups(nil, [][]byte{b, appendRollups(nil, r.kind, r.nature, r.buckets, r.step)}); err != nil {
				t.Errorf("roll-ups are read, and not merged: %v", err)
			}
		}
		if n := 0; eachMeterDay(b, func(*meterDay, []byte) { n++ }) == nil {
			m, err := mergeMeterDays(nil, [][]byte{b, b})
			if err == nil {
				err = eachMeterDay(m, func(*meterDay, []byte) { n-- })
			}
			if err != nil || n != 0 {
				t.Errorf("days of a meter are read, and not merged: %v, %d lost", err, n)
			}
		}
	})
}

func FuzzGroup(f *testing.F) {
	s := readings.NewMemory()
	var k known
	w := groupWriter{known: &k}
	rec := s.Book().Record("t-1")
	x := s.Book().Define(rec, "temperature", "float", "°C", false)
	y := s.Book().Define(rec, "mode", "string", "", false)
	z := s.Book().Define(rec, "door", "bool", "", false)
	g := &readings.Group{Clock: &readings.ClockMark{Wall: 5, Suspect: true}, Entries: []*readings.Entry{
		{Rec: rec, Boot: "b", At: 1000, Items: []readings.Stored{{S: x, Point: readings.Point{T: 1, F: 1.5}, Seq: 4}, {S: y, Point: readings.Point{T: 2, S: "eco", Q: 3}, Seq: 5},
			{Seq: 6}, {S: z, Point: readings.Point{T: 3, F: 1}}, {S: x, Point: readings.Point{T: 4, F: math.Pi}, Seq: 9}}, Intervals: []readings.Interval{{S: x, MS: 7}}},
		{Rec: rec, Forget: true}}}
	body := w.appendGroup(nil, g, 900)
	f.Add(body)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, kn := range []*known{nil, {}} {
			book := readings.NewBook()
			r := groupReader{book: book, known: kn, limit: 1 << 16}
			n := 0
			err := r.read(b, func(i uint64, e *readings.Entry) {
				n++
				book.Apply(e, 1+i)
			})
			if bytes.Equal(b, body) && (err != nil || n != 2*btoi(kn != nil)) {
				t.Errorf("what was written gives %d entries, %v", n, err)
			}
		}
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
