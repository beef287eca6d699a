package readings_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"devicehub/devices"
	"devicehub/devices/readings"
)

func TestSenML(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 365 * 24 * time.Hour)
		b := start(t)
		now := time.Now().Truncate(time.Second)
		ms := now.UnixMilli()
		for i, c := range []struct{ name, pack, want, stored string }{
			{"base fields", fmt.Sprintf(`[{"bn":"urn:dev:hub:DEV:","bt":%d,"n":"temperature","u":"Cel","v":21.5,"ut":60},{"n":"temperature","u":"Cel","t":-60,"v":21}]`, now.Unix()),
				"0 2/1/0", fmt.Sprintf("temperature %d 21 late; temperature %d 21.5", ms-60_000, ms)},
			{"a bare metric, now", `[{"n":"humidity","u":"%RH","v":40}]`, "0 1/0/0", fmt.Sprintf("humidity %d 40 server_time", ms)},
			{"the past, counted from now", `[{"n":"humidity","bu":"%RH","v":40,"t":-5},{"n":"battery","v":9,"u":"%EL"}]`, "0 2/0/0", fmt.Sprintf("battery %d 9 server_time; humidity %d 40", ms, ms-5000)},
			{"base value and unit", `[{"bn":"temp","bv":20,"bu":"K","n":"erature","v":273.15}]`, "0 1/0/0", fmt.Sprintf("temperature %d 20 server_time converted", ms)},
			{"a ratio", `[{"n":"humidity","u":"/","v":0.5}]`, "0 1/0/0", fmt.Sprintf("humidity %d 50 server_time converted", ms)},
			{"bool and string", `[{"n":"door","vb":true},{"n":"mode","vs":"eco"}]`, "0 2/0/0", fmt.Sprintf("door %d true server_time; mode %d eco server_time", ms, ms)},
			{"another device", `[{"n":"urn:dev:hub:other:temperature","v":1},{"n":"door","vb":false}]`, "0 1/0/0 0:forbidden", fmt.Sprintf("door %d false server_time", ms)},
			{"no metric", `[{"n":"Tank/1","v":1}]`, "invalid 0 0/0/0 0:invalid", ""},
			{"no value", `[{"n":"temperature"}]`, "invalid 0 0/0/0 0:invalid", ""},
			{"two values", `[{"n":"temperature","v":1,"vb":true}]`, "invalid 0 0/0/0 0:invalid", ""},
			{"data", `[{"n":"temperature","vd":"aGk"}]`, "invalid 0 0/0/0 0:invalid", ""},
			{"a sum alone", `[{"n":"energy","s":1}]`, "invalid 0 0/0/0 0:invalid", ""},
			{"a field of the wrong type", `[{"n":"temperature","v":"1"}]`, "invalid 0 0/0/0 0:invalid", ""},
			{"unknown fields are ignored", `[{"n":"door","vb":true,"x":{"y":[1]}}]`, "0 1/0/0", fmt.Sprintf("door %d true server_time", ms)},
			{"one that must be understood", `[{"n":"door","vb":true,"x_":1}]`, "invalid x_", ""},
			{"a newer version", `[{"bver":11,"n":"door","vb":true}]`, "invalid bver", ""},
			{"empty", `[]`, "invalid payload", ""},
			{"no list", `{"n":"door","vb":true}`, "invalid payload", ""},
			{"behind it", `[{"n":"door","vb":true}] x`, "invalid payload", ""},
		} {
			for _, isCBOR := range []bool{false, true} {
				dev := devices.ID(fmt.Sprintf("s-%d-%v", i, isCBOR))
				pack := []byte(strings.ReplaceAll(c.pack, "DEV", string(dev)))
				if isCBOR {
					if pack = toCBOR(t, pack); pack == nil {
						continue
					}
				}
				batch, err := readings.ParseSenML(pack, isCBOR, dev, time.Now())
				got := ""
				if err != nil {
					got = fmt.Sprintf("%s %v", devices.CodeOf(err), err.(*devices.Error).Details["field"])
				} else {
					got = b.submit(sensor(func(d *devices.Device) { d.ID = dev }), "", batch)
				}
				if got != c.want {
					t.Errorf("%s, CBOR %v: got %q, want %q", c.name, isCBOR, got, c.want)
				}
				if got := b.export(dev); got != c.stored {
					t.Errorf("%s, CBOR %v: stored %q, want %q", c.name, isCBOR, got, c.stored)
				}
			}
		}
	})
}

