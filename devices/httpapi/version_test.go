package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"devicehub/devices"
)

// records are what two people can edit, each with a change of it.
var records = []struct{ path, made, patch string }{
	{"/api/v1/devices/lamp", `{"id":"lamp","kinds":["light"]}`, `"name":"%d"`},
	{"/api/v1/users/ana", `{"username":"ana","password":"ana-password","role":"viewer"}`, `"scope":"area=%d"`},
	{"/api/v1/apitokens/ha", `{"name":"ha","rights":["read"]}`, `"topics":["t/%d"]`},
}

func (r *rig) makeRecords() {
	r.t.Helper()
	for _, rec := range records {
		collection := rec.path[:strings.LastIndex(rec.path, "/")]
		res := r.do("POST", collection, r.admin, rec.made)
		if res.status != 201 || res.header.Get("ETag") != `"1"` || res.header.Get("Location") != rec.path {
			r.t.Fatalf("POST %s: got %d %s %v, want 201 with version and place", collection, res.status, res.body, res.header)
		}
	}
}

func TestRecordsHaveVersions(t *testing.T) {
	r := newRig(t, true)
	r.makeRecords()
	for _, rec := range records {
		edit := func(n int, more string, change ...func(*http.Request)) reply {
			return r.do("PATCH", rec.path, r.admin, fmt.Sprintf("{"+rec.patch+"%s}", n, more), change...)
		}
		got := r.get(rec.path, r.admin)
		if got.field("ver") != 1.0 || !strings.HasPrefix(got.header.Get("ETag"), `"1`) {
			t.Errorf("%s: got %s %v, want version 1", rec.path, got.body, got.header)
		}
		first := edit(1, `,"if_ver":1`)
		if first.status != 200 || first.field("ver") != 2.0 || first.header.Get("ETag") != `"2"` {
			t.Fatalf("%s: got %d %s %v, want version 2", rec.path, first.status, first.body, first.header)
		}
		if same := edit(1, `,"if_ver":2`); same.field("ver") != 2.0 {
			t.Errorf("%s: a change that changes nothing made %s", rec.path, same.body)
		}
		late := edit(2, `,"if_ver":1`)
		r.wantCode(late, devices.CodeVersionConflict)
		if late.field("details.current.ver") != 2.0 {
			t.Errorf("%s: got %s, want the present record", rec.path, late.body)
		}
		for _, tt := range []struct {
			name, tags string
			status     int
		}{
			{"an old version", `"1"`, 412}, {"nonsense", `"nope"`, 412}, {"a weak tag", `W/"2"`, 412}, {"a greater number", `"22"`, 412}, {"none of several", `"1", "3"`, 412},
			{"no tag", `2`, 422}, {"half a tag", `"2`, 422}, {"a tag and more", `"2" "3"`, 422}, {"nothing", ``, 422}, {"any and more", `*, "2"`, 422},
			{"the version", `"2"`, 200}, {"one of several", `"1" ,, W/"9","3"`, 200}, {"any", `*`, 200}, {"as it came compressed", `"5-gzip"`, 200},
			{"as it came with live values", `"6-0011aabb"`, 200}, {"both", `"7-0011aabb-gzip"`, 200},
		} {
			before := r.get(rec.path, r.admin).field("ver").(float64)
			res := edit(int(before)+100, "", header("If-Match", tt.tags))
			after := r.get(rec.path, r.admin).field("ver").(float64)
			if res.status != tt.status || (after == before+1) != (tt.status == 200) {
				t.Errorf("%s, If-Match %s: got %d %s and version %v after %v, want %d", rec.path, tt.name, res.status, res.body, after, before, tt.status)
			}
			if res.status == 412 && (res.code() != devices.CodeVersionConflict || res.field("details.current.ver") != before) {
				t.Errorf("%s, If-Match %s: got %s, want version_conflict and the present record", rec.path, tt.name, res.body)
			}
		}
		if res := edit(50, "", header("If-None-Match", "*")); res.status != 412 {
			t.Errorf("%s: If-None-Match * got %d %s, want 412", rec.path, res.status, res.body)
		}
		if res := edit(51, `,"if_ver":1`, header("If-Match", "*")); res.status != 409 {
			t.Errorf("%s: If-Match holds and if_ver does not: got %d %s, want 409", rec.path, res.status, res.body)
		}
		if res := edit(52, "", func(q *http.Request) { q.Header["If-Match"] = []string{`"1"`, `"8"`} }); res.status != 200 {
			t.Errorf("%s: If-Match in two lines: got %d %s, want 200", rec.path, res.status, res.body)
		}
		for _, bad := range []string{"null", `"x"`, "1.5"} {
			if res := edit(60, `,"if_ver":`+bad); res.status != 422 || res.field("details.field") != "if_ver" {
				t.Errorf("%s: if_ver %s: got %d %s, want invalid", rec.path, bad, res.status, res.body)
			}
		}
		r.wantDeletable(rec.path)
	}
}

