package httpapi_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"devicehub/devices"
)

func TestDeviceLife(t *testing.T) {
	r := newRig(t, true)
	res := r.do("POST", "/api/v1/devices", r.admin, `{"id":"lamp","kinds":["light","sensor"],"name":"Lamp","labels":{"floor":"1"},"area":"kitchen","light":{"modes":["rgb","color_temp"]},
		"metrics":[{"name":"temperature"}],"expected_interval_s":10,"sleepy":true}`)
	if res.status != 201 || res.field("device.status.state") != "never_seen" || res.field("device.enabled") != true || res.field("issuer") != "devicehub" || res.field("expires_at") == nil {
		t.Fatalf("got %d %s", res.status, res.body)
	}
	r.wantCode(r.do("POST", "/api/v1/devices", r.admin, `{"id":"lamp","kinds":["light"]}`), devices.CodeConflict)
	got := r.do("PATCH", "/api/v1/devices/lamp", r.admin, `{"name":"Desk","labels":{"floor":"2"},"lat":48.1,"lon":null,"notes":"n","undeclared":"reject","config":{"rate": 5},"shadow_policy":"desired_wins","expected_interval_s":20}`)
	if got.status != 200 || got.field("name") != "Desk" || got.field("labels.floor") != "2" || got.field("config_ver") != 1.0 || got.field("config.rate") != 5.0 || got.field("lat") != 48.1 {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	got = r.do("PATCH", "/api/v1/devices/lamp", r.admin, `{"config":{"rate":5},"lat":null,"area":"hall"}`)
	if got.field("config_ver") != 1.0 || got.field("lat") != nil || got.field("area") != "hall" {
		t.Errorf("nothing that the device is told changed: got %s", got.body)
	}
	got = r.do("PATCH", "/api/v1/devices/lamp", r.admin, `{"config":null}`)
	if got.field("config_ver") != 2.0 || got.field("config") != nil {
		t.Errorf("config taken away: got %s", got.body)
	}
	if d := r.do("DELETE", "/api/v1/devices/lamp", r.admin, nil); d.status != 204 {
		t.Errorf("delete: got %d %s", d.status, d.body)
	}
	r.wantCode(r.get("/api/v1/devices/lamp", r.admin), devices.CodeNotFound)
	r.wantCode(r.do("POST", "/api/v1/devices", r.admin, `{"id":"lamp","kinds":["light"]}`), devices.CodeConflict)
	var audit struct{ Entries []devices.AuditEntry }
	r.into(r.get("/api/v1/audit?device=lamp", r.admin), 200, &audit)
	var actions []string
	for _, e := range audit.Entries {
		actions = append(actions, e.Action+" "+e.Outcome)
	}
	want := "device.create refused, device.delete ok, device.update ok, device.update ok, device.update ok, device.create refused, device.create ok"
	if strings.Join(actions, ", ") != want {
		t.Errorf("audit: got %v", actions)
	}
	before, _ := json.Marshal(audit.Entries[3].Before)
	after, _ := json.Marshal(audit.Entries[3].After)
	if !strings.Contains(string(before), `"area":"kitchen"`) || !strings.Contains(string(after), `"area":"hall"`) || strings.Contains(string(after), "config") {
		t.Errorf("the change: got %s to %s, want what differs", before, after)
	}
}

func TestBadInput(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"a","kinds":["sensor"]}`)
	big := `{"notes":"` + strings.Repeat("x", 70000) + `"}`
	for _, tt := range []struct {
		name, call, body string
		code             devices.Code
		field            string
	}{
		{"malformed", "POST /api/v1/devices", `{"id":`, devices.CodeInvalid, "body"},
		{"empty", "POST /api/v1/users", ``, devices.CodeInvalid, "body"},
		{"two values", "POST /api/v1/users", `{}{}`, devices.CodeInvalid, "body"},
		{"unknown field", "POST /api/v1/devices", `{"id":"b","kinds":["sensor"],"colour":"red"}`, devices.CodeInvalid, "colour"},
		{"unknown field in a list", "POST /api/v1/devices", `[{"id":"b","kinds":["sensor"],"colour":"red"}]`, devices.CodeInvalid, "colour"},
		{"a field in another case", "POST /api/v1/users", `{"username":"x","password":"password","Role":"viewer"}`, devices.CodeInvalid, "Role"},
		{"a device's field in another case", "POST /api/v1/devices", `[{"ID":"b","kinds":["sensor"]}]`, devices.CodeInvalid, "ID"},
		{"one device too large", "POST /api/v1/devices", `{"id":"b","kinds":["sensor"],"notes":"` + strings.Repeat("x", 70000) + `"}`, devices.CodeTooLarge, ""},
		{"nested unknown field", "PATCH /api/v1/devices/a", `{"light":{"modes":["rgb"],"x":1}}`, devices.CodeInvalid, "light.x"},
		{"wrong type", "POST /api/v1/devices", `{"id":5,"kinds":["sensor"]}`, devices.CodeInvalid, "id"},
		{"wrong type in a patch", "PATCH /api/v1/devices/a", `{"labels":{"a":5}}`, devices.CodeInvalid, ""},
		{"wrong type of a patched field", "PATCH /api/v1/devices/a", `{"sleepy":"yes"}`, devices.CodeInvalid, "sleepy"},
		{"null where a value must be", "PATCH /api/v1/devices/a", `{"enabled":null}`, devices.CodeInvalid, "enabled"},
		{"a field that is not changed", "PATCH /api/v1/devices/a", `{"kinds":["light"]}`, devices.CodeInvalid, "kinds"},
		{"an array for an object", "PATCH /api/v1/devices/a", `[]`, devices.CodeInvalid, ""},
		{"bad id", "POST /api/v1/devices", `{"id":"A_","kinds":["sensor"]}`, devices.CodeInvalid, "id"},
		{"bad kind", "POST /api/v1/devices", `{"id":"b","kinds":["toaster"]}`, devices.CodeInvalid, "kinds"},
		{"config no object", "PATCH /api/v1/devices/a", `{"config":[1]}`, devices.CodeInvalid, "config"},
		{"out of range", "PATCH /api/v1/devices/a", `{"lat":91}`, devices.CodeRange, "lat"},
		{"too large", "PATCH /api/v1/devices/a", big, devices.CodeTooLarge, ""},
		{"unknown parameter", "GET /api/v1/devices?lable=a:b", "", devices.CodeInvalid, "lable"},
		{"parameter twice", "GET /api/v1/devices?sort=id&sort=name", "", devices.CodeInvalid, "sort"},
		{"limit 0", "GET /api/v1/devices?limit=0", "", devices.CodeRange, "limit"},
		{"limit text", "GET /api/v1/devices?limit=x", "", devices.CodeInvalid, "limit"},
		{"another list's cursor", "GET /api/v1/devices?cursor=dXNlcnMAYQ", "", devices.CodeInvalid, "cursor"},
		{"noise for a cursor", "GET /api/v1/devices?cursor=***", "", devices.CodeInvalid, "cursor"},
		{"bad order", "GET /api/v1/devices?sort=area", "", devices.CodeInvalid, "sort"},
		{"the opposite order's cursor", "GET /api/v1/devices?sort=-id&cursor=ZGV2aWNlcy5pZABh", "", devices.CodeInvalid, "cursor"},
		{"bad status", "GET /api/v1/devices?status=up", "", devices.CodeInvalid, "status"},
		{"bad search", "GET /api/v1/devices?q=temperature%3E%3Ex", "", devices.CodeInvalid, ""},
		{"bad label", "GET /api/v1/devices?label=x", "", devices.CodeInvalid, "label"},
		{"bad time", "GET /api/v1/devices/a/series?metric=temperature&from=yesterday", "", devices.CodeInvalid, "from"},
		{"from after to", "GET /api/v1/devices/a/series?metric=temperature&from=2000&to=1000", "", devices.CodeInvalid, "from"},
		{"bad metric", "GET /api/v1/devices/a/series?metric=T", "", devices.CodeInvalid, "metric"},
		{"bad format", "GET /api/v1/devices/a/export?format=xlsx", "", devices.CodeInvalid, "format"},
		{"bad scope", "POST /api/v1/users", `{"username":"x","password":"password","role":"viewer","scope":"kitchen"}`, devices.CodeInvalid, "scope"},
		{"bad right", "POST /api/v1/apitokens", `{"name":"x","rights":["fly"]}`, devices.CodeInvalid, "rights"},
		{"bad mode", "POST /api/v1/devices/a/tokens", `{"mode":"steal"}`, devices.CodeInvalid, "mode"},
		{"negative ttl", "POST /api/v1/devices/a/tokens", `{"ttl_s":-1}`, devices.CodeRange, "ttl_s"},
		{"unknown route", "GET /api/v1/toasters", "", devices.CodeNotFound, ""},
		{"unknown device", "GET /api/v1/devices/ghost", "", devices.CodeNotFound, ""},
		{"no device id", "GET /api/v1/devices/A%20B", "", devices.CodeNotFound, ""},
	} {
		method, path, _ := strings.Cut(tt.call, " ")
		var body any
		if method != "GET" {
			body = tt.body
		}
		res := r.do(method, path, r.admin, body)
		if res.code() != tt.code || res.status != devices.Refuse(tt.code, "").HTTPStatus() || tt.field != "" && res.field("details.field") != tt.field {
			t.Errorf("%s: got %d %s, want %s about %q", tt.name, res.status, res.body, tt.code, tt.field)
		}
	}
	res := r.do("PUT", "/api/v1/devices/a", r.admin, `{}`)
	if res.status != 405 || res.header.Get("Allow") != "GET, HEAD, PATCH, DELETE, OPTIONS" {
		t.Errorf("a method that is not: got %d %s %v", res.status, res.body, res.header)
	}
}

func TestCreateManyIsAllOrNone(t *testing.T) {
	r := newRig(t, true)
	r.device(`{"id":"taken","kinds":["sensor"]}`)
	r.wantCode(r.do("POST", "/api/v1/devices", r.admin, `[{"id":"a","kinds":["sensor"]},{"id":"taken","kinds":["sensor"]}]`), devices.CodeConflict)
	r.wantCode(r.get("/api/v1/devices/a", r.admin), devices.CodeNotFound)
	list := make([]map[string]any, 1000) // more than the body of other calls may hold
	for i := range list {
		list[i] = map[string]any{"id": fmt.Sprintf("many-%d", i), "kinds": []string{"sensor"}, "name": "one of many devices made at once, so that the body is large"}
	}
	var made struct {
		Devices []struct {
			Device struct{ ID devices.ID }
			Token  string
		}
	}
	r.into(r.do("POST", "/api/v1/devices", r.admin, list), 201, &made)
	if len(made.Devices) != 1000 || made.Devices[7].Device.ID != "many-7" {
		t.Fatalf("got %d devices", len(made.Devices))
	}
	if _, err := r.ident.From("").VerifyDevice("many-7", made.Devices[7].Token); err != nil {
		t.Error(err)
	}
}

func TestListsAreFilteredSortedAndPaged(t *testing.T) {
	r := newRig(t, false)
	for i, d := range []string{
		`{"id":"c","kinds":["sensor"],"name":"Alpha","area":"kitchen","labels":{"floor":"1"}}`,
		`{"id":"a","kinds":["light"],"name":"beta","area":"hall","labels":{"floor":"1"}}`,
		`{"id":"b","kinds":["sensor","light"],"name":"Gamma","area":"kitchen","labels":{"floor":"2"}}`,
		`{"id":"d","kinds":["sensor"],"name":"alpha","area":"attic"}`,
	} {
		token := r.device(d)
		if i == 0 {
			r.into(r.do("POST", "/api/v1/devices/c/readings", token, `{"r":[["temperature",21.5]]}`), 200, nil)
		}
	}
	kitchen := r.user("op", "operator", "area=kitchen")
	all := func(query, token string) (ids string, total float64) {
		t.Helper()
		cursor := ""
		for range 10 {
			res := r.get("/api/v1/devices?limit=1&"+query+"&cursor="+cursor, token)
			var page struct {
				Devices []struct{ ID string }
				Next    string `json:"next_cursor"`
				Total   float64
			}
			r.into(res, 200, &page)
			for _, d := range page.Devices {
				ids += d.ID
			}
			if total, cursor = page.Total, page.Next; cursor == "" {
				return ids, total
			}
		}
		t.Fatalf("%s has no end: %s", query, ids)
		return
	}
	for _, tt := range []struct {
		query, token, want string
	}{
		{"", r.admin, "abcd"}, {"sort=id", r.admin, "abcd"}, {"sort=name", r.admin, "cdab"}, {"sort=-last", r.admin, "cabd"}, {"sort=status", r.admin, "abdc"},
		{"sort=-id", r.admin, "dcba"}, {"sort=-name", r.admin, "badc"}, {"sort=last", r.admin, "dbac"}, {"sort=-status", r.admin, "cdba"}, {"sort=-name", kitchen, "bc"},
		{"kind=light", r.admin, "ab"}, {"label=floor:1", r.admin, "ac"}, {"label=floor:1&label=x:y", r.admin, ""}, {"status=never_seen", r.admin, "abd"}, {"status=data_only", r.admin, "c"},
		{"q=area:kitchen", r.admin, "bc"}, {"q=temperature%3E20", r.admin, "c"}, {"q=status:never_seen+kind:light", r.admin, "ab"}, {"q=alpha&kind=sensor", r.admin, "cd"}, {"", kitchen, "bc"}, {"label=floor:1", kitchen, "c"},
	} {
		if got, total := all(tt.query, tt.token); got != tt.want || total != float64(len(tt.want)) {
			t.Errorf("%s: got %s of %v, want %s", tt.query, got, total, tt.want)
		}
	}
	res := r.get("/api/v1/devices?limit=10&sort=name", r.admin)
	if got := res.field("devices").([]any)[0].(map[string]any)["latest"].(map[string]any)["temperature"].(map[string]any)["v"]; got != 21.5 {
		t.Errorf("latest in a list: got %v", got)
	}
	r.device(`{"id":"e","kinds":["sensor"],"name":"aa"}`)
	if got, _ := all("sort=name", r.admin); got != "ecdab" {
		t.Errorf("a new device is not in its place: %s", got)
	}
}

// A page of very many devices comes in milliseconds.
func TestManyDevicesAreListedFast(t *testing.T) {
	r := newRig(t, false)
	n := 20_000
	if os.Getenv("DEVICEHUB_SOAK") != "" {
		n = 100_000
	}
	ds := make([]*devices.Device, n)
	for i := range ds {
		ds[i] = &devices.Device{ID: devices.ID(fmt.Sprintf("d-%06d", i)), Name: fmt.Sprintf("Device %d", n-i), Kinds: []devices.Kind{devices.KindSensor}, Area: fmt.Sprintf("a%d", i%10), Enabled: true}
	}
	if err := r.reg.Create(t.Context(), time.Now(), ds...); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"", "sort=name", "label=x:y", "kind=sensor&q=area:a7", "q=device+77", "status=never_seen", "sort=-last"} {
		r.get("/api/v1/devices?"+query, r.admin) // the first sorts
		var took []time.Duration
		for range 5 {
			start := time.Now()
			if res := r.get("/api/v1/devices?"+query, r.admin); res.status != 200 {
				t.Fatalf("got %d %s", res.status, res.body)
			}
			took = append(took, time.Since(start))
		}
		slices.Sort(took)
		t.Logf("%d devices, %q: %v", n, query, took[2])
		if took[0] > 2*time.Second {
			t.Errorf("%q took %v", query, took[0])
		}
	}
}
