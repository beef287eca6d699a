package httpapi_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"devicehub/devices/httpapi"
	"devicehub/devices/readings"
	"devicehub/devices/trace"
)

// overWire makes a request of a server over loopback, whose client does not
// decompress by itself.
func overWire(t *testing.T, h http.Handler, method, path, token string, change ...func(*http.Request)) (*http.Response, []byte, error) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for _, f := range change {
		f(req)
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	t.Cleanup(client.CloseIdleConnections)
	res, err := client.Do(req)
	if err != nil {
		return &http.Response{}, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, b, err
}

func unzipped(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

var gzipped = header("Accept-Encoding", "gzip, deflate, br")

func TestAnswersAreCompressed(t *testing.T) {
	r := newRig(t, false)
	var list []string
	for i := range 200 {
		list = append(list, fmt.Sprintf(`{"id":"d-%d","kinds":["sensor"],"name":"Device %d"}`, i, i))
	}
	r.into(r.do("POST", "/api/v1/devices", r.admin, "["+strings.Join(list, ",")+"]"), 201, nil)
	token := r.device(`{"id":"a","kinds":["sensor"],"notes":"` + strings.Repeat("long ", 300) + `"}`)
	rows := make([]string, 400)
	for i := range rows {
		rows[i] = fmt.Sprintf(`["temperature",21.5,%d]`, i)
	}
	r.into(r.do("POST", "/api/v1/devices/a/readings", token, fmt.Sprintf(`{"t0":%d,"r":[%s]}`, time.Now().UnixMilli()-1000, strings.Join(rows, ","))), 200, nil)
	for _, path := range []string{"/api/v1/devices?limit=200", "/api/v1/devices/a", "/api/v1/devices/a/export", "/api/v1/devices/a/export?format=ndjson", "/api/v1/devices/a/export?format=line", "/api/v1/audit?limit=100", "/api/openapi.json"} {
		res, b, err := overWire(t, r.api, "GET", path, r.admin, gzipped)
		plain, want, _ := overWire(t, r.api, "GET", path, r.admin, header("Accept-Encoding", "identity"))
		if err != nil || res.Header.Get("Content-Encoding") != "gzip" || len(b)*3 > len(want) || res.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: got %v %q of %d bytes in %d, vary %q", path, err, res.Header.Get("Content-Encoding"), len(want), len(b), res.Header.Get("Vary"))
			continue
		}
		if got := unzipped(t, b); len(got)*10 < len(want)*9 || res.Header.Get("Content-Type") != plain.Header.Get("Content-Type") {
			t.Errorf("%s: got %d bytes of %s, want %d", path, len(got), res.Header.Get("Content-Type"), len(want))
		}
		if plain.Header.Get("Content-Encoding") != "" || plain.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s for who takes no gzip: got %v", path, plain.Header)
		}
	}
	for _, q := range []string{"gzip;q=0", "br", "identity"} {
		if res, _, _ := overWire(t, r.api, "GET", "/api/v1/devices?limit=200", r.admin, header("Accept-Encoding", q)); res.Header.Get("Content-Encoding") != "" {
			t.Errorf("Accept-Encoding %q: got %v", q, res.Header)
		}
	}
}

// The tag of a compressed answer is another, and is known again.
func TestTagsOfCompressedAnswers(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"a","kinds":["sensor"],"notes":"` + strings.Repeat("long ", 300) + `"}`)
	for _, path := range []string{"/api/v1/devices/a", "/api/openapi.json"} {
		zipped, _, _ := overWire(t, r.api, "GET", path, r.admin, gzipped)
		plain, _, _ := overWire(t, r.api, "GET", path, r.admin)
		tag := zipped.Header.Get("ETag")
		if !strings.HasSuffix(tag, `-gzip"`) || strings.Replace(tag, "-gzip", "", 1) != plain.Header.Get("ETag") {
			t.Fatalf("%s: got %s compressed and %s plain", path, tag, plain.Header.Get("ETag"))
		}
		again, b, _ := overWire(t, r.api, "GET", path, r.admin, gzipped, header("If-None-Match", tag))
		if again.StatusCode != 304 || len(b) > 0 {
			t.Errorf("%s: got %d %v", path, again.StatusCode, again.Header)
		}
	}
	zipped, _, _ := overWire(t, r.api, "GET", "/api/v1/devices/a", r.admin, gzipped)
	if res := r.do("PATCH", "/api/v1/devices/a", r.admin, `{"name":"x"}`, header("If-Match", zipped.Header.Get("ETag"))); res.status != 200 {
		t.Errorf("If-Match with it: got %d %s", res.status, res.body)
	}
	open, _, _ := overWire(t, r.api, "GET", "/api/openapi.json", "")
	if got := open.Header.Get("Cache-Control"); !strings.Contains(got, "public") {
		t.Errorf("the document may be kept: got %q", got)
	}
}

// What holds a token is never compressed (BREACH), however long it is.
func TestSecretsAreNotCompressed(t *testing.T) {
	r := newRig(t, false)
	var list []string
	for i := range 50 {
		list = append(list, fmt.Sprintf(`{"id":"d-%d","kinds":["sensor"]}`, i))
	}
	for _, tt := range []struct{ call, body string }{
		{"GET /api/v1/me", ""}, {"POST /api/v1/refresh", ""}, {"POST /api/v1/devices", "[" + strings.Join(list, ",") + "]"}, {"POST /api/v1/devices/d-0/tokens", "{}"},
		{"POST /api/v1/apitokens", `{"name":"ha","rights":["read"],"topics":["` + strings.Repeat("t/", 100) + `#"]}`},
	} {
		method, path, _ := strings.Cut(tt.call, " ")
		if res := r.do(method, path, r.admin, tt.body, gzipped); res.status/100 != 2 || res.header.Get("Content-Encoding") != "" || !strings.Contains(string(res.body), "token") {
			t.Errorf("%s: got %d %v", tt.call, res.status, res.header)
		}
	}
}

