package devices

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestCheckJSON(t *testing.T) {
	many := func(twice string) string {
		var b strings.Builder
		for i := range 40 {
			fmt.Fprintf(&b, `"k%d":%d,`, i, i)
		}
		return `{` + b.String() + twice + `}`
	}
	for text, want := range map[string]string{ // the field that is refused, "" for none
		`{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}`: "",
		`{"a":1,"a":1}`:                           "a",
		`{"a":1,"b":{"c":1,"c":2}}`:               "c",
		`[{"x":[{"y":1,"z":{},"y":2}]}]`:          "y",
		`{"a":{"b":1},"c":{"b":1},"a":0}`:         "a",
		`{"a":1,"\u0061":2}`:                      "a",
		`{"\u00e9":1,"é":2}`:                      "é",
		`{"a":"a","b":"a","c":["a","a"]}`:         "",
		`{"a":"\"a\":1","b":"}{,"}`:               "",
		many(`"k0":1`):                            "k0",
		many(`"k39":1`):                           "k39",
		many(`"k40":1`):                           "",
		`{"a":"\ud83d\ude00"}`:                    "",
		`{"a":"\ud83d"}`:                          "whole",
		`{"a":"\ude00\ud83d"}`:                    "whole",
		`{"\ud83d":1}`:                            "whole",
		"{\"a\":\"\xff\"}":                        "whole",
		"\xef\xbb\xbf{}":                          "whole",
		`{"a":`:                                   "", // the decoder's to refuse
		`{"a`:                                     "",
		`}},,]`:                                   "",
		strings.Repeat(`{"a":`, 100) + `{}`:       "",
		strings.Repeat(`[`, 100) + `{"b":1,"b":2`: "b",
	} {
		err := CheckJSON([]byte(text), "whole")
		got := ""
		if err != nil {
			got = err.(*Error).Details["field"].(string)
		}
		if got != want {
			t.Errorf("%.80s: got %q refused, want %q", text, got, want)
		}
	}
}

// FuzzCheckJSON holds the check against encoding/json: of what is JSON it finds
// a field twice if, and only if, decoding loses one.
func FuzzCheckJSON(f *testing.F) {
	for _, s := range []string{`{"a":1,"a":2}`, `[{"b":{"c":"\ud83d\ude00","c":0}}]`, `{"a":"\\\"","b":[[],{}]}`, `"\ud83d"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := CheckJSON(b, "whole")
		if !json.Valid(b) {
			return
		}
		want := false
		if dup(t, b) {
			want = true
		}
		if e, refused := err.(*Error); refused {
			if field := e.Details["want"]; !want && strings.Contains(field.(string), "each field once") {
				t.Errorf("%q: got %v, though no field is there twice", b, err)
			}
		} else if want {
			t.Errorf("%q is taken, though a field is there twice", b)
		}
	})
}

// dup walks the tokens of a JSON text.
func dup(t *testing.T, b []byte) bool {
	dec := json.NewDecoder(strings.NewReader(string(b)))
	var walk func() bool
	walk = func() bool {
		tok, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		twice := false
		switch tok {
		case json.Delim('{'):
			seen := map[string]bool{}
			for dec.More() {
				key, err := dec.Token()
				if err != nil {
					t.Fatal(err)
				}
				twice = twice || seen[key.(string)]
				seen[key.(string)] = true
				twice = walk() || twice
			}
			_, _ = dec.Token()
		case json.Delim('['):
			for dec.More() {
				twice = walk() || twice
			}
			_, _ = dec.Token()
		}
		return twice
	}
	return walk()
}

func BenchmarkCheckJSON(b *testing.B) {
	text := []byte(`{"cmd_id":"01JD9KXYZ0000000000000000","status":"done","exec_ms":12,"on":true,"brightness":128,"mode":"rgb","rgb":[255,120,0],"effect":"none","t":1763682000123,"cause":"command"}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckJSON(text, "payload"); err != nil {
			b.Fatal(err)
		}
	}
}

func TestGoodText(t *testing.T) {
	for text, want := range map[string]bool{
		"": true, "plain": true, "tab\tand\r\nlines": true, "Grüße 😀 \u2028": true, "a\ufeffb": true,
		"nul\x00": false, "\x1b[31m": false, "del\x7f": false, "c1\u0085": false, "\ufeffmark": false, "\xff": false, "cut \xe2\x82": false,
	} {
		if got := GoodText(text); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}
