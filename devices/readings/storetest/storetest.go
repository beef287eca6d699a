// Package storetest holds what every readings.Store does, as tests that each
// of them runs.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// Opener opens the store of a test, the same one again when it is called again
// after the store before was closed.
type Opener func(t *testing.T) (s readings.Store, close func())

// Test runs the suite, much longer when DEVICEHUB_SOAK is set. step is called now and then, to have the store do what
// it does in the background; it may be nil.
func Test(t *testing.T, open Opener, step func(readings.Store, *rand.Rand)) {
	seeds := uint64(6)
	if os.Getenv("DEVICEHUB_SOAK") != "" {
		seeds = 300
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("against a map, seed %d", seed), func(t *testing.T) { againstMap(t, open, step, seed) })
	}
	t.Run("the book after opening again", func(t *testing.T) { bookStays(t, open) })
	t.Run("a name that is no metric's", func(t *testing.T) { refusesNames(t, open) })
}

// base is the middle of a day, so that readings fall on several.
const base = 1_763_726_400_000

// model is what a store must hold.
type model struct {
	points map[*seriesModel]map[int64]readings.Point
	series []*seriesModel
}

type seriesModel struct {
	device  devices.ID
	metric  string
	typ     devices.ValueType
	counter bool
	angle   bool
}

func (m *model) rising(s *seriesModel) []readings.Point {
	var ps []readings.Point
	for _, t := range slices.Sorted(maps.Keys(m.points[s])) {
		ps = append(ps, m.points[s][t])
	}
	return ps
}

func newModel() *model {
	m := &model{points: map[*seriesModel]map[int64]readings.Point{}}
	types := []devices.ValueType{devices.TypeFloat, devices.TypeFloat, devices.TypeBool, devices.TypeString, devices.TypeEnum, devices.TypeFloat}
	for d := range 4 {
		for i, typ := range types {
			s := &seriesModel{devices.ID(fmt.Sprintf("d-%d", d)), fmt.Sprintf("m%d", i), typ, i == 1, i == 5}
			m.series = append(m.series, s)
			m.points[s] = map[int64]readings.Point{}
		}
	}
	return m
}

func value(r *rand.Rand, s *seriesModel, t int64) (p readings.Point) {
	p.T = t
	switch s.typ {
	case devices.TypeFloat:
		p.F = []float64{float64(r.IntN(400)) / 10, r.NormFloat64() * 1e3, float64(r.IntN(5)), r.Float64()*1e300 - 5e299, 0}[r.IntN(5)]
		if s.counter { // it rises, dips, and starts again every 13 hours
			p.F = float64(t%(13*3600_000)/10_000)/8*(1-0.2*float64(r.IntN(2))*r.Float64()) - 40
		}
		if s.angle {
			p.F = float64(r.IntN(3600))/10 - 90*float64(r.IntN(2))
		}
	case devices.TypeBool:
		p.F = float64(r.IntN(2))
	default:
		p.S = []string{"", "auto", "eco", "π≠3", string(make([]byte, 200))}[r.IntN(5)]
	}
	if r.IntN(4) == 0 {
		p.Q = readings.Quality(r.IntN(128))
	}
	return p
}

