package connects

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// lines is a log in memory.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

// take returns what was written since the last time, line by line.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := strings.TrimSpace(l.b.String())
	l.b.Reset()
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

func TestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(lines)
		l := &Log{Logger: slog.New(slog.NewTextHandler(out, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = l.Run(ctx) })
		for i := range 100 {
			l.Refused("mqtt", fmt.Sprint("192.0.2.1:", 1000+i), "service:suite", "unauthorized", "wrong token")
		}
		got := out.take()
		if len(got) != 3 || !strings.Contains(got[0], `msg="sign-in refused" addr=192.0.2.1 code=unauthorized via=mqtt user=service:suite reason="wrong token"`) {
			t.Errorf("got %q", got)
		}
		l.Refused("mqtt", "192.0.2.1:1", "x", "device_disabled", "")
		l.Refused("mqtt", "192.0.2.2:1", "x", "unauthorized", "")
		if got := out.take(); len(got) != 2 {
			t.Errorf("another code, and another address: got %q", got)
		}
		time.Sleep(75 * time.Second)
		if got := out.take(); len(got) != 1 || !strings.Contains(got[0], "addr=192.0.2.1 code=unauthorized more=97") {
			t.Errorf("after the minute: got %q", got)
		}
		l.Refused("http", "192.0.2.1:1", "x", "unauthorized", "")
		if got := out.take(); len(got) != 1 {
			t.Errorf("in the next minute: got %q", got)
		}
		for i := range 100_000 { // from everywhere
			l.Refused("mqtt", fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&0xFF, i&0xFF), "x", "unauthorized", "")
		}
		if n := len(out.take()); n > maxKinds*perMinute {
			t.Errorf("%d lines of a hundred thousand addresses", n)
		}
		cancel()
		wg.Wait()
		if got := out.take(); len(got) == 0 {
			t.Error("what was counted is lost at the end")
		}
	})
	var none *Log
	none.Refused("mqtt", "192.0.2.1:1", "x", "unauthorized", "")
}

func TestNamesAreCut(t *testing.T) {
	for in, want := range map[string]string{
		"kitchen-lamp":                      "kitchen-lamp",
		strings.Repeat("x", 100):            strings.Repeat("x", 64),
		strings.Repeat("x", 63) + "ä":       strings.Repeat("x", 63),
		"dh1.1.abc.secret":                  "(a token)",
		"eyJhbGciOiJFZERTQSJ9.e30.x":        "(a token)",
		"\xff\xfe":                          "\uFFFD",
		strings.Repeat("\xff", 100) + "end": strings.Repeat("", 0),
	} {
		got := Name(in)
		if want != "" && got != want || len(got) > maxName+2 || !utf8.ValidString(got) {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
