package httpapi_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/quota"
)

func TestReadingsOverHTTP(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"]}`)
	r.device(`{"id":"b","kinds":["sensor"]}`)
	t0 := time.Now().Add(-time.Minute).UnixMilli()
	push := fmt.Sprintf(`{"boot":"b1","s0":1,"t0":%d,"r":[["temperature",20.5,0],["temperature",21.5,1000],["mode","=eco",0]]}`, t0)
	res := r.do("POST", "/api/v1/devices/a/readings", token, push)
	if res.status != 200 || res.field("accepted") != 3.0 || res.field("ack") != 3.0 {
		t.Fatalf("got %d %s", res.status, res.body)
	}
	if res = r.do("POST", "/api/v1/devices/a/readings", token, push); res.status != 200 || res.field("dup") != 3.0 {
		t.Errorf("again: got %d %s, want duplicates", res.status, res.body)
	}
	refused := r.do("POST", "/api/v1/devices/a/readings", token, `{"r":[["temperature","warm"],["Bad",1]]}`)
	if refused.status != 422 || refused.field("code") != "type_conflict" || refused.field("accepted") != 0.0 || len(refused.field("rejected").([]any)) != 2 {
		t.Errorf("refused: got %d %s", refused.status, refused.body)
	}
	r.wantCode(r.do("POST", "/api/v1/devices/a/readings", token, `{"r":`), devices.CodeInvalid)
	r.wantCode(r.do("POST", "/api/v1/devices/b/readings", token, push), devices.CodeForbidden)
	r.wantCode(r.do("POST", "/api/v1/devices/a/readings", token, `{"r":[["temperature",1,`+strings.Repeat(" ", 70000)+`0]]}`), devices.CodeTooLarge)

	latest := r.get("/api/v1/devices/a/latest", r.admin)
	if latest.field("metrics.temperature.v") != 21.5 || latest.field("metrics.temperature.u") != "°C" || latest.field("server_time") == nil {
		t.Errorf("latest: got %s", latest.body)
	}
	for _, span := range []string{fmt.Sprintf("from=%d&to=%d", t0, t0+60000), "from=" + time.UnixMilli(t0-1000).UTC().Format(time.RFC3339), ""} {
		series := r.get("/api/v1/devices/a/series?metric=temperature&points=100&"+span, r.admin)
		if series.status != 200 || series.field("unit") != "°C" || len(series.field("buckets").([]any)) == 0 {
			t.Errorf("series %s: got %d %s", span, series.status, series.body)
		}
	}
	if across := r.get("/api/v1/series?metric=temperature&ids=a,b", r.admin); across.status != 200 || len(across.field("buckets").([]any)) == 0 {
		t.Errorf("across: got %d %s", across.status, across.body)
	}
	r.wantCode(r.get("/api/v1/series?metric=temperature&ids=a,ghost", r.admin), devices.CodeNotFound)

	csv := r.get("/api/v1/devices/a/export", r.admin)
	if csv.header.Get("Content-Type") != "text/csv; charset=utf-8" || !strings.HasPrefix(string(csv.body), "device,metric,t,v,quality,unit\n") || !strings.Contains(string(csv.body), `"'=eco"`) || strings.Count(string(csv.body), "\n") != 4 {
		t.Errorf("csv: got %v %s", csv.header, csv.body)
	}
	nd := r.get("/api/v1/devices/a/export?format=ndjson&metric=temperature", r.admin)
	var line struct {
		Device, Metric string
		T              int64
		V              float64
		Q              []string
	}
	first, _, _ := strings.Cut(string(nd.body), "\n")
	if err := json.Unmarshal([]byte(first), &line); err != nil || line.Device != "a" || line.V != 20.5 || line.T != t0 {
		t.Errorf("ndjson: got %s %v", nd.body, err)
	}
	if empty := r.get("/api/v1/devices/b/export", r.admin); empty.status != 200 || !strings.HasPrefix(string(empty.body), "device,") {
		t.Errorf("nothing to export: got %d %q", empty.status, empty.body)
	}
	r.into(r.do("POST", "/api/v1/devices/a/readings", token, `{"boot":"b1","s0":9000,"r":[["temperature",1]]}`), 200, nil)
	if one := r.get("/api/v1/devices/a", r.admin); one.field("gaps") == nil {
		t.Errorf("what never came is not shown: %s", one.body)
	}
	if gone := r.do("DELETE", "/api/v1/devices/a", r.admin, nil); gone.status != 204 {
		t.Errorf("delete: got %d %s", gone.status, gone.body)
	}
	if l := r.s.Readings.AppendLatest(nil, "a"); string(l) != "{}" {
		t.Error("the readings of a deleted device are there")
	}
}

// The id of a deleted device can be taken at once by who insists. Nothing of the
// device that had it comes back.
func TestADeletedIDIsTakenAgain(t *testing.T) {
	r := newRig(t, false)
	const record = `{"id":"a","kinds":["sensor"]}`
	old := r.device(record)
	r.into(r.do("POST", "/api/v1/devices/a/readings", old, `{"r":[["temperature",21]]}`), 200, nil)
	if gone := r.do("DELETE", "/api/v1/devices/a", r.admin, nil); gone.status != 204 {
		t.Fatalf("delete: got %d %s", gone.status, gone.body)
	}
	refused := r.do("POST", "/api/v1/devices", r.admin, record)
	r.wantCode(refused, devices.CodeConflict)
	if refused.field("details.until") == nil || !strings.Contains(string(refused.body), "reuse=true") {
		t.Errorf("got %s", refused.body)
	}
	made := r.do("POST", "/api/v1/devices?reuse=true", r.admin, record)
	if made.status != 201 {
		t.Fatalf("got %d %s", made.status, made.body)
	}
	r.wantCode(r.do("POST", "/api/v1/devices?reuse=true", r.admin, record), devices.CodeConflict)
	if l := r.s.Readings.AppendLatest(nil, "a"); string(l) != "{}" {
		t.Errorf("the old readings are there: %s", l)
	}
	r.wantCode(r.do("POST", "/api/v1/devices/a/readings", old, `{"r":[["temperature",22]]}`), devices.CodeTokenRevoked)
	r.into(r.do("POST", "/api/v1/devices/a/readings", made.field("token").(string), `{"r":[["temperature",23]]}`), 200, nil)
}

