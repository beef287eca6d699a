package tsdb

import (
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
	"devicehub/devices/readings/storetest"
)

var writeFormat = flag.Bool("write-format", false, "write testdata/format-N for the format of now")

// formatGroups are what the folders under testdata hold: every type, boots,
// refusals, late readings, in chunks and, from the middle on, in the log.
func formatGroups(b *readings.Book, part int) *readings.Group {
	g := &readings.Group{Clock: &readings.ClockMark{Wall: formatStart + int64(part)*1000}}
	for d := range 3 {
		rec := b.Record(devices.ID(fmt.Sprintf("old-%d", d)))
		temp := b.Define(rec, "temperature", devices.TypeFloat, "°C", false)
		kwh := b.Define(rec, "energy", devices.TypeFloat, "kWh", true)
		door := b.Define(rec, "door", devices.TypeBool, "", false)
		mode := b.Define(rec, "mode", devices.TypeString, "", false)
		kind := b.Define(rec, "kind", devices.TypeEnum, "", false)
		e := &readings.Entry{Rec: rec, Boot: fmt.Sprintf("boot-%d", part/20), At: formatStart + int64(part)*60_000}
		t, s := e.At, int64(part%20)*6+1
		e.Items = []readings.Stored{
			{S: temp, Point: readings.Point{T: t, F: float64(part)/10 + 0.1}, Seq: s},
			{S: kwh, Point: readings.Point{T: t, F: float64(part) / 3, Q: readings.ServerTime}, Seq: s + 1},
			{S: door, Point: readings.Point{T: t, F: float64(part % 2)}, Seq: s + 2},
			{S: mode, Point: readings.Point{T: t - 30_000, S: fmt.Sprint("mode ", part%3), Q: readings.Late | readings.Undeclared}, Seq: s + 4},
			{Seq: s + 5},
			{S: kind, Point: readings.Point{T: t, S: "a"}},
		}
		e.Intervals = []readings.Interval{{S: temp, MS: 60_000}}
		g.Entries = append(g.Entries, e)
		g.Readings += 5
	}
	return g
}

const (
	formatStart = 1_763_000_000_000
	formatParts = 100
)

