package adapter_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/bridge/adapter"
	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
	"devicehub/devices/readings"
)

// disk is a store whose commits take their time and may fail.
type disk struct {
	*readings.Memory
	takes time.Duration
	fails func() bool
}

func (d *disk) Append(g *readings.Group) error {
	time.Sleep(d.takes)
	if d.fails != nil && d.fails() {
		return errors.New("disk on fire")
	}
	return d.Memory.Append(g)
}

// tally counts the decisions of messages.
type tally struct{ ok, refused atomic.Int64 }

func (*tally) Again(error) bool { return true }

func (t *tally) Decided(err error) {
	if err != nil {
		t.refused.Add(1)
	} else {
		t.ok.Add(1)
	}
}

// numbers is 0 to n-1, as the store writes them.
func numbers(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func wantSequence(t *testing.T, got, want []string) {
	t.Helper()
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("reading %d of %d is not as it came: stored %d, %v…", i, len(want), len(got), got[max(0, i-3):min(len(got), i+5)])
		}
	}
	if len(got) > len(want) {
		t.Errorf("stored %d readings, want %d", len(got), len(want))
	}
}

// Readings of one device are under way together: a commit does not hold one
// message, but all that came meanwhile. They are stored as they came.
func TestReadingsOfOneDeviceShareCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := adaptertest.NewOn(t, &disk{Memory: readings.NewMemory(), takes: 5 * time.Millisecond}, nil, sensor("k-1", "house"))
		s, _ := newSet(t, h, true, "native")
		var out tally
		const n = 5000
		began := time.Now()
		for i := range n {
			if !s.Take(adapter.Message{Topic: "hub/v1/k-1/r", Payload: fmt.Appendf(nil, `{"m":"uptime","v":%d}`, i), QoS: 1}, &out) {
				t.Fatalf("no room for message %d", i)
			}
		}
		for out.ok.Load() < n && time.Since(began) < time.Minute {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%d readings took %v with commits of 5 ms", out.ok.Load(), took)
		}
		wantSequence(t, h.Sequence(t, "k-1", "uptime"), numbers(n))
	})
}

// Whatever the store refuses for now, and however often: each reading is stored
// once, and those of one device in the order in which they came, though no time
// and no number of theirs says so.
func TestNothingOvertakes(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			rnd, luck := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			var mu sync.Mutex
			chance := func(p float64) bool {
				mu.Lock()
				defer mu.Unlock()
				return luck.Float64() < p
			}
			var ds []*devices.Device
			for i := range 10 {
				ds = append(ds, light(fmt.Sprint("k-", i), "house", devices.Light{Modes: []devices.LightMode{devices.ModeBrightness}}))
			}
			d := &disk{Memory: readings.NewMemory(), takes: 5 * time.Millisecond, fails: func() bool { return chance(0.3) }}
			h := adaptertest.NewOn(t, d, nil, ds...)
			h.Readings = &moody{to: h.Readings, refuses: func() bool { return chance(0.02) }}
			s, _ := newSet(t, h, true, "native")
			var out tally
			next := make([]int, len(ds))
			const n = 4000
			for range n {
				k := rnd.IntN(len(ds))
				m := adapter.Message{QoS: 1, Topic: fmt.Sprintf("hub/v1/k-%d/r", k)}
				switch rnd.IntN(10) {
				case 0:
					m.Topic = strings.TrimSuffix(m.Topic, "r") + "state"
					m.Payload = fmt.Appendf(nil, `{"on":true,"t":%d}`, next[k])
				case 1:
					m.Payload = fmt.Appendf(nil, `{"r":[["uptime",%d],["uptime",%d]]}`, next[k], next[k]+1)
					next[k] += 2
				default:
					m.Payload = fmt.Appendf(nil, `{"m":"uptime","v":%d}`, next[k])
					next[k]++
				}
				if !s.Take(m, &out) {
					t.Fatal("no room")
				}
				if rnd.IntN(50) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			for began := time.Now(); out.ok.Load() < n && time.Since(began) < 10*time.Minute; {
				time.Sleep(time.Second)
			}
			if out.ok.Load() != n || out.refused.Load() != 0 || s.Waiting() != 0 {
				t.Fatalf("seed %d: %d stored, %d refused, %d wait", seed, out.ok.Load(), out.refused.Load(), s.Waiting())
			}
			for k := range ds {
				wantSequence(t, h.Sequence(t, ds[k].ID, "uptime"), numbers(next[k]))
			}
		})
	}
}

// moody refuses pushes before they are on their way, as a full queue does.
type moody struct {
	to      adapter.Readings
	refuses func() bool
}