func againstMap(t *testing.T, open Opener, step func(readings.Store, *rand.Rand), seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	m := newModel()
	s, done := open(t)
	for round := range 60 {
		g := m.group(r, s)
		if err := s.Append(g); err != nil {
			t.Fatal(err)
		}
		for _, e := range g.Entries {
			if most := 500 + 200*len(e.Items); e.Bytes < len(e.Items) || e.Bytes > most {
				t.Errorf("%d items took %d bytes, want so many or more, and at most %d", len(e.Items), e.Bytes, most)
			}
		}
		if step != nil {
			step(s, r)
		}
		if r.IntN(12) == 0 {
			done()
			s, done = open(t)
		}
		if r.IntN(20) == 0 {
			m.forget(t, r, s)
		}
		if r.IntN(12) == 0 {
			m.drop(t, r, s)
		}
		if round%10 == 9 {
			m.check(t, r, s)
		}
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	done()
}

// group makes a group of random pushes, new, late and repeated, and enters
// them in the model.
func (m *model) group(r *rand.Rand, s readings.Store) *readings.Group {
	g := &readings.Group{}
	span := []int64{1000, 3600_000, 4 * 24 * 3600_000}[r.IntN(3)]
	for range 1 + r.IntN(5) {
		d := devices.ID(fmt.Sprintf("d-%d", r.IntN(4)))
		e := &readings.Entry{Rec: s.Book().Record(d), At: base + r.Int64N(1e6)}
		start := base - r.Int64N(4*24*3600_000)
		for range r.IntN(120) {
			sm := m.series[r.IntN(len(m.series))]
			if sm.device != d {
				continue
			}
			p := value(r, sm, start+r.Int64N(span))
			e.Items = append(e.Items, readings.Stored{S: define(s, e.Rec, sm), Point: p})
			m.points[sm][p.T] = p
			g.Readings++
		}
		g.Entries = append(g.Entries, e)
	}
	return g
}

func define(s readings.Store, rec *readings.Record, sm *seriesModel) *readings.Series {
	unit := ""
	switch {
	case sm.angle:
		unit = "°"
	case sm.typ == devices.TypeFloat:
		unit = "°C"
	}
	return s.Book().Define(rec, sm.metric, sm.typ, unit, sm.counter)
}

func (m *model) forget(t *testing.T, r *rand.Rand, s readings.Store) {
	d := devices.ID(fmt.Sprintf("d-%d", r.IntN(4)))
	rec, ok := s.Book().Lookup(d)
	if !ok {
		return
	}
	if err := s.Append(&readings.Group{Entries: []*readings.Entry{{Rec: rec, Forget: true}}}); err != nil {
		t.Fatal(err)
	}
	for _, sm := range m.series {
		if sm.device == d {
			clear(m.points[sm])
		}
	}
}

// drop erases one or two series. Those that are defined of their names from then
// on are others.
func (m *model) drop(t *testing.T, r *rand.Rand, s readings.Store) {
	var list []*readings.Series
	for range 1 + r.IntN(2) {
		sm := m.series[r.IntN(len(m.series))]
		rec, ok := s.Book().Lookup(sm.device)
		if !ok {
			continue
		}
		if x := define(s, rec, sm); !slices.Contains(list, x) {
			list = append(list, x)
		}
		clear(m.points[sm])
	}
	if err := s.Drop(list); err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		if ps := Points(t, s, x, 0, 1<<46); len(ps) > 0 || !x.Dropped() || slices.Contains(x.Rec.Series(), x) {
			t.Errorf("%s %s: got %d readings after it was dropped", x.Rec.ID, x.Metric, len(ps))
		}
	}
}

// refusesNames holds that no store keeps what stands under a name that no device
// can have sent, and that it goes on with others.
func refusesNames(t *testing.T, open Opener) {
	s, done := open(t)
	rec := s.Book().Record("d-1")
	group := func(metric string) *readings.Group {
		x := s.Book().Define(rec, metric, devices.TypeFloat, "", false)
		return &readings.Group{Readings: 1, Entries: []*readings.Entry{{Rec: rec, At: base, Items: []readings.Stored{{S: x, Point: readings.Point{T: base, F: 1}}}}}}
	}
	for _, metric := range []string{"{\"m\":\"co2", "eyJpc3MiOiJkZXZpY2VodWIiLCJhdWQi", "a\x00", "Upper", "a name of more than thirty two byt"} {
		for range 2 { // known or not
			if err := s.Append(group(metric)); !errors.Is(err, readings.ErrMisnamed) {
				t.Errorf("%q: got %v, want ErrMisnamed", metric, err)
			}
		}
	}
	mixed := group("good")
	mixed.Entries = append(mixed.Entries, group("not good").Entries...)
	if err := s.Append(mixed); !errors.Is(err, readings.ErrMisnamed) {
		t.Errorf("got %v, want ErrMisnamed of a group with one such name", err)
	}
	if err := s.Append(group("good")); err != nil {
		t.Error(err)
	}
	done()
	s, done = open(t)
	defer done()
	var names []string
	if rec, ok := s.Book().Lookup("d-1"); ok {
		for _, x := range rec.AllSeries() {
			if len(Points(t, s, x, 0, 1<<46)) > 0 {
				names = append(names, x.Metric)
			}
		}
	}
	if !slices.Equal(names, []string{"good"}) {
		t.Errorf("got readings of %q, want of good alone", names)
	}
}

