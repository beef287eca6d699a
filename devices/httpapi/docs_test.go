package httpapi_test

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"devicehub/devices/httpapi"
)

// The page for people has every operation and every shape of the document, links only to what
// is there, and needs nothing that the hub's policy forbids.
func TestDocs(t *testing.T) {
	r := newRig(t, false)
	docs := httpapi.Headers(httpapi.Docs())
	get := func(path string) (int, string, string) {
		w := httptest.NewRecorder()
		docs.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Header().Get("Content-Type"), w.Body.String()
	}
	status, kind, page := get("/docs")
	if status != 200 || kind != "text/html; charset=utf-8" {
		t.Fatalf("got %d %s", status, kind)
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]] {
			t.Errorf("the id %s is there twice", m[1])
		}
		ids[m[1]] = true
	}
	for _, item := range r.doc["paths"].(map[string]any) {
		for _, op := range item.(map[string]any) {
			if id := op.(map[string]any)["operationId"].(string); !ids[id] {
				t.Errorf("the page lacks %s", id)
			}
		}
	}
	for name := range r.doc["components"].(map[string]any)["schemas"].(map[string]any) {
		if !ids["schema-"+name] {
			t.Errorf("the page lacks the shape %s", name)
		}
	}
	for _, m := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !ids[m[1]] {
			t.Errorf("#%s leads nowhere", m[1])
		}
	}
	for _, forbidden := range []string{"<script", "<style", " style=", "http://", "https://", " onclick", "<no value>", "ZgotmplZ"} {
		if i := strings.Index(page, forbidden); i >= 0 {
			t.Errorf("the page has %q: %s", forbidden, page[max(0, i-60):min(len(page), i+60)])
		}
	}
	if status, kind, _ := get("/docs/style.css"); status != 200 || kind != "text/css; charset=utf-8" {
		t.Errorf("the style sheet: got %d %s", status, kind)
	}
}