func (m *moody) Submit(src readings.Source, b readings.Batch, done func(readings.Result, error)) {
	if m.refuses() {
		done(readings.Result{}, devices.Refuse(devices.CodeOverloaded, "full").After(time.Second))
		return
	}
	m.to.Submit(src, b, done)
}

// A push is sent again as it was read: what the device has said since, such as
// that it restarted, is not so of it.
func TestSentAgainAsItWasRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := true
		d := &disk{Memory: readings.NewMemory(), takes: 5 * time.Millisecond, fails: func() bool { was := first; first = false; return was }}
		h := adaptertest.NewOn(t, d, nil, sensor("k-1", "house"))
		s, _ := newSet(t, h, true, "native")
		var out tally
		for _, p := range []string{`{"m":"uptime","v":1,"s":1,"boot":"b1"}`, `{"m":"uptime","v":2,"s":2}`, `{"m":"uptime","v":3,"s":1,"boot":"b2"}`, `{"m":"uptime","v":4,"s":2}`} {
			s.Take(adapter.Message{Topic: "hub/v1/k-1/r", Payload: []byte(p), QoS: 1}, &out)
		}
		time.Sleep(time.Minute)
		wantSequence(t, h.Sequence(t, "k-1", "uptime"), []string{"1", "2", "3", "4"})
		for _, a := range h.Ingest.AckThrough("k-1") {
			if a.S != 2 {
				t.Errorf("got %+v, want 2 of each boot", a)
			}
		}
	})
}

// The last word counts: a will that came after readings is not undone by their
// commit.
func TestWillAfterReadingsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := adaptertest.NewOn(t, &disk{Memory: readings.NewMemory(), takes: time.Second}, nil, sensor("k-1", "house"))
		s, _ := newSet(t, h, true, "native")
		var out tally
		for range 3 {
			s.Take(adapter.Message{Topic: "hub/v1/k-1/r", Payload: []byte(`{"m":"uptime","v":1}`), QoS: 1}, &out)
		}
		s.Take(adapter.Message{Topic: "hub/v1/k-1/lwt", QoS: 1}, &out)
		time.Sleep(10 * time.Second)
		if _, _, linked := h.Liveness.Current("k-1"); linked || out.ok.Load() != 4 {
			t.Errorf("linked %v, %d decided", linked, out.ok.Load())
		}
	})
}

// A list of devices is read after all that came before it, and before all that
// came after it: a name that has passed to another device takes no readings with
// it.
func TestListBetweenMessages(t *testing.T) {
	list := func(x, y string) string {
		const one = `{"ieee_address":%q,"friendly_name":"plug","definition":{"exposes":[{"property":"power","unit":"W"}]}}`
		return fmt.Sprintf("["+one+","+strings.Replace(one, "plug", "other", 1)+"]", x, y)
	}
	synctest.Test(t, func(t *testing.T) {
		old, fresh := sensor("old", "house"), sensor("fresh", "house")
		old.Labels, fresh.Labels = map[string]string{"z2m": "0x1"}, map[string]string{"z2m": "0x2"}
		h := adaptertest.NewOn(t, &disk{Memory: readings.NewMemory(), takes: 5 * time.Millisecond}, nil, old, fresh)
		s, _ := newSet(t, h, true, "z2m")
		var out tally
		take := func(topic, payload string) {
			if !s.Take(adapter.Message{Topic: topic, Payload: []byte(payload), QoS: 1}, &out) {
				t.Fatal("no room")
			}
		}
		const n = 2000 // more than are read ahead of their commits
		take("zigbee2mqtt/bridge/devices", list("0x1", "0x2"))
		for i := range n {
			take("zigbee2mqtt/plug", fmt.Sprintf(`{"power":%d}`, i))
		}
		take("zigbee2mqtt/bridge/devices", list("0x2", "0x1"))
		for i := range n {
			take("zigbee2mqtt/plug", fmt.Sprintf(`{"power":%d}`, i))
		}
		time.Sleep(time.Minute)
		wantSequence(t, h.Sequence(t, "old", "power"), numbers(n))
		wantSequence(t, h.Sequence(t, "fresh", "power"), numbers(n))
	})
}

// hoard keeps pushes under way until it is told to let go.
type hoard struct {
	mu      sync.Mutex
	pushes  int
	read    int
	waiting []func()
}

