package main

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestInProcessStreams(t *testing.T) {
	ended := make(chan struct{})
	hc := &http.Client{Transport: inProcess{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		w.Header().Set("X-Test", "yes")
		w.WriteHeader(http.StatusAccepted)
		for {
			if _, err := io.WriteString(w, "line\n"); err != nil {
				return // the caller went away
			}
		}
	})}}
	res, err := hc.Get("http://devicehub/x")
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusAccepted || res.Header.Get("X-Test") != "yes" {
		t.Errorf("got %s and %v", res.Status, res.Header)
	}
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || line != "line\n" {
		t.Errorf("got %q, %v", line, err)
	}
	res.Body.Close()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("Close did not wait for the handler")
	}
}

func TestInProcessHandlerSaysNothing(t *testing.T) {
	hc := &http.Client{Transport: inProcess{http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if b, _ := io.ReadAll(r.Body); string(b) != "in" || r.RequestURI != "/x?y=1" {
			t.Errorf("got body %q, URI %q", b, r.RequestURI)
		}
	})}}
	res, err := hc.Post("http://devicehub/x?y=1", "text/plain", strings.NewReader("in"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || len(b) > 0 || err != nil {
		t.Errorf("got %s, %q, %v, want an empty 200", res.Status, b, err)
	}
}

func TestInProcessPanicIsAnError(t *testing.T) {
	hc := &http.Client{Transport: inProcess{http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("bug") })}}
	res, err := hc.Get("http://devicehub/x")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); res.StatusCode != http.StatusInternalServerError || err == nil {
		t.Errorf("got %s, %v, want a 500 that breaks off", res.Status, err)
	}
}
