package tsdb

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// TestChartsAgainstMemory asks the same of this store and of the one in memory.
func TestChartsAgainstMemory(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 4))
	now := time.UnixMilli(1_763_726_400_000)
	opts := testOptions()
	opts.FlushReadings = 1 << 20
	s := mustOpen(t, t.TempDir(), opts)
	m := readings.NewMemory()
	ids := []devices.ID{"a", "b", "c"}
	for i, id := range ids {
		for _, st := range []readings.Store{s, m} {
			r := rand.New(rand.NewPCG(uint64(i), 4))
			rec := st.Book().Record(id)
			x := st.Book().Define(rec, "energy", devices.TypeFloat, "kWh", true)
			v := 0.0
			for at := now.Add(-40 * 24 * time.Hour).UnixMilli(); at < now.UnixMilli(); at += int64(r.IntN(1200_000)) {
				if v += float64(r.IntN(50)) / 10; r.IntN(200) == 0 {
					v = 0
				}
				if r.IntN(100) == 0 {
					at += 3 * 3600_000 // a gap
				}
				e := &readings.Entry{Rec: rec, At: at, Items: []readings.Stored{{S: x, Point: readings.Point{T: at, F: v}}}}
				if err := st.Append(&readings.Group{Entries: []*readings.Entry{e}, Readings: 1}); err != nil {
					t.Fatal(err)
				}
				if st == readings.Store(s) && r.IntN(2000) == 0 {
					s.freezeNow()
					if err := s.flushFrozen(context.Background()); err != nil {
						t.Fatal(err)
					}
				} else if st == readings.Store(m) {
					r.IntN(2000)
				}
			}
		}
	}
	if err := s.RollUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	a, b := readings.New(s, readings.Config{}), readings.New(m, readings.Config{})
	tiers := map[readings.Tier]int{}
	for range 300 {
		from := now.Add(-time.Duration(r.Int64N(int64(40 * 24 * time.Hour)))).UnixMilli()
		to := from + 1 + r.Int64N(now.UnixMilli()-from)
		points := 1 + r.IntN(600)
		q := readings.AcrossQuery{Devices: ids[:1+r.IntN(3)], Metric: "energy", From: from, To: to, Points: points}
		x, err := a.Across(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.Across(context.Background(), q)
		if err != nil {
			t.Fatal(err)
		}
		tiers[x.Tier]++
		if err := sameChart(x, y); err != nil || len(x.Buckets) > points {
			t.Fatalf("%+v: %v", q, err)
		}
		total := int64(0)
		for _, k := range x.Buckets {
			total += k.Count
		}
		want := int64(0)
		for _, id := range q.Devices {
			rec, _ := m.Book().Lookup(id)
			if err := m.Scan(context.Background(), rec.Series()[0], from, to, func(ps []readings.Point) error {
				want += int64(len(ps))
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		if total != want {
			t.Fatalf("%+v: the buckets count %d readings, there are %d", q, total, want)
		}
	}
	if len(tiers) != 3 {
		t.Errorf("asked of tiers %v, want all three", tiers)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func sameChart(x, y readings.Chart) error {
	if x.StepMS != y.StepMS || len(x.Buckets) != len(y.Buckets) || x.Devices != y.Devices || x.Unit != y.Unit {
		return fmt.Errorf("%d buckets of %d ms, want %d of %d", len(x.Buckets), x.StepMS, len(y.Buckets), y.StepMS)
	}
	for i := range x.Buckets {
		p, q := x.Buckets[i], y.Buckets[i]
		if math.Abs(p.Sum-q.Sum) > 1e-6*max(1, math.Abs(q.Sum)) || math.Abs(p.Delta-q.Delta) > 1e-6*max(1, q.Delta) || math.Abs(p.Rise-q.Rise) > 1e-6*max(1, q.Rise) {
			return fmt.Errorf("bucket %d: %+v, want %+v", i, p, q)
		}
		for _, b := range []*readings.Bucket{&p, &q} {
			b.Sum, b.Delta, b.Rise = 0, 0, 0
		}
		if p != q {
			return fmt.Errorf("bucket %d: %+v, want %+v", i, p, q)
		}
	}
	return nil
}
