package httpapi_test

import (
	"strings"
	"testing"

	"devicehub/devices"
)

// A query of which a part is not understood does nothing: least of all may a
// deletion do more than was asked for.
func TestQueriesThatDoNotParse(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"a","kinds":["sensor"]}`)
	r.into(r.do("POST", "/api/v1/devices/a/readings", token, `{"r":[["temperature",21.5]]}`), 200, nil)
	for _, tt := range []struct{ name, call, field string }{
		{"a semicolon", "GET /api/v1/devices?limit=2;x=1", "limit"},
		{"a semicolon alone", "GET /api/v1/devices?;", ";"},
		{"a broken escape", "GET /api/v1/devices?limit=%zz", "limit"},
		{"a broken escape in a name", "GET /api/v1/devices?li%mit=2", "li%mit"},
		{"no UTF-8", "GET /api/v1/devices?q=%ff", "q"},
		{"a number without a value", "GET /api/v1/devices?limit=", "limit"},
		{"a choice without a value", "GET /api/v1/devices?kind=", "kind"},
		{"a label without a value", "GET /api/v1/devices?label=", "label"},
		{"a time without a value", "GET /api/v1/devices/a/export?from=", "from"},
		{"no devices", "GET /api/v1/series?metric=temperature&ids=", "ids"},
		{"a name without a value", "GET /api/v1/devices/a/export?metric", "metric"},
		{"one value twice", "GET /api/v1/devices/a/export?metric=x&metric=y", "metric"},
		{"the same value twice", "GET /api/v1/devices?limit=2&limit=2", "limit"},
		{"two values of one label", "GET /api/v1/devices?label=floor:1&label=floor:2", "label"},
		{"an unknown name", "GET /healthz?x=1", "x"},
		{"an empty name", "GET /api/v1/devices?=1", ""},
		{"delete: a semicolon", "DELETE /api/v1/devices/a?keep_readings=true;x=1", "keep_readings"},
		{"delete: a broken escape", "DELETE /api/v1/devices/a?keep_readings=%zz", "keep_readings"},
		{"delete: no value", "DELETE /api/v1/devices/a?keep_readings", "keep_readings"},
		{"delete: an empty value", "DELETE /api/v1/devices/a?keep_readings=", "keep_readings"},
		{"delete: neither true nor false", "DELETE /api/v1/devices/a?keep_readings=yes", "keep_readings"},
		{"delete: twice", "DELETE /api/v1/devices/a?keep_readings=true&keep_readings=true", "keep_readings"},
		{"delete: a name misspelt", "DELETE /api/v1/devices/a?keep-readings=true", "keep-readings"},
		{"delete: a parameter of another call", "DELETE /api/v1/users/admin?keep_readings=true", "keep_readings"},
	} {
		method, path, _ := strings.Cut(tt.call, " ")
		res := r.do(method, path, r.admin, nil)
		if res.status != 422 || res.code() != devices.CodeInvalid || res.field("details.field") != tt.field {
			t.Errorf("%s: got %d %s, want invalid about %q", tt.name, res.status, res.body, tt.field)
		}
	}
	if got := r.get("/api/v1/devices/a/latest", r.admin); got.field("metrics.temperature.v") != 21.5 {
		t.Errorf("what was measured: got %d %s", got.status, got.body)
	}
	for _, query := range []string{"?q=&cursor=", "?&limit=2&", "?q=a%3Bb", "?label=a:b&label=c:d", "?q=a+b"} {
		if got := r.get("/api/v1/devices"+query, r.admin); got.status != 200 {
			t.Errorf("%s: got %d %s, want 200", query, got.status, got.body)
		}
	}
}

// Every call of the document keeps the rules that hold for all, those that come
// later, too.
func TestEveryCallKeepsTheRules(t *testing.T) {
	r := newRig(t, false)
	r.makeRecords()
	named := strings.NewReplacer("{id}", "lamp", "{name}", "ana", "{cmd_id}", "x", "{kid}", "x", "{sid}", "x")
	for template, item := range r.doc["paths"].(map[string]any) {
		path := named.Replace(template)
		for method, op := range item.(map[string]any) {
			op := op.(map[string]any)
			call := strings.ToUpper(method) + " " + template
			params := map[string]bool{}
			for _, p := range orNone(op["parameters"]) {
				params[p.(map[string]any)["name"].(string)] = true
			}
			for _, query := range []string{"?unknown=1", "?limit=%zz", "?limit=1;x=2", "?cursor=a&cursor=b", "?cursor=%ff"} {
				if res := r.do(strings.ToUpper(method), path+query, r.admin, nil); res.status != 422 || res.code() != devices.CodeInvalid {
					t.Errorf("%s with %s: got %d %s, want invalid", call, query, res.status, res.body)
				}
			}
			if op["requestBody"] == nil {
				if res := r.do(strings.ToUpper(method), path, r.admin, `{"keep_readings":true}`); res.status != 422 || res.field("details.field") != "keep_readings" {
					t.Errorf("%s with a body: got %d %s, want invalid", call, res.status, res.body)
				}
			} else if res := r.do(strings.ToUpper(method), path, r.admin, `{}`, header("Content-Type", "text/plain")); res.status != 415 && res.status != 403 {
				t.Errorf("%s with text: got %d %s, want 415", call, res.status, res.body)
			}
			_, makes := op["responses"].(map[string]any)["201"]
			switch {
			case method == "get" && params["cursor"] && !params["fields"]:
				t.Errorf("%s is a list and takes no fields", call)
			case makes && !params["Idempotency-Key"]:
				t.Errorf("%s makes something and takes no key", call)
			case method != "get" && !params["If-Match"]:
				if res := r.do(strings.ToUpper(method), path, r.admin, orBody(op), header("If-Match", `"1"`)); res.status != 412 {
					t.Errorf("%s with If-Match: got %d %s, want 412", call, res.status, res.body)
				}
			}
		}
	}
	for _, rec := range records {
		if res := r.get(rec.path, r.admin); res.status != 200 || res.field("ver") != 1.0 {
			t.Errorf("%s: got %d %s, want it untouched", rec.path, res.status, res.body)
		}
	}
}

func orNone(v any) []any {
	list, _ := v.([]any)
	return list
}

// orBody is a body for a call that takes one.
func orBody(op map[string]any) any {
	if op["requestBody"] == nil {
		return nil
	}
	return "{}"
}