func (h *hoard) Submit(_ readings.Source, b readings.Batch, done func(readings.Result, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pushes++
	h.read += b.Len()
	h.waiting = append(h.waiting, func() { done(readings.Result{}, nil) })
}

func (h *hoard) letGo() {
	h.mu.Lock()
	list := h.waiting
	h.waiting, h.pushes, h.read = nil, 0, 0
	h.mu.Unlock()
	for _, f := range list {
		f()
	}
}

// What is under way is bounded, of a device and of a bus, in messages and in
// readings; the rest waits its turn.
func TestUnderWayIsBounded(t *testing.T) {
	many := `{"r":[` + strings.TrimSuffix(strings.Repeat(`["uptime",1],`, 500), ",") + `]}`
	for _, x := range []struct {
		name             string
		devices, each    int
		payload          string
		pushes, readings int
	}{
		{"one device", 1, 600, `{"m":"uptime","v":1}`, 512, 512},
		{"one device with batches", 1, 50, many, 8, 4000},
		{"a bus", 40, 600, `{"m":"uptime","v":1}`, 8192, 8192},
		{"a bus with batches", 40, 10, many, 65, 32_500},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ds []*devices.Device
				for i := range x.devices {
					ds = append(ds, sensor(fmt.Sprint("k-", i), "house"))
				}
				h := adaptertest.New(t, nil, ds...)
				store := new(hoard)
				h.Readings = store
				s, _ := newSet(t, h, true, "native")
				var out tally
				n := 0
				for i := range x.devices * x.each {
					if s.Take(adapter.Message{Topic: fmt.Sprintf("hub/v1/k-%d/r", i%x.devices), Payload: []byte(x.payload), QoS: 1}, &out) {
						n++
					}
				}
				synctest.Wait()
				if store.pushes != x.pushes || store.read != x.readings {
					t.Errorf("%d pushes of %d readings are under way, want %d of %d", store.pushes, store.read, x.pushes, x.readings)
				}
				for out.ok.Load() < int64(n) {
					before := out.ok.Load()
					store.letGo()
					synctest.Wait()
					if out.ok.Load() == before {
						t.Fatalf("stands still at %d of %d", before, n)
					}
				}
			})
		})
	}
}

// A burst at QoS 0 is bounded, of a device and of the bus, and leaves room for
// what the broker would send again.
func TestBurstsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ds []*devices.Device
		for i := range 10 {
			ds = append(ds, sensor(fmt.Sprint("k-", i), "house"))
		}
		h := adaptertest.New(t, nil, ds...)
		h.Readings = new(hoard)
		s, _ := newSet(t, h, true, "native")
		take := func(k int, qos byte, n int) (taken int) {
			for range n {
				if s.Take(adapter.Message{Topic: fmt.Sprintf("hub/v1/k-%d/r", k), Payload: []byte(`{"m":"uptime","v":1}`), QoS: qos}, new(tally)) {
					taken++
				}
			}
			return taken
		}
		if n := take(0, 0, 10_000); n != 4096 {
			t.Errorf("%d of one device wait", n)
		}
		total := 4096
		for k := 1; k < 10; k++ {
			total += take(k, 0, 3000)
		}
		if total != 16_384 {
			t.Errorf("%d of a bus wait", total)
		}
		if n := take(0, 1, 60_000); n != 65_535-16_384 {
			t.Errorf("%d at QoS 1 found room", n)
		}
	})
}

// The rate of a bus holds messages up and refuses none, whatever device they are
// of: a backlog of one device comes as fast as one of many.
func TestRateHoldsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := adaptertest.New(t, nil, sensor("k-1", "house"), sensor("k-2", "house"))
		h.EventsPerS = 1000
		s, _ := newSet(t, h, true, "native")
		var out tally
		began := time.Now()
		for i := range 5000 {
			s.Take(adapter.Message{Topic: "hub/v1/k-1/r", Payload: fmt.Appendf(nil, `{"m":"uptime","v":%d}`, i), QoS: 1}, &out)
		}
		s.Take(adapter.Message{Topic: "hub/v1/k-2/r", Payload: []byte(`{"m":"uptime","v":1}`), QoS: 1}, &out)
		time.Sleep(10 * time.Millisecond)
		if got := h.Sequence(t, "k-2", "uptime"); len(got) != 1 {
			t.Error("a device waits behind another's backlog")
		}
		for out.ok.Load()+out.refused.Load() < 5001 {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began).Round(time.Second); took != 4*time.Second || out.refused.Load() > 0 || s.Slowed() != 4001 {
			t.Errorf("took %v, %d refused, %d held up", took, out.refused.Load(), s.Slowed())
		}
		s.SetRate(10_000) // a configuration that changed
		began = time.Now()
		for i := range 20_000 {
			s.Take(adapter.Message{Topic: "hub/v1/k-1/r", Payload: fmt.Appendf(nil, `{"m":"uptime","v":%d}`, 5000+i), QoS: 1}, &out)
		}
		for out.ok.Load()+out.refused.Load() < 25_001 {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(began).Round(100 * time.Millisecond); took != time.Second {
			t.Errorf("20,000 messages took %v", took)
		}
		wantSequence(t, h.Sequence(t, "k-1", "uptime"), numbers(25_000))
	})
}
