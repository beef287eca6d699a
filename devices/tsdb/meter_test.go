package tsdb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"devicehub/devices"
	"devicehub/devices/readings"
	"devicehub/devices/readings/storetest"
)

// meterStream is 70 days of a meter: it rises, stands, dips and comes back, for
// moments and for days, starts again, is silent, and reads nonsense now and then.
func meterStream(r *rand.Rand, start int64) (ps []readings.Point) {
	v, deep := float64(r.IntN(100_000))/100, 1.0
	for at := start; at < start+70*dayMS; at += 1 + r.Int64N(int64(time.Hour/time.Millisecond)) {
		switch r.IntN(400) {
		case 0: // another meter
			v = float64(r.IntN(50)) / 10
		case 1:
			at += r.Int64N(5 * dayMS)
		case 2:
			deep = 1 - 0.2*r.Float64() // a reset, if it is deep enough
		case 3:
			deep = 1
		}
		if r.IntN(3) > 0 {
			v += float64(r.IntN(2000)) / 1000
		}
		p := readings.Point{T: at, F: devices.RoundBeside(v*deep, 1e6, 9)}
		if r.IntN(20) == 0 {
			p.F = devices.RoundBeside(p.F*(1-0.02*r.Float64()), 1e6, 9)
		}
		if r.IntN(100) == 0 {
			p.F, p.Q = []float64{-5, 1e12, 0}[r.IntN(3)], readings.RangeFlag
		}
		ps = append(ps, p)
	}
	return ps
}

