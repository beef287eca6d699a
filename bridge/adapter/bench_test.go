package adapter_test

import (
	"fmt"
	"testing"
	"time"

	"devicehub/bridge/adapter"
	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
	"devicehub/devices/readings"
)

// BenchmarkStored gives readings to a bus, of one device and of a thousand, as fast
// as it takes them, with a store whose commits take 5 ms and with one that takes
// no time. They must be stored as they came.
func BenchmarkStored(b *testing.B) {
	for _, takes := range []time.Duration{5 * time.Millisecond, 0} {
		for _, n := range []int{1, 1000} {
			b.Run(fmt.Sprintf("commit=%v/devices=%d", takes, n), func(b *testing.B) { benchStored(b, takes, n) })
		}
	}
}

func benchStored(b *testing.B, takes time.Duration, n int) {
	var ds []*devices.Device
	for i := range n {
		ds = append(ds, sensor(fmt.Sprint("k-", i), "house"))
	}
	h := adaptertest.NewOn(b, &disk{Memory: readings.NewMemory(), takes: takes}, nil, ds...)
	h.Readings = h.Ingest // without the log of the test hub
	s, err := adapter.NewSet(h.Hub, &bus{}, true, nil)
	if err != nil {
		b.Fatal(err)
	}
	var out tally
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		m := adapter.Message{Topic: fmt.Sprintf("hub/v1/k-%d/r", i%n), Payload: fmt.Appendf(nil, `{"m":"uptime","v":%d}`, i/n), QoS: 1}
		for !s.Take(m, &out) {
			time.Sleep(time.Millisecond)
		}
	}
	for out.ok.Load() < int64(b.N) {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	for k, d := range ds {
		got := h.Sequence(b, d.ID, "uptime")
		if want := (b.N + n - 1 - k) / n; len(got) != want {
			b.Fatalf("%s: %d stored, want %d", d.ID, len(got), want)
		}
		for i := range got {
			if got[i] != fmt.Sprint(i) {
				b.Fatalf("%s: reading %d is %s", d.ID, i, got[i])
			}
		}
	}
}
