package readings_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
)

func ptr[T any](v T) *T { return &v }

// rulesDevice declares one metric of each sort.
func rulesDevice() *devices.Device {
	return sensor(func(d *devices.Device) {
		d.Metrics = []devices.Metric{
			{Name: "boiler", Type: devices.TypeFloat, Unit: "°F", Min: ptr(0.0), Max: ptr(500.0), OnRange: devices.RejectRange},
			{Name: "tank", Type: devices.TypeFloat, Unit: "L", Min: ptr(0.0), OnRange: devices.FlagRange},
			{Name: "state", Type: devices.TypeEnum},
			{Name: "label", Type: devices.TypeString},
			{Name: "armed", Type: devices.TypeBool},
		}
	})
}

func TestLatestAsEncodingJSONWritesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := rulesDevice()
		b := start(t, func(_ *faulty, c *readings.Config) {
			c.Device = func(devices.ID) (*devices.Device, bool) { return d, true }
		})
		check := func() {
			t.Helper()
			want, err := json.Marshal(b.in.Latest(d.ID))
			if got := b.in.AppendLatest([]byte("x"), d.ID); err != nil || string(got) != "x"+string(want) {
				t.Errorf("got %s, want %s, %v", got[1:], want, err)
			}
		}
		check()
		for _, push := range []string{`{"m":"temperature","v":21.4}`, `{"m":"label","v":"<\"\u2028\ud83d\ude00"}`, `{"m":"armed","v":true}`, `{"m":"flux","v":-1e-7,"u":"Wb"}`,
			`{"m":"temperature","v":900.25}`, `{"m":"state","v":"on"}`, `{"m":"boiler","v":100,"u":"°C"}`} {
			b.want(d, push, "0 1/0/0")
			time.Sleep(time.Second)
		}
		check()
		d = sensor(func(d *devices.Device) { // others units now, and nothing of the rest
			d.Metrics = []devices.Metric{{Name: "boiler", Type: devices.TypeFloat, Unit: "°C", ExpectedIntervalS: 1}}
		})
		check()
		b.want(d, `{"m":"boiler","v":50}`, "0 1/0/0")
		check()
	})
}

func TestValidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		now := time.Now().UnixMilli()
		for _, c := range []struct{ name, push, want, stored string }{
			{"plain", `{"m":"temperature","v":21.4}`, "0 1/0/0", "temperature %t 21.4 server_time"},
			{"in Fahrenheit", `{"m":"temperature","v":212,"u":"°F"}`, "0 1/0/0", "temperature %t 100 server_time converted"},
			{"in Kelvin", `{"m":"temperature","v":273.15,"u":"K"}`, "0 1/0/0", "temperature %t 0 server_time converted"},
			{"another spelling", `{"m":"temperature","v":1,"u":"C"}`, "0 1/0/0", "temperature %t 1 server_time"},
			{"two ways to write micro", `{"m":"pm25","v":1,"u":"` + "\u03bc" + `g/m3"}`, "0 1/0/0", "pm25 %t 1 server_time"},
			{"another quantity", `{"m":"temperature","v":1,"u":"hPa"}`, "unit_mismatch 0 0/0/0 0:unit_mismatch", ""},
			{"a unit on a bool", `{"m":"motion","v":true,"u":"%"}`, "unit_mismatch 0 0/0/0 0:unit_mismatch", ""},
			{"declared in another unit", `{"m":"boiler","v":100,"u":"°C"}`, "0 1/0/0", "boiler %t 212 server_time converted"},
			{"the range is of the canonical unit", `{"m":"boiler","v":300,"u":"°C"}`, "range 0 0/0/0 0:range", ""},
			{"flagged", `{"m":"temperature","v":900}`, "0 1/0/0", "temperature %t 900 server_time out_of_range"},
			{"refused", `{"m":"boiler","v":500.1}`, "range 0 0/0/0 0:range", ""},
			{"at the end of the range", `{"m":"boiler","v":500}`, "0 1/0/0", "boiler %t 500 server_time"},
			{"only a lower end", `{"m":"tank","v":1e300}`, "0 1/0/0", "tank %t 1e+300 server_time"},
			{"converted past what a float holds", `{"m":"tank","v":1e307,"u":"m³"}`, "invalid 0 0/0/0 0:invalid", ""},
			{"an integer is a float", `{"m":"temperature","v":3}`, "0 1/0/0", "temperature %t 3 server_time"},
			{"minus zero", `{"m":"temperature","v":-0.0}`, "0 1/0/0", "temperature %t 0 server_time"},
			{"a bool where a float is declared", `{"m":"temperature","v":true}`, "type_conflict 0 0/0/0 0:type_conflict", ""},
			{"a string where a float is declared", `{"m":"temperature","v":"21"}`, "type_conflict 0 0/0/0 0:type_conflict", ""},
			{"a number where a bool is declared", `{"m":"motion","v":1}`, "type_conflict 0 0/0/0 0:type_conflict", ""},
			{"a bool", `{"m":"motion","v":true}`, "0 1/0/0", "motion %t true server_time"},
			{"an enum", `{"m":"state","v":"on"}`, "0 1/0/0", "state %t on server_time"},
			{"a string", `{"m":"label","v":"a, \"b\""}`, "0 1/0/0", `label %t "a  ""b""" server_time`},
			{"255 bytes", `{"m":"label","v":"` + strings.Repeat("x", 255) + `"}`, "0 1/0/0", "label %t " + strings.Repeat("x", 255) + " server_time"},
			{"256 bytes", `{"m":"label","v":"` + strings.Repeat("x", 256) + `"}`, "too_large 0 0/0/0 0:too_large", ""},
			{"undeclared", `{"m":"flux","v":1,"u":"Wb"}`, "0 1/0/0", "flux %t 1 server_time undeclared"},
			{"a name that is none", `{"m":"Temperature","v":1}`, "invalid 0 0/0/0 0:invalid", ""},
			{"33 letters", `{"m":"` + strings.Repeat("a", 33) + `","v":1}`, "invalid 0 0/0/0 0:invalid", ""},
			{"more than a float64", `{"m":"temperature","v":1e999}`, "invalid v", ""},
			{"no value", `{"m":"temperature"}`, "invalid v", ""},
			{"null", `{"m":"temperature","v":null}`, "invalid v", ""},
			{"NaN", `{"m":"temperature","v":NaN}`, "invalid v", ""},
			{"no metric", `{"v":1}`, "invalid m", ""},
			{"a field too many", `{"m":"temperature","v":1,"x":1}`, "invalid x", ""},
			{"s from 1", `{"m":"temperature","v":1,"s":0}`, "invalid s", ""},
			{"s is an integer", `{"m":"temperature","v":1,"s":1.5}`, "invalid s", ""},
			{"t is an integer", `{"m":"temperature","v":1,"t":"now"}`, "invalid t", ""},
			{"t before 1970", `{"m":"temperature","v":1,"t":-1}`, "invalid t", ""},
			{"boot is text", `{"m":"temperature","v":1,"boot":7}`, "invalid boot", ""},
			{"no JSON", `{"m":"temperature","v":1`, "invalid payload", ""},
			{"no object", `[1]`, "invalid payload", ""},
			{"two objects", `{"m":"temperature","v":1}{}`, "invalid payload", ""},
			{"r is missing", `{"r":[]}`, "invalid r", ""},
			{"in part", `{"r":[["temperature",1],["boiler",1e9],["door",false],["temperature"],["x y",1],[1,1],["humidity",null]]}`,
				"0 2/0/0 1:range 3:invalid 4:invalid 5:invalid 6:invalid", "door %t false server_time; temperature %t 1 server_time"},
			{"units by metric", `{"u":{"temperature":"°F"},"r":[["temperature",32],["humidity",40]]}`, "0 2/0/0", "humidity %t 40 server_time; temperature %t 0 server_time converted"},
			{"dt without t0", `{"r":[["temperature",1,5]]}`, "invalid 0 0/0/0 0:invalid", ""},
		} {
			d := rulesDevice()
			d.ID = devices.ID(fmt.Sprintf("t-%d", time.Now().UnixNano()%1e9))
			time.Sleep(time.Microsecond)
			if got := b.push(d, c.push); got != c.want {
				t.Errorf("%s: got %q, want %q", c.name, got, c.want)
			}
			if got, want := b.export(d.ID), strings.ReplaceAll(c.stored, "%t", fmt.Sprint(now)); got != want {
				t.Errorf("%s: stored %q, want %q", c.name, got, want)
			}
		}
	})
}

func TestTypeIsFixedByTheFirstReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		d := sensor()
		b.want(d, `{"m":"flux","v":"high","boot":"b","s":1,"t":1}`, "1 1/0/0") // clock_unset: stamped
		b.want(d, `{"m":"flux","v":1,"boot":"b","s":2}`, "type_conflict 2 0/0/0 0:type_conflict")
		b.want(d, `{"m":"flux","v":"low","boot":"b","s":3}`, "3 1/0/0")
	})
}

func TestUndeclaredPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		d := sensor(func(d *devices.Device) { d.Undeclared = devices.RejectUndeclared })
		b.want(d, `{"r":[["flux",1],["temperature",1]]}`, "0 1/0/0 0:undeclared_metric")
		d = sensor(func(d *devices.Device) { d.ID, d.Undeclared = "t-2", devices.AcceptUndeclared })
		b.want(d, `{"r":[["flux",1],["temperature",1]]}`, "0 2/0/0")
		if l := b.in.Latest("t-2"); !l["flux"].Undeclared || l["temperature"].Undeclared {
			t.Errorf("got %+v, want flux alone undeclared", l)
		}
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		d := sensor(func(d *devices.Device) {
			for i := range 60 {
				d.Metrics = append(d.Metrics, devices.Metric{Name: fmt.Sprintf("d%d", i), Type: devices.TypeFloat})
			}
		})
		for i := range 16 {
			b.want(d, fmt.Sprintf(`{"m":"u%d","v":1}`, i), "0 1/0/0")
		}
		b.want(d, `{"m":"u16","v":1}`, "undeclared_metric 0 0/0/0 0:undeclared_metric")
		b.want(d, `{"m":"u3","v":1}`, "0 1/0/0")
		for i := range 48 {
			b.want(d, fmt.Sprintf(`{"m":"d%d","v":1}`, i), "0 1/0/0")
		}
		b.want(d, `{"m":"d48","v":1}`, "too_large 0 0/0/0 0:too_large")
		b.want(d, `{"m":"d47","v":1}`, "0 1/0/0")
		long := `{"r":[` + strings.Repeat(`["d1",1],`, 500) + `["d1",1]]}`
		b.want(d, long, "too_large 0 0/0/0")
	})
}

func TestClockRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 365 * 24 * time.Hour) // the bubble begins in 2000
		b := start(t)
		now := time.Now().UnixMilli()
		for i, c := range []struct {
			name   string
			t      int64
			want   string
			stored string
		}{
			{"a little ahead", now + 60_000, "1 1/0/0", fmt.Sprintf("temperature %d 1", now+60_000)},
			{"ahead", now + 60_001, "1 1/0/0", fmt.Sprintf("temperature %d 1 server_time clock_ahead", now)},
			{"unset", 1_420_070_399_999, "1 1/0/0", fmt.Sprintf("temperature %d 1 server_time clock_unset", now)},
			{"a week old", now - 7*24*3600_000, "1 1/0/0", fmt.Sprintf("temperature %d 1", now-7*24*3600_000)},
			{"older", now - 7*24*3600_000 - 1, "too_old 1 0/0/0 0:too_old", ""},
		} {
			d := sensor(func(d *devices.Device) { d.ID = devices.ID(fmt.Sprintf("t-%d", i)) })
			push := fmt.Sprintf(`{"m":"temperature","v":1,"t":%d,"boot":"b","s":1}`, c.t)
			b.want(d, push, c.want)
			if got := b.export(d.ID); got != c.stored {
				t.Errorf("%s: stored %q, want %q", c.name, got, c.stored)
			}
			if c.stored == "" {
				b.want(d, push, c.want) // refused again, no duplicate
			} else {
				b.want(d, push, "1 0/0/1")
			}
		}
	})
}

func TestStampsRiseStrictly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 365 * 24 * time.Hour)
		b := start(t)
		now := time.Now().UnixMilli()
		d := sensor()
		b.want(d, fmt.Sprintf(`{"m":"temperature","v":1,"t":%d}`, now+50_000), "0 1/0/0")
		b.want(d, `{"r":[["temperature",2],["humidity",2],["temperature",3]]}`, "0 3/0/0")
		b.want(d, `{"m":"humidity","v":3}`, "0 1/0/0")
		want := fmt.Sprintf("humidity %d 2 server_time; humidity %d 3 server_time; temperature %d 1; temperature %d 2 server_time; temperature %d 3 server_time",
			now, now+1, now+50_000, now+50_001, now+50_002)
		if got := b.export("t-1"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}

func TestSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		d := sensor()
		b.want(d, `{"boot":"b1","s0":1,"r":[["temperature",1],["temperature",2],["temperature",3]]}`, "3 3/0/0")
		b.want(d, `{"boot":"b1","s0":2,"r":[["temperature",1],["temperature",2],["temperature",3]]}`, "4 1/0/2")
		b.want(d, `{"m":"temperature","v":1,"s":7,"boot":"b1"}`, "4 1/0/0")
		b.want(d, `{"m":"temperature","v":1,"s":7,"boot":"b1"}`, "4 0/0/1")
		b.want(d, `{"m":"temperature","v":true,"s":5,"boot":"b1"}`, "type_conflict 5 0/0/0 0:type_conflict")
		b.want(d, `{"m":"temperature","v":true,"s":5,"boot":"b1"}`, "type_conflict 5 0/0/0 0:type_conflict")
		b.want(d, `{"m":"temperature","v":6,"s":6,"boot":"b1"}`, "7 1/0/0")
		b.want(d, `{"m":"temperature","v":1,"s":4200,"boot":"b1"}`, "104 1/0/0") // the window moves up
		if got := b.in.Gaps("t-1"); len(got) != 1 || got[0].Lost != 97 || len(got[0].Ranges) != 1 || got[0].Ranges[0] != (readings.Range{First: 8, Last: 104}) {
			t.Errorf("got gaps %+v, want 8 to 104", got)
		}
		b.want(d, `{"m":"temperature","v":1,"s":50,"boot":"b1"}`, "104 1/0/0") // it came after all
		b.want(d, `{"m":"temperature","v":1,"s":50,"boot":"b1"}`, "104 0/0/1")
		if got := b.in.Gaps("t-1"); got[0].Lost != 96 || len(got[0].Ranges) != 2 {
			t.Errorf("got gaps %+v, want two ranges of 96", got)
		}
		b.want(d, `{"m":"temperature","v":1,"s":1}`, "0 1/0/0") // without a known boot s means nothing
		b.want(d, `{"m":"temperature","v":1,"s":1}`, "0 1/0/0")
		if got := b.submit(d, "b1", mustBatch(t, `{"m":"temperature","v":1,"s":2}`)); got != "104 0/0/1" { // the boot of the join
			t.Errorf("got %q, want a duplicate", got)
		}
		for i := range 5 {
			b.want(d, fmt.Sprintf(`{"m":"temperature","v":1,"s":1,"boot":"n%d"}`, i), "1 1/0/0")
		}
		text, err := json.Marshal(b.in.AckThrough("t-1"))
		if want := `[{"boot":"n1","s":1},{"boot":"n2","s":1},{"boot":"n3","s":1},{"boot":"n4","s":1}]`; err != nil || string(text) != want {
			t.Errorf("got %s, want %s", text, want)
		}
		b.want(d, `{"m":"temperature","v":1,"s":2,"boot":"b1"}`, "104 0/0/1") // not told of, but remembered
	})
}

func mustBatch(t *testing.T, text string) readings.Batch {
	t.Helper()
	b, err := readings.ParseReading([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 365 * 24 * time.Hour)
		b := start(t)
		d := sensor()
		now := time.Now().UnixMilli()
		b.want(d, fmt.Sprintf(`{"m":"temperature","v":1,"t":%d}`, now), "0 1/0/0")
		b.want(d, fmt.Sprintf(`{"m":"temperature","v":2,"t":%d}`, now), "0 1/0/0")
		if got := b.in.Latest("t-1")["temperature"]; got.V != 2.0 || got.T != now {
			t.Errorf("got %+v, want the later value", got)
		}
	})
}

func TestLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 365 * 24 * time.Hour)
		b := start(t)
		d := sensor(func(d *devices.Device) {
			d.Metrics = []devices.Metric{{Name: "temperature", Type: devices.TypeFloat, Unit: "°C", ExpectedIntervalS: 10}}
			d.ExpectedIntervalS = 60
		})
		now := time.Now().UnixMilli()
		push := func(m string, age int64) string {
			return fmt.Sprintf(`{"m":%q,"v":%d,"t":%d}`, m, age, now-age)
		}
		b.want(d, push("temperature", 20_000), "0 1/0/0")
		b.want(d, push("temperature", 20_001), "0 1/1/0") // before the latest
		b.want(d, push("temperature", 5_000), "0 1/0/0")
		b.want(d, push("temperature", 6_000), "0 1/1/0")
		b.want(d, push("humidity", 120_001), "0 1/1/0") // twice the device's interval
		b.want(d, push("humidity", 120_000), "0 1/0/0")
		synctest.Wait()
		if got := b.in.Latest("t-1")["temperature"]; got.T != now-5_000 {
			t.Errorf("latest went back to %d", got.T)
		}
		chart, err := b.in.Series(t.Context(), readings.SeriesQuery{Device: "t-1", Metric: "temperature", From: now - 30_000, To: now, Points: 6})
		if text, _ := json.Marshal(chart); err != nil || strings.Count(string(text), `"late":1`) != 2 || strings.Count(string(text), `"late"`) != 2 {
			t.Errorf("got %s, %v, want the two late ones counted", text, err)
		}
		names := ""
		for _, e := range b.events {
			name, _, _ := strings.Cut(e, " ")
			names += name + " "
		}
		if want := "reading backfill reading backfill backfill reading "; names != want {
			t.Errorf("got events %q, want %q", names, want)
		}
		d2 := sensor(func(d *devices.Device) { d.ID = "t-2" })
		b.want(d2, push("temperature", 3600_000), "0 1/0/0") // no interval, nothing newer: not late
		b.want(d2, fmt.Sprintf(`{"t0":%d,"r":[["temperature",1,0],["temperature",2,-5000000]]}`, now), "0 2/1/0")
		synctest.Wait()
		if got := b.events[len(b.events)-1]; !strings.HasPrefix(got, "backfill t-2 b/temperature ") || strings.Count(got, `"m"`) != 1 || !strings.Contains(got, `"q":["late"]`) {
			t.Errorf("got %s, want the late one alone", got)
		}
	})
}

func TestStaleness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sensor(func(d *devices.Device) {
			d.Metrics = []devices.Metric{{Name: "declared", Type: devices.TypeFloat, ExpectedIntervalS: 10}}
		})
		b := start(t, func(_ *faulty, c *readings.Config) {
			c.Device = func(devices.ID) (*devices.Device, bool) { return d, true }
		})
		if stale, any, _ := b.in.Freshness("t-1", time.Now()); stale || any {
			t.Error("a device without readings has none that is stale")
		}
		for range 8 {
			b.want(d, `{"r":[["temperature",1],["motion",true],["mode","eco"]]}`, "0 3/0/0")
			time.Sleep(30 * time.Second)
		}
		if _, _, next := b.in.Freshness("t-1", time.Now()); !next.IsZero() {
			t.Errorf("7 gaps: stale from %v on, want never", next)
		}
		b.want(d, `{"m":"temperature","v":1}`, "0 1/0/0")
		at := time.Now()
		stale, any, next := b.in.Freshness("t-1", at)
		if want := at.Add(90*time.Second + time.Millisecond); stale || !any || !next.Equal(want) {
			t.Errorf("8 gaps of 30 s: got %v %v %v, want stale from %v on", stale, any, next, want)
		}
		if stale, _, _ = b.in.Freshness("t-1", next); !stale {
			t.Error("it is not stale when it was said to be")
		}
		b.want(d, `{"m":"declared","v":1}`, "0 1/0/0")
		time.Sleep(30*time.Second + time.Millisecond)
		l := b.in.Latest("t-1")
		if !l["declared"].Stale || l["temperature"].Stale || l["motion"].Stale || l["mode"].Stale || l["declared"].AgeMS != 30_001 {
			t.Errorf("got %+v, want declared alone stale", l)
		}
	})
}

func TestLearnedIntervalIsAtLeast20s(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		d := sensor()
		for range 9 {
			b.want(d, `{"m":"temperature","v":1}`, "0 1/0/0")
			time.Sleep(time.Second)
		}
		at := time.Now().Add(-time.Second)
		if _, _, next := b.in.Freshness("t-1", at); !next.Equal(at.Add(time.Minute + time.Millisecond)) {
			t.Errorf("got %v, want a minute after %v", next, at)
		}
	})
}

