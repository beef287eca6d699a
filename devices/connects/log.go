// Package connects logs what others do wrong as they connect, a few lines a minute.
package connects

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"devicehub/devices"
	"devicehub/devices/quota"
)

const (
	perMinute = 3    // lines of one kind about one address
	maxKinds  = 4096 // remembered; beyond them strangers share one count for each kind
	maxName   = 64   // bytes of what somebody calls himself
)

// Log is a log of what others do wrong, such as signing in with a token that is no
// longer good: an operator finds it there, and nobody fills a disk with it. Of one
// kind and address a few lines a minute are written; what comes beyond them is
// counted, and told when the minute is over. A nil Log, and one without a Logger,
// writes nothing. Safe for concurrent use.
type Log struct {
	Logger *slog.Logger

	mu    sync.Mutex
	kinds map[kind]*tally
}

// kind is what is counted together.
type kind struct {
	msg, code string
	addr      string // as quota counts it
}

type tally struct {
	since time.Time
	n     int
	addr  string // as it was last told
}

// Refused logs a sign-in over a transport that was refused. user is what somebody
// called himself, as far as that is known.
func (l *Log) Refused(via, addr, user, code, reason string, attrs ...any) {
	l.Warn("sign-in refused", addr, code, append([]any{"via", via, "user", Name(user), "reason", reason}, attrs...)...)
}

// Warn logs one line about an address, with the code of what went wrong there.
func (l *Log) Warn(msg, addr, code string, attrs ...any) {
	if l == nil || l.Logger == nil {
		return
	}
	now := time.Now()
	k := kind{msg, code, quota.Address(addr)}
	l.mu.Lock()
	t := l.kinds[k]
	if t == nil && len(l.kinds) >= maxKinds {
		k.addr = ""
		t = l.kinds[k]
	}
	if l.kinds == nil {
		l.kinds = map[kind]*tally{}
	}
	var missed *tally
	if t == nil || now.Sub(t.since) >= time.Minute {
		missed = t
		t = &tally{since: now}
		l.kinds[k] = t
	}
	t.n++
	t.addr = devices.Host(addr)
	write := t.n <= perMinute
	l.mu.Unlock()
	if missed != nil {
		l.told(k, missed)
	}
	if write {
		l.Logger.Warn(msg, append([]any{"addr", devices.Host(addr), "code", code}, attrs...)...)
	}
}

// told says how often more something happened than was written.
func (l *Log) told(k kind, t *tally) {
	if more := t.n - perMinute; more > 0 {
		l.Logger.Warn(k.msg, "addr", t.addr, "code", k.code, "more", more)
	}
}

// Run tells of what was counted, until ctx ends.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.sweep(time.Now().Add(time.Minute))
			return nil
		case now := <-tick.C:
			l.sweep(now)
		}
	}
}

// sweep tells of the minutes that are over, and forgets them.
func (l *Log) sweep(now time.Time) {
	l.mu.Lock()
	over := map[kind]*tally{}
	for k, t := range l.kinds {
		if now.Sub(t.since) >= time.Minute {
			over[k] = t
			delete(l.kinds, k)
		}
	}
	l.mu.Unlock()
	if l.Logger == nil {
		return
	}
	for k, t := range over {
		l.told(k, t)
	}
}

// Name is what somebody calls himself, as it may be logged: not too long, and no
// token that was put in the wrong field.
func Name(s string) string {
	if strings.HasPrefix(s, "dh1.") || strings.HasPrefix(s, "eyJ") {
		return "(a token)"
	}
	if len(s) <= maxName {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	s = s[:maxName]
	for len(s) > 0 && !utf8.ValidString(s) && maxName-len(s) < utf8.UTFMax {
		s = s[:len(s)-1]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
