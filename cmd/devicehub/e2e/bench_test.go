package e2e

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// BenchmarkReadingsOverWebSocket is the whole path: frame in, authorised,
// validated, durable, replied, streamed, through a hub that is a process of its
// own. CPU seconds are the hub's alone.
func BenchmarkReadingsOverWebSocket(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) { benchReadings(b, batch) })
	}
}

const benchDevices, benchInFlight = 16, 8

func benchReadings(b *testing.B, batch int) {
	h := newHub(b, "limits: {device_events_per_s: 1000000, device_burst: 1000000}")
	clients := make([]*benchClient, benchDevices)
	for i := range clients {
		id := fmt.Sprintf("bench-%d", i)
		clients[i] = joinBench(b, h, id, h.mustCLI("device", "add", id, "--kind", "sensor"))
	}
	before := cpuSeconds(b, h.cmd.Process.Pid)
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { c.push(b.N/benchDevices+1, batch) })
	}
	wg.Wait()
	took := b.Elapsed().Seconds()
	n := float64((b.N/benchDevices + 1) * benchDevices * batch)
	var acks []time.Duration
	for _, c := range clients {
		if c.err != nil {
			b.Fatal(c.err)
		}
		acks = append(acks, c.acks...)
	}
	b.ReportMetric((cpuSeconds(b, h.cmd.Process.Pid)-before)/n*1e6, "hub-CPU-s/M")
	reportAcks(b, n/took, acks)
}

// reportAcks reports the rate, and how long acknowledgements took.
func reportAcks(b *testing.B, rate float64, acks []time.Duration) {
	slices.Sort(acks)
	b.ReportMetric(rate, "readings/s")
	b.ReportMetric(float64(acks[len(acks)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(acks[len(acks)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// benchClient is a device that does as little as possible beside its frames.
type benchClient struct {
	ws   *websocket.Conn
	id   string
	acks []time.Duration
	err  error
}

func joinBench(b *testing.B, h *hub, id, token string) *benchClient {
	b.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+h.http+"/socket/websocket?vsn=2.0.0", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ws.Close() })
	c := &benchClient{ws: ws, id: id}
	if err := ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `["1","1","sensor:%s","phx_join",{"boot":"b"}]`, id)); err != nil {
		b.Fatal(err)
	}
	if _, msg, err := ws.ReadMessage(); err != nil || !strings.Contains(string(msg), `"status":"ok"`) {
		b.Fatalf("join: %s %v", msg, err)
	}
	return c
}

// push sends n pushes with at most benchInFlight unanswered.
func (c *benchClient) push(n, batch int) {
	sent := make([]time.Time, n)
	slots := make(chan struct{}, benchInFlight)
	t0 := time.Now().Add(-time.Hour).UnixMilli()
	go func() {
		var frame []byte
		for i := range n {
			slots <- struct{}{}
			frame = fmt.Appendf(frame[:0], `["1","%d","sensor:%s","readings",{"s0":%d,"t0":%d,"r":[`, i+2, c.id, i*batch+1, t0+int64(i*batch))
			for j := range batch {
				if j > 0 {
					frame = append(frame, ',')
				}
				frame = append(frame, `["temperature",2`...)
				frame = strconv.AppendInt(frame, int64(i+j)%10, 10)
				frame = append(frame, `.5,`...)
				frame = strconv.AppendInt(frame, int64(j), 10)
				frame = append(frame, ']')
			}
			frame = append(frame, `]}]`...)
			sent[i] = time.Now()
			if c.ws.WriteMessage(websocket.TextMessage, frame) != nil {
				return // the reader says why
			}
		}
	}()
	for len(c.acks) < n {
		_, msg, err := c.ws.ReadMessage()
		if err != nil {
			c.err = err
			return
		}
		rest, ok := strings.CutPrefix(string(msg), `["1","`)
		if !ok {
			continue // a push of the hub
		}
		ref, _, _ := strings.Cut(rest, `"`)
		i, err := strconv.Atoi(ref)
		if err != nil || !strings.Contains(rest, `"status":"ok"`) {
			if err == nil {
				c.err = fmt.Errorf("push %d: %s", i, msg)
				return
			}
			continue
		}
		c.acks = append(c.acks, time.Since(sent[i-2]))
		<-slots
	}
}

// cpuSeconds are user and system time of a process so far (proc(5), stat,
// fields 14 and 15, in ticks of 10 ms).
func cpuSeconds(b *testing.B, pid int) float64 {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Skip("the CPU of another process is read from /proc")
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}
