package tsdb

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"devicehub/devices"
	"devicehub/devices/readings"
	"devicehub/devices/tsdb/ingestlog"
)

// old is a folder as a build left it in which the name of a metric could be
// overwritten before it was kept: one that it wrote, with the names in the
// tables, or one with the names in the log, as after a crash.
func old(t *testing.T, which string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "readings")
	if which == "in the log" {
		writeMisnamed(t, filepath.Join(dir, "log"))
		return dir
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "misnamed"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// writeMisnamed writes a log past the store, which refuses such names.
func writeMisnamed(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	log, err := ingestlog.Open(dir, ingestlog.Options{SegmentBytes: 64 << 10}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	book, w := readings.NewBook(), groupWriter{known: new(known)}
	at := oldTime.UnixMilli() - 60_000
	for i, x := range []struct {
		id           devices.ID
		metric, unit string
	}{
		{"a", "temperature", "lx"}, {"a", "{\"m\":\"humidi", "lx"}, {"b", "temperature", "°C"}, {"quiet", "humidity", "%"},
		{"greenhouse", "eyJpc3MiOiJkZXZpY2VodWIiLCJhdWQi", ""}, {"workshop-meter", "\x00\x01b\x01EeyJhbG", ""}, {"quiet", "humidity", "%"},
	} {
		rec := book.Record(x.id)
		e := &readings.Entry{Rec: rec, At: at}
		for k := range 3 {
			s := book.Define(rec, x.metric, devices.TypeFloat, x.unit, false)
			e.Items = append(e.Items, readings.Stored{S: s, Point: readings.Point{T: at + int64(100*i+k), F: float64(k)}})
		}
		if _, _, err := log.Commit(w.appendGroup(log.Begin(frameGroup), &readings.Group{Entries: []*readings.Entry{e}}, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
}

// oldTime is soon after those folders were written.
var oldTime = time.UnixMilli(1_796_072_600_000)

// working is an Ingest over a store, both at work until stop.
func working(t *testing.T, dir string, log *slog.Logger) (s *Store, in *readings.Ingest, stop func()) {
	t.Helper()
	s = mustOpen(t, dir, Options{Fsync: SyncOff, MinFree: -1, Logger: log, Now: func() time.Time { return oldTime }})
	in = readings.New(s, readings.Config{Logger: log, Now: func() time.Time { return oldTime }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	return s, in, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func export(t *testing.T, in *readings.Ingest, id devices.ID, format string) string {
	t.Helper()
	var b bytes.Buffer
	if err := in.Export(t.Context(), &b, readings.ExportQuery{Device: id, Format: format}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// names are those of a device's series that are not metrics' names.
func names(s *Store) (list []string) {
	for rec := range s.book.All() {
		for _, x := range rec.AllSeries() {
			if x.Misnamed() && !x.Dropped() {
				list = append(list, x.Metric)
			}
		}
	}
	return list
}

// A folder with names that no device can have sent is opened, and shows none of
// them anywhere; what is right in it is there.
func TestMisnamedSeriesAreKeptAside(t *testing.T) {
	for _, which := range []string{"in the tables", "in the log"} {
		t.Run(which, func(t *testing.T) {
			var log bytes.Buffer
			s, in, stop := working(t, old(t, which), slog.New(slog.NewTextHandler(&log, nil)))
			defer stop()
			if state, why := s.Health(); state != StateReady {
				t.Fatalf("%s: %s", state, why)
			}
			bad := names(s)
			if len(bad) == 0 {
				t.Fatal("the folder has none")
			}
			if n := strings.Count(log.String(), "kept aside"); n != 1 || s.Stats().Misnamed != len(bad) {
				t.Errorf("got %d lines and %d series, want one and %d:\n%s", n, s.Stats().Misnamed, len(bad), log.String())
			}
			for _, id := range []devices.ID{"a", "b", "greenhouse", "workshop-meter", "quiet"} {
				shown := string(in.AppendLatest(nil, id))
				for metric := range in.Latest(id) {
					if !devices.ValidMetricName(metric) {
						t.Errorf("%s: the latest readings have %q", id, metric)
					}
				}
				shown += export(t, in, id, readings.CSV) + export(t, in, id, readings.Line)
				lines := export(t, in, id, readings.NDJSON)
				for sc := bufio.NewScanner(strings.NewReader(lines)); sc.Scan(); {
					if !json.Valid(sc.Bytes()) {
						t.Errorf("%s: the export has %q", id, sc.Bytes())
					}
				}
				for _, name := range bad {
					if strings.Contains(shown+lines, name) {
						t.Errorf("%s: %q is shown", id, name)
					}
				}
				if _, _, next := in.Freshness(id, oldTime); len(in.Latest(id)) == 0 && !next.IsZero() {
					t.Errorf("%s: readings that are not shown become stale", id)
				}
			}
			in.EachLatest(func(id devices.ID, metric, _ string, _ readings.Value, _ int64, _ readings.Quality) bool {
				if !devices.ValidMetricName(metric) {
					t.Errorf("%s: the walk meets %q", id, metric)
				}
				return true
			})
			if !strings.Contains(export(t, in, "quiet", readings.CSV), "quiet,humidity,") || !strings.Contains(export(t, in, "b", readings.CSV), "b,temperature,") {
				t.Error("what is right is not shown")
			}
			if n := strings.Count(log.String(), "left out of exports"); n != 1 {
				t.Errorf("the log says %d times that exports are not whole, want once", n)
			}
			for _, name := range bad {
				if strings.Contains(log.String(), name) {
					t.Errorf("%q is in the log", name)
				}
			}
		})
	}
}

// What no device can have sent is found, and erased without a trace in the
// store's files.
func TestMisnamedSeriesAreErased(t *testing.T) {
	for _, which := range []string{"in the tables", "in the log", "flushed from the log"} {
		t.Run(which, func(t *testing.T) {
			dir := old(t, strings.Replace(which, "flushed from", "in", 1))
			s, in, stop := working(t, dir, slog.New(slog.DiscardHandler))
			if which == "flushed from the log" {
				s.freezeNow()
				if err := s.flushFrozen(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			bad := names(s)
			found, err := in.Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			count := map[string]int{}
			for _, f := range found {
				count[f.Why]++
				if f.Readings == 0 || f.First == 0 || f.Last < f.First || f.First > oldTime.UnixMilli() {
					t.Errorf("got %+v, want its readings counted", f)
				}
				if f.Why == readings.WhyName && (len(f.Name) > 20 || f.Bytes < 1) {
					t.Errorf("%q is shown, want a few characters", f.Name)
				}
				if f.Why == readings.WhyUnit && (f.Device != "a" || f.Name != "temperature" || f.Unit != "lx") {
					t.Errorf("got %+v, want a's lux that stand under temperature", f)
				}
			}
			if count[readings.WhyName] != len(bad) || count[readings.WhyUnit] == 0 {
				t.Errorf("found %v, want %d names, and lux that stand under temperature", count, len(bad))
			}
			healthy := export(t, in, "b", readings.CSV) + export(t, in, "quiet", readings.CSV)

			erased, left, err := in.Repair(t.Context(), false)
			if err != nil || len(erased) != count[readings.WhyName] || len(left) != count[readings.WhyUnit] {
				t.Fatalf("erased %d and left %d, %v; want %v", len(erased), len(left), err, count)
			}
			if len(names(s)) != 0 || s.Stats().Misnamed != 0 {
				t.Errorf("got %q still", names(s))
			}
			if _, left, err = in.Repair(t.Context(), true); err != nil || len(left) != 0 {
				t.Errorf("left %v, %v", left, err)
			}
			if found, err := in.Check(t.Context()); err != nil || len(found) != 0 {
				t.Errorf("found %v, %v after the repair", found, err)
			}
			stop()
			if which == "flushed from the log" { // a file of Pebble's log may wait for the next start
				_, _, again := working(t, dir, slog.New(slog.DiscardHandler))
				again()
			}
			holdsNone(t, dir, bad)

			s, in, stop = working(t, dir, slog.New(slog.DiscardHandler))
			defer stop()
			if found, err := in.Check(t.Context()); err != nil || len(found) != 0 || s.Stats().Misnamed != 0 {
				t.Errorf("found %v, %v after the store was opened again", found, err)
			}
			if got := export(t, in, "b", readings.CSV) + export(t, in, "quiet", readings.CSV); got != healthy {
				t.Errorf("got %s, want what was right as it was: %s", got, healthy)
			}
			if got := export(t, in, "greenhouse", readings.CSV); strings.Count(got, "\n") != 1 {
				t.Errorf("got %q, want nothing of the greenhouse", got)
			}
			// The devices go on, under the names that stood there wrongly, too.
			for _, metric := range []string{"temperature", "illuminance"} {
				push(t, in, "a", metric)
			}
			if got := in.Latest("a"); len(got) != 2 || got["temperature"].U != "°C" || got["illuminance"].U != "lx" {
				t.Errorf("got %v", got)
			}
		})
	}
}

// push has a device send a reading, and waits until it is kept.
func push(t *testing.T, in *readings.Ingest, id devices.ID, metric string) {
	t.Helper()
	b, err := readings.ParseBare(metric, []byte("20"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	in.Submit(readings.Source{Device: &devices.Device{ID: id, Kinds: []devices.Kind{devices.KindSensor}}}, b, func(_ readings.Result, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// holdsNone wants none of the names in any file of a folder.
func holdsNone(t *testing.T, dir string, names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, name := range names {
			if bytes.Contains(b, []byte(name)) {
				t.Errorf("%s holds %q", path, name)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A folder of a build without the fault has nothing to be found.
func TestNothingIsFoundInAHealthyFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "readings")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "format-1"))); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	_, in, stop := working(t, dir, slog.New(slog.NewTextHandler(&log, nil)))
	defer stop()
	if erased, left, err := in.Repair(t.Context(), true); err != nil || len(erased)+len(left) != 0 || strings.Contains(log.String(), "kept aside") {
		t.Errorf("erased %v, left %v, %v\n%s", erased, left, err, log.String())
	}
}

// While a sink has not read it the log stays; what was erased is not read from it.
func TestTheLogOfErasedSeriesIsPassedOver(t *testing.T) {
	s, in, stop := working(t, old(t, "in the log"), slog.New(slog.DiscardHandler))
	defer stop()
	if err := s.Pin("sink", 0); err != nil {
		t.Fatal(err)
	}
	tailed := func() map[string]int {
		got := map[string]int{}
		if _, err := s.Tail(0, func(r []readings.Stored, _ int64) bool {
			for i := range r {
				if r[i].S != nil {
					got[r[i].S.Metric]++
				}
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return got
	}
	before := tailed()
	_, end := s.LogBounds()
	if _, _, err := in.Repair(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	after := tailed()
	for name, n := range before {
		if want := map[bool]int{true: n}[devices.ValidMetricName(name)]; after[name] != want {
			t.Errorf("%q: got %d readings, want %d", name, after[name], want)
		}
	}
	if len(before) == len(after) {
		t.Error("the log had none")
	}
	if err := s.Unpin("sink"); err != nil {
		t.Fatal(err)
	}
	if first, _ := s.LogBounds(); first < end {
		t.Errorf("the log is kept from %d on, want nothing before %d", first, end)
	}
}

// A device that is erased between the check and the repair leaves nothing behind.
func TestSeriesOfAnErasedDeviceAreErased(t *testing.T) {
	dir := old(t, "in the tables")
	s := mustOpen(t, dir, testOptions())
	rec, _ := s.book.Lookup("greenhouse")
	list := rec.AllSeries()
	if err := s.Append(&readings.Group{Entries: []*readings.Entry{{Rec: rec, Forget: true}}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Drop(list); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, testOptions())
	defer s.Close()
	if _, ok := s.book.Lookup("greenhouse"); ok {
		t.Error("the device is there again")
	}
}

// The name of a series that is changed in memory is refused, and what was wrong
// with it does not get into the tables.
func TestANameThatChangesInMemoryIsNotKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "readings")
	s := mustOpen(t, dir, testOptions())
	buffer := []byte("humidity")
	rec := s.book.Record("d-1")
	x := s.book.Define(rec, unsafe.String(unsafe.SliceData(buffer), len(buffer)), devices.TypeFloat, "%", false)
	group := func(v float64) *readings.Group {
		return &readings.Group{Readings: 1, Entries: []*readings.Entry{{Rec: rec, At: oldTime.UnixMilli(), Items: []readings.Stored{{S: x, Point: readings.Point{T: oldTime.UnixMilli() + int64(v), F: v}}}}}}
	}
	if err := s.Append(group(1)); err != nil {
		t.Fatal(err)
	}
	copy(buffer, `{"m":"co`)
	in := readings.New(s, readings.Config{Now: func() time.Time { return oldTime.Add(time.Hour) }})
	if got := export(t, in, "d-1", readings.NDJSON) + string(in.AppendLatest(nil, "d-1")); got != "{}" {
		t.Errorf("got %q, want it left out", got)
	}
	if err := s.Close(); err == nil {
		t.Error("the store takes the name into its tables")
	}
	holdsNone(t, dir, []string{string(buffer)})
	s = mustOpen(t, dir, testOptions())
	defer s.Close()
	if rec, ok := s.book.Lookup("d-1"); !ok || len(rec.Series()) != 1 || rec.Series()[0].Metric != "humidity" {
		t.Error("what was acknowledged is not there under its name")
	}
}
