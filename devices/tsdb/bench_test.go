package tsdb

import (
	"context"
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
			f.series = append(f.series, s.Book().Define(rec, m, devices.TypeFloat, "", false))
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
