package httpapi_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// keysOf are the names of an object's fields.
func keysOf(v any) []string {
	m, _ := v.(map[string]any)
	return slices.Sorted(maps.Keys(m))
}

func TestFieldsCanBeChosen(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"lamp","kinds":["light"],"name":"Lamp","config":{"wifi":"s3cret"},"notes":"n"}`)
	r.into(r.do("POST", "/api/v1/devices/lamp/readings", token, `{"r":[["temperature",21.5]]}`), 200, nil)
	r.connect(token, false)
	r.into(r.do("POST", "/api/v1/devices/lamp/commands", r.admin, `{"op":"identify"}`), 202, nil)
	cmd := r.get("/api/v1/devices/lamp/commands", r.admin).field("commands").([]any)[0].(map[string]any)["cmd_id"].(string)
	r.service("ha", "read", "")
	for _, tt := range []struct{ path, list, fields, want string }{
		{"/api/v1/devices", "devices", "name,id", "id name"},
		{"/api/v1/devices", "devices", "latest", "latest"},
		{"/api/v1/devices", "devices", "id,area", "id"}, // it has none
		{"/api/v1/devices/lamp", "", "ver,labels,ver", "labels ver"},
		{"/api/v1/devices/lamp", "", "status,latest,gaps", "latest status"},
		{"/api/v1/devices/lamp/events", "events", "at,to", "at to"},
		{"/api/v1/devices/lamp/commands", "commands", "status", "status"},
		{"/api/v1/commands", "commands", "device,op", "device op"},
		{"/api/v1/devices/lamp/commands/" + cmd, "", "by", "by"},
		{"/api/v1/devices/lamp/shadow", "", "ver,delta", "delta ver"},
		{"/api/v1/users", "users", "role", "role"},
		{"/api/v1/users/admin", "", "name,scope", "name scope"},
		{"/api/v1/apitokens", "apitokens", "rights", "rights"},
		{"/api/v1/apitokens/ha", "", "last4", "last4"},
		{"/api/v1/keys", "keys", "kid,state", "kid state"},
		{"/api/v1/sessions", "sessions", "user", "user"},
		{"/api/v1/audit", "entries", "action", "action"},
	} {
		res := r.get(tt.path+"?fields="+tt.fields, r.admin)
		var doc any
		if err := json.Unmarshal(res.body, &doc); err != nil || res.status != 200 {
			t.Errorf("%s: got %d %s", tt.path, res.status, res.body)
			continue
		}
		if tt.list != "" {
			whole := doc.(map[string]any)
			if tt.list != "keys" && whole["next_cursor"] == nil {
				t.Errorf("%s: got %s, want the list's own fields to stay", tt.path, res.body)
			}
			doc = whole[tt.list].([]any)[0]
		}
		if got := strings.Join(keysOf(doc), " "); got != tt.want {
			t.Errorf("%s?fields=%s: got %s, want %s", tt.path, tt.fields, got, tt.want)
		}
	}
	for _, path := range []string{"/api/v1/devices?fields=nmae", "/api/v1/devices?fields=id,", "/api/v1/devices?fields=", "/api/v1/devices/lamp?fields=ID", "/api/v1/users?fields=password", "/api/v1/devices?fields=id&fields=name"} {
		if res := r.get(path, r.admin); res.status != 422 || res.field("details.field") != "fields" {
			t.Errorf("%s: got %d %s, want invalid about fields", path, res.status, res.body)
		}
	}
	if res := r.get("/api/v1/devices/lamp?fields=config,notes,id", r.user("vi", "viewer", "")); string(res.body) != `{"id":"lamp"}`+"\n" {
		t.Errorf("a viewer chose %s", res.body)
	}
}

// The tag is that of the record without what changes all the time, where only that
// was asked for.
func TestTagsOfChosenFields(t *testing.T) {
	r := newRig(t, false)
	token := r.device(`{"id":"lamp","kinds":["light"]}`)
	r.into(r.do("POST", "/api/v1/devices/lamp/readings", token, `{"r":[["temperature",21.5]]}`), 200, nil)
	const path = "/api/v1/devices/lamp?fields=id,name,labels"
	tag := r.get(path, r.admin).header.Get("ETag")
	r.into(r.do("POST", "/api/v1/devices/lamp/readings", token, `{"r":[["temperature",22]]}`), 200, nil)
	known := func() int {
		return r.do("GET", path, r.admin, nil, func(q *http.Request) { q.Header.Set("If-None-Match", tag) }).status
	}
	if got := known(); got != 304 {
		t.Errorf("after a reading: got %d, want 304", got)
	}
	if res := r.do("PATCH", "/api/v1/devices/lamp", r.admin, `{"name":"Lamp"}`, header("If-Match", tag)); res.status != 200 {
		t.Errorf("If-Match with its tag: got %d %s", res.status, res.body)
	}
	if got := known(); got != 200 {
		t.Errorf("after an edit: got %d, want 200", got)
	}
}