// What stands under another metric's name is found and, when that is asked for,
// erased; the audit tells of it.
func TestReadingsAreCheckedAndRepaired(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"],"metrics":[{"name":"temperature","class":"illuminance","unit":"lx"}]}`)
	r.into(r.do("POST", "/api/v1/devices/a/readings", token, `{"r":[["temperature",500],["humidity",40]]}`), 200, nil)
	series := func(res reply, field string) []any {
		t.Helper()
		if res.status != 200 {
			t.Fatalf("got %d %s", res.status, res.body)
		}
		return res.field(field).([]any)
	}
	if got := series(r.get("/api/v1/readings/check", r.admin), "series"); len(got) != 0 {
		t.Errorf("found %v, want nothing: the record declares it so", got)
	}
	r.into(r.do("PATCH", "/api/v1/devices/a?hide_readings=true", r.admin, `{"metrics":null}`), 200, nil)
	found := r.get("/api/v1/readings/check", r.admin)
	if got := series(found, "series"); len(got) != 1 || !strings.Contains(string(found.body), `"name":"temperature"`) || !strings.Contains(string(found.body), `"readings":1`) {
		t.Errorf("found %s", found.body)
	}
	res := r.do("POST", "/api/v1/readings/repair", r.admin, nil)
	if len(series(res, "erased")) != 0 || len(series(res, "left")) != 1 {
		t.Errorf("repaired %s, want it left", res.body)
	}
	r.wantCode(r.do("POST", "/api/v1/readings/repair", r.admin, `{"all":true}`), devices.CodeInvalid)
	res = r.do("POST", "/api/v1/readings/repair", r.admin, `{"misfiled":true}`)
	if len(series(res, "erased")) != 1 || len(series(res, "left")) != 0 {
		t.Errorf("repaired %s, want it erased", res.body)
	}
	r.into(r.do("POST", "/api/v1/devices/a/readings", token, `{"r":[["temperature",21]]}`), 200, nil)
	if l := r.get("/api/v1/devices/a/latest", r.admin); l.field("metrics.temperature.v") != 21.0 || l.field("metrics.temperature.u") != "°C" || l.field("metrics.humidity.v") != 40.0 {
		t.Errorf("got %s", l.body)
	}
	if audit := r.get("/api/v1/audit", r.admin); !strings.Contains(string(audit.body), `"readings.repair"`) || !strings.Contains(string(audit.body), `"erased":1`) {
		t.Errorf("the audit has %s", audit.body)
	}
}

func TestReadingsWithTheShortForm(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"a","kinds":["sensor"]}`)
	var tok struct{ Token string }
	r.into(r.do("POST", "/api/v1/devices/a/tokens", r.admin, `{"mode":"issue","form":"short"}`), 201, &tok)
	if res := r.do("POST", "/api/v1/devices/a/readings", tok.Token, `{"r":[["temperature",1]]}`); res.status != 200 {
		t.Errorf("got %d %s", res.status, res.body)
	}
	r.wantCode(r.do("POST", "/api/v1/devices/b/readings", tok.Token, `{"r":[["temperature",1]]}`), devices.CodeUnauthorized)
}

func TestADisabledDeviceIsToldSo(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"]}`)
	r.into(r.do("PATCH", "/api/v1/devices/a", r.admin, `{"enabled":false}`), 200, nil)
	r.wantCode(r.do("POST", "/api/v1/devices/a/readings", token, `{"r":[["temperature",1]]}`), devices.CodeDeviceDisabled)
	r.into(r.do("PATCH", "/api/v1/devices/a", r.admin, `{"enabled":true}`), 200, nil)
	r.into(r.do("DELETE", "/api/v1/devices/a/tokens", r.admin, nil), 204, nil)
	r.wantCode(r.do("POST", "/api/v1/devices/a/readings", token, `{"r":[["temperature",1]]}`), devices.CodeTokenRevoked)
}

func TestADeviceFloodIsItsOwn(t *testing.T) {
	r := newRig(t, false)
	loud, quiet := r.device(`{"id":"loud","kinds":["sensor"]}`), r.device(`{"id":"quiet","kinds":["sensor"]}`)
	var l quota.Limits
	l.Device.Rates[quota.Events] = quota.Rate{PerSecond: 50, Burst: 200}
	r.bounds.SetLimits(l)
	limited := 0
	for range 300 {
		res := r.do("POST", "/api/v1/devices/loud/readings", loud, `{"r":[["temperature",1]]}`)
		if res.status == 429 {
			limited++
			if res.field("retry_after_ms") == nil {
				t.Fatalf("got %s", res.body)
			}
		}
	}
	if limited == 0 {
		t.Error("300 events at once were all taken")
	}
	if res := r.do("POST", "/api/v1/devices/quiet/readings", quiet, `{"r":[["temperature",1]]}`); res.status != 200 {
		t.Errorf("the neighbour: got %d %s", res.status, res.body)
	}
}
