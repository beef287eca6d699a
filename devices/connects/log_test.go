package connects

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRefused(t *testing.T) {
	var out bytes.Buffer
	l := &Log{Logger: slog.New(slog.NewTextHandler(&out, nil))}
	l.Refused("mqtt", "192.0.2.1:1000", "service:suite", "unauthorized", "wrong token", "connack", "0x05")
	if got := out.String(); !strings.Contains(got, `msg="sign-in refused" addr=192.0.2.1 code=unauthorized via=mqtt user=service:suite reason="wrong token" connack=0x05`) {
		t.Errorf("got %q", got)
	}
	var none *Log
	none.Refused("mqtt", "192.0.2.1:1", "x", "unauthorized", "")
}

func TestNamesAreCut(t *testing.T) {
	for in, want := range map[string]string{
		"kitchen-lamp":                "kitchen-lamp",
		strings.Repeat("x", 100):      strings.Repeat("x", 64),
		strings.Repeat("x", 63) + "ä": strings.Repeat("x", 63),
		"dh1.1.abc.secret":            "(a token)",
		"eyJhbGciOiJFZERTQSJ9.e30.x":  "(a token)",
		"\xff\xfe":                    "\uFFFD",
	} {
		if got := Name(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := Name(strings.Repeat("\xff", 100) + "end"); len(got) > 80 || !utf8.ValidString(got) {
		t.Errorf("got %q", got)
	}
}
