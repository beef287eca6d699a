package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"devicehub/devices"
)

// Bodies that are not what a call takes are refused, and nothing happens.
func TestBodiesThatAreNotTaken(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"]}`)
	r.into(r.do("POST", "/api/v1/devices/a/readings", token, `{"r":[["temperature",21.5]]}`), 200, nil)
	for _, tt := range []struct{ name, call, body, field string }{
		{"null for a device", "POST /api/v1/devices", "null", "body"},
		{"null for a user", "POST /api/v1/users", " null\n", "body"},
		{"null for a patch", "PATCH /api/v1/devices/a", "null", "body"},
		{"null for a command", "POST /api/v1/devices/a/commands", "null", "body"},
		{"null where a body may be absent", "POST /api/v1/devices/a/tokens", "null", "body"},
		{"an empty list", "POST /api/v1/devices", "[]", "body"},
		{"a list of null", "POST /api/v1/devices", "[null]", "body"},
		{"more behind it", "PATCH /api/v1/devices/a", `{"name":"x"} {"area":"y"}`, "body"},
		{"more behind a list", "POST /api/v1/devices", `[{"id":"b","kinds":["sensor"]}] x`, "body"},
		{"no UTF-8", "PATCH /api/v1/devices/a", "{\"name\":\"\xff\"}", "body"},
		{"a body with DELETE", "DELETE /api/v1/devices/a", `{"keep_readings":true}`, "keep_readings"},
		{"a list with DELETE", "DELETE /api/v1/devices/a", `[]`, "body"},
		{"noise with DELETE", "DELETE /api/v1/devices/a", `keep`, "body"},
		{"a body with GET", "GET /api/v1/devices", `{"limit":2}`, "limit"},
		{"a body with an action", "POST /api/v1/keys", `{"kid":"x"}`, "kid"},
		{"a body for an open route", "GET /healthz", `{"x":1}`, "x"},
	} {
		method, path, _ := strings.Cut(tt.call, " ")
		res := r.do(method, path, r.admin, tt.body)
		if res.status != 422 || res.code() != devices.CodeInvalid || res.field("details.field") != tt.field {
			t.Errorf("%s: got %d %s, want invalid about %q", tt.name, res.status, res.body, tt.field)
		}
	}
	if got := r.get("/api/v1/devices/a/latest", r.admin); got.field("metrics.temperature.v") != 21.5 {
		t.Errorf("what was measured: got %d %s", got.status, got.body)
	}
	for _, tt := range []struct {
		call string
		want int
	}{{"POST /api/v1/keys", 201}, {"POST /api/v1/devices/a/tokens", 201}, {"GET /api/v1/devices", 200}, {"DELETE /api/v1/devices/a", 204}} {
		method, path, _ := strings.Cut(tt.call, " ")
		if got := r.do(method, path, r.admin, "{}"); got.status != tt.want {
			t.Errorf("%s with an empty object: got %d %s, want %d", tt.call, got.status, got.body, tt.want)
		}
	}
}

func TestContentTypes(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"a","kinds":["sensor"]}`)
	for _, tt := range []struct {
		method, kind, body string
		status             int
		accept             string // the header that says what would be taken
	}{
		{"PATCH", "", `{}`, 200, ""},
		{"PATCH", "application/json", `{}`, 200, ""},
		{"PATCH", "Application/JSON; Charset=UTF-8", `{}`, 200, ""},
		{"PATCH", "application/merge-patch+json", `{}`, 200, ""},
		{"PATCH", "application/x-www-form-urlencoded", ` {}`, 200, ""}, // curl -d
		{"PATCH", "application/x-www-form-urlencoded", `null`, 422, ""},
		{"PATCH", "application/x-www-form-urlencoded", `{"name":`, 422, ""},
		{"PATCH", "application/x-www-form-urlencoded", `name=x`, 415, "Accept-Patch"},
		{"PATCH", "application/json-patch+json", `[{"op":"remove","path":"/name"}]`, 415, "Accept-Patch"},
		{"PATCH", "application/json; charset=iso-8859-1", `{}`, 415, "Accept-Patch"},
		{"PATCH", "text/plain", `{}`, 415, "Accept-Patch"},
		{"PATCH", "nonsense;", `{}`, 415, "Accept-Patch"},
		{"POST", "application/merge-patch+json", `{"mode":"issue"}`, 415, "Accept-Post"},
		{"POST", "application/json", `{"mode":"issue"}`, 201, ""},
		{"POST", "text/plain", ``, 201, ""}, // there is nothing that it could be about
	} {
		path := "/api/v1/devices/a"
		if tt.method == "POST" {
			path += "/tokens"
		}
		res := r.do(tt.method, path, r.admin, tt.body, func(q *http.Request) {
			if tt.kind != "" {
				q.Header.Set("Content-Type", tt.kind)
			}
		})
		if res.status != tt.status || tt.status == 415 && (res.code() != devices.CodeInvalid || res.field("details.field") != "Content-Type" || res.header.Get(tt.accept) == "") {
			t.Errorf("%s %q %q: got %d %s %v, want %d", tt.method, tt.kind, tt.body, res.status, res.body, res.header, tt.status)
		}
	}
	// A shadow's patch has an envelope, and is no merge patch of the shadow.
	shadow := r.do("PATCH", "/api/v1/devices/a/shadow", r.admin, `{"desired":{"on":true}}`, header("Content-Type", "application/merge-patch+json"))
	if shadow.status != 415 || shadow.header.Get("Accept-Patch") != "application/json" {
		t.Errorf("a merge patch of a shadow: got %d %s %v", shadow.status, shadow.body, shadow.header)
	}
	zipped := r.do("PATCH", "/api/v1/devices/a", r.admin, "\x1f\x8b\x08", header("Content-Encoding", "gzip"))
	if zipped.status != 415 || zipped.field("details.field") != "Content-Encoding" || zipped.header.Get("Accept-Encoding") != "identity" {
		t.Errorf("gzip: got %d %s %v", zipped.status, zipped.body, zipped.header)
	}
	if got := r.do("PATCH", "/api/v1/devices/a", r.admin, "{}", header("Content-Encoding", "identity")); got.status != 200 {
		t.Errorf("identity: got %d %s", got.status, got.body)
	}
}
