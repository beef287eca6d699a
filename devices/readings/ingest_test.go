package readings_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// bench is an Ingest over a store in memory, inside a synctest bubble.
type bench struct {
	t      *testing.T
	in     *readings.Ingest
	store  *faulty
	mu     sync.Mutex
	events []string
	stop   context.CancelFunc
	ended  chan error
}

// faulty is a store that can be told to fail.
type faulty struct {
	*readings.Memory
	mu    sync.Mutex
	err   error
	clock readings.ClockMark
	marks []readings.ClockMark
	slow  time.Duration
}

func (f *faulty) Clock() readings.ClockMark { return f.clock }

func (f *faulty) Append(g *readings.Group) error {
	f.mu.Lock()
	slow, err := f.slow, f.err
	f.mu.Unlock()
	time.Sleep(slow)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	if g.Clock != nil {
		f.marks = append(f.marks, *g.Clock)
	}
	return f.Memory.Append(g)
}

func (f *faulty) fail(err error) {
	f.mu.Lock()
	f.err = err
	f.mu.Unlock()
}

func start(t *testing.T, change ...func(*faulty, *readings.Config)) *bench {
	b := &bench{t: t, store: &faulty{Memory: readings.NewMemory()}, ended: make(chan error, 1)}
	cfg := readings.Config{Feed: devices.FeedFunc(func(e devices.Event) {
		p, err := json.Marshal(e.Payload)
		if err != nil {
			t.Error(err)
		}
		b.mu.Lock()
		b.events = append(b.events, fmt.Sprintf("%s %s %s %s", e.Name, e.Device, e.Key, p))
		b.mu.Unlock()
	})}
	for _, f := range change {
		f(b.store, &cfg)
	}
	b.in = readings.New(b.store, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	b.stop = cancel
	go func() { b.ended <- b.in.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-b.ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return b
}

// reply is the outcome of a push in short: "ack accepted/late/dup/rejected
// codes", or the error's code before that.
func reply(r readings.Result, err error) string {
	s := fmt.Sprintf("%d %d/%d/%d", r.Ack, r.Accepted, r.Late, r.Dup)
	for _, x := range r.Rejected {
		s += fmt.Sprintf(" %d:%s", x.I, x.Err.Code)
	}
	if err != nil {
		code := devices.CodeOf(err)
		if code == "" {
			return "fault: " + err.Error()
		}
		s = string(code) + " " + s
	}
	return s
}

func (b *bench) submit(d *devices.Device, boot string, batch readings.Batch) string {
	b.t.Helper()
	out := make(chan string, 1)
	b.in.Submit(readings.Source{Device: d, Boot: boot, Transport: "websocket"}, batch, func(r readings.Result, err error) { out <- reply(r, err) })
	return <-out
}

func (b *bench) push(d *devices.Device, payload string) string {
	b.t.Helper()
	parse := readings.ParseReading
	if strings.Contains(payload, `"r":`) {
		parse = readings.ParseReadings
	}
	batch, err := parse([]byte(payload))
	if err != nil {
		var e *devices.Error
		errors.As(err, &e)
		return fmt.Sprintf("%s %v", e.Code, e.Details["field"])
	}
	return b.submit(d, "", batch)
}

func (b *bench) want(d *devices.Device, payload, want string) {
	b.t.Helper()
	if got := b.push(d, payload); got != want {
		b.t.Errorf("%s: got %q, want %q", payload, got, want)
	}
}

// export is everything stored of the device, as "metric t v quality" lines.
func (b *bench) export(id devices.ID) string {
	b.t.Helper()
	var out bytes.Buffer
	if err := b.in.Export(b.t.Context(), &out, readings.ExportQuery{Device: id, To: 1 << 47}); err != nil {
		b.t.Fatal(err)
	}
	var lines []string
	for i, l := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if i > 0 {
			l = l[:strings.LastIndex(l, ",")] // without the unit
			lines = append(lines, strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(l, string(id)+","), ","), ",", " "))
		}
	}
	return strings.Join(lines, "; ")
}

func sensor(change ...func(*devices.Device)) *devices.Device {
	d := &devices.Device{ID: "t-1", Kinds: []devices.Kind{devices.KindSensor}, Undeclared: devices.QuarantineUndeclared, Enabled: true}
	for _, f := range change {
		f(d)
	}
	return d
}

func TestReadingIsStoredAnsweredAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		now := time.Now().UnixMilli()
		b.want(sensor(), `{"m":"temperature","v":21.4,"s":1,"boot":"b1"}`, "1 1/0/0")
		synctest.Wait()
		if got, want := b.export("t-1"), fmt.Sprintf("temperature %d 21.4 server_time", now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		want := fmt.Sprintf(`reading t-1 r/temperature {"device":"t-1","r":[{"m":"temperature","v":21.4,"u":"°C","t":%d,"q":["server_time"]}],"server_time":%d}`, now, now)
		if len(b.events) != 1 || b.events[0] != want {
			t.Errorf("got %q, want %q", b.events, want)
		}
	})
}

// A device that may not store is refused before anything is judged, and what is stored is told by
// device, with what the store took for it.
func TestStoredBytesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		stored, full := map[devices.ID]int{}, devices.ID("")
		b := start(t, func(_ *faulty, c *readings.Config) {
			c.OnStored = func(id devices.ID, bytes int) {
				mu.Lock()
				defer mu.Unlock()
				stored[id] += bytes
			}
			c.MayStore = func(id devices.ID) error {
				if id == full {
					return devices.Refuse(devices.CodeRateLimited, "enough").After(time.Minute)
				}
				return nil
			}
		})
		other := sensor(func(d *devices.Device) { d.ID = "t-2" })
		b.want(sensor(), `{"m":"temperature","v":21.5,"s":1}`, "0 1/0/0")
		b.want(other, `{"m":"note","v":"`+strings.Repeat("x", 90)+`","s":1}`, "0 1/0/0")
		mu.Lock()
		if stored["t-1"] == 0 || stored["t-2"] < 90 {
			t.Errorf("got %v, want what each took", stored)
		}
		mu.Unlock()
		full = "t-1"
		b.want(sensor(), `{"m":"temperature","v":22,"s":2}`, "rate_limited 0 0/0/0")
		full = ""
		b.want(sensor(), `{"m":"temperature","v":22,"s":2}`, "0 1/0/0")
	})
}

func TestNothingOfARefusedGroupIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.store.fail(errors.New("disk on fire"))
		b.want(sensor(), `{"m":"temperature","v":1,"s":1,"boot":"b1"}`, "platform_unavailable 0 0/0/0")
		b.store.fail(nil)
		if got := b.in.AckThrough("t-1"); len(got) != 0 {
			t.Errorf("got %v, want none", got)
		}
		b.want(sensor(), `{"m":"temperature","v":1,"s":1,"boot":"b1"}`, "1 1/0/0")
		b.want(sensor(), `{"m":"temperature","v":1,"s":1,"boot":"b1"}`, "1 0/0/1")
	})
}
