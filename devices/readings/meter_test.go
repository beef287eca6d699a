package readings_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
	"devicehub/devices/readings/storetest"
)

func TestWhatAMeterCounts(t *testing.T) {
	for name, row := range map[string]struct {
		values []float64
		want   float64
	}{
		"one reading":                       {[]float64{100}, 0},
		"a rise":                            {[]float64{100, 110, 110, 125}, 25},
		"a dip and the way back":            {[]float64{215.6, 215.7, 215.6, 215.6, 215.7, 216}, 0.4},
		"a dip that is passed":              {[]float64{100, 95, 101}, 1},
		"a dip at the end":                  {[]float64{100, 110, 105}, 10},
		"a dip to 90 %":                     {[]float64{100, 90, 100}, 0},
		"a reset":                           {[]float64{100, 110, 125, 3, 10, 10, 2}, 25 + 3 + 7 + 2},
		"a reset to just below 90 %":        {[]float64{100, 89.9, 90}, 90},
		"sinking slowly":                    {[]float64{100, 95, 91, 87, 84, 80, 99}, 0},
		"a reset behind a dip":              {[]float64{100, 95, 84, 85}, 85},
		"a reset to 0 and a rise":           {[]float64{50, 0, 5}, 5},
		"at 0":                              {[]float64{0, 0, 0.5, 0}, 0.5},
		"below 0":                           {[]float64{-10, -8, -8.1, -5}, 5},
		"a reset below 0":                   {[]float64{10, -4, -3, 2}, 6},
		"a fall of a tenth below 0":         {[]float64{-10, -11, -10}, 0},
		"a fall of more than a tenth there": {[]float64{-10, -12, -10}, 2},
	} {
		var ps []readings.Point
		for i, v := range row.values {
			ps = append(ps, readings.Point{T: int64(i) * 1000, F: v}, readings.Point{T: int64(i)*1000 + 500, F: []float64{1e9, -1e9, 0}[i%3], Q: readings.RangeFlag})
		}
		b := readings.Roll(nil, ps, 3600_000, readings.Meter)[0]
		if math.Abs(b.Rise-row.want) > 1e-9 || b.Count != int64(len(ps)) || b.Out != int64(len(row.values)) {
			t.Errorf("%s: got %v of %d readings, %d out of range; want %v", name, b.Rise, b.Count, b.Out, row.want)
		}
		counts, _ := storetest.Counted(ps)
		sum := 0.0
		for _, c := range counts {
			sum += c
		}
		if math.Abs(sum-row.want) > 1e-9 {
			t.Errorf("%s: one by one they come to %v, want %v", name, sum, row.want)
		}
	}
}

// randomMeter is readings of a meter with dips, resets, and some out of range.
func randomMeter(r *rand.Rand, n int) (ps []readings.Point) {
	at, v := int64(1_763_726_400_000)+r.Int64N(3600_000), float64(r.IntN(1000))-float64(r.IntN(2))*500
	for range n {
		at += 1 + r.Int64N(600_000)
		v += float64(r.IntN(100)) / 10
		p := readings.Point{T: at, F: v}
		switch r.IntN(12) {
		case 0:
			p.F *= 1 - 0.15*r.Float64()
		case 1:
			v = float64(r.IntN(20)) - 5
		case 2:
			p.F, p.Q = r.NormFloat64()*1e6, readings.RangeFlag
		}
		ps = append(ps, p)
	}
	return ps
}

// TestMetersMergeInAnyOrder puts pieces of a meter's readings together, next to
// each other and in any order: they come to what the whole does.
func TestMetersMergeInAnyOrder(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 9))
		ps := randomMeter(r, 2+r.IntN(80))
		whole := readings.Roll(nil, ps, 1<<50, readings.Meter)[0]
		var parts []readings.Bucket
		for rest := ps; len(rest) > 0; {
			n := 1 + r.IntN(len(rest))
			parts = append(parts, readings.Roll(nil, rest[:n], 1<<50, readings.Meter)...)
			rest = rest[n:]
		}
		for len(parts) > 1 {
			i := r.IntN(len(parts) - 1)
			a, b := parts[i], parts[i+1]
			if r.IntN(2) == 0 {
				a, b = b, a
			}
			a.Merge(&b)
			parts = slices.Replace(parts, i, i+2, a)
		}
		got := parts[0]
		if math.Abs(got.Rise-whole.Rise) > 1e-6 || math.Abs(got.Sum-whole.Sum) > 1e-6 {
			t.Fatalf("seed %d: got %+v, want %+v", seed, got, whole)
		}
		got.Rise, got.Sum, whole.Rise, whole.Sum = 0, 0, 0, 0
		if got != whole {
			t.Fatalf("seed %d: got %+v, want %+v", seed, got, whole)
		}
	}
}