// toCBOR turns a JSON pack into CBOR with the labels of RFC 8428; nil for what
// is no JSON.
func toCBOR(t *testing.T, pack []byte) []byte {
	var list []map[string]any
	if json.Unmarshal(pack, &list) != nil {
		return nil
	}
	labels := map[string]int{"bver": -1, "bn": -2, "bt": -3, "bu": -4, "bv": -5, "bs": -6, "n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4, "s": 5, "t": 6, "ut": 7, "vd": 8}
	out := make([]map[any]any, len(list))
	for i, rec := range list {
		out[i] = map[any]any{}
		for k, v := range rec {
			if k == "vd" {
				v = []byte("hi")
			}
			if n, ok := labels[k]; ok {
				out[i][n] = v
			} else {
				out[i][k] = v
			}
		}
	}
	b, err := cbor.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSenMLIntervalCountsForStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		batch, err := readings.ParseSenML([]byte(`[{"n":"door","vb":true,"ut":10}]`), false, "t-1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if got := b.submit(sensor(), "", batch); got != "0 1/0/0" {
			t.Fatal(got)
		}
		at := time.Now()
		if _, _, next := b.in.Freshness("t-1", at); !next.Equal(at.Add(30*time.Second + time.Millisecond)) {
			t.Errorf("stale from %v on, want 30 s after %v", next, at)
		}
	})
}

func TestAStartBeforeTheRecordedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 365 * 24 * time.Hour)
		now := time.Now()
		b := start(t, func(f *faulty, _ *readings.Config) {
			f.clock = readings.ClockMark{Wall: now.Add(30 * time.Minute).UnixMilli()}
		})
		if st := b.in.Clock(); !st.Suspect || st.Reason != "behind" || st.Recorded != now.Add(30*time.Minute).UnixMilli() {
			t.Fatalf("got %+v, want a suspect clock", st)
		}
		d := sensor()
		ahead, old := now.Add(48*time.Hour).UnixMilli(), int64(1000)
		b.want(d, fmt.Sprintf(`{"r":[["temperature",1,%d],["temperature",2,%d]],"t0":0}`, ahead, old), "0 2/0/0")
		if got, want := b.export("t-1"), fmt.Sprintf("temperature %d 2; temperature %d 1", old, ahead); got != want {
			t.Errorf("times are kept as sent: got %s, want %s", got, want)
		}
		time.Sleep(59 * time.Minute)
		if !b.in.Clock().Suspect {
			t.Error("the suspicion ended before an hour")
		}
		time.Sleep(2 * time.Minute)
		if st := b.in.Clock(); st.Suspect {
			t.Errorf("after an hour without a step, past the recorded time: %+v", st)
		}
	})
}

func TestAcceptClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		b := start(t, func(f *faulty, _ *readings.Config) {
			f.clock = readings.ClockMark{Wall: now.Add(3 * time.Hour).UnixMilli()}
		})
		time.Sleep(2 * time.Hour)
		if !b.in.Clock().Suspect {
			t.Fatal("the suspicion ended before the recorded time")
		}
		if err := b.in.AcceptClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		if b.in.Clock().Suspect {
			t.Error("still suspect")
		}
		b.store.mu.Lock()
		defer b.store.mu.Unlock()
		if m := b.store.marks[len(b.store.marks)-1]; m.Suspect || m.Wall > time.Now().UnixMilli() {
			t.Errorf("recorded %+v, want the accepted time", m)
		}
	})
}

func TestClockIsRecordedWithReadingsAndWithout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.want(sensor(), `{"m":"temperature","v":1}`, "0 1/0/0")
		b.store.mu.Lock()
		if got, want := b.store.marks[0].Wall, time.Now().UnixMilli(); got != want {
			t.Errorf("recorded %d, want %d", got, want)
		}
		b.store.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		b.store.mu.Lock()
		defer b.store.mu.Unlock()
		if got := time.Since(time.UnixMilli(b.store.marks[len(b.store.marks)-1].Wall)); got > 6*time.Minute {
			t.Errorf("an idle hub recorded its clock %v ago", got)
		}
	})
}

func TestOverloadIsSaidAndNothingIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, func(f *faulty, _ *readings.Config) { f.slow = time.Second })
		text := `{"r":[` + strings.Repeat(`["temperature",1],`, 399) + `["temperature",1]]}`
		batch, err := readings.ParseReadings([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		got := map[devices.Code]int{}
		accepted := 0
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Add(1)
			d := sensor(func(d *devices.Device) { d.ID = devices.ID(fmt.Sprintf("t-%d", i)) })
			b.in.Submit(readings.Source{Device: d}, batch, func(r readings.Result, err error) {
				defer wg.Done()
				mu.Lock()
				defer mu.Unlock()
				got[devices.CodeOf(err)]++
				accepted += r.Accepted
				var e *devices.Error
				if errors.As(err, &e) && e.RetryAfter == 0 {
					t.Error("no retry_after_ms")
				}
			})
		}
		wg.Wait()
		if got[""]+got[devices.CodeOverloaded] != 1000 || got[devices.CodeOverloaded] == 0 || accepted != 400*got[""] {
			t.Errorf("got %v, %d accepted", got, accepted)
		}
		if st := b.in.Stats(); st.Waiting != 0 || st.Accepted != int64(accepted) {
			t.Errorf("got %+v", st)
		}
	})
}

// TestBackfillHasItsShare floods with live readings and checks that late ones
// get through, and not more than their share.
func TestBackfillHasItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 365 * 24 * time.Hour)
		var mu sync.Mutex
		var order []bool // late?
		b := start(t, func(f *faulty, _ *readings.Config) { f.slow = 100 * time.Millisecond })
		now := time.Now().UnixMilli()
		dev := func(i int) *devices.Device {
			return sensor(func(d *devices.Device) {
				d.ID = devices.ID(fmt.Sprintf("t-%d", i))
				d.ExpectedIntervalS = 10
			})
		}
		send := func(i int, late bool) {
			at := now
			if late {
				at -= 3600_000
			}
			text := fmt.Sprintf(`{"t0":%d,"r":[`, at) + strings.Repeat(`["temperature",1,0],`, 255) + `["temperature",1,0]]}`
			batch, err := readings.ParseReadings([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			b.in.Submit(readings.Source{Device: dev(i)}, batch, func(_ readings.Result, err error) {
				if err != nil {
					t.Errorf("%v", err)
				}
				mu.Lock()
				order = append(order, late)
				mu.Unlock()
			})
		}
		send(9999, false)
		synctest.Wait()      // for the rest to come while this one is being kept
		for i := range 300 { // 76800 readings of each, 16384 a commit: 64 pushes
			send(i, false)
			send(1000+i, true)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		late := 0
		for _, l := range order[1:257] { // four commits of 64 pushes, 16 late ones each at least
			if l {
				late++
			}
		}
		if late != 64 {
			t.Errorf("%d of the first 256 pushes kept were late ones, want 64", late)
		}
		if len(order) != 601 {
			t.Errorf("%d pushes were answered, want 601", len(order))
		}
	})
}

func TestForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		d := sensor()
		b.want(d, `{"m":"temperature","v":1,"s":1,"boot":"b"}`, "1 1/0/0")
		if err := b.in.Forget(t.Context(), "t-1"); err != nil {
			t.Fatal(err)
		}
		if l := b.in.Latest("t-1"); len(l) != 0 || b.export("t-1") != "" || len(b.in.AckThrough("t-1")) != 0 {
			t.Errorf("got %v and %q, want nothing", l, b.export("t-1"))
		}
		b.want(d, `{"m":"temperature","v":"now text","s":1,"boot":"b"}`, "type_conflict 1 0/0/0 0:type_conflict")
		b.want(d, `{"m":"temperature","v":2,"s":2,"boot":"b"}`, "2 1/0/0")
	})
}

func TestADeclarationThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now
		var mu sync.Mutex
		d := sensor(func(d *devices.Device) {
			d.Metrics = []devices.Metric{{Name: "x", Type: devices.TypeFloat, Unit: "°C"}}
		})
		b := start(t, func(_ *faulty, c *readings.Config) {
			c.Device = func(devices.ID) (*devices.Device, bool) {
				mu.Lock()
				defer mu.Unlock()
				return d, true
			}
		})
		b.want(d, `{"m":"x","v":100}`, "0 1/0/0")
		time.Sleep(time.Second)
		mu.Lock()
		d = sensor(func(d *devices.Device) {
			d.Metrics = []devices.Metric{{Name: "x", Type: devices.TypeFloat, Unit: "°F"}}
		})
		mu.Unlock()
		if l := b.in.Latest("t-1")["x"]; l.U != "°F" || l.V.(float64) < 211.9 || l.V.(float64) > 212.1 {
			t.Errorf("got %+v, want 212 °F", l)
		}
		b.want(d, `{"m":"x","v":50}`, "0 1/0/0")
		c, err := b.in.Series(t.Context(), readings.SeriesQuery{Device: "t-1", Metric: "x", From: now().UnixMilli() - 60_000, To: now().UnixMilli() + 10_000, Points: 10})
		if err != nil {
			t.Fatal(err)
		}
		k := c.Buckets[0]
		if c.Unit != "°F" || len(c.Buckets) != 1 || k.Count != 2 || k.Min != 50 || k.Max < 211.9 || k.Last != 50 {
			t.Errorf("got %+v, want both readings in °F", c)
		}
		mu.Lock()
		d = sensor(func(d *devices.Device) { d.Metrics = []devices.Metric{{Name: "x", Type: devices.TypeString}} })
		mu.Unlock()
		b.want(d, `{"m":"x","v":"hot"}`, "0 1/0/0")
		if l := b.in.Latest("t-1")["x"]; l.V != "hot" {
			t.Errorf("got %+v, want the text", l)
		}
	})
}

func TestShutdownAnswersEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, func(f *faulty, _ *readings.Config) { f.slow = time.Second })
		done := make(chan string, 50)
		for i := range 50 {
			d := sensor(func(d *devices.Device) { d.ID = devices.ID(fmt.Sprintf("t-%d", i)) })
			b.in.Submit(readings.Source{Device: d}, mustBatch(t, `{"m":"temperature","v":1}`), func(r readings.Result, err error) { done <- reply(r, err) })
		}
		b.stop()
		for range 50 {
			if got := <-done; got != "0 1/0/0" {
				t.Errorf("got %q, want it kept", got)
			}
		}
		synctest.Wait()
		if got := b.push(sensor(), `{"m":"temperature","v":1}`); got != "platform_unavailable 0 0/0/0" {
			t.Errorf("after the end: got %q", got)
		}
	})
}

func TestClockOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		now := time.Now().UnixMilli()
		for _, delay := range []int64{300, 40, 5000} {
			b.want(sensor(), fmt.Sprintf(`{"m":"temperature","v":1,"t":%d}`, now+2000-delay), "0 1/0/0")
		}
		if got, ok := b.in.ClockOffsetMS("t-1"); !ok || got != 1960 {
			t.Errorf("got %d, %v; want 1960", got, ok)
		}
		if _, ok := b.in.ClockOffsetMS("t-2"); ok {
			t.Error("an offset of a device that sent nothing")
		}
		// A few late pushes are no clock that is behind; if all are late, it may be.
		late := sensor(func(d *devices.Device) { d.ID = "t-3" })
		for n := range 8 {
			if got, ok := b.in.ClockOffsetMS("t-3"); ok {
				t.Errorf("after %d late pushes: got %d, want nothing said", n, got)
			}
			b.want(late, fmt.Sprintf(`{"m":"temperature","v":1,"t":%d}`, now-360_000+int64(n)), "0 1/0/0")
		}
		if got, ok := b.in.ClockOffsetMS("t-3"); !ok || got != -359_993 {
			t.Errorf("got %d, %v; want the promptest, -359993", got, ok)
		}
	})
}

func TestQuestionsAreChecked(t *testing.T) {
	in := readings.New(readings.NewMemory(), readings.Config{})
	for field, q := range map[string]readings.SeriesQuery{
		"metric": {Metric: "No", From: 0, To: 1},
		"from":   {Metric: "x", From: -1, To: 1},
		"to":     {Metric: "x", From: 5, To: 5},
		"points": {Metric: "x", From: 0, To: 5, Points: 10_001},
		"agg":    {Metric: "x", From: 0, To: 5, Agg: "median"},
	} {
		_, err := in.Series(context.Background(), q)
		var e *devices.Error
		if !errors.As(err, &e) || e.Details["field"] != field {
			t.Errorf("%s: got %v", field, err)
		}
	}
}