// check compares every series, whole and in part, and its roll-ups.
func (m *model) check(t *testing.T, r *rand.Rand, s readings.Store) {
	for _, sm := range m.series {
		all := m.rising(sm)
		rec, ok := s.Book().Lookup(sm.device)
		if !ok {
			if len(all) > 0 {
				t.Errorf("%s is not in the book", sm.device)
			}
			continue
		}
		x := define(s, rec, sm)
		from, to := int64(0), int64(1)<<46
		if r.IntN(2) == 0 {
			from = base - r.Int64N(4*24*3600_000)
			to = from + r.Int64N(3*24*3600_000)
		}
		want := slices.DeleteFunc(slices.Clone(all), func(p readings.Point) bool { return p.T < from || p.T >= to })
		if got := Points(t, s, x, from, to); !slices.Equal(got, want) {
			t.Errorf("%s %s: got %d readings, want %d", sm.device, sm.metric, len(got), len(want))
			for i := range want {
				if i >= len(got) || got[i] != want[i] {
					t.Fatalf("reading %d: got %+v, want %+v", i, got[min(i, len(got)-1)], want[i])
				}
			}
		}
		SameRollups(t, s, x, all, readings.Quarter, readings.Hour)
		if sm.counter {
			for range 4 {
				checkBefore(t, s, x, base-r.Int64N(5*24*3600_000), all)
			}
			checkBefore(t, s, x, 1<<46, all)
			checkBefore(t, s, x, base/86400_000*86400_000, all)
		}
	}
}

// Counted is what each of the readings of a meter, in rising time, counts by the
// rules that package readings tells, and the mark before each of them, worked out
// one by one.
func Counted(ps []readings.Point) (counts, marks []float64) {
	have, last, mark := false, 0.0, 0.0
	for _, p := range ps {
		marks = append(marks, mark)
		switch {
		case p.Q&readings.RangeFlag != 0:
			counts = append(counts, 0)
			continue
		case !have:
			counts, mark = append(counts, 0), p.F
		case last >= 0 && p.F < 0.9*last || last < 0 && p.F < 1.1*last:
			counts, mark = append(counts, max(p.F, 0)), p.F
		case p.F > mark:
			counts, mark = append(counts, p.F-mark), p.F
		default:
			counts = append(counts, 0)
		}
		have, last = true, p.F
	}
	return counts, append(marks, mark)
}

func checkBefore(t *testing.T, s readings.Store, x *readings.Series, at int64, all []readings.Point) {
	t.Helper()
	var before []readings.Point
	last, have := 0.0, false
	for _, p := range all {
		if p.T < at {
			before = append(before, p)
			if p.Q&readings.RangeFlag == 0 {
				last, have = p.F, true
			}
		}
	}
	_, marks := Counted(before)
	got, err := s.Before(context.Background(), x, at)
	if err != nil {
		t.Fatal(err)
	}
	if mark := marks[len(before)]; (got.Good() > 0) != have || have && (got.Last != last || got.Tail != mark) {
		t.Errorf("%s %s before %d: got %+v, want %v last, the mark at %v", x.Rec.ID, x.Metric, at, got, last, mark)
	}
}

// SameRollups checks what a store has of a series, all of which that the store
// keeps in the tiers is given, in roll-ups.
func SameRollups(t *testing.T, s readings.Store, x *readings.Series, all []readings.Point, tiers ...readings.Tier) {
	t.Helper()
	for _, tier := range tiers {
		checkRollups(t, s, x, tier, all)
	}
	if x.Counter && len(all) > 0 {
		checkBefore(t, s, x, all[len(all)-1].T+1, all)
	}
}

