package httpapi_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"devicehub/devices"
	"devicehub/devices/httpapi"
	"devicehub/devices/readings"
)

// What numbers mean, as people ask for it over HTTP.

// bucket is one of a chart.
type bucket struct {
	T                     int64
	Min, Max, Mean, Delta *float64
	Last                  any
	Count                 int
	OutOfRange            int `json:"out_of_range"`
}

type chart struct {
	Unit, Tier string
	Devices    *int
	Buckets    []bucket
}

func (r *rig) chart(path string) (c chart) {
	r.t.Helper()
	r.into(r.get(path, r.admin), 200, &c)
	return c
}

// delta is what the buckets of a metric count in a time.
func (r *rig) delta(id, metric string, from, to int64, points int) (sum float64) {
	r.t.Helper()
	for _, b := range r.chart(fmt.Sprintf("/api/v1/devices/%s/series?metric=%s&from=%d&to=%d&points=%d", id, metric, from, to, points)).Buckets {
		if b.Delta == nil {
			r.t.Fatalf("%s of %s: a bucket without delta: %+v", metric, id, b)
		}
		sum += *b.Delta
	}
	return sum
}

// send has a device push readings.
func (r *rig) send(id, token, push string) {
	r.t.Helper()
	r.into(r.do("POST", "/api/v1/devices/"+id+"/readings", token, push), 200, nil)
}

// hourStart is the beginning of an hour, some hours ago.
func hourStart(hours int64) int64 { return (time.Now().UnixMilli()/3600_000 - hours) * 3600_000 }

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestADipIsNoReset(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"m1","kinds":["sensor"]}`)
	t0 := time.Now().Add(-10 * time.Minute).UnixMilli()
	r.send("m1", token, fmt.Sprintf(`{"t0":%d,"r":[["energy",215.6,0],["energy",215.7,1000],["energy",215.6,2000],["energy",215.6,3000],["energy",215.7,4000],["energy",216.0,5000]]}`, t0))
	path := fmt.Sprintf("/api/v1/devices/m1/series?metric=energy&from=%d&to=%d&points=1", t0-60_000, t0+60_000)
	if body := string(r.get(path, r.admin).body); !strings.Contains(body, `"delta":0.4}`) {
		t.Errorf("got %s, want 0.4", body)
	}
	for _, points := range []int{3, 10, 500} {
		if got := r.delta("m1", "energy", t0, t0+60_000, points); !near(got, 0.4) {
			t.Errorf("in %d buckets: got %v, want 0.4", points, got)
		}
	}
	// Below 90 % of the one before the meter counts from 0 again; at 90 % it does not.
	r.send("m1", token, fmt.Sprintf(`{"t0":%d,"r":[["energy",194.4,10000],["energy",216.5,11000],["energy",194.8,12000],["energy",195.8,13000]]}`, t0))
	if got := r.delta("m1", "energy", t0+6000, t0+60_000, 1); !near(got, 0.5+194.8+1) {
		t.Errorf("got %v, want 0.5 behind a dip, then a meter that starts with 194.8", got)
	}
}

func TestWindowsAddUp(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"m1","kinds":["sensor"]}`)
	start := hourStart(7)
	var push []string
	for i := range 72 {
		push = append(push, fmt.Sprintf(`["energy",%g,%d]`, 100+0.5*float64(i), i*300_000))
	}
	r.send("m1", token, fmt.Sprintf(`{"t0":%d,"r":[%s]}`, start, strings.Join(push, ",")))
	var hours []float64
	for h := range int64(6) {
		hours = append(hours, r.delta("m1", "energy", start+h*3600_000, start+(h+1)*3600_000, 60))
	}
	if fmt.Sprint(hours) != "[5.5 6 6 6 6 6]" {
		t.Errorf("hour by hour: got %v", hours)
	}
	if got := r.delta("m1", "energy", start, start+6*3600_000, 6); got != 35.5 {
		t.Errorf("in one: got %v, want 35.5", got)
	}
	// One reading an hour, and an hour without.
	token = r.device(`{"id":"m2","kinds":["sensor"]}`)
	r.send("m2", token, fmt.Sprintf(`{"t0":%d,"r":[["energy",100,0],["energy",101,3600000],["energy",103,10800000]]}`, start))
	for h, want := range []float64{0, 1, 0, 2, 0} {
		if got := r.delta("m2", "energy", start+int64(h)*3600_000, start+int64(h+1)*3600_000, 10); got != want {
			t.Errorf("hour %d of few readings: got %v, want %v", h, got, want)
		}
	}
	// A bucket has one value, wherever the window begins.
	r.send("m2", token, fmt.Sprintf(`{"t0":%d,"r":[["water",10,0],["water",20,59000],["water",30,180000],["water",35,239000]]}`, start))
	if got := r.delta("m2", "water", start+60_000, start+240_000, 3); got != 15 {
		t.Errorf("from the second minute on: got %v, want 15", got)
	}
	// Many meters together, each from its own reading before.
	if c := r.chart(fmt.Sprintf("/api/v1/series?metric=energy&ids=m1,m2&from=%d&to=%d&points=1", start+3600_000, start+2*3600_000)); *c.Buckets[0].Delta != 7 || *c.Devices != 2 {
		t.Errorf("both: got %v of %d devices, want 7 of 2", *c.Buckets[0].Delta, *c.Devices)
	}
	if c := r.chart(fmt.Sprintf("/api/v1/series?metric=energy&ids=m1,m2&from=%d&to=%d&points=6", start, start+6*3600_000)); len(c.Buckets) != 6 || *c.Buckets[3].Delta != 8 {
		t.Errorf("both, in hours: got %+v", c.Buckets)
	}
}

