package logbound

import (
	"bytes"
	"context"
	"errors"
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

// bounded runs f with a logger that is bounded, and with what it writes; end ends its minutes.
func bounded(t *testing.T, f func(log *slog.Logger, out *lines, end func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		out := new(lines)
		h := New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { h.Run(ctx) })
		f(slog.New(h), out, func() { cancel(); wg.Wait() })
		cancel()
		wg.Wait()
	})
}

func TestLinesOfOneAddress(t *testing.T) {
	bounded(t, func(log *slog.Logger, out *lines, end func()) {
		for i := range 100 {
			log.Warn("sign-in refused", "addr", fmt.Sprint("192.0.2.1:", 1000+i), "code", "unauthorized")
		}
		if got := out.take(); len(got) != 3 {
			t.Errorf("got %d lines, want 3: %q", len(got), got)
		}
		log.Warn("sign-in refused", "addr", "192.0.2.1:1", "code", "device_disabled")
		log.Warn("sign-in refused", "addr", "192.0.2.2:1", "code", "unauthorized")
		log.Warn("origin refused", "remote", "192.0.2.1:1")
		if got := out.take(); len(got) != 3 {
			t.Errorf("another code, another address, another message: got %q", got)
		}
		time.Sleep(61 * time.Second)
		if got := out.take(); len(got) != 1 || !strings.Contains(got[0], `level=WARN msg="sign-in refused" addr=192.0.2.1 code=unauthorized more=97`) {
			t.Errorf("after the minute: got %q", got)
		}
		for range 5 {
			log.Warn("sign-in refused", "addr", "192.0.2.1:1", "code", "unauthorized")
		}
		if got := out.take(); len(got) != 3 {
			t.Errorf("in the next minute: got %q", got)
		}
		end()
		if got := out.take(); len(got) != 1 || !strings.Contains(got[0], "more=2") {
			t.Errorf("at the end: got %q, want what was held back", got)
		}
	})
}

// Whom a line is about is told by its principal where it has no address of a stranger's.
func TestLinesOfOnePrincipal(t *testing.T) {
	bounded(t, func(log *slog.Logger, out *lines, _ func()) {
		for i := range 50 {
			log.Warn("too many channels joined", "topic", fmt.Sprint("sensor:", i), "id", "user:ana", "remote", "192.0.2.1:1")
		}
		log.With("id", "user:ana").Warn("too many channels joined")
		log.Warn("too many channels joined", "id", "user:bob", "remote", "192.0.2.1:2")
		if got := out.take(); len(got) != 4 {
			t.Errorf("got %d lines, want 3 about one and 1 about the other: %q", len(got), got)
		}
		for i := range 50 {
			log.Info("a series is dropped", "series", i)
			log.Debug("request", "n", i)
		}
		if got := out.take(); len(got) != 20+50 {
			t.Errorf("got %d lines, want 20 about nobody, and all of debug", len(got))
		}
	})
}

// A flood from everywhere is bounded in what it writes and in what is remembered of it.
func TestLinesFromEverywhere(t *testing.T) {
	bounded(t, func(log *slog.Logger, out *lines, end func()) {
		const from = 100_000
		origin := strings.Repeat("a", 30_000)
		for i := range from {
			log.Warn("origin refused", "origin", origin, "remote", fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&0xFF, i&0xFF))
		}
		if h := log.Handler().(*Handler); len(h.book.kinds) > maxKinds+1 {
			t.Errorf("%d kinds are remembered, want at most %d", len(h.book.kinds), maxKinds)
		}
		end()
		got := out.take()
		more := 0
		for _, l := range got {
			var n int
			if _, tail, ok := strings.Cut(l, "more="); ok {
				_, _ = fmt.Sscan(tail, &n)
			} else {
				n = 1
			}
			more += n
		}
		if size := len(strings.Join(got, "\n")); len(got) > perLine+2*(toldOf+1) || size > 64<<10 {
			t.Errorf("%d lines, %d bytes of a hundred thousand addresses", len(got), size)
		}
		if more != from {
			t.Errorf("%d are accounted for, want every one of %d", more, from)
		}
	})
}

// What nobody runs for still counts anew when the minute is over.
func TestMinutesWithoutRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(lines)
		log := slog.New(New(slog.NewTextHandler(out, nil)))
		for range 30 {
			log.Warn("x", "addr", "a")
		}
		time.Sleep(time.Minute)
		log.Warn("x", "addr", "a")
		if got := out.take(); len(got) != 3+1+1 || !strings.Contains(got[3], "more=27") {
			t.Errorf("got %q", got)
		}
	})
}

func TestValuesAreCut(t *testing.T) {
	bounded(t, func(log *slog.Logger, out *lines, _ func()) {
		long := strings.Repeat("é", 15_000)
		for name, attr := range map[string]slog.Attr{
			"text":             slog.String("topic", long),
			"of any kind":      slog.Any("topic", []string{long}),
			"grouped":          slog.Group("of", slog.String("topic", long)),
			"what values name": slog.Any("topic", valuer(long)),
		} {
			log.Warn("cut "+name, attr)
			got := out.take()
			if len(got) != 1 || len(got[0]) > 300 || !utf8.ValidString(got[0]) || !strings.Contains(got[0], "bytes)") {
				t.Errorf("%s: got %.400q", name, got)
			}
		}
		log.With("topic", long).Warn("by the logger")
		log.Error("failed", "err", errors.New(long), "stack", strings.Repeat("s", 100_000))
		for _, l := range out.take() {
			if len(l) > maxError+maxStack+300 {
				t.Errorf("a line of %d bytes", len(l))
			}
		}
		log.Warn(long)
		if got := out.take(); len(got[0]) > maxError+200 {
			t.Errorf("a message of %d bytes", len(got[0]))
		}
		log.Warn("short", "topic", "a\nb", "n", 7, "err", errors.New("x"))
		if got := out.take(); len(got) != 1 || !strings.Contains(got[0], `msg=short topic="a\nb" n=7 err=x`) {
			t.Errorf("got %q, want what is short as it is", got)
		}
	})
}

type valuer string

func (v valuer) LogValue() slog.Value { return slog.StringValue(string(v)) }
