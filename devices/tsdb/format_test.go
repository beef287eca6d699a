package tsdb

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

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
				if err := s.flushFrozen(t.Context()); err != nil {
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