func TestReadingsOutOfRangeTakeNoPart(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"]}`)
	t0 := time.Now().Add(-10*time.Minute).UnixMilli() / 60_000 * 60_000
	r.send("a", token, fmt.Sprintf(`{"t0":%d,"r":[["temperature",20,0],["temperature",900,1000],["temperature",22,2000],["temperature",-100,120000],["energy",10,0],["energy",-5,1000],["energy",2e9,2000],["energy",11,3000]]}`, t0))
	c := r.chart(fmt.Sprintf("/api/v1/devices/a/series?metric=temperature&from=%d&to=%d&points=5", t0, t0+300_000))
	if len(c.Buckets) != 2 {
		t.Fatalf("got %+v, want two buckets", c)
	}
	if b := c.Buckets[0]; *b.Min != 20 || *b.Max != 22 || *b.Mean != 21 || b.Last != 22.0 || b.Count != 3 || b.OutOfRange != 1 {
		t.Errorf("got %+v, want 20 to 22 of two readings, and one out of range", b)
	}
	if b := c.Buckets[1]; b.Min != nil || b.Max != nil || b.Mean != nil || b.Last != nil || b.Count != 1 || b.OutOfRange != 1 {
		t.Errorf("got %+v, want nothing but a reading out of range", b)
	}
	if got := r.delta("a", "energy", t0, t0+60_000, 10); got != 1 {
		t.Errorf("the meter rose by %v, want 1", got)
	}
	csv := string(r.get("/api/v1/devices/a/export?metric=temperature", r.admin).body)
	if strings.Count(csv, "out_of_range") != 2 || !strings.Contains(csv, ",900,out_of_range,°C\n") {
		t.Errorf("exported: %s", csv)
	}
}

