package trace

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"devicehub/devices"
)

const jwt = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJkZXZpY2U6YSJ9.c2lnbmF0dXJl"

func TestSecretsAreNotShown(t *testing.T) {
	for name, row := range map[string]struct{ payload, want string }{
		"a reading":                {`{"m":"temperature","v":21.5,"t":1763682000123}`, `{"m":"temperature","t":1763682000123,"v":21.5}`},
		"a token by name":          {`{"token":"x","gen":3}`, `{"gen":3,"token":"[redacted]"}`},
		"a token by form":          {`{"note":"use ` + jwt + ` please"}`, `{"note":"use [redacted] please"}`},
		"a short token":            {`["dh1.3.t5k2x0.AAAAAAAAAAAAAAAAAAAAAA"]`, `["[redacted]"]`},
		"a token as a key":         {`{"` + jwt + `":1}`, `{"[redacted]":1}`},
		"a password of the device": {`{"config":{"wifi_password":"hunter2","api_key":"k","ssid":"home"}}`, `{"config":{"api_key":"[redacted]","ssid":"home","wifi_password":"[redacted]"}}`},
		"JSON that broke off":      {`{"token":"abc`, `"{\"token\":\"[redacted]\""`},
		"text":                     {`21.5 ` + jwt, `"21.5 [redacted]"`},
		"a number":                 {`21.5`, `21.5`},
		"bytes":                    {"\xff\x01", `"base64:/wE="`},
		"a number named for a key": {`{"key":7}`, `{"key":7}`},
		"nothing":                  {``, ``},
	} {
		if got := string(redact([]byte(row.payload))); got != row.want {
			t.Errorf("%s: got %s, want %s", name, got, row.want)
		}
	}
	if got := redact([]byte("\xff" + jwt)); strings.Contains(string(got), "ZXlK") || len(got) > 40 {
		t.Errorf("a token among bytes: got %s", got)
	}
}

func TestLongPayloadsAreCut(t *testing.T) {
	payload, _ := json.Marshal(strings.Repeat("é", 40_000))
	got := redact(payload)
	if len(got) > 2*maxShown || !json.Valid(got) {
		t.Errorf("got %d bytes, valid JSON: %t", len(got), json.Valid(got))
	}
}

func FuzzRedact(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"token":"x"}]}`))
	f.Add([]byte("\xff\x00"))
	f.Add([]byte(`{"token":"` + jwt))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := redact(b); len(got) > 0 && !json.Valid(got) {
			t.Errorf("got %q, want JSON", got)
		}
		if bytes.Contains(b, []byte("c2ln")) {
			return // the stranger knows the signature
		}
		line := append(append([]byte(`{"x":"`), b...), (" " + jwt + `"}`)...)
		if got := redact(line); strings.Contains(string(got), "c2lnbmF0dXJl") {
			t.Errorf("got %q, with the token's signature", got)
		}
	})
}

func TestFollowersHearOfTheirDevice(t *testing.T) {
	var tr Tracer
	if tr.Follows("a") || (*Tracer)(nil).Follows("a") {
		t.Error("followed by nobody")
	}
	tr.Record("a", Line{Event: "early"}, nil)
	f, err := tr.Follow("a")
	if err != nil {
		t.Fatal(err)
	}
	tr.Record("b", Line{Event: "another's"}, nil)
	tr.Record("a", Line{Dir: In, Event: "reading"}, []byte(`{"v":1}`))
	if l := <-f.Lines(); l.Event != "reading" || l.Bytes != 7 || l.At == 0 || string(l.Payload) != `{"v":1}` {
		t.Errorf("got %+v", l)
	}
	f.Stop()
	f.Stop() // again does no harm
	if tr.Follows("a") || len(f.Lines()) != 0 {
		t.Error("it goes on after Stop")
	}
}

func TestASlowFollowerIsToldWhatItMissed(t *testing.T) {
	var tr Tracer
	f, _ := tr.Follow("a")
	defer f.Stop()
	for range followerLines + 10 {
		tr.Record("a", Line{Event: "reading"}, nil)
	}
	for range followerLines {
		<-f.Lines()
	}
	tr.Record("a", Line{Event: "next"}, nil)
	if l := <-f.Lines(); l.Event != "next" || l.Skipped != 10 {
		t.Errorf("got %+v, want 10 skipped", l)
	}
}

func TestFollowersAreBounded(t *testing.T) {
	var tr Tracer
	for range maxFollowers {
		if _, err := tr.Follow("a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tr.Follow("b"); devices.CodeOf(err) != devices.CodeRateLimited {
		t.Errorf("got %v, want rate_limited", err)
	}
}

// While nobody follows, asking costs a load.
func BenchmarkNobodyFollows(b *testing.B) {
	var tr Tracer
	for b.Loop() {
		if tr.Follows("a") {
			b.Fatal("followed")
		}
	}
}
