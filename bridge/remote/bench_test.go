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

// counting counts what is decided, and without a store decides it at once.
type counting struct {
	to adapter.Readings
	n  atomic.Int64
}

func (c *counting) Submit(src readings.Source, b readings.Batch, done func(readings.Result, error)) {
	if c.to == nil {
		c.n.Add(1)
		done(readings.Result{}, nil)
		return
	}
	c.to.Submit(src, b, func(r readings.Result, err error) {
		if err == nil {
			c.n.Add(1)
		}
		done(r, err)
	})
}

// disk is a store whose commits take their time.
type disk struct{ *readings.Memory }

func (d disk) Append(g *readings.Group) error {
	time.Sleep(5 * time.Millisecond)
	return d.Memory.Append(g)
}

// bench is a bridge to a Mosquitto with a number of devices.
type bench struct {
	b       *testing.B
	m       *mosquitto
	h       *adaptertest.Hub
	count   counting
	devices int
	sent    []int // of each device
}

func startBench(b *testing.B, devices_ int, store readings.Store) *bench {
	x := &bench{b: b, m: startMosquitto(b), devices: devices_, sent: make([]int, devices_)}
	var list []*devices.Device
	for i := range devices_ {
		list = append(list, device(fmt.Sprint("k-", i)))
	}
	if store == nil {
		x.h = adaptertest.New(b, nil, list...)
		return x
	}
	x.h = adaptertest.NewOn(b, store, nil, list...)
	x.count.to = x.h.Ingest
	return x
}

// up connects the bridge.
func (x *bench) up() (stop func()) {
	hub := x.h.Hub
	hub.Readings, hub.Log = &x.count, slog.New(slog.DiscardHandler)
	br, err := New(Config{Name: "house", URL: "mqtt://" + x.m.addr(), Trust: true}, hub)
	if err != nil {
		x.b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = br.Run(ctx) }()
	x.h.WantThat(x.b, "bridge up", func() bool { return br.Status().Connected })
	return func() { cancel(); <-done }
}

// publish sends n messages of the devices in turn, as fast as the broker takes
// them, or, with ahead, no more than so many before they are decided.
func (x *bench) publish(n int, qos byte, ahead int64) {
	c := x.m.client(x.b, "p")
	defer c.Disconnect(100)
	tokens := make(chan mqtt.Token, 1000)
	failed := make(chan error, 1)
	go func() {
		for t := range tokens {
			if t.Wait(); t.Error() != nil {
				select {
				case failed <- t.Error():
				default:
				}
			}
		}
		close(failed)
	}()
	for i := range n {
		for ahead > 0 && int64(i)-x.count.n.Load() > ahead {
			time.Sleep(time.Millisecond)
		}
		k := i % x.devices
		tokens <- c.Publish(fmt.Sprintf("hub/v1/k-%d/r", k), qos, false, fmt.Sprintf(`{"m":"uptime","v":%d}`, x.sent[k]))
		x.sent[k]++
	}
	close(tokens)
	if err := <-failed; err != nil {
		x.b.Fatal(err)
	}
}

// arrived waits until n messages are decided.
func (x *bench) arrived(n int) {
	for deadline := time.Now().Add(3 * time.Minute); x.count.n.Load() < int64(n); {
		if time.Now().After(deadline) {
			x.b.Fatalf("%d of %d arrived", x.count.n.Load(), n)
		}
		time.Sleep(time.Millisecond)
	}
}

// ordered wants what is stored to be what was sent, as it was sent.
func (x *bench) ordered() {
	x.b.StopTimer()
	for k, n := range x.sent {
		got := x.h.Sequence(x.b, devices.ID(fmt.Sprint("k-", k)), "uptime")
		for i := range n {
			if i >= len(got) || got[i] != fmt.Sprint(i) {
				x.b.Fatalf("k-%d: reading %d of %d is not as it came, %d stored", k, i, n, len(got))
			}
		}
	}
}

func (x *bench) rate() { x.b.ReportMetric(float64(x.b.N)/x.b.Elapsed().Seconds(), "msg/s") }

// BenchmarkIngest brings readings of 50 devices through Mosquitto to a bridge
// and, in the same way, to a bare client of the same library.
func BenchmarkIngest(b *testing.B) {
	for _, qos := range []byte{0, 1} {
		b.Run(fmt.Sprintf("qos%d/bridge", qos), func(b *testing.B) {
			x := startBench(b, 50, nil)
			defer x.up()()
			b.ResetTimer()
			x.publish(b.N, qos, 500)
			x.arrived(b.N)
			x.rate()
		})
		b.Run(fmt.Sprintf("qos%d/client", qos), func(b *testing.B) {
			x := startBench(b, 50, nil)
			c := x.m.client(b, "bare")
			defer c.Disconnect(10)
			c.Subscribe("hub/v1/+/r", 1, func(mqtt.Client, mqtt.Message) { x.count.n.Add(1) }).Wait()
			b.ResetTimer()
			x.publish(b.N, qos, 500)
			x.arrived(b.N)
			x.rate()
		})
	}
}

// BenchmarkStored brings readings at QoS 1 through Mosquitto to a store whose
// commits take 5 ms, of one device and of a thousand, live and from the backlog of
// a hub that was away (with -benchtime 100000x: a hundred thousand). They must be
// stored as they were sent.
func BenchmarkStored(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("devices=%d/live", n), func(b *testing.B) {
			x := startBench(b, n, disk{readings.NewMemory()})
			defer x.up()()
			b.ResetTimer()
			x.publish(b.N, 1, 2000)
			x.arrived(b.N)
			x.ordered()
			x.rate()
		})
		b.Run(fmt.Sprintf("devices=%d/backlog", n), func(b *testing.B) {
			x := startBench(b, n, disk{readings.NewMemory()})
			x.up()() // the session
			x.publish(b.N, 1, 0)
			b.ResetTimer()
			defer x.up()()
			x.arrived(b.N)
			x.ordered()
			x.rate()
		})
	}
}