func TestDirectionsGoRound(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"],"metrics":[{"name":"vane","unit":"°"},{"name":"tilt","unit":"°","min":-90,"max":90},{"name":"heading","unit":"rad"}]}`)
	t0 := time.Now().Add(-10*time.Minute).UnixMilli() / 60_000 * 60_000
	for metric, row := range map[string]struct {
		values string
		mean   any
	}{
		"wind_direction": {"359,1,358,2", 0.0},
		"vane":           {"350,20", 5.0},
		"tilt":           {"-10,-20", -15.0},
		"heading":        {"0.1,6.183185307", 0.0},
	} {
		var push []string
		for i, v := range strings.Split(row.values, ",") {
			push = append(push, fmt.Sprintf(`[%q,%s,%d]`, metric, v, i*1000))
		}
		r.send("a", token, fmt.Sprintf(`{"t0":%d,"r":[%s]}`, t0, strings.Join(push, ",")))
		for _, agg := range []string{"minmax", "mean", "last"} {
			c := r.chart(fmt.Sprintf("/api/v1/devices/a/series?metric=%s&from=%d&to=%d&points=1&agg=%s", metric, t0, t0+60_000, agg))
			if b := c.Buckets[0]; b.Min != nil || b.Max != nil || b.Mean == nil || math.Abs(*b.Mean-row.mean.(float64)) > 1e-6 {
				t.Errorf("%s: got %+v, want a mean of %v and no range", metric, b, row.mean)
			}
		}
	}
	// A north wind and a south wind have no mean.
	r.send("a", token, fmt.Sprintf(`{"t0":%d,"r":[["vane",0,120000],["vane",180,121000]]}`, t0))
	if b := r.chart(fmt.Sprintf("/api/v1/devices/a/series?metric=vane&from=%d&to=%d&points=1", t0+120_000, t0+180_000)).Buckets[0]; b.Mean != nil || b.Last != 180.0 {
		t.Errorf("got %+v, want no mean", b)
	}
	// The mean of many devices goes round as well.
	token = r.device(`{"id":"b","kinds":["sensor"]}`)
	r.send("b", token, fmt.Sprintf(`{"t0":%d,"r":[["wind_direction",20,0],["wind_direction",20,1000],["wind_direction",20,2000],["wind_direction",20,3000]]}`, t0))
	if b := r.chart(fmt.Sprintf("/api/v1/series?metric=wind_direction&ids=a,b&from=%d&to=%d&points=1", t0, t0+60_000)).Buckets[0]; math.Abs(*b.Mean-10) > 0.01 || b.Max != nil {
		t.Errorf("two vanes: got %+v, want about 10", b)
	}
}

func TestExportsAreInOneUnit(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"u1","kinds":["sensor"]}`)
	now := time.Now().UnixMilli()
	r.send("u1", token, fmt.Sprintf(`{"t0":%d,"r":[["temperature",20,0],["note","=1+1",0]]}`, now-9000))
	r.into(r.do("PATCH", "/api/v1/devices/u1", r.admin, `{"metrics":[{"name":"temperature","class":"temperature","unit":"°F","type":"float"}]}`), 200, nil)
	r.send("u1", token, fmt.Sprintf(`{"t0":%d,"r":[["temperature",70,0]]}`, now-4000))
	for format, want := range map[string][]string{
		"csv":    {"device,metric,t,v,quality,unit\n", fmt.Sprintf("u1,temperature,%d,68,,°F\n", now-9000), fmt.Sprintf("u1,temperature,%d,70,,°F\n", now-4000), `"'=1+1",undeclared,` + "\n"},
		"ndjson": {fmt.Sprintf(`"t":%d,"v":68,"u":"°F","q":[]}`, now-9000), fmt.Sprintf(`"t":%d,"v":70,"u":"°F","q":[]}`, now-4000), `"v":"=1+1","u":"","q":["undeclared"]}`},
		"line":   {fmt.Sprintf("temperature,device=u1,metric=temperature v=68 %d\n", now-9000), fmt.Sprintf("temperature,device=u1,metric=temperature v=70 %d\n", now-4000)},
	} {
		got := string(r.get("/api/v1/devices/u1/export?format="+format, r.admin).body)
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: got %s, want %q in it", format, got, w)
			}
		}
	}
	if got := r.get("/api/v1/devices/u1/latest", r.admin).field("metrics.temperature"); fmt.Sprint(got) == "" || got.(map[string]any)["u"] != "°F" {
		t.Errorf("latest: got %v", got)
	}
}

func TestDecimalsAreShort(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"],"metrics":[{"name":"f","unit":"°F","class":"temperature"}]}`)
	t0 := time.Now().Add(-10*time.Minute).UnixMilli() / 60_000 * 60_000
	r.send("a", token, fmt.Sprintf(`{"t0":%d,"u":{"f":"°C"},"r":[["energy",100.1,0],["energy",150.3,1000],["energy",123456789.123,2000],["energy",123456789.124,60000],["temperature",0.1,0],["temperature",0.2,1000],["temperature",0.3,2000],["f",37.7,0],["f",21.4,1000]]}`, t0))
	r.into(r.do("PATCH", "/api/v1/devices/a", r.admin, `{"metrics":[{"name":"f","unit":"°C","class":"temperature"}]}`), 200, nil)
	all := ""
	for _, metric := range []string{"energy", "temperature", "f"} {
		for _, points := range []int{1, 2, 60} {
			all += string(r.get(fmt.Sprintf("/api/v1/devices/a/series?metric=%s&from=%d&to=%d&points=%d", metric, t0, t0+120_000, points), r.admin).body)
		}
	}
	for _, format := range []string{"csv", "ndjson", "line"} {
		all += string(r.get("/api/v1/devices/a/export?format="+format, r.admin).body)
	}
	all += string(r.get("/api/v1/devices/a/latest", r.admin).body) + string(r.get("/api/v1/devices/a", r.admin).body)
	for i, part := range strings.FieldsFunc(all, func(c rune) bool { return !strings.ContainsRune("0123456789.", c) }) {
		if len(strings.ReplaceAll(part, ".", "")) > 13 {
			t.Errorf("number %d is %s", i, part)
		}
	}
	if !strings.Contains(all, `"delta":50.2`) || !strings.Contains(all, `"delta":0.001`) || !strings.Contains(all, `"mean":0.2,`) || !strings.Contains(all, ",37.7,") {
		t.Errorf("got %s", all)
	}
}

