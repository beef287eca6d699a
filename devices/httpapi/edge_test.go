package httpapi_test

import (
	"net/http"
	"strings"
	"testing"

	"devicehub/devices"
)

func TestOptionsSaysWhatThereIs(t *testing.T) {
	r := newRig(t, false, func(r *rig) { r.cfg.Origins.Allowed = []string{"https://panel.example"} })
	for path, want := range map[string]string{"/api/v1/devices": "GET, HEAD, POST, OPTIONS", "/api/v1/devices/x": "GET, HEAD, PATCH, DELETE, OPTIONS", "/api/v1/keys/x": "DELETE, OPTIONS", "/healthz": "GET, HEAD, OPTIONS"} {
		res := r.do("OPTIONS", path, "", nil)
		if res.status != 204 || res.header.Get("Allow") != want || len(res.body) > 0 || (res.header.Get("Accept-Patch") != "") != strings.Contains(want, "PATCH") {
			t.Errorf("%s: got %d %s %v, want 204 and %s", path, res.status, res.body, res.header, want)
		}
		if res := r.do("PUT", path, r.admin, `{}`); res.status != 405 || res.code() != devices.CodeInvalid || res.header.Get("Allow") != want {
			t.Errorf("PUT %s: got %d %s %v", path, res.status, res.body, res.header)
		}
	}
	for origin, want := range map[string]int{"http://example.com": 204, "https://panel.example": 204, "https://evil.example": 403} {
		if res := r.do("OPTIONS", "/api/v1/devices", "", nil, header("Origin", origin)); res.status != want {
			t.Errorf("from %s: got %d %s, want %d", origin, res.status, res.body, want)
		}
	}
	r.wantCode(r.do("OPTIONS", "/api/v1/toasters", "", nil), devices.CodeNotFound)
}

// A path that is not in its shortest form is no route: a redirect would turn a
// POST into something else, and answer a program with a page.
func TestPathsAreTakenAsTheyAre(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"a","kinds":["sensor"]}`)
	for _, path := range []string{"//api/v1/devices", "/api//v1/devices", "/api/v1//devices", "/api/v1/devices//a", "/api/v1/./devices", "/api/v1/users/../devices", "/api/v1/devices/", "/api/v1/devices/a/", "/api/v1/devices/..%2fa", "/api"} {
		for _, method := range []string{"GET", "DELETE"} {
			res := r.do(method, "/x", r.admin, nil, func(q *http.Request) { q.URL.Path = path })
			if res.status != 404 || res.code() != devices.CodeNotFound || !strings.HasPrefix(res.header.Get("Content-Type"), "application/json") {
				t.Errorf("%s %s: got %d %s %v", method, path, res.status, res.body, res.header)
			}
		}
	}
}

func TestTwoTokensAreNone(t *testing.T) {
	r := newRig(t, false)
	res := r.do("GET", "/api/v1/devices", "", nil, func(q *http.Request) {
		q.Header["Authorization"] = []string{"Bearer " + r.admin, "Bearer " + r.admin}
	})
	r.wantCode(res, devices.CodeUnauthorized)
}