// TestFormats opens a folder of every format there ever was.
func TestFormats(t *testing.T) {
	opts := testOptions()
	opts.SegmentBytes = 16 << 10
	if *writeFormat {
		dir := filepath.Join("testdata", fmt.Sprintf("format-%d", formatVersion))
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, filepath.Join(t.TempDir(), "readings"), opts)
		for part := range formatParts {
			if err := s.Append(formatGroups(s.book, part)); err != nil {
				t.Fatal(err)
			}
			if part == formatParts/2 {
				s.freezeNow()
				if err := errors.Join(s.flushFrozen(t.Context()), s.RollUp(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Backup(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
	}
	dirs, err := filepath.Glob(filepath.Join("testdata", "format-*"))
	if err != nil || len(dirs) < formatVersion {
		t.Fatal(dirs, err)
	}
	want := readings.NewMemory()
	for part := range formatParts {
		if err := want.Append(formatGroups(want.Book(), part)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			mine := filepath.Join(t.TempDir(), "readings")
			if err := os.CopyFS(mine, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, mine, opts)
			if st, why := s.Health(); st != StateReady {
				t.Fatalf("%s: %s", st, why)
			}
			if got := s.Clock().Wall; got != formatStart+(formatParts-1)*1000 {
				t.Errorf("the clock is recorded as %d", got)
			}
			for d := range 3 {
				id := devices.ID(fmt.Sprintf("old-%d", d))
				storetest.SameState(t, s.Book(), want.Book(), id)
				got, _ := s.Book().Lookup(id)
				wanted, _ := want.Book().Lookup(id)
				for i, x := range got.Series() {
					a := storetest.Points(t, s, x, 0, 1<<46)
					b := storetest.Points(t, want, wanted.Series()[i], 0, 1<<46)
					if len(a) != formatParts || fmt.Sprint(a) != fmt.Sprint(b) {
						t.Errorf("%s %s: got %d readings that differ, want %d", id, x.Metric, len(a), len(b))
					}
					storetest.SameRollups(t, s, x, b, readings.Quarter, readings.Hour)
				}
			}
			// And it goes on.
			if err := s.Append(formatGroups(s.book, formatParts)); err != nil {
				t.Error(err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRollupsOfTheFirstFormat opens a folder with roll-ups of six days, of which
// three have lost their readings and the last is in the log: a meter that dips by
// 0.3 now and then and is replaced once, a wind from 350° and 10°, and
// temperatures of 20 to 22 with 900 among them, out of range. What the hub that wrote it took every fall of the
// meter for is put right where the readings are kept, and as far as roll-ups
// tell elsewhere.
func TestRollupsOfTheFirstFormat(t *testing.T) {
	const start, readingsGone = int64(20_400) * dayMS, int64(20_403) * dayMS
	end := start + 6*dayMS + 2*3600_000 + 1200_000*4
	opts := testOptions()
	opts.Now = func() time.Time { return time.UnixMilli(end) }
	opts.RetainRaw, opts.RetainQuarter, opts.RetainHour = 3*24*time.Hour, 180*24*time.Hour, 730*24*time.Hour
	mine := filepath.Join(t.TempDir(), "readings")
	if err := os.CopyFS(mine, os.DirFS(filepath.Join("testdata", "rolled-1"))); err != nil {
		t.Fatal(err)
	}
	var meter []readings.Point
	for i := range int64(6*72 + 10) {
		v := 215.6 + float64(i)/10
		if i%50 == 49 {
			v -= 0.3
		}
		if i > 2*72 {
			v -= 229
		}
		meter = append(meter, readings.Point{T: start + i*1200_000, F: float64(int64(v*10+0.5)) / 10})
	}
	want := 0.0
	counts, _ := storetest.Counted(meter)
	for _, c := range counts {
		want += c
	}
	s := mustOpen(t, mine, opts)
	check := func(when string) {
		t.Helper()
		in := readings.New(s, readings.Config{Now: opts.Now})
		ask := func(metric string, from, to int64, points int) readings.Chart {
			t.Helper()
			c, err := in.Series(t.Context(), readings.SeriesQuery{Device: "old", Metric: metric, From: from, To: to, Points: points})
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		sum := func(from, to int64, points int) (d float64) {
			for _, b := range ask("energy", from, to, points).Buckets {
				d += b.Delta
			}
			return d
		}
		for _, points := range []int{1, 10, 200} {
			if got := sum(0, end, points); math.Abs(got-want) > 1e-9 {
				t.Errorf("%s: in %d buckets got %v, want %v", when, points, got, want)
			}
		}
		days := 0.0
		for d := start; d < end; d += dayMS {
			days += sum(d, d+dayMS, 7)
		}
		if math.Abs(days-want) > 1e-9 {
			t.Errorf("%s: the days come to %v, want %v", when, days, want)
		}
		for _, b := range ask("wind_direction", readingsGone, end, 2).Buckets {
			if m, ok := b.Mean(); !ok || m > 2 && m < 358 {
				t.Errorf("%s: the wind is %v %v, want about 0", when, m, ok)
			}
		}
		for _, b := range ask("wind_direction", start, readingsGone, 100).Buckets {
			if m, ok := b.Mean(); !ok || m > 11 && m < 349 {
				t.Errorf("%s: of roll-ups alone the wind is %v %v, want it northerly", when, m, ok)
			}
		}
		out := int64(0)
		for _, b := range ask("temperature", readingsGone, end, 5).Buckets {
			if out += b.Out; b.Max != 22 {
				t.Errorf("%s: the greatest temperature is %v, want 22", when, b.Max)
			}
		}
		if out != 2 {
			t.Errorf("%s: %d readings out of range, want 2", when, out)
		}
	}
	check("as opened")
	if s.metered == 0 {
		t.Error("the days of the meter are there already")
	}
	if err := s.RollUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("rolled up again")
	if s.metered != 0 || len(s.rolled) != 2 {
		t.Errorf("the days of meters are there from %d on, and the days %v are rolled up", s.metered, s.rolled)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, mine, opts)
	check("opened again")
	if s.metered != 0 || len(s.rolled) != 2 {
		t.Errorf("opened again: from %d on, %d days", s.metered, len(s.rolled))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
