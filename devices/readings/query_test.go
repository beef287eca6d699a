package readings_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata"

	"devicehub/devices"
	"devicehub/devices/readings"
)

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// A day on the clocks of a zone has 23 and 25 hours when they are changed, and
// what a meter counted adds up all the same.
func TestDaysOfAZone(t *testing.T) {
	for _, row := range []struct {
		zone, from, to string
		points         int
		want           string // begin and hours of each bucket, and the readings in it, four an hour
	}{
		{"Europe/Berlin", "2026-03-28T00:00", "2026-03-31T00:00", 3, "28 00:00 24h 96; 29 00:00 23h 92; 30 00:00 24h 96"},
		{"Europe/Berlin", "2026-10-24T00:00", "2026-10-27T00:00", 3, "24 00:00 24h 96; 25 00:00 25h 100; 26 00:00 24h 96"},
		{"Europe/Berlin", "2026-03-28T12:00", "2026-03-30T06:00", 3, "28 00:00 24h 48; 29 00:00 23h 92; 30 00:00 24h 24"},
		{"Europe/Berlin", "2026-03-29T00:00", "2026-03-30T00:00", 4, "29 00:00 5h 20; 29 06:00 6h 24; 29 12:00 6h 24; 29 18:00 6h 24"},
		{"Europe/Berlin", "2026-10-25T00:00", "2026-10-25T04:00", 5, "25 00:00 1h 4; 25 01:00 1h 4; 25 02:00 1h 4; 25 02:00 1h 4; 25 03:00 1h 4"},
		{"Europe/Berlin", "2026-03-29T00:00", "2026-03-29T04:00", 3, "29 00:00 1h 4; 29 01:00 1h 4; 29 03:00 1h 4"},
		{"Asia/Kathmandu", "2026-05-01T00:00", "2026-05-03T00:00", 2, "01 00:00 24h 96; 02 00:00 24h 96"},
		{"America/Havana", "2026-11-01T00:00", "2026-11-02T00:00", 1, "01 00:00 25h 100"},  // 0 o'clock comes twice
		{"America/Asuncion", "2023-10-01T01:00", "2023-10-02T00:00", 1, "01 01:00 23h 92"}, // and not at all
		{"UTC", "2026-03-29T00:00", "2026-03-31T00:00", 2, "29 00:00 24h 96; 30 00:00 24h 96"},
	} {
		z := zone(t, row.zone)
		at := func(s string) int64 {
			v, err := time.ParseInLocation("2006-01-02T15:04", s, z)
			if err != nil {
				t.Fatal(err)
			}
			return v.UnixMilli()
		}
		from, to := at(row.from), at(row.to)
		if row.zone == "America/Havana" { // the first of the two
			from = time.Date(2026, 11, 1, 4, 0, 0, 0, time.UTC).UnixMilli()
		}
		store := readings.NewMemory()
		in := readings.New(store, readings.Config{})
		rec := store.Book().Record("m")
		s := store.Book().Define(rec, "energy", devices.TypeFloat, "kWh", true)
		e := &readings.Entry{Rec: rec}
		n := 0
		for ts := from - 900_000; ts < to; ts += 900_000 {
			e.Items = append(e.Items, readings.Stored{S: s, Point: readings.Point{T: ts, F: float64(n)}})
			n++
		}
		if err := store.Append(&readings.Group{Entries: []*readings.Entry{e}}); err != nil {
			t.Fatal(err)
		}
		c, err := in.Series(t.Context(), readings.SeriesQuery{Device: "m", Metric: "energy", From: from, To: to, Points: row.points, Zone: z})
		if err != nil {
			t.Fatal(err)
		}
		got, sum := "", 0.0
		for i, b := range c.Buckets {
			begin := time.UnixMilli(b.T).In(z)
			next := int64(0)
			if i+1 < len(c.Buckets) {
				next = c.Buckets[i+1].T
			} else {
				next = endOf(t, c)
			}
			got += fmt.Sprintf("; %s %gh %d", begin.Format("02 15:04"), float64(next-b.T)/3600_000, b.Count)
			sum += b.Delta
		}
		if got[2:] != row.want || sum != float64(n-1) {
			t.Errorf("%s from %s: got %s and %v in all, want %s and %d", row.zone, row.from, got[2:], sum, row.want, n-1)
		}
	}
}

// endOf is where the last bucket of an answer ends.
func endOf(t *testing.T, c readings.Chart) int64 {
	t.Helper()
	text, err := c.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Buckets []struct{ End int64 } }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Buckets[len(doc.Buckets)-1].End
}

// Whatever the zone, the time and the points, there are no more buckets than
// points, and each reading is in one.
func TestZonesCoverTheTime(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	store := readings.NewMemory()
	in := readings.New(store, readings.Config{})
	rec := store.Book().Record("m")
	s := store.Book().Define(rec, "energy", devices.TypeFloat, "kWh", true)
	e := &readings.Entry{Rec: rec}
	start := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()
	end := start
	for range 5000 {
		e.Items = append(e.Items, readings.Stored{S: s, Point: readings.Point{T: end, F: float64(end-start) / 1e6}})
		end += r.Int64N(6 * 3600_000)
	}
	if err := store.Append(&readings.Group{Entries: []*readings.Entry{e}}); err != nil {
		t.Fatal(err)
	}
	for range 400 {
		z := zone(t, []string{"Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana", "Pacific/Chatham", "UTC"}[r.IntN(7)])
		from := start + r.Int64N(end-start)
		to := from + 1 + r.Int64N(end-from)
		points := 1 + r.IntN(600)
		c, err := in.Series(t.Context(), readings.SeriesQuery{Device: "m", Metric: "energy", From: from, To: to, Points: points, Zone: z})
		if err != nil {
			t.Fatal(err)
		}
		n, want := int64(0), int64(0)
		for i, b := range c.Buckets {
			if n += b.Count; i > 0 && b.T <= c.Buckets[i-1].T {
				t.Fatalf("%v from %d to %d, %d points: %+v", z, from, to, points, c.Buckets)
			}
		}
		for _, it := range e.Items {
			if it.Point.T >= from && it.Point.T < to {
				want++
			}
		}
		if n != want || len(c.Buckets) > points {
			t.Fatalf("%v from %d to %d: %d buckets for %d points, of %d readings, want %d", z, from, to, len(c.Buckets), points, n, want)
		}
	}
	// A time of thousands of years is one question among others.
	for _, points := range []int{1, 7, 10_000} {
		if _, err := in.Series(t.Context(), readings.SeriesQuery{Device: "m", Metric: "energy", From: 0, To: 253402300799999, Points: points, Zone: zone(t, "Europe/Berlin")}); err != nil {
			t.Error(err)
		}
	}
}