// meterStore keeps a stream, in pieces that come late or not, and does its work
// in between. What is left of the first month is roll-ups. From change on the
// meter is one in Wh.
func meterStore(t *testing.T, r *rand.Rand, ps []readings.Point, now, change int64) (*Store, *readings.Series) {
	t.Helper()
	opts := testOptions()
	opts.RetainRaw, opts.RetainQuarter, opts.RetainHour = 30*24*time.Hour, 50*24*time.Hour, 1000*24*time.Hour
	at := ps[0].T
	opts.Now = func() time.Time { return time.UnixMilli(at) }
	s := mustOpen(t, t.TempDir(), opts)
	rec := s.Book().Record("m")
	x := s.Book().Define(rec, "energy", devices.TypeFloat, "kWh", true)
	wh := s.Book().Define(rec, "energy", devices.TypeFloat, "Wh", true)
	put := func(ps ...readings.Point) {
		e := &readings.Entry{Rec: rec, At: at}
		for _, p := range ps {
			it := readings.Stored{S: x, Point: p}
			if p.T >= change {
				it.S, it.Point.F = wh, p.F*1000
			}
			e.Items = append(e.Items, it)
		}
		if err := s.Append(&readings.Group{Entries: []*readings.Entry{e}, Readings: len(ps)}); err != nil {
			t.Fatal(err)
		}
	}
	var late []readings.Point
	for len(ps) > 0 {
		n := min(len(ps), 1+r.IntN(60))
		at = ps[n-1].T
		for _, p := range ps[:n] {
			switch r.IntN(30) {
			case 0:
				late = append(late, p)
			case 1:
				put(readings.Point{T: p.T, F: 3}) // replaced below, or later
				late = append(late, p)
			default:
				put(p)
			}
		}
		if ps = ps[n:]; r.IntN(4) == 0 || len(ps) == 0 || len(late) > 0 && at-late[0].T > 5*dayMS {
			put(late...)
			late = nil
		}
		var err error
		switch r.IntN(8) {
		case 0, 1:
			s.freezeNow()
			err = s.flushFrozen(context.Background())
		case 2:
			err = s.RollUp(context.Background())
		case 3:
			err = s.Retain(context.Background(), time.UnixMilli(at), true)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	at = now
	s.freezeNow()
	if err := errors.Join(s.flushFrozen(context.Background()), s.Retain(context.Background(), time.UnixMilli(now), true)); err != nil {
		t.Fatal(err)
	}
	return s, x
}

// meterSeeds is how many meters are lived through, many more when DEVICEHUB_SOAK
// is set.
func meterSeeds() uint64 {
	if os.Getenv("DEVICEHUB_SOAK") != "" {
		return 200
	}
	return 8
}

// TestMeterWindowsAddUp cuts a meter's life into windows and these into buckets,
// over every tier: what they count together is what each reading counts.
func TestMeterWindowsAddUp(t *testing.T) {
	zones := []*time.Location{nil, nil}
	for _, name := range []string{"Europe/Berlin", "Asia/Kathmandu", "America/New_York"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		zones = append(zones, zone)
	}
	for seed := range meterSeeds() {
		r := rand.New(rand.NewPCG(seed, 77))
		start := int64(20_000)*dayMS + r.Int64N(dayMS)
		ps := meterStream(r, start)
		now := ps[len(ps)-1].T
		change := int64(math.MaxInt64)
		if seed%2 == 1 {
			change = ps[r.IntN(len(ps))].T
		}
		s, _ := meterStore(t, r, ps, now, change)
		counts, _ := storetest.Counted(ps)
		want, n := 0.0, int64(len(ps))
		for _, c := range counts {
			want += c
		}
		in := readings.New(s, readings.Config{Now: func() time.Time { return time.UnixMilli(now + 1) }})
		tiers := map[readings.Tier]int{}
		for range 12 {
			cuts := []int64{start - dayMS, now + 1}
			for range r.IntN(40) {
				c := start + r.Int64N(now-start)
				c -= c % []int64{1, 60_000, 900_000, 3600_000, dayMS}[r.IntN(5)]
				cuts = append(cuts, max(c, start))
			}
			slices.Sort(cuts)
			cuts = slices.Compact(cuts)
			sum, count := 0.0, int64(0)
			for i := range cuts[1:] {
				zone := zones[r.IntN(len(zones))]
				c, err := in.Series(t.Context(), readings.SeriesQuery{Device: "m", Metric: "energy", From: cuts[i], To: cuts[i+1], Points: 1 + r.IntN(500), Zone: zone})
				if err != nil {
					t.Fatal(err)
				}
				tiers[c.Tier]++
				for _, b := range c.Buckets {
					sum += b.Delta
					count += b.Count
				}
			}
			if math.Abs(sum-want) > 1e-6 || count != n {
				t.Fatalf("seed %d: got %v of %d readings, want %v of %d; changed at %d, cut at %v", seed, sum, count, want, n, change, cuts)
			}
		}
		if len(tiers) != 3 {
			t.Errorf("seed %d: asked of tiers %v, want all three", seed, tiers)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMeterRollupsMadeAgain compares roll-ups that came about bit by bit with
// those made of all readings at once, and what a store answers before and after
// it was opened again.
func TestMeterRollupsMadeAgain(t *testing.T) {
	for seed := range meterSeeds() {
		r := rand.New(rand.NewPCG(seed, 78))
		ps := meterStream(r, 20_000*dayMS+r.Int64N(dayMS))
		now := ps[len(ps)-1].T
		s, x := meterStore(t, r, ps, now, math.MaxInt64)
		storetest.SameRollups(t, s, x, ps, readings.Hour)
		kept := slices.DeleteFunc(slices.Clone(ps), func(p readings.Point) bool { return p.T < s.Kept(readings.Quarter) })
		for _, tier := range []readings.Tier{readings.Quarter, readings.Hour} {
			var sum, want float64
			if err := s.Rollups(t.Context(), x, tier, s.Kept(readings.Quarter), now+1, func(bs []readings.Bucket) error {
				for i := range bs {
					sum += bs[i].Rise + float64(bs[i].Count)
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			for _, b := range readings.Roll(nil, kept, tier.Step(), readings.Meter) {
				want += b.Rise + float64(b.Count)
			}
			if math.Abs(sum-want) > 1e-6 {
				t.Errorf("seed %d, %v: got %v, want %v", seed, tier, sum, want)
			}
		}
		hours := readings.Roll(nil, ps, readings.Hour.Step(), readings.Meter)
		for range 30 {
			at := ps[0].T + r.Int64N(now-ps[0].T)
			at -= at % readings.Hour.Step() // where only roll-ups are left they are not cut
			want := fold(slices.DeleteFunc(slices.Clone(hours), func(b readings.Bucket) bool { return b.T >= at }))
			got, err := s.Before(t.Context(), x, at)
			if err != nil || (got.Good() > 0) != (want.Good() > 0) || got.Last != want.Last || got.Tail != want.Tail {
				t.Fatalf("seed %d, before %d: got %+v, %v, want %+v", seed, at, got, err, want)
			}
		}
		dir, opts := s.dir, s.opts
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir, opts)
		x = s.Book().Series(x.ID)
		got, err := s.Before(t.Context(), x, now+1)
		if want := fold(hours); err != nil || got.Last != want.Last || got.Tail != want.Tail {
			t.Errorf("seed %d, opened again: got %+v, %v, want %+v", seed, got, err, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a meter came to stays known when its readings, and then its roll-ups, are
// past their retention, and goes with the device.
func TestMeterIsRememberedAndForgotten(t *testing.T) {
	now := int64(20_000) * dayMS
	opts := testOptions()
	opts.RetainRaw, opts.RetainQuarter, opts.RetainHour = 2*24*time.Hour, 3*24*time.Hour, 4*24*time.Hour
	opts.Now = func() time.Time { return time.UnixMilli(now) }
	s := mustOpen(t, t.TempDir(), opts)
	rec := s.Book().Record("m")
	x := s.Book().Define(rec, "energy", devices.TypeFloat, "kWh", true)
	put := func(v float64) {
		e := &readings.Entry{Rec: rec, At: now, Items: []readings.Stored{{S: x, Point: readings.Point{T: now, F: v}}}}
		if err := s.Append(&readings.Group{Entries: []*readings.Entry{e}, Readings: 1}); err != nil {
			t.Fatal(err)
		}
		s.freezeNow()
		if err := errors.Join(s.flushFrozen(t.Context()), s.Retain(t.Context(), opts.Now(), true)); err != nil {
			t.Fatal(err)
		}
	}
	put(100)
	now += 600 * dayMS
	put(95) // a dip, 600 days later
	now += 30 * dayMS
	put(101)
	in := readings.New(s, readings.Config{Now: opts.Now})
	c, err := in.Series(t.Context(), readings.SeriesQuery{Device: "m", Metric: "energy", From: now - dayMS, To: now + 1, Points: 1})
	if err != nil || len(c.Buckets) != 1 || c.Buckets[0].Delta != 6 {
		// The day of 100 and its block are past every retention; that of 95 is known.
		t.Errorf("got %+v, %v, want a rise of 6", c.Buckets, err)
	}
	if err := s.Append(&readings.Group{Entries: []*readings.Entry{{Rec: rec, Forget: true}}}); err != nil {
		t.Fatal(err)
	}
	s.freezeNow()
	if err := s.flushFrozen(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := 0
	if err := s.scanClass(classMeter, func(k, v []byte) error { left++; return nil }); err != nil || left != 0 {
		t.Errorf("%d values of a device that is forgotten, %v", left, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkMeter asks how much a meter of two years used in an hour long ago, and
// today: what lies before is not to be read for it.
func BenchmarkMeter(b *testing.B) {
	start := int64(20_000) * dayMS
	now := start + 700*dayMS + 43_210_000
	s := mustOpen(b, b.TempDir(), Options{Fsync: SyncOff, MinFree: -1, Now: func() time.Time { return time.UnixMilli(now) }})
	rec := s.Book().Record("m")
	x := s.Book().Define(rec, "energy", devices.TypeFloat, "kWh", true)
	for at, v := start, 0; at < now; at += dayMS {
		e := &readings.Entry{Rec: rec, At: at}
		for t := at; t < at+dayMS && t < now; t += 600_000 {
			v++
			e.Items = append(e.Items, readings.Stored{S: x, Point: readings.Point{T: t, F: float64(v) / 100}})
		}
		if err := s.Append(&readings.Group{Entries: []*readings.Entry{e}, Readings: len(e.Items)}); err != nil {
			b.Fatal(err)
		}
	}
	s.freezeNow()
	if err := errors.Join(s.flushFrozen(context.Background()), s.Retain(context.Background(), time.UnixMilli(now), true)); err != nil {
		b.Fatal(err)
	}
	in := readings.New(s, readings.Config{Now: s.opts.Now})
	for name, from := range map[string]int64{"today": now - 3600_000, "last month": now - 20*dayMS, "two years ago": start + 20*dayMS, "with two years before": start + 650*dayMS} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				c, err := in.Series(context.Background(), readings.SeriesQuery{Device: "m", Metric: "energy", From: from - from%3600_000, To: from + 3600_000, Points: 60})
				if err != nil || len(c.Buckets) == 0 {
					b.Fatal(fmt.Sprint(c, err))
				}
			}
		})
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