func TestDevicesOfAChartAreCounted(t *testing.T) {
	r := newRig(t, false)
	for _, id := range []string{"a", "b"} {
		token := r.device(`{"id":"` + id + `","kinds":["sensor"]}`)
		r.send(id, token, `{"m":"temperature","v":20}`)
	}
	r.device(`{"id":"c","kinds":["sensor"]}`)
	to := fmt.Sprint("&to=", time.Now().UnixMilli()+1000)
	for ids, want := range map[string]int{"a": 1, "a,b": 2, "a,c": 1, "c": 0, "b,c,a": 2} {
		if c := r.chart("/api/v1/series?metric=temperature&ids=" + ids + to); c.Devices == nil || *c.Devices != want {
			t.Errorf("%s: got %v devices, want %d", ids, c.Devices, want)
		}
	}
	if c := r.chart("/api/v1/series?metric=temperature" + to); *c.Devices != 2 {
		t.Errorf("all: got %d", *c.Devices)
	}
	if c := r.chart("/api/v1/devices/a/series?metric=temperature"); c.Devices != nil {
		t.Error("one device's chart counts devices")
	}
	for _, ids := range []string{"", "a,a", "a,,b", ",", "a,b,a"} {
		res := r.get("/api/v1/series?metric=temperature&ids="+ids, r.admin)
		r.wantCode(res, devices.CodeInvalid)
		if res.field("details.field") != "ids" {
			t.Errorf("ids=%s: got %s", ids, res.body)
		}
	}
}

func TestAnUnknownMetricIsNotFound(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"],"metrics":[{"name":"flux","unit":"Wb"}]}`)
	r.send("a", token, `{"r":[["temperature",20],["own",1]]}`)
	for _, path := range []string{"/devices/a/series?metric=", "/devices/a/export?metric=", "/series?ids=a&metric="} {
		res := r.get("/api/v1"+path+"temprature", r.admin)
		r.wantCode(res, devices.CodeNotFound)
		if res.field("details.field") != "metric" {
			t.Errorf("%s: got %s", path, res.body)
		}
		r.wantCode(r.get("/api/v1"+path+"Temperature", r.admin), devices.CodeInvalid)
		for _, known := range []string{"temperature", "own", "flux", "humidity"} { // sent, sent undeclared, declared, of the catalogue
			if res := r.get("/api/v1"+path+known, r.admin); res.status != 200 {
				t.Errorf("%s%s: got %d %s", path, known, res.status, res.body)
			}
		}
	}
}