// wantDeletable deletes the record, at its own version alone.
func (r *rig) wantDeletable(path string) {
	r.t.Helper()
	ver := int(r.get(path, r.admin).field("ver").(float64))
	old := r.do("DELETE", fmt.Sprintf("%s?if_ver=%d", path, ver-1), r.admin, nil)
	r.wantCode(old, devices.CodeVersionConflict)
	if got := r.do("DELETE", path, r.admin, nil, header("If-Match", fmt.Sprintf(`"%d"`, ver-1))); got.status != 412 || old.field("details.current.ver") == nil {
		r.t.Errorf("%s: got %d %s, want 412", path, got.status, got.body)
	}
	r.wantCode(r.do("DELETE", path+"?if_ver=new", r.admin, nil), devices.CodeInvalid)
	if got := r.do("DELETE", fmt.Sprintf("%s?if_ver=%d", path, ver), r.admin, nil, header("If-Match", fmt.Sprintf(`"%d"`, ver))); got.status != 204 {
		r.t.Errorf("%s: got %d %s, want 204", path, got.status, got.body)
	}
}

func TestIfNoneMatch(t *testing.T) {
	r := newRig(t, false)
	r.makeRecords()
	for _, path := range []string{"/api/v1/devices/lamp", "/api/v1/users/ana", "/api/v1/apitokens/ha", "/api/v1/devices/lamp/shadow"} {
		tag := r.get(path, r.admin).header.Get("ETag")
		for _, tt := range []struct {
			tags   string
			status int
		}{
			{tag, 304}, {"W/" + tag, 304}, {`"x", ` + tag, 304}, {"*", 304}, {strings.TrimSuffix(tag, `"`) + `-gzip"`, 304}, {`"x"`, 200}, {"x", 422},
		} {
			for _, method := range []string{"GET", "HEAD"} {
				if method == "HEAD" && tt.status != 304 {
					continue
				}
				res := r.do("GET", path, r.admin, nil, func(q *http.Request) { q.Method = method }, header("If-None-Match", tt.tags))
				if res.status != tt.status || res.status == 304 && (len(res.body) > 0 || res.header.Get("ETag") != tag) {
					t.Errorf("%s %s, If-None-Match %s: got %d %s %v, want %d", method, path, tt.tags, res.status, res.body, res.header, tt.status)
				}
			}
		}
	}
}

