package dashboard

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

var app = fstest.MapFS{
	"index.html":         {Data: []byte("<!doctype html><title>devicehub</title>" + strings.Repeat(" ", 400))},
	"icon.svg":           {Data: []byte("<svg/>")},
	"assets/index-1a.js": {Data: []byte(strings.Repeat("export {};\n", 100))},
}

func get(t *testing.T, h http.Handler, method, target string, header map[string]string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestServesApplication(t *testing.T) {
	h := newHandler(app)
	if !h.Built() {
		t.Fatal("an application with an index.html does not count as built")
	}
	for _, c := range []struct {
		name, method, path string
		status             int
		contentType, cache string
	}{
		{"home", "GET", "/", 200, "text/html; charset=utf-8", "no-cache"},
		{"deep link", "GET", "/devices/kitchen-lamp", 200, "text/html; charset=utf-8", "no-cache"},
		{"head", "HEAD", "/admin/audit", 200, "text/html; charset=utf-8", "no-cache"},
		{"named for its content", "GET", "/assets/index-1a.js", 200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		{"icon", "GET", "/icon.svg", 200, "image/svg+xml", "no-cache"},
		{"asset of an older build", "GET", "/assets/index-00.js", 404, "", ""},
		{"missing file", "GET", "/robots.txt", 404, "", ""},
		{"unknown route of the API", "GET", "/api/v1/nothing", 404, "", ""},
		{"socket", "GET", "/socket", 404, "", ""},
		{"out of the folder", "GET", "/../../etc/passwd.txt", 404, "", ""},
		{"writing", "POST", "/", 405, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := get(t, h, c.method, c.path, nil)
			if res.StatusCode != c.status {
				t.Fatalf("%s %s: got %d, want %d", c.method, c.path, res.StatusCode, c.status)
			}
			if got := res.Header.Get("Content-Security-Policy"); got != ContentSecurityPolicy {
				t.Errorf("Content-Security-Policy: got %q", got)
			}
			if got := res.Header.Get("Permissions-Policy"); !strings.Contains(got, "camera=()") {
				t.Errorf("Permissions-Policy: got %q", got)
			}
			if c.status != 200 {
				return
			}
			if got := res.Header.Get("Content-Type"); got != c.contentType {
				t.Errorf("Content-Type: got %q, want %q", got, c.contentType)
			}
			if got := res.Header.Get("Cache-Control"); got != c.cache {
				t.Errorf("Cache-Control: got %q, want %q", got, c.cache)
			}
			if b := body(t, res); c.method == "HEAD" && b != "" {
				t.Errorf("HEAD has a body of %d bytes", len(b))
			}
		})
	}
}

func TestCompresses(t *testing.T) {
	h := newHandler(app)
	plain := string(app["assets/index-1a.js"].Data)
	for accept, want := range map[string]string{"": "", "gzip": "gzip", "br, gzip;q=0.8": "gzip", "gzip;q=0": "", "gzip; q=0.0, br": "", "br": "", "*": "gzip"} {
		res := get(t, h, "GET", "/assets/index-1a.js", map[string]string{"Accept-Encoding": accept})
		if got := res.Header.Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: got coding %q, want %q", accept, got, want)
			continue
		}
		var r io.Reader = res.Body
		if want == "gzip" {
			zr, err := gzip.NewReader(r)
			if err != nil {
				t.Fatal(err)
			}
			r = zr
		}
		b, err := io.ReadAll(r)
		if err != nil || string(b) != plain {
			t.Errorf("Accept-Encoding %q: got %d bytes, %v, want the file", accept, len(b), err)
		}
	}
}

func TestNotModified(t *testing.T) {
	h := newHandler(app)
	etag := get(t, h, "GET", "/", nil).Header.Get("ETag")
	for header, want := range map[string]int{etag: 304, "W/" + etag: 304, `"old", ` + etag: 304, "*": 304, `"old"`: 200, "": 200} {
		if got := get(t, h, "GET", "/devices", map[string]string{"If-None-Match": header}).StatusCode; got != want {
			t.Errorf("If-None-Match %s: got %d, want %d", header, got, want)
		}
	}
}

// Two representations of a file never share a tag.
func TestTagsAreOfTheCoding(t *testing.T) {
	h := newHandler(app)
	ask := func(coding, none string) *http.Response {
		return get(t, h, "GET", "/assets/index-1a.js", map[string]string{"Accept-Encoding": coding, "If-None-Match": none})
	}
	plain, zipped := ask("", "").Header.Get("ETag"), ask("gzip", "").Header.Get("ETag")
	if plain == zipped || plain == "" || zipped == "" {
		t.Errorf("got %s plain and %s compressed", plain, zipped)
	}
	if res := ask("gzip", zipped); res.StatusCode != 304 || res.Header.Get("ETag") != zipped || res.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("compressed and known: got %d %v", res.StatusCode, res.Header)
	}
	if res := ask("", zipped); res.StatusCode != 200 {
		t.Errorf("plain, where the compressed is known: got %d", res.StatusCode)
	}
}

func TestUnbuiltSaysHowToBuild(t *testing.T) {
	h := newHandler(fstest.MapFS{})
	if h.Built() {
		t.Fatal("an empty folder counts as built")
	}
	for _, p := range []string{"/", "/devices/kitchen-lamp"} {
		res := get(t, h, "GET", p, nil)
		if res.StatusCode != http.StatusOK || !strings.Contains(body(t, res), "make build") {
			t.Errorf("GET %s: got %d, want 200 and a page that names make build", p, res.StatusCode)
		}
	}
}

// TestEmbedded holds for either state of the folder: a plain checkout and a
// built one.
func TestEmbedded(t *testing.T) {
	h := New()
	b := body(t, get(t, h, "GET", "/", nil))
	if h.Built() && !strings.Contains(b, `<div id="app">`) {
		t.Errorf("the embedded application has no root element: %q", b)
	}
	if !h.Built() && !strings.Contains(b, "make build") {
		t.Errorf("the page of an unbuilt dashboard does not say how to build it: %q", b)
	}
	if strings.Contains(b, "<style") || strings.Contains(b, " style=") || strings.Contains(b, "<script>") {
		t.Error("the page carries inline code, which its own policy forbids")
	}
}