func TestOneReadingOverHTTP(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"]}`)
	r.send("a", token, `{"m":"temperature","v":21.4}`)
	if got := r.get("/api/v1/devices/a/latest", r.admin).field("metrics.temperature.v"); got != 21.4 {
		t.Errorf("got %v", got)
	}
	res := r.do("POST", "/api/v1/devices/a/readings", token, `{"temperature":21.4}`)
	r.wantCode(res, devices.CodeInvalid)
	if reason, _ := res.field("reason").(string); !strings.Contains(reason, `unknown field "temperature"`) || !strings.Contains(reason, "a reading has m, v") {
		t.Errorf("got %s", res.body)
	}
	res = r.do("POST", "/api/v1/devices/a/readings", token, fmt.Sprintf(`{"m":"temperature","v":21.4,"t":%d}`, time.Now().Unix()))
	if hint, _ := res.field("hint").(string); res.status != 200 || !strings.Contains(hint, "milliseconds") {
		t.Errorf("seconds: got %d %s", res.status, res.body)
	}
}

func TestTimesOfAQuery(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"]}`)
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	r.send("a", token, fmt.Sprintf(`{"m":"temperature","v":1,"t":%d}`, at.UnixMilli()))
	zone := time.FixedZone("", 3600)
	for _, from := range []string{at.In(zone).Format(time.RFC3339), strings.ReplaceAll(at.In(zone).Format(time.RFC3339), "+", "%2B"), at.UTC().Format(time.RFC3339), at.In(time.FixedZone("", -5*3600)).Format(time.RFC3339), fmt.Sprint(at.UnixMilli())} {
		c := r.chart("/api/v1/devices/a/series?metric=temperature&points=1&from=" + from + "&to=" + fmt.Sprint(at.UnixMilli()+1000))
		if len(c.Buckets) != 1 {
			t.Errorf("from=%s: got %+v", from, c)
		}
	}
	for _, from := range []string{"yesterday", strings.Replace(at.UTC().Format(time.RFC3339), "T", " ", 1), "2026-03-29", "2026-03-29T02:30:00", fmt.Sprint(at.Unix()), "-5", "1e12", "99999999999999999"} {
		res := r.get("/api/v1/devices/a/series?metric=temperature&from="+url.QueryEscape(from), r.admin)
		r.wantCode(res, devices.CodeInvalid)
		if want, _ := res.field("details.want").(string); !strings.Contains(want, "ms since epoch") {
			t.Errorf("from=%s: got %s", from, res.body)
		}
	}
}

// adoptable has an adapter meet two devices, of which one is declared as nobody
// can mean.
func adoptable(r *rig) {
	r.cfg.Bridges = []string{"house"}
	r.s.Discovered = func() []httpapi.Discovery {
		dev := func(precision float64) *devices.Device {
			return &devices.Device{Kinds: []devices.Kind{devices.KindSensor}, Metrics: []devices.Metric{{Name: "x", Precision: precision}}}
		}
		return []httpapi.Discovery{{Adopt: "house/z2m/0x01", Bridge: "house", Device: dev(0.1)}, {Adopt: "house/z2m/0x02", Bridge: "house", Device: dev(-3)}}
	}
}

func TestDaysOfAZone(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"]}`)
	zone, err := time.LoadLocation("Asia/Kathmandu") // 5:45 h before UTC, all the year
	if err != nil {
		t.Fatal(err)
	}
	y, m, d := time.Now().In(zone).Date()
	today := time.Date(y, m, d, 0, 0, 0, 0, zone)
	r.send("a", token, fmt.Sprintf(`{"t0":%d,"r":[["energy",1,-1],["energy",2,0],["energy",5,-86400000]]}`, today.UnixMilli()-86400_000))
	path := fmt.Sprintf("/api/v1/devices/a/series?metric=energy&points=2&from=%d&to=%d&tz=Asia/Kathmandu", today.AddDate(0, 0, -2).UnixMilli(), today.UnixMilli())
	var c struct {
		TZ      string
		StepMS  int64 `json:"step_ms"`
		Buckets []struct{ T, End, Count int64 }
	}
	r.into(r.get(path, r.admin), 200, &c)
	if c.TZ != "Asia/Kathmandu" || c.StepMS != 86400_000 || len(c.Buckets) != 2 || c.Buckets[0].T != today.AddDate(0, 0, -2).UnixMilli() || c.Buckets[0].End != c.Buckets[1].T || c.Buckets[1].End != today.UnixMilli() || c.Buckets[0].Count != 2 {
		t.Errorf("got %+v", c)
	}
	if res := r.get("/api/v1/series?metric=energy&ids=a&tz=Europe/Berlin", r.admin); res.status != 200 || res.field("tz") != "Europe/Berlin" {
		t.Errorf("got %d %s", res.status, res.body)
	}
	for _, tz := range []string{"Local", "CET+1", "Europe/Atlantis", "../../etc/passwd"} {
		res := r.get("/api/v1/devices/a/series?metric=energy&tz="+url.QueryEscape(tz), r.admin)
		r.wantCode(res, devices.CodeInvalid)
		if res.field("details.field") != "tz" {
			t.Errorf("%s: got %s", tz, res.body)
		}
	}
}