// What a device does shows in its document and is not kept from who asks for news,
// though nobody edited the record.
func TestLiveValuesAreNews(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"lamp","kinds":["light"],"config":{"rate":5}}`)
	before := r.get("/api/v1/devices/lamp", r.admin)
	r.into(r.do("POST", "/api/v1/devices/lamp/readings", token, `{"r":[["temperature",21.5]]}`), 200, nil)
	after := r.do("GET", "/api/v1/devices/lamp", r.admin, nil, header("If-None-Match", before.header.Get("ETag")))
	if after.status != 200 || after.field("latest.temperature.v") != 21.5 || after.field("ver") != 1.0 {
		t.Errorf("got %d %s, want the new value at version 1", after.status, after.body)
	}
	// What the device reports of itself is no edit either: an editor's version holds.
	l := r.connect(token, false)
	heard := make(chan error, 1)
	l.session.Handle("info", []byte(`{"fw":"1.1","config_ver":1}`), false, func(_ any, err error) { heard <- err })
	if err := <-heard; err != nil {
		t.Fatal(err)
	}
	res := r.do("PATCH", "/api/v1/devices/lamp", r.admin, `{"name":"Lamp","if_ver":1}`)
	if res.status != 200 || res.field("fw") != "1.1" || res.field("config_ack_ver") != 1.0 {
		t.Errorf("got %d %s, want the change, and what the device said", res.status, res.body)
	}
}

// Of many who edit a version at the same time one wins, by either way to ask for
// it, and everybody else is told what is there now.
func TestConcurrentEdits(t *testing.T) {
	r := newRig(t, true)
	r.makeRecords()
	for _, rec := range records {
		for ver := 1; ver <= 5; ver++ {
			var won atomic.Int64
			var wg sync.WaitGroup
			for e := range 12 {
				wg.Go(func() {
					body, tag := fmt.Sprintf("{"+rec.patch+`,"if_ver":%d}`, 100*ver+e, ver), ""
					if e%2 == 0 {
						body, tag = fmt.Sprintf("{"+rec.patch+"}", 100*ver+e), fmt.Sprintf(`"%d"`, ver)
					}
					res := r.do("PATCH", rec.path, r.admin, body, func(q *http.Request) {
						if tag != "" {
							q.Header.Set("If-Match", tag)
						}
					})
					switch {
					case res.status == 200:
						won.Add(1)
					case res.code() != devices.CodeVersionConflict || res.status != 409 && res.status != 412 || res.field("details.current.ver") != float64(ver+1):
						t.Errorf("%s: got %d %s", rec.path, res.status, res.body)
					}
				})
			}
			wg.Wait()
			if now := r.get(rec.path, r.admin); won.Load() != 1 || now.field("ver") != float64(ver+1) {
				t.Fatalf("%s at version %d: %d won, and it is %s", rec.path, ver, won.Load(), now.body)
			}
		}
	}
}

func TestIfMatchIsNeverPassedOver(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"lamp","kinds":["light"]}`)
	for _, call := range []string{"POST /api/v1/devices/lamp/commands", "POST /api/v1/keys", "POST /api/v1/clock/accept"} {
		method, path, _ := strings.Cut(call, " ")
		var body any
		if strings.HasSuffix(path, "commands") {
			body = `{"op":"identify"}`
		}
		if res := r.do(method, path, r.admin, body, header("If-Match", `"1"`)); res.status != 412 || res.code() != devices.CodeVersionConflict {
			t.Errorf("%s: got %d %s, want 412", call, res.status, res.body)
		}
	}
}

