package remote

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"devicehub/bridge/adapter"
	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
	"devicehub/devices/readings"
)

// counting decides every push at once.
type counting struct{ n atomic.Int64 }

func (c *counting) Submit(_ readings.Source, _ readings.Batch, done func(readings.Result, error)) {
	c.n.Add(1)
	done(readings.Result{}, nil)
}

// BenchmarkIngest brings readings of 50 devices through Mosquitto to a bridge
// and, in the same way, to a bare client of the same library.
func BenchmarkIngest(b *testing.B) {
	for _, qos := range []byte{0, 1} {
		b.Run(fmt.Sprintf("qos%d/bridge", qos), func(b *testing.B) {
			m := startMosquitto(b)
			var list []*devices.Device
			for i := range 50 {
				list = append(list, device(fmt.Sprint("k-", i)))
			}
			h := adaptertest.New(b, nil, list...)
			count := new(counting)
			hub := h.Hub
			hub.Readings, hub.Log = count, slog.New(slog.DiscardHandler)
			br, err := New(Config{Name: "house", URL: "mqtt://" + m.addr(), Trust: true, Adapters: []adapter.Config{{Kind: "native"}}}, hub)
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan struct{})
			go func() { defer close(done); _ = br.Run(ctx) }()
			defer func() { cancel(); <-done }()
			h.WantThat(b, "bridge up", func() bool { return br.Status().Connected })
			through(b, m, qos, &count.n)
		})
		b.Run(fmt.Sprintf("qos%d/client", qos), func(b *testing.B) {
			m := startMosquitto(b)
			var n atomic.Int64
			c := m.client(b, "bare")
			defer c.Disconnect(10)
			c.Subscribe("hub/v1/+/r", 1, func(mqtt.Client, mqtt.Message) { n.Add(1) }).Wait()
			through(b, m, qos, &n)
		})
	}
}

func through(b *testing.B, m *mosquitto, qos byte, n *atomic.Int64) {
	c := m.client(b, "p")
	defer c.Disconnect(10)
	b.ResetTimer()
	for i := range b.N {
		for int64(i)-n.Load() > 500 {
			time.Sleep(time.Millisecond)
		}
		c.Publish(fmt.Sprintf("hub/v1/k-%d/r", i%50), qos, false, `{"m":"temperature","v":21.5,"s":123456}`)
	}
	for deadline := time.Now().Add(20 * time.Second); n.Load() < int64(b.N); {
		if time.Now().After(deadline) {
			b.Fatalf("%d of %d arrived", n.Load(), b.N)
		}
		time.Sleep(time.Millisecond)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}