func TestDeclarationsAreJudgedByEveryWay(t *testing.T) {
	r := newRig(t, false, adoptable)
	r.device(`{"id":"a","kinds":["sensor"]}`)
	for field, metrics := range map[string]string{
		"metrics.unit":        `[{"name":"temperature","class":"temperature","unit":"kg"}]`,
		"metrics.precision":   `[{"name":"x","precision":-1}]`,
		"metrics.options":     `[{"name":"x","type":"enum"}]`,
		"metrics.state_class": `[{"name":"x","state_class":"nope"}]`,
		"metrics.min":         `[{"name":"x","min":2,"max":1}]`,
		"metrics.class":       `[{"name":"x","class":"motion","type":"float"}]`,
		"metrics.type":        `[{"name":"x","type":"int"}]`,
	} {
		for way, res := range map[string]reply{
			"create":      r.do("POST", "/api/v1/devices", r.admin, `{"id":"b","kinds":["sensor"],"metrics":`+metrics+`}`),
			"create many": r.do("POST", "/api/v1/devices", r.admin, `[{"id":"c","kinds":["sensor"]},{"id":"b","kinds":["sensor"],"metrics":`+metrics+`}]`),
			"adopt":       r.do("POST", "/api/v1/devices", r.admin, `{"id":"b","kinds":["sensor"],"adopt":"house/z2m/0x01","metrics":`+metrics+`}`),
			"patch":       r.do("PATCH", "/api/v1/devices/a", r.admin, `{"metrics":`+metrics+`}`),
		} {
			r.wantCode(res, devices.CodeInvalid)
			if res.field("details.field") != field || res.field("details.want") == nil {
				t.Errorf("%s, %s: got %s", field, way, res.body)
			}
		}
	}
	// What an adapter has met is judged as well.
	res := r.do("POST", "/api/v1/devices", r.admin, `{"id":"b","adopt":"house/z2m/0x02"}`)
	r.wantCode(res, devices.CodeInvalid)
	if res.field("details.metric") != "x" || !strings.Contains(fmt.Sprint(res.field("reason")), "metrics.precision of x") {
		t.Errorf("adopted: got %s", res.body)
	}
	var made struct {
		Device struct{ Metrics []devices.Metric }
	}
	r.into(r.do("POST", "/api/v1/devices", r.admin, `{"id":"d","kinds":["sensor"],"metrics":[{"name":"mode","type":"enum","options":["eco","comfort"]},{"name":"outside","class":"temperature"}]}`), 201, &made)
	if m := made.Device.Metrics; len(m) != 2 || strings.Join(m[0].Options, " ") != "eco comfort" || m[1].Unit != "°C" {
		t.Errorf("got %+v", m)
	}
}