func TestShadowVersions(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"lamp","kinds":["light"]}`)
	const path = "/api/v1/devices/lamp/shadow"
	tag := r.get(path, r.admin).header.Get("ETag")
	res := r.do("PATCH", path, r.admin, `{"desired":{"on":true}}`, header("If-Match", tag))
	if res.status != 200 || res.header.Get("ETag") != fmt.Sprintf(`"%v"`, res.field("ver")) {
		t.Fatalf("got %d %s %v", res.status, res.body, res.header)
	}
	late := r.do("PATCH", path, r.admin, `{"desired":{"on":false}}`, header("If-Match", tag))
	if late.status != 412 || late.code() != devices.CodeVersionConflict || late.field("details.current.desired.on") != true {
		t.Errorf("got %d %s, want 412 and the present shadow", late.status, late.body)
	}
}

// Of two who rotate a device's token at the same time, one does: the other's would
// end with the grace of a rotation that they know nothing of.
func TestTokensHaveGenerationsForVersions(t *testing.T) {
	r := newRig(t, true)
	r.device(`{"id":"lamp","kinds":["light"]}`)
	const path = "/api/v1/devices/lamp/tokens"
	tag := r.get(path, r.admin).header.Get("ETag")
	if !strings.HasPrefix(tag, `"1-`) {
		t.Errorf("got tag %s, want one of generation 1", tag)
	}
	var wg sync.WaitGroup
	var made atomic.Int64
	for i := range 10 {
		wg.Go(func() {
			body, match := `{"if_gen":1}`, ""
			if i%2 == 0 {
				body, match = `{}`, tag
			}
			res := r.do("POST", path, r.admin, body, func(q *http.Request) {
				if match != "" {
					q.Header.Set("If-Match", match)
				}
			})
			switch {
			case res.status == 201:
				made.Add(1)
			case res.code() != devices.CodeVersionConflict || res.status != 409 && res.status != 412 || res.field("details.current.gen") != 2.0:
				t.Errorf("got %d %s", res.status, res.body)
			}
		})
	}
	wg.Wait()
	if got := r.get(path, r.admin); made.Load() != 1 || got.field("gen") != 2.0 {
		t.Errorf("%d rotated, and it is %s", made.Load(), got.body)
	}
	for _, body := range []string{`{"mode":"issue","if_gen":1}`, `{"mode":"issue","bridge":"attic","if_gen":1}`} {
		if res := r.do("POST", path, r.admin, body); res.status != 409 {
			t.Errorf("a token of an old generation: got %d %s", res.status, res.body)
		}
	}
	if res := r.do("DELETE", path, r.admin, nil, header("If-Match", tag)); res.status != 412 {
		t.Errorf("revoking: got %d %s", res.status, res.body)
	}
	if res := r.do("DELETE", path, r.admin, nil, header("If-Match", `"2"`)); res.status != 204 {
		t.Errorf("revoking what is meant: got %d %s", res.status, res.body)
	}
}

// Two who each add a label both keep theirs, and null takes away: RFC 7396, whatever
// the content type says.
func TestPatchesMerge(t *testing.T) {
	for _, kind := range []string{"application/json", "application/merge-patch+json"} {
		r := newRig(t, true)
		r.device(`{"id":"lamp","kinds":["light"],"labels":{"z":"0"},"light":{"modes":["rgb"],"min_kelvin":2200},"metrics":[{"name":"temperature"},{"name":"humidity"}],
			"config":{"rate":1.50,"big":12345678901234567890,"net":{"ssid":"x","key":"<y>"},"list":[1,2]}}`)
		for _, tt := range []struct{ name, patch, field, want string }{
			{"a label", `{"labels":{"a":"1"}}`, "labels", `{"a":"1","z":"0"}`},
			{"another", `{"labels":{"b":"2"}}`, "labels", `{"a":"1","b":"2","z":"0"}`},
			{"a label away", `{"labels":{"z":null,"none":null}}`, "labels", `{"a":"1","b":"2"}`},
			{"no label", `{"labels":{}}`, "labels", `{"a":"1","b":"2"}`},
			{"all labels away", `{"labels":null}`, "labels", `{}`},
			{"a setting within", `{"config":{"net":{"ssid":"z"}}}`, "config", `{"big":12345678901234567890,"list":[1,2],"net":{"key":"\u003cy\u003e","ssid":"z"},"rate":1.50}`},
			{"a setting away, a list replaced", `{"config":{"net":null,"big":null,"list":[3]}}`, "config", `{"list":[3],"rate":1.50}`},
			{"the whole configuration away", `{"config":null}`, "config", ``},
			{"a new one, without what is null", `{"config":{"a":{"b":null,"c":1}}}`, "config", `{"a":{"c":1}}`},
			{"a field of the light", `{"light":{"max_kelvin":5000}}`, "light", `{"modes":["rgb"],"min_kelvin":2200,"max_kelvin":5000}`},
			{"a field of the light away", `{"light":{"min_kelvin":null,"modes":["rgb","color_temp"]}}`, "light", `{"modes":["rgb","color_temp"],"max_kelvin":5000}`},
			{"a list", `{"metrics":[{"name":"co2"}]}`, "metrics", `[{"name":"co2"`},
			{"no list", `{"metrics":[]}`, "metrics", ``},
		} {
			res := r.do("PATCH", "/api/v1/devices/lamp", r.admin, tt.patch, header("Content-Type", kind))
			var now map[string]json.RawMessage
			r.into(res, 200, &now)
			if got := string(now[tt.field]); got != tt.want && (tt.field != "metrics" || !strings.HasPrefix(got, tt.want)) {
				t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
			}
		}
		for _, tt := range []struct{ patch, field string }{
			{`{"labels":{"a":5}}`, "labels"}, {`{"labels":[]}`, "labels"}, {`{"config":7}`, "config"}, {`{"light":{"modes":null}}`, "light.modes"}, {`{"light":{"hue":1}}`, "light.hue"}, {`{"light":"rgb"}`, "light"},
		} {
			if res := r.do("PATCH", "/api/v1/devices/lamp", r.admin, tt.patch); res.status != 422 || res.field("details.field") != tt.field {
				t.Errorf("%s: got %d %s, want invalid about %s", tt.patch, res.status, res.body, tt.field)
			}
		}
	}
}

