package httpapi_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/quota"
)

// The calls of one person are bounded, and what changes something more closely; somebody else, and
// the owner over the admin socket, are not disturbed.
func TestCallsAreBounded(t *testing.T) {
	r := newRig(t, false)
	viewer := r.user("ana", "viewer", "")
	var l quota.Limits
	l.Other.Rates[quota.Calls] = quota.Rate{PerSecond: 1, Burst: 30}
	l.Other.Rates[quota.Events] = quota.Rate{PerSecond: 1, Burst: 10}
	r.bounds.SetLimits(l)
	codes := map[int]int{}
	for range 15 { // refused, and counted all the same
		codes[r.do("POST", "/api/v1/users", viewer, map[string]any{"username": "x", "role": "admin", "password": "a long password"}).status]++
	}
	if codes[403] < 10 || codes[429] < 3 {
		t.Errorf("got %v, want some 10 forbidden and the others 429", codes)
	}
	if res := r.get("/api/v1/devices", viewer); res.status != 200 {
		t.Errorf("a question at the same time: got %d", res.status)
	}
	for range 30 {
		res := r.get("/api/v1/devices", viewer)
		codes[res.status]++
		if res.status == 429 && (res.header.Get("Retry-After") == "" || res.field("retry_after_ms") == nil || res.field("code") != string(devices.CodeRateLimited)) {
			t.Fatalf("got %v %s, want Retry-After", res.header, res.body)
		}
	}
	if codes[429] < 10 {
		t.Errorf("got %v, want most of the questions beyond 30 calls refused", codes)
	}
	if res := r.get("/api/v1/devices", r.admin); res.status != 200 {
		t.Errorf("somebody else: got %d", res.status)
	}
}

// One who goes on has to connect anew for each call.
func TestACallerThatGoesOnIsCutOff(t *testing.T) {
	r := newRig(t, false)
	viewer := r.user("ana", "viewer", "")
	var l quota.Limits
	l.Other.Rates[quota.Calls] = quota.Rate{PerSecond: 1, Burst: 5}
	r.bounds.SetLimits(l)
	for n := range 3000 {
		if r.get("/api/v1/devices", viewer).header.Get("Connection") == "close" {
			if n < 900 {
				t.Errorf("cut off after %d", n)
			}
			return
		}
	}
	t.Error("never cut off")
}

// So many calls of one person may be under way, and no more.
func TestCallsAtOnceAreBounded(t *testing.T) {
	r := newRig(t, false)
	r.device(`{"id":"a","kinds":["sensor"]}`)
	var l quota.Limits
	l.Other.Places[quota.AtOnce] = 3
	r.bounds.SetLimits(l)
	srv := httptest.NewServer(r.api)
	defer srv.Close()
	defer r.api.Leave()
	open := 0
	for range 5 {
		req, err := http.NewRequest("GET", srv.URL+"/api/v1/devices/a/trace", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.admin)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		switch res.StatusCode {
		case 200:
			open++
			defer res.Body.Close()
		case 429:
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		default:
			t.Fatalf("got %d", res.StatusCode)
		}
	}
	if open != 3 {
		t.Errorf("%d streams of one person are open, want 3", open)
	}
}

// A client whose token is bad is refused, and those at its address are served.
func TestOneBadCallerAmongMany(t *testing.T) {
	r := newRig(t, false)
	var good []string
	for i := range 20 {
		good = append(good, r.device(fmt.Sprintf(`{"id":"d%d","kinds":["sensor"]}`, i)), r.user(fmt.Sprint("ana", i), "viewer", ""))
	}
	r.bounds.SetLimits(quota.Limits{Checks: quota.Rate{PerSecond: 1000, Burst: 1000}, Failures: quota.Rate{PerSecond: 2, Burst: 2}})
	codes := map[int]int{}
	for range 50 {
		codes[r.get("/api/v1/devices", "nonsense").status]++
	}
	if codes[401] < 2 || codes[429] < 40 {
		t.Errorf("got %v, want 401 and then 429", codes)
	}
	for i, token := range good {
		res := r.do("POST", fmt.Sprintf("/api/v1/devices/d%d/readings", i/2), token, `{"r":[["temperature",1]]}`)
		if i%2 == 1 {
			res = r.get("/api/v1/devices", token)
		}
		if res.status != 200 {
			t.Errorf("good client %d: got %d %s", i, res.status, res.body)
		}
	}
	time.Sleep(time.Second)
	if res := r.get("/api/v1/devices", "nonsense"); res.status != 401 {
		t.Errorf("the bad one, later: got %d, want 401", res.status)
	}
}
