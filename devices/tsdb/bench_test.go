package tsdb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// fleet is devices with three series each: temperature and humidity that move
// a little, a battery that drains.
type fleet struct {
	recs   []*readings.Record
	series []*readings.Series
	values []float64
	seq    []int64
	r      *rand.Rand
}

func newFleet(s *Store, n int) *fleet {
	f := &fleet{r: rand.New(rand.NewPCG(1, 2))}
	for i := range n {
		rec := s.Book().Record(devices.ID(fmt.Sprintf("bench-%d", i)))
		f.recs, f.seq = append(f.recs, rec), append(f.seq, 0)
		for k, m := range []string{"temperature", "humidity", "battery"} {
			f.series = append(f.series, s.Book().Define(rec, m, devices.TypeFloat, []string{"°C", "%", "%"}[k], false))
			f.values = append(f.values, []float64{210, 450, 99000}[k]+float64(f.r.IntN(100)))
		}
	}
	return f
}

func (f *fleet) next(i, k int) float64 {
	at := 3*i + k
	switch k {
	case 0:
		f.values[at] += float64(f.r.IntN(5) - 2)
		return f.values[at] / 10
	case 1:
		f.values[at] += float64(f.r.IntN(3)-1) * 5
		return f.values[at] / 10
	}
	f.values[at]--
	return f.values[at] / 1000
}

// group makes a push of three readings from each of n devices.
func (f *fleet) group(from, n int, t int64) *readings.Group {
	g := &readings.Group{Readings: 3 * n, Entries: make([]*readings.Entry, n)}
	for j := range n {
		i := (from + j) % len(f.recs)
		i = int(uint64(i) * 7919 % uint64(len(f.recs))) // devices come in no order
		e := &readings.Entry{Rec: f.recs[i], At: t, Boot: "01JD0000000000000000000000", Items: make([]readings.Stored, 3)}
		for k := range 3 {
			e.Items[k] = readings.Stored{S: f.series[3*i+k], Point: readings.Point{T: t - int64(i%1000), F: f.next(i, k)}, Seq: f.seq[i] + int64(k) + 1}
		}
		f.seq[i] += 3
		g.Entries[j] = e
	}
	return g
}

func cpu() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakMB is the most memory the process has had. Run one benchmark alone to
// know its own.
func peakMB(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	return float64(kb) / 1024
}

// BenchmarkStore appends groups of 2000 readings, from as many devices as make
// the series, each sending every 60 s; flushes are part of it. disk-B/reading
// is after compaction.
func BenchmarkStore(b *testing.B) {
	for _, mode := range []string{SyncOff, SyncBatch} {
		for _, series := range []int{100_000, 300_000} {
			b.Run(fmt.Sprintf("%s/%d", mode, series), func(b *testing.B) { benchStore(b, mode, series) })
		}
	}
}