// A configuration whose meaning stays is not told to the device again, however it
// is written.
func TestAPatchThatChangesNothing(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"lamp","kinds":["light"],"config":{"b":1,"a":{"d":2,"c":3}},"labels":{"a":"1"},"light":{"modes":["rgb"]}}`)
	for _, patch := range []string{`{}`, `{"config":{"a":{"c":3}}}`, `{"config":{ "a" : { "d":2,"c":3 },"b":1,"x":null}}`, `{"labels":{"a":"1"},"light":{"modes":["rgb"]},"metrics":[],"area":""}`} {
		res := r.do("PATCH", "/api/v1/devices/lamp", r.admin, patch)
		if res.status != 200 || res.field("ver") != 1.0 || res.field("config_ver") != 1.0 {
			t.Errorf("%s: got %d %s, want both versions to stay", patch, res.status, res.body)
		}
	}
}

func TestNullOfAFieldThatIsAlwaysThere(t *testing.T) {
	r := newRig(t, false)
	r.makeRecords()
	for call, fields := range map[string][]string{"/api/v1/users/ana": {"role", "scope", "password", "enabled"}, "/api/v1/apitokens/ha": {"rights", "scope", "topics"}, "/api/v1/devices/lamp": {"enabled", "sleepy"}} {
		for _, field := range fields {
			if res := r.do("PATCH", call, r.admin, `{"`+field+`":null}`); res.status != 422 || res.field("details.field") != field {
				t.Errorf("%s of %s: got %d %s, want invalid", field, call, res.status, res.body)
			}
		}
	}
}

func TestWhatWasMadeSaysWhereItIs(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"lamp","kinds":["light"]}`)
	made := r.do("POST", "/api/v1/devices/lamp/tokens", r.admin, `{"mode":"issue"}`)
	if got := made.header.Get("Location"); got != "/api/v1/devices/lamp/tokens" {
		t.Errorf("a token: got %q", got)
	}
	key := r.do("POST", "/api/v1/keys", r.admin, nil)
	if got := key.header.Get("Location"); got != "/api/v1/keys/"+key.field("kid").(string) {
		t.Errorf("a key: got %q", got)
	}
	r.connect(token, false)
	cmd := r.do("POST", "/api/v1/devices/lamp/commands", r.admin, `{"op":"identify"}`)
	if got := cmd.header.Get("Location"); cmd.status != 202 || r.get(got, r.admin).field("cmd_id") != cmd.field("cmd_id") {
		t.Errorf("a command: got %d %q", cmd.status, got)
	}
}
