package main

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// The command and the dashboard's link have the same text.
func TestLicenses(t *testing.T) {
	r := cli(t, "", "licenses")
	if r.code != exitDone || !strings.Contains(r.out, "Mozilla Public License") {
		t.Errorf("got exit %d, %d bytes, %s", r.code, len(r.out), r.err)
	}
	w := httptest.NewRecorder()
	serveLicenses(w, httptest.NewRequest("GET", "/licenses.txt", nil))
	if w.Code != 200 || w.Body.String() != r.out || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("got %d, %d bytes, %q", w.Code, w.Body.Len(), w.Header())
	}
}