func benchStore(b *testing.B, mode string, series int) {
	s := mustOpen(b, b.TempDir(), Options{Fsync: mode, MinFree: -1})
	stop := run(b, s)
	f := newFleet(s, series/3)
	const per = 666
	start := time.Now().UnixMilli()/dayMS*dayMS - dayMS
	var longest time.Duration
	n := 0
	from := cpu()
	b.ResetTimer()
	for b.Loop() {
		round := n / len(f.recs)
		g := f.group(n, per, start+int64(round)*60_000)
		n += per
		t := time.Now()
		if err := s.Append(g); err != nil {
			b.Fatal(err)
		}
		longest = max(longest, time.Since(t))
	}
	stop()
	s.freezeNow()
	if err := s.flushFrozen(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	used := cpu() - from
	readings := float64(3 * n)
	b.ReportMetric(readings/b.Elapsed().Seconds(), "readings/s")
	b.ReportMetric(used.Seconds()/readings*1e6, "CPU-s/M")
	b.ReportMetric(float64(longest.Milliseconds()), "longest-ms")
	b.ReportMetric(peakMB(b), "peak-RSS-MB")
	b.ReportMetric(0, "ns/op")
	if err := s.db.Compact(context.Background(), []byte{0}, []byte{255}, false); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(s.db.Metrics().Total().TablesSize)/readings, "disk-B/reading")
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// thirtyDays is a store with one series of 30 days at 10 s, flushed, and as it
// would be later, compacted and rolled up.
func thirtyDays(b *testing.B) (*Store, int64) {
	now := time.Now().UnixMilli()/dayMS*dayMS + dayMS/2
	s := mustOpen(b, b.TempDir(), Options{Fsync: SyncOff, MinFree: -1, Now: func() time.Time { return time.UnixMilli(now) }})
	rec := s.Book().Record("dense")
	x := s.Book().Define(rec, "temperature", devices.TypeFloat, "°C", false)
	r := rand.New(rand.NewPCG(1, 1))
	v := 210
	for at := now - 30*dayMS; at < now; at += 600 * 10_000 {
		e := &readings.Entry{Rec: rec, At: at}
		for i := range int64(600) {
			v += r.IntN(5) - 2
			e.Items = append(e.Items, readings.Stored{S: x, Point: readings.Point{T: at + i*10_000 + r.Int64N(40), F: float64(v) / 10}})
		}
		if err := s.Append(&readings.Group{Entries: []*readings.Entry{e}, Readings: 600}); err != nil {
			b.Fatal(err)
		}
	}
	s.freezeNow()
	if err := s.flushFrozen(context.Background()); err != nil {
		b.Fatal(err)
	}
	return s, now
}

// BenchmarkThirtyDays is 30 days at 10 s to 500 buckets: from the readings
// alone, and with roll-ups.
func BenchmarkThirtyDays(b *testing.B) {
	s, now := thirtyDays(b)
	in := readings.New(s, readings.Config{})
	ask := func(b *testing.B, points int) {
		for b.Loop() {
			c, err := in.Series(context.Background(), readings.SeriesQuery{Device: "dense", Metric: "temperature", From: now - 30*dayMS, To: now, Points: points})
			if err != nil || len(c.Buckets) == 0 {
				b.Fatal(err)
			}
		}
	}
	b.Run("readings", func(b *testing.B) { ask(b, 500) })
	if err := s.RollUp(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.Run("rollups", func(b *testing.B) { ask(b, 500) })
	b.Run("scan", func(b *testing.B) {
		rec, _ := s.Book().Lookup("dense")
		n := 0
		for b.Loop() {
			n = 0
			if err := s.Scan(context.Background(), rec.Series()[0], 0, 1<<46, func(ps []readings.Point) error {
				n += len(ps)
				return nil
			}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/reading")
	})
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkAcross is one metric of 1000 devices over an hour of a day at 60 s,
// in 60 buckets; BenchmarkLatest the latest values of 100,000 series.
func BenchmarkAcross(b *testing.B) {
	now := time.Now().UnixMilli()/dayMS*dayMS + dayMS*3/4
	s := mustOpen(b, b.TempDir(), Options{Fsync: SyncOff, MinFree: -1})
	stop := run(b, s)
	f := newFleet(s, 1000)
	var ids []devices.ID
	for _, r := range f.recs {
		ids = append(ids, r.ID)
	}
	for at := now - 12*3600_000; at < now; at += 60_000 {
		if err := s.Append(f.group(0, 1000, at)); err != nil {
			b.Fatal(err)
		}
	}
	stop()
	s.freezeNow()
	if err := s.flushFrozen(context.Background()); err != nil {
		b.Fatal(err)
	}
	in := readings.New(s, readings.Config{})
	b.ResetTimer()
	for b.Loop() {
		c, err := in.Across(context.Background(), readings.AcrossQuery{Devices: ids, Metric: "temperature", From: now - 3600_000, To: now, Points: 60})
		if err != nil || len(c.Buckets) < 59 {
			b.Fatal(len(c.Buckets), err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkLatest(b *testing.B) {
	s := mustOpen(b, b.TempDir(), Options{Fsync: SyncOff, MinFree: -1})
	f := newFleet(s, 33_334)
	for i := 0; i < len(f.recs); i += 1000 {
		if err := s.Append(f.group(i, 1000, time.Now().UnixMilli())); err != nil {
			b.Fatal(err)
		}
	}
	in := readings.New(s, readings.Config{})
	b.Run("walk", func(b *testing.B) {
		for b.Loop() {
			n := 0
			in.EachLatest(func(devices.ID, string, string, readings.Value, int64, readings.Quality) bool {
				n++
				return true
			})
			if n < 99_000 {
				b.Fatal(n)
			}
		}
	})
	b.Run("documents", func(b *testing.B) {
		var doc []byte
		n := 0
		for b.Loop() {
			n = 0
			for _, r := range f.recs {
				doc = in.AppendLatest(doc[:0], r.ID)
				n += len(doc)
			}
		}
		b.ReportMetric(float64(n)/float64(len(f.recs)), "B/device")
	})
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPath is the path of a push but for its transport: JSON of 100
// readings, parsed, judged, durable, answered and told, from 1000 devices on
// two goroutines, with 8 pushes in flight each.
func BenchmarkPath(b *testing.B) {
	for _, mode := range []string{SyncOff, SyncBatch} {
		for _, size := range []int{100, 1} {
			b.Run(fmt.Sprintf("%s/%d", mode, size), func(b *testing.B) { benchPath(b, mode, size) })
		}
	}
}

func benchPath(b *testing.B, mode string, size int) {
	s := mustOpen(b, b.TempDir(), Options{Fsync: mode, MinFree: -1})
	told := 0
	in := readings.New(s, readings.Config{Feed: devices.FeedFunc(func(e devices.Event) { told++ })})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	const n = 1000
	devs := make([]*devices.Device, n)
	seq := make([]int64, n)
	for i := range devs {
		devs[i] = &devices.Device{ID: devices.ID(fmt.Sprintf("p-%d", i)), Kinds: []devices.Kind{devices.KindSensor}, Undeclared: devices.QuarantineUndeclared}
	}
	inFlight := make(chan struct{}, 2000)
	var text []byte
	t0 := time.Now().UnixMilli()
	from := cpu()
	i := 0
	b.ResetTimer()
	for b.Loop() {
		d := i % n
		i++
		text = fmt.Appendf(text[:0], `{"boot":"01JD9KXYZ0000000000000000","s0":%d,"t0":%d,"r":[`, seq[d]+1, t0+seq[d]*10)
		for k := range size {
			if k > 0 {
				text = append(text, ',')
			}
			text = append(text, `["temperature",`...)
			text = strconv.AppendFloat(text, float64(200+(i+k)%50)/10, 'f', -1, 64)
			text = append(text, ',')
			text = strconv.AppendInt(text, int64(k)*10, 10)
			text = append(text, ']')
		}
		text = append(text, `]}`...)
		seq[d] += int64(size)
		batch, err := readings.ParseReadings(text)
		if err != nil {
			b.Fatal(err)
		}
		inFlight <- struct{}{}
		in.Submit(readings.Source{Device: devs[d]}, batch, func(r readings.Result, err error) {
			if err != nil || r.Accepted != size {
				b.Error(r, err)
			}
			<-inFlight
		})
	}
	for range cap(inFlight) {
		inFlight <- struct{}{}
	}
	b.StopTimer()
	used := cpu() - from
	all := float64(i * size)
	b.ReportMetric(all/b.Elapsed().Seconds(), "readings/s")
	b.ReportMetric(used.Seconds()/all*1e6, "CPU-s/M")
	cancel()
	if err := <-done; err != nil {
		b.Error(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkReopen opens a store whose log holds 2 million readings, as after a
// kill.
func BenchmarkReopen(b *testing.B) {
	dir := b.TempDir()
	s := mustOpen(b, dir+"/readings", Options{Fsync: SyncOff, MinFree: -1})
	f := newFleet(s, 33_334)
	n := 0
	for ; 3*n < 1_990_000; n += 666 {
		if err := s.Append(f.group(n, 666, time.Now().UnixMilli()+int64(n/len(f.recs))*60_000)); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Backup(context.Background(), dir+"/killed"); err != nil {
		b.Fatal(err)
	}
	perReading := float64(s.Stats().LogBytes) / float64(3*n)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		k := mustOpen(b, dir+"/killed", Options{Fsync: SyncOff, MinFree: -1})
		b.StopTimer()
		if err := errors.Join(k.log.Close(), k.db.Close()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(perReading, "log-B/reading")
}
