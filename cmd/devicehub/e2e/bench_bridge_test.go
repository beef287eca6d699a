package e2e

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// BenchmarkBridge is the whole path behind a Mosquitto, one reading a message at
// QoS 1: the backlog of a hub that was away, from its start until the last
// reading is stored, and 20,000 messages a second while it is there. With
// -benchtime 100000x the backlog is a hundred thousand.
func BenchmarkBridge(b *testing.B) {
	for _, devices := range []int{1, 1000} {
		b.Run(fmt.Sprintf("backlog/devices=%d", devices), func(b *testing.B) {
			x := startBenchBridge(b, devices)
			if err := x.h.stop(); err != nil {
				b.Fatal(err)
			}
			x.publish(b.N, 0)
			b.ResetTimer()
			x.h.start()
			x.stored(b.N)
			b.ReportMetric(x.cpu()/float64(b.N)*1e6, "server-CPU-µs")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "readings/s")
		})
	}
	b.Run("live/devices=1000", func(b *testing.B) {
		x := startBenchBridge(b, 1000)
		before := x.cpu()
		b.ResetTimer()
		x.publish(b.N, 20_000)
		x.stored(b.N)
		b.ReportMetric((x.cpu()-before)/float64(b.N)*1e6, "server-CPU-µs")
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "readings/s")
	})
}

type benchBridge struct {
	b       *testing.B
	m       *foreignBroker
	h       *hub
	admin   string
	devices int
}

func startBenchBridge(b *testing.B, devices int) *benchBridge {
	m := startForeignBroker(b)
	h := newHub(b, "  bridges:", "    - {name: house, url: mqtt://"+m.addr+", trust: topic}")
	x := &benchBridge{b, m, h, h.admin(), devices}
	for i := range devices {
		h.call("POST", "/api/v1/devices", x.admin, map[string]any{"id": fmt.Sprint("k-", i), "kinds": []string{"sensor"}, "via": "house"}, http.StatusCreated, nil)
	}
	return x
}

func (x *benchBridge) cpu() float64 { return cpuSeconds(x.b, x.h.cmd.Process.Pid) }

// stored waits until the bridge has taken n messages.
func (x *benchBridge) stored(n int) {
	x.b.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		var list struct {
			Bridges []struct{ Accepted, Refused, Dropped int }
		}
		x.h.call("GET", "/api/v1/bridges", x.admin, nil, http.StatusOK, &list)
		br := list.Bridges[0]
		if br.Refused+br.Dropped > 0 {
			x.b.Fatalf("got %+v", br)
		}
		if br.Accepted >= n {
			return
		}
		if time.Now().After(deadline) {
			x.b.Fatalf("%d of %d are stored", br.Accepted, n)
		}
	}
}

// publish has the devices in turn send n readings over one connection, so many a
// second (0: as fast as the broker takes them), and waits until the broker has
// acknowledged them.
func (x *benchBridge) publish(n, perSecond int) {
	x.b.Helper()
	c, err := net.Dial("tcp", x.m.addr)
	if err != nil {
		x.b.Fatal(err)
	}
	defer c.Close()
	body := append(appendField(nil, "MQTT"), 4, 2, 0, 60)
	_, _ = c.Write(appendPacket(nil, 0x10, appendField(body, "flood")))
	r := bufio.NewReaderSize(c, 64<<10)
	if _, err := io.ReadFull(r, make([]byte, 4)); err != nil {
		x.b.Fatal(err)
	}
	window := make(chan struct{}, 20_000)
	go func() {
		w := bufio.NewWriterSize(c, 64<<10)
		began := time.Now()
		for i := range n {
			if perSecond > 0 && i%100 == 0 {
				_ = w.Flush()
				time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
			}
			select {
			case window <- struct{}{}:
			default:
				_ = w.Flush()
				window <- struct{}{}
			}
			body = appendField(body[:0], fmt.Sprintf("hub/v1/k-%d/r", i%x.devices))
			body = binary.BigEndian.AppendUint16(body, uint16(i%60_000+1))
			body = fmt.Appendf(body, `{"m":"uptime","v":%d,"s":%d,"boot":"b"}`, i/x.devices, i/x.devices+1)
			_, _ = w.Write(appendPacket(nil, 0x32, body))
		}
		_ = w.Flush()
	}()
	for range n {
		var puback [4]byte
		if _, err := io.ReadFull(r, puback[:]); err != nil {
			x.b.Fatal(err)
		}
		<-window
	}
}