func TestBare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		for i, c := range []struct{ metric, text, want, stored string }{
			{"temperature", "21.5", "0 1/0/0", "temperature %t 21.5 server_time"},
			{"temperature", " 21.5\n", "0 1/0/0", "temperature %t 21.5 server_time"},
			{"motion", "true", "0 1/0/0", "motion %t true server_time"},
			{"mode", "eco", "0 1/0/0", "mode %t eco server_time"},
			{"mode", "5", "0 1/0/0", "mode %t 5 server_time"},
			{"mode", "true", "0 1/0/0", "mode %t true server_time"},
			{"temperature", "warm", "type_conflict 0 0/0/0 0:type_conflict", ""},
			{"temperature", "nan", "invalid v", ""},
			{"temperature", "1e999", "invalid v", ""},
			{"temperature", "", "invalid v", ""},
			{"mode", "\xff", "invalid v", ""},
			{"No", "1", "invalid m", ""},
		} {
			d := sensor(func(d *devices.Device) { d.ID = devices.ID(fmt.Sprintf("t-%d", i)) })
			now := time.Now().UnixMilli()
			batch, err := readings.ParseBare(c.metric, []byte(c.text))
			got := ""
			if err != nil {
				got = fmt.Sprintf("%s %v", devices.CodeOf(err), err.(*devices.Error).Details["field"])
			} else {
				got = b.submit(d, "", batch)
			}
			if got != c.want {
				t.Errorf("%s %q: got %q, want %q", c.metric, c.text, got, c.want)
			}
			if got, want := b.export(d.ID), strings.ReplaceAll(c.stored, "%t", fmt.Sprint(now)); got != want {
				t.Errorf("%s %q: stored %q, want %q", c.metric, c.text, got, want)
			}
		}
	})
}

func TestReplyIsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		var got []string
		for _, push := range []string{
			`{"boot":"b","s0":1,"r":[["temperature",1],["temperature",1],["temperature",true]]}`,
			`{"boot":"b","s0":4,"r":[["co2",1,7],["wind_speed",1]]}`,
			`{"m":"temperature","v":1,"u":"V"}`,
			`{"m":"boiler","v":1000}`,
		} {
			parse := readings.ParseReadings
			if !strings.Contains(push, "r\":[") {
				parse = readings.ParseReading
			}
			batch, err := parse([]byte(push))
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan any, 1)
			b.in.Submit(readings.Source{Device: rulesDevice()}, batch, func(r readings.Result, err error) {
				if err != nil {
					done <- readings.Refusal{Err: err.(*devices.Error), Result: r}
					return
				}
				done <- r
			})
			text, err := json.Marshal(<-done)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(text))
		}
		for i, want := range []string{
			`{"ack":3,"accepted":2,"late":0,"dup":0,"rejected":[{"i":2,"code":"type_conflict","reason":"temperature holds numbers: send one, not true or false","expect":"float","field":"v"}]}`,
			`{"ack":5,"accepted":1,"late":0,"dup":0,"rejected":[{"i":0,"code":"invalid","reason":"r[0][2]: want a t0 beside r","field":"r[0][2]","want":"a t0 beside r"}]}`,
			`{"code":"unit_mismatch","reason":"temperature is not measured in V: send °C, K, °F","details":{"expect":["°C","K","°F"],"field":"u"},"accepted":0,"late":0,"dup":0,"rejected":[{"i":0,"code":"unit_mismatch","reason":"temperature is not measured in V: send °C, K, °F","expect":["°C","K","°F"],"field":"u"}]}`,
			`{"code":"range","reason":"boiler is outside its plausible range","details":{"field":"boiler","max":500,"min":0,"unit":"°F"},"accepted":0,"late":0,"dup":0,"rejected":[{"i":0,"code":"range","reason":"boiler is outside its plausible range","field":"boiler","max":500,"min":0,"unit":"°F"}]}`,
		} {
			if got[i] != want && !sameJSON(got[i], want) {
				t.Errorf("got  %s\nwant %s", got[i], want)
			}
		}
	})
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return string(p) == string(q)
}