func TestDeclarationsDoNotHideReadings(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"],"metrics":[{"name":"level","unit":"L"}]}`)
	r.send("a", token, `{"r":[["level",5],["own",true],["mode","eco"],["temperature",20]]}`)
	patch := func(metrics string) reply {
		return r.do("PATCH", "/api/v1/devices/a", r.admin, `{"metrics":`+metrics+`}`)
	}
	for metrics, field := range map[string]string{
		`[{"name":"level","type":"string"}]`:                                            "metrics.type",
		`[{"name":"level","unit":"V"}]`:                                                 "metrics.unit",
		`[{"name":"level"}]`:                                                            "metrics.unit",
		`[{"name":"level","unit":"L"},{"name":"own"}]`:                                  "metrics.type",
		`[{"name":"level","unit":"L"},{"name":"mode","type":"bool"}]`:                   "metrics.type",
		`[{"name":"level","unit":"L"},{"name":"temperature","type":"string"}]`:          "metrics.type",
		`[{"name":"temperature","class":"battery","unit":"%"}]`:                         "metrics.unit",
		`[{"name":"level","unit":"m³"},{"name":"own","type":"bool"}]`:                   "",
		`[{"name":"mode","type":"enum","options":["eco"]},{"name":"level","unit":"L"}]`: "",
		`[]`: "",
	} {
		res := patch(metrics)
		if field == "" {
			r.into(res, 200, nil)
			continue
		}
		r.wantCode(res, devices.CodeInvalid)
		if res.field("details.field") != field || !strings.Contains(string(res.body), "hide_readings") {
			t.Errorf("%s: got %s", metrics, res.body)
		}
	}
	for metric, want := range map[string]int{"level": 1, "own": 1, "mode": 1} {
		if c := r.chart("/api/v1/devices/a/series?metric=" + metric); len(c.Buckets) != want {
			t.Errorf("%s: got %+v", metric, c)
		}
	}
	// Whoever means it may.
	r.into(r.do("PATCH", "/api/v1/devices/a?hide_readings=true", r.admin, `{"metrics":[{"name":"level","type":"string"}]}`), 200, nil)
	r.send("a", token, `{"m":"level","v":"high"}`)
	if csv := string(r.get(fmt.Sprint("/api/v1/devices/a/export?metric=level&to=", time.Now().UnixMilli()+60_000), r.admin).body); !strings.Contains(csv, ",5,") || !strings.Contains(csv, ",high,") {
		t.Errorf("exported: %s", csv)
	}
	r.wantCode(r.do("PATCH", "/api/v1/devices/a?hide_readings=perhaps", r.admin, `{}`), devices.CodeInvalid)
	// An id whose readings are kept is judged when it is made again, too.
	now := time.Now()
	r.into(r.do("DELETE", "/api/v1/devices/a?keep_readings=true", r.admin, nil), 204, nil)
	fresh := &devices.Device{ID: "a", Kinds: []devices.Kind{devices.KindSensor}, Metrics: []devices.Metric{{Name: "own", Unit: "V"}}}
	err := r.reg.Create(t.Context(), now.Add(devices.TombstoneFor+time.Hour), fresh.Clone())
	if devices.CodeOf(err) != devices.CodeInvalid || !strings.Contains(err.Error(), "metrics.type of own: want bool") {
		t.Errorf("made again: got %v", err)
	}
	if err := r.reg.Create(readings.Hiding(t.Context()), now.Add(devices.TombstoneFor+time.Hour), fresh); err != nil {
		t.Errorf("made again, hiding: %v", err)
	}
}

func TestBodiesAreRead(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"a","kinds":["sensor"]}`)
	for name, body := range map[string]string{
		"a field twice":             `{"name":"x","name":"y"}`,
		"a field twice, further in": `{"labels":{"k":"1","k":"2"}}`,
		"in a list":                 `{"metrics":[{"name":"x","unit":"V","unit":"A"}]}`,
		"in a configuration":        `{"config":{"a":{"b":1,"b":2}}}`,
		"a lone surrogate":          `{"name":"\ud800"}`,
		"no UTF-8":                  "{\"name\":\"caf\xe9\"}",
		"a byte order mark":         "\ufeff{}",
		"a NUL":                     `{"name":"a\u0000b"}`,
		"a control character":       `{"labels":{"k":"\u0007"}}`,
	} {
		r.wantCode(r.do("PATCH", "/api/v1/devices/a", r.admin, body), devices.CodeInvalid)
		if d, _ := r.reg.Get("a"); d.Name != "" || len(d.Labels) > 0 {
			t.Fatalf("%s: the record is %+v", name, d)
		}
	}
	many, _ := json.Marshal([]map[string]any{{"id": "x", "kinds": []string{"sensor"}}, {"id": "x", "kinds": []string{"sensor"}}})
	r.wantCode(r.do("POST", "/api/v1/devices", r.admin, string(many)), devices.CodeConflict)
	if _, found := r.reg.Get("x"); found {
		t.Error("a list with one id twice made a device")
	}
}