// A stream is told as it happens, to who takes gzip too.
func TestATraceIsNotHeldBack(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"a","kinds":["sensor"]}`)
	srv := httptest.NewServer(r.api)
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", srv.URL+"/api/v1/devices/a/trace", nil)
	req.Header.Set("Authorization", "Bearer "+r.admin)
	req.Header.Set("Accept-Encoding", "gzip")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r.tracer.Record("a", trace.Line{Event: "reading"}, nil)
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	if err != nil || !strings.Contains(line, "reading") || res.Header.Get("Content-Encoding") != "" {
		t.Errorf("got %q %v %v", line, err, res.Header)
	}
}

// HEAD asks what a trace would be, and follows nothing.
func TestHeadOfATraceEnds(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"a","kinds":["sensor"]}`)
	res, _, err := overWire(t, r.api, "HEAD", "/api/v1/devices/a/trace", r.admin)
	if err != nil || res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/x-ndjson" || r.tracer.Follows("a") {
		t.Errorf("got %v %d %v", err, res.StatusCode, res.Header)
	}
}

// brokenExport says something and then fails.
type brokenExport struct{ httpapi.Readings }

func (brokenExport) Export(_ context.Context, w io.Writer, _ readings.ExportQuery) error {
	_, err := io.CopyN(w, rand.Reader, 200_000) // it does not shrink
	return errors.Join(err, errors.New("disk on fire"))
}

// An answer that breaks off is seen to, compressed or not: half is not taken for
// the whole.
func TestACompressedExportThatBreaksOff(t *testing.T) {
	r := newRig(t, false, func(r *rig) { r.s.Readings = brokenExport{r.s.Readings} })
	r.device(`{"id":"a","kinds":["sensor"]}`)
	for _, coding := range []string{"gzip", "identity"} {
		res, b, err := overWire(t, r.api, "GET", "/api/v1/devices/a/export", r.admin, header("Accept-Encoding", coding))
		if err == nil || res.StatusCode != 200 || len(b) == 0 {
			t.Errorf("%s: got %d with %d bytes and no error", coding, res.StatusCode, len(b))
		}
	}
}

// The document is anybody's: it is compressed once and not for each who asks.
func TestTheDocumentIsCheap(t *testing.T) {
	r := newRig(t, false)
	_, first, _ := overWire(t, r.api, "GET", "/api/openapi.json", "", gzipped)
	_, second, _ := overWire(t, r.api, "GET", "/api/openapi.json", "", gzipped)
	if !bytes.Equal(first, second) || len(first) > 16<<10 || !json.Valid(unzipped(t, first)) {
		t.Errorf("got %d and %d bytes, want the same few", len(first), len(second))
	}
	h := r.api
	req := httptest.NewRequest("GET", "/api/openapi.json", nil)
	req.Header.Set("Accept-Encoding", "gzip")
	if took := testing.AllocsPerRun(100, func() { h.ServeHTTP(discard{http.Header{}}, req) }); took > 60 {
		t.Errorf("an answer takes %.0f allocations", took)
	}
	for q, want := range map[string]string{"": "", "gzip;q=0": "", "*;q=0.5": "gzip", "identity, *;q=0": "", "br, GZIP ; q=0.1": "gzip", "gzip;q=x": ""} {
		if res, _, _ := overWire(t, r.api, "GET", "/api/openapi.json", "", header("Accept-Encoding", q)); res.Header.Get("Content-Encoding") != want {
			t.Errorf("Accept-Encoding %q: got %q", q, res.Header.Get("Content-Encoding"))
		}
	}
}

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) WriteHeader(int)             {}
func (d discard) Write(b []byte) (int, error) { return len(b), nil }

// Who makes an account is told which adapters it starts.
func TestAccountsTellWhatTheyStart(t *testing.T) {
	r := newRig(t, false, func(r *rig) {
		r.s.Starts = func(topics []string) []string {
			if slices.Contains(topics, "zigbee2mqtt/#") {
				return []string{"z2m"}
			}
			return nil
		}
	})
	for _, tt := range []struct{ method, path, body, want string }{
		{"POST", "/api/v1/apitokens", `{"name":"a","rights":["read"],"topics":["x/#"]}`, ""},
		{"POST", "/api/v1/apitokens", `{"name":"b","rights":["read"],"topics":["zigbee2mqtt/#"]}`, `"starts_adapters":["z2m"]`},
		{"PATCH", "/api/v1/apitokens/a", `{"rights":["command"]}`, ""},
		{"PATCH", "/api/v1/apitokens/a", `{"topics":["zigbee2mqtt/#"]}`, `"starts_adapters":["z2m"]`},
	} {
		got := r.do(tt.method, tt.path, r.admin, tt.body)
		if got.status/100 != 2 || !strings.Contains(string(got.body), tt.want) || tt.want == "" && strings.Contains(string(got.body), "starts") {
			t.Errorf("%s %s: got %d %s, want %s", tt.method, tt.body, got.status, got.body, tt.want)
		}
	}
}
