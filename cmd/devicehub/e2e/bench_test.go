package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
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
	h := newHub(b, "limits: {device_events_per_s: 1000000, device_burst: 1000000, device_bytes_per_min: 10GB, device_bytes_per_day: 1TB}")
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

// BenchmarkAcknowledged is how long acknowledgements take at a steady 50,000
// readings a second from 400 devices, by when the hub syncs its log. Each device
// sends on time, answered or not, and counts from when a push was due. refused
// are pushes that came while eight of the device were under way.
func BenchmarkAcknowledged(b *testing.B) {
	const limits = "limits: {device_events_per_s: 1000000, device_burst: 1000000, device_bytes_per_min: 10GB, device_bytes_per_day: 1TB}"
	h := newHub(b, limits)
	tokens := make([]string, 400)
	for i := range tokens {
		tokens[i] = h.mustCLI("device", "add", fmt.Sprintf("bench-%d", i), "--kind", "sensor")
	}
	h.stop()
	for _, fsync := range []string{"off", "interval", "batch"} {
		h := openHub(b, h.dir, limits, fmt.Sprintf("readings: {fsync: %q}", fsync))
		for _, batch := range []int{10, 100} {
			b.Run(fmt.Sprintf("fsync=%s/batch=%d", fsync, batch), func(b *testing.B) { benchAcknowledged(b, h, tokens, batch) })
		}
		h.stop()
	}
}

func benchAcknowledged(b *testing.B, h *hub, tokens []string, batch int) {
	const rate = 50_000
	between := time.Second * time.Duration(batch) / rate // pushes of all devices
	clients := make([]*benchClient, len(tokens))
	for i := range clients {
		clients[i] = joinBench(b, h, fmt.Sprintf("bench-%d", i), tokens[i])
		defer clients[i].ws.Close()
	}
	before := cpuSeconds(b, h.cmd.Process.Pid)
	b.ResetTimer()
	begin := time.Now()
	each := b.N/len(clients) + 1
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			c.pace(each, batch, begin.Add(time.Duration(i)*between), time.Duration(len(clients))*between)
		})
	}
	wg.Wait()
	took := b.Elapsed().Seconds()
	all, refused := hdrhistogram.New(1, 60_000_000, 3), 0
	for _, c := range clients {
		if c.err != nil {
			b.Fatal(c.err)
		}
		for _, a := range c.acks {
			if err := all.RecordValue(a.Microseconds()); err != nil {
				b.Fatal(err)
			}
		}
		refused += c.refused
	}
	n := float64(each * len(clients) * batch)
	b.ReportMetric(n/took, "readings/s")
	b.ReportMetric((cpuSeconds(b, h.cmd.Process.Pid)-before)/n*1e6, "hub-CPU-s/M")
	b.ReportMetric(float64(all.ValueAtQuantile(50))/1000, "p50-ms")
	b.ReportMetric(float64(all.ValueAtQuantile(99))/1000, "p99-ms")
	b.ReportMetric(float64(all.Max())/1000, "max-ms")
	b.ReportMetric(float64(refused), "refused")
	b.ReportMetric(0, "ns/op")
}

// benchClient is a device that does as little as possible beside its frames.
type benchClient struct {
	ws   *websocket.Conn
	id   string
	acks []time.Duration
	err  error

	refused int // for too many under way
}

func joinBench(b *testing.B, h *hub, id, token string) *benchClient {
	b.Helper()
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+h.http+"/socket/websocket?vsn=2.0.0", http.Header{"Authorization": {"Bearer " + token}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ws.Close() })
	c := &benchClient{ws: ws, id: id}
	if err := ws.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `["1","1","sensor:%s","phx_join",{"boot":"%d"}]`, id, time.Now().UnixNano())); err != nil {
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
			frame = c.frame(frame[:0], i, batch, t0+int64(i*batch))
			sent[i] = time.Now()
			if c.ws.WriteMessage(websocket.TextMessage, frame) != nil {
				return // the reader says why
			}
		}
	}()
	c.read(n, func(i int, code string) error {
		c.acks = append(c.acks, time.Since(sent[i]))
		<-slots
		return asError(code)
	})
}

// pace sends n pushes, the first at first and one each interval behind it.
func (c *benchClient) pace(n, batch int, first time.Time, interval time.Duration) {
	due := func(i int) time.Time { return first.Add(time.Duration(i) * interval) }
	go func() {
		var frame []byte
		for i := range n {
			time.Sleep(time.Until(due(i)))
			frame = c.frame(frame[:0], i, batch, due(i).UnixMilli()-int64(batch))
			if c.ws.WriteMessage(websocket.TextMessage, frame) != nil {
				return // the reader says why
			}
		}
	}()
	c.read(n, func(i int, code string) error {
		if code == "rate_limited" {
			c.refused++
			return nil
		}
		c.acks = append(c.acks, time.Since(due(i)))
		return asError(code)
	})
}

// frame appends push i: batch readings, a ms apart from t0 on.
func (c *benchClient) frame(b []byte, i, batch int, t0 int64) []byte {
	b = fmt.Appendf(b, `["1","%d","sensor:%s","readings",{"s0":%d,"t0":%d,"r":[`, i+2, c.id, i*batch+1, t0)
	for j := range batch {
		if j > 0 {
			b = append(b, ',')
		}
		b = append(b, `["temperature",2`...)
		b = strconv.AppendInt(b, int64(i+j)%10, 10)
		b = append(b, `.5,`...)
		b = strconv.AppendInt(b, int64(j), 10)
		b = append(b, ']')
	}
	return append(b, `]}]`...)
}

func asError(code string) error {
	if code != "" {
		return errors.New(code)
	}
	return nil
}

// read calls answered with the number of each push that was, and the code of
// the refusal, if it was refused, until n were or there is an error.
func (c *benchClient) read(n int, answered func(i int, code string) error) {
	for n > 0 && c.err == nil {
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
		if err != nil {
			continue
		}
		code := ""
		if !strings.Contains(rest, `"status":"ok"`) {
			_, code, _ = strings.Cut(rest, `"code":"`)
			code, _, _ = strings.Cut(code, `"`)
			code = cmp.Or(code, rest)
		}
		c.err = answered(i-2, code)
		n--
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
