package httpapi_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"devicehub/devices"
	"devicehub/devices/httpapi"
	"devicehub/devices/identity"
)

// FuzzBodies: whatever an administrator's program sends, the answer is a
// documented status with a JSON body, and never a fault of the hub.
func FuzzBodies(f *testing.F) {
	f.Add("POST", "devices", `{"id":"a","kinds":["sensor"]}`)
	f.Add("POST", "devices", `[{"id":"b","kinds":["light"],"light":{"modes":["rgb"]}}]`)
	f.Add("PATCH", "devices/lamp", `{"lat":null,"metrics":[{"name":"t","min":1e999}],"config":{"a":[]}}`)
	f.Add("POST", "devices/lamp/tokens", `{"mode":"rotate","ttl_s":1e18,"grace_s":-0}`)
	f.Add("POST", "apitokens", `{"name":"x","rights":["read"],"topics":["#"],"scope":"id in [a"}`)
	f.Add("PATCH", "users/admin", `{"scope":"=","role":null}`)
	f.Add("POST", "login", `{"username":"","password":"`+strings.Repeat("x", 300)+`"}`)
	f.Add("GET", "devices?limit=5&cursor=AA&sort=-last", "")
	f.Add("GET", "audit?from=-1&to=9999999999999999999", "")
	reg, err := devices.OpenRegistry(f.Context(), &devices.MemoryRegistry{})
	if err != nil {
		f.Fatal(err)
	}
	audit := &identity.MemoryAudit{}
	ident, err := identity.Open(f.Context(), &identity.Memory{}, reg, identity.Config{HashMemory: 64, Auditor: audit})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := ident.Prepare(f.Context(), "admin-password"); err != nil {
		f.Fatal(err)
	}
	api := httpapi.New(httpapi.Config{}, httpapi.Services{Registry: reg, Identity: ident, Audit: audit})
	f.Fuzz(func(t *testing.T, method, path, body string) {
		switch method {
		case "GET", "POST", "PATCH", "DELETE":
		default:
			return
		}
		for _, c := range path {
			if c <= ' ' || c > '~' || c == '%' || c == '#' {
				return // not a request line
			}
		}
		req := httptest.NewRequest(method, "/api/v1/"+path, strings.NewReader(body))
		req = req.WithContext(httpapi.WithActor(req.Context(), devices.CLI(), "cli"))
		w := httptest.NewRecorder()
		api.ServeHTTP(w, req)
		if w.Code == 503 {
			if strings.Contains(w.Body.String(), "this hub has no") {
				return // a service that is not here
			}
			t.Errorf("%s %s %q: %d %s", method, path, body, w.Code, w.Body)
		}
		if w.Body.Len() > 0 && w.Code >= 400 {
			var e devices.Error
			if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code == "" || e.Reason == "" {
				t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
	})
}