func checkRollups(t *testing.T, s readings.Store, x *readings.Series, tier readings.Tier, all []readings.Point) {
	want := readings.Roll(nil, all, tier.Step(), x.Nature())
	var got []readings.Bucket
	err := s.Rollups(context.Background(), x, tier, 0, 1<<46, func(bs []readings.Bucket) error {
		got = append(got, bs...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) {
		t.Fatalf("%s %s %v: got %d buckets, want %d", x.Rec.ID, x.Metric, tier, len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		if !near(g.Sum, w.Sum, w) || !near(g.Rise, w.Rise, w) || !near(g.Sin, w.Sin, w) || !near(g.Cos, w.Cos, w) {
			t.Errorf("%s %s %v: got %+v, want %+v", x.Rec.ID, x.Metric, tier, g, w)
		}
		for _, b := range []*readings.Bucket{&g, &w} {
			b.Sum, b.Rise, b.Sin, b.Cos = 0, 0, 0, 0
		}
		if g != w {
			t.Errorf("%s %s %v: got %+v, want %+v", x.Rec.ID, x.Metric, tier, g, w)
		}
	}
}

// near allows for sums that were made in another order.
func near(a, b float64, k readings.Bucket) bool {
	size := max(k.Max, -k.Min, 1) * float64(k.Count)
	return a-b <= size*1e-9 && b-a <= size*1e-9
}

// Points returns the readings that a store has of a series.
func Points(t *testing.T, s readings.Store, x *readings.Series, from, to int64) []readings.Point {
	t.Helper()
	var got []readings.Point
	if err := s.Scan(context.Background(), x, from, to, func(ps []readings.Point) error {
		got = append(got, ps...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// bookStays has a device push with sequence numbers and asks a store that was
// opened again what it knows of them.
func bookStays(t *testing.T, open Opener) {
	r := rand.New(rand.NewPCG(7, 7))
	s, done := open(t)
	twin := readings.NewMemory() // keeps the same entries, and is never closed
	seq := map[string]int64{}
	for i := range 300 {
		boot := fmt.Sprintf("boot-%d", i/40+r.IntN(2))
		rec, trec := s.Book().Record("d-1"), twin.Book().Record("d-1")
		x := s.Book().Define(rec, "temperature", devices.TypeFloat, "°C", false)
		tx := twin.Book().Define(trec, "temperature", devices.TypeFloat, "°C", false)
		var items, titems []readings.Stored
		for range 1 + r.IntN(8) {
			seq[boot] += 1 + r.Int64N(3)*r.Int64N(2)
			if r.IntN(60) == 0 {
				seq[boot] += 5000
			}
			n := max(1, seq[boot]-r.Int64N(5))
			p := readings.Point{T: base + int64(i)*1000 - r.Int64N(5000), F: float64(i)}
			it := readings.Stored{S: x, Point: p, Seq: n}
			if r.IntN(6) == 0 {
				it = readings.Stored{Seq: n, Point: readings.Point{Q: []readings.Quality{0, readings.Late}[r.IntN(2)]}}
			}
			items = append(items, it)
			if it.S != nil {
				it.S = tx
			}
			titems = append(titems, it)
		}
		g := &readings.Group{Entries: []*readings.Entry{{Rec: rec, Boot: boot, At: base + int64(i)*1000, Items: items, Intervals: []readings.Interval{{S: x, MS: int64(1000 + i)}}}}}
		tg := &readings.Group{Entries: []*readings.Entry{{Rec: trec, Boot: boot, At: base + int64(i)*1000, Items: titems, Intervals: []readings.Interval{{S: tx, MS: int64(1000 + i)}}}}}
		if err := s.Append(g); err != nil {
			t.Fatal(err)
		}
		if err := twin.Append(tg); err != nil {
			t.Fatal(err)
		}
		if r.IntN(15) == 0 {
			done()
			s, done = open(t)
			SameState(t, s.Book(), twin.Book(), "d-1")
		}
	}
	done()
}

// SameState compares what two books know of a device.
func SameState(t *testing.T, got, want *readings.Book, id devices.ID) {
	t.Helper()
	g, okG := got.Lookup(id)
	w, okW := want.Lookup(id)
	if okG != okW {
		t.Fatalf("got a record: %v, want one: %v", okG, okW)
	}
	if !okW {
		return
	}
	gs, ws := g.AppendState(nil), w.AppendState(nil)
	if !slices.Equal(gs[9:], ws[9:]) { // the version, and the position in the log
		t.Fatalf("%s: got windows %+v, want %+v", id, g.Windows(), w.Windows())
	}
}
