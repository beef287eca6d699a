// Package connects logs what others do wrong as they connect.
package connects

import (
	"log/slog"
	"strings"

	"devicehub/devices"
	"devicehub/hub/logbound"
)

// maxName is how much of what somebody calls himself is logged, in bytes.
const maxName = 64

// Log is a log of what others do wrong, such as signing in with a token that is no
// longer good: an operator finds it there. That nobody fills a disk with it is for the
// Logger's handler to see to, see package logbound. A nil Log, and one without a
// Logger, writes nothing. Safe for concurrent use.
type Log struct {
	Logger *slog.Logger
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
	l.Logger.Warn(msg, append([]any{"addr", devices.Host(addr), "code", code}, attrs...)...)
}

// Name is what somebody calls himself, as it may be logged: not too long, and no
// token that was put in the wrong field.
func Name(s string) string {
	if strings.HasPrefix(s, "dh1.") || strings.HasPrefix(s, "eyJ") {
		return "(a token)"
	}
	return logbound.Clip(s, maxName)
}