// TestWindowsOfMetersAddUp cuts what came in over the wire, some of it late, into
// windows of many meters, one of which has changed its unit: they come to what
// each reading counts.
func TestWindowsOfMetersAddUp(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 10))
		store := readings.NewMemory()
		in := readings.New(store, readings.Config{})
		want := 0.0
		var ids []devices.ID
		first, last := int64(1)<<60, int64(0)
		for i := range 1 + r.IntN(3) {
			id := devices.ID(fmt.Sprintf("m-%d", i))
			ids = append(ids, id)
			rec := store.Book().Record(id)
			kwh := store.Book().Define(rec, "energy", devices.TypeFloat, "kWh", true)
			wh := store.Book().Define(rec, "energy", devices.TypeFloat, "Wh", true)
			ps := randomMeter(r, 3+r.IntN(200))
			counts, _ := storetest.Counted(ps)
			for _, c := range counts {
				want += c
			}
			var items []readings.Stored
			change := r.IntN(len(ps))
			for k, p := range ps {
				s := kwh
				if i == 0 && k < change {
					s, p.F = wh, p.F*1000
				}
				items = append(items, readings.Stored{S: s, Point: p})
				first, last = min(first, p.T), max(last, p.T)
			}
			r.Shuffle(len(items), func(a, b int) { items[a], items[b] = items[b], items[a] })
			if err := store.Append(&readings.Group{Entries: []*readings.Entry{{Rec: rec, Items: items}}}); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			cuts := []int64{first - 1000, last + 1}
			for range r.IntN(10) {
				cuts = append(cuts, first+r.Int64N(last-first+1))
			}
			slices.Sort(cuts)
			cuts = slices.Compact(cuts)
			got := 0.0
			for i := range cuts[1:] {
				c, err := in.Across(context.Background(), readings.AcrossQuery{Devices: ids, Metric: "energy", From: cuts[i], To: cuts[i+1], Points: 1 + r.IntN(300)})
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range c.Buckets {
					got += b.Delta
				}
			}
			if math.Abs(got-want) > 1e-4 {
				t.Fatalf("seed %d, cut at %v: got %v, want %v", seed, cuts, got, want)
			}
		}
	}
}

func TestDirectionsMergeAndConvert(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 11))
		mid := r.Float64() * 360
		var ps []readings.Point
		for i := range 2 + r.IntN(40) {
			ps = append(ps, readings.Point{T: int64(i), F: math.Mod(mid+float64(r.IntN(80))-40+360, 360)})
		}
		sin, cos := 0.0, 0.0
		for _, p := range ps {
			sin += math.Sin(p.F * math.Pi / 180)
			cos += math.Cos(p.F * math.Pi / 180)
		}
		want := math.Mod(math.Atan2(sin, cos)*180/math.Pi+360, 360)
		cut := 1 + r.IntN(len(ps)-1)
		a, b := readings.Roll(nil, ps[:cut], 1<<50, readings.Degrees)[0], readings.Roll(nil, ps[cut:], 1<<50, readings.Degrees)[0]
		b.Merge(&a)
		got, ok := b.Mean()
		if d := math.Abs(got - want); !ok || d > 1e-6 && d < 360-1e-6 {
			t.Fatalf("seed %d: got %v %v, want %v", seed, got, ok, want)
		}
	}
}

// A metric that was no meter when it was rolled up is one as far as can be told.
func TestAMetricThatBecameAMeter(t *testing.T) {
	plain := func(vs ...float64) (b readings.Bucket) {
		for i, v := range vs {
			b.Add(&readings.Point{T: int64(i), F: v})
		}
		b.Become(readings.Meter)
		return b
	}
	for _, row := range []struct {
		b    readings.Bucket
		want float64
	}{{plain(100, 101, 100.5, 103), 3}, {plain(5), 0}, {plain(1, 2, 10, 40), 39}, {plain(100, 110, 2), 12}} {
		if row.b.Rise != row.want {
			t.Errorf("got %+v, want a rise of %v", row.b, row.want)
		}
	}
}

// A unit that was declared since is that of what had none, and a class of meters
// makes a meter of what was none.
func TestAMeterThatIsDeclaredLater(t *testing.T) {
	d := &devices.Device{ID: "a", Kinds: []devices.Kind{devices.KindSensor}}
	store := readings.NewMemory()
	in := readings.New(store, readings.Config{Device: func(devices.ID) (*devices.Device, bool) { return d, true }})
	rec := store.Book().Record("a")
	s := store.Book().Define(rec, "total", devices.TypeFloat, "", false)
	start := time.Now().UnixMilli() / 60_000 * 60_000
	var items []readings.Stored
	for i, v := range []float64{5, 6, 6, 8} {
		items = append(items, readings.Stored{S: s, Point: readings.Point{T: start + int64(i)*1000, F: v}})
	}
	if err := store.Append(&readings.Group{Entries: []*readings.Entry{{Rec: rec, Items: items}}}); err != nil {
		t.Fatal(err)
	}
	d = &devices.Device{ID: "a", Kinds: d.Kinds, Metrics: []devices.Metric{{Name: "total", Type: devices.TypeFloat, Unit: "kWh", StateClass: devices.TotalIncreasing}}}
	c, err := in.Series(t.Context(), readings.SeriesQuery{Device: "a", Metric: "total", From: start + 1000, To: start + 60_000, Points: 1})
	if err != nil || !c.Counter || c.Unit != "kWh" || c.Buckets[0].Delta != 3 {
		t.Errorf("got %+v, %v, want a rise of 3 kWh", c, err)
	}
}
