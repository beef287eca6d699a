package logbound

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"unicode/utf8"
)

// How long a value may be, in bytes. An error's text has a cause at its end, and comes from the
// hub; a stack comes from the hub alone.
const (
	maxValue = 128
	maxError = 1024
	maxStack = 8192
)

func longest(key string) int {
	switch key {
	case "err", "panic":
		return maxError
	case "stack":
		return maxStack
	case "data", "file", "keys", "changed": // of the hub's own configuration
		return maxError
	}
	return maxValue
}

// short is r with its message and its values cut.
func short(r slog.Record) slog.Record {
	long := len(r.Message) > maxError
	r.Attrs(func(a slog.Attr) bool {
		_, cut := shortAttr(a)
		long = long || cut
		return !long
	})
	if !long {
		return r
	}
	to := slog.NewRecord(r.Time, r.Level, Cut(r.Message, maxError), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		a, _ = shortAttr(a)
		to.AddAttrs(a)
		return true
	})
	return to
}

// shortAttr cuts an attribute's value, and says whether it was too long.
func shortAttr(a slog.Attr) (slog.Attr, bool) {
	most := longest(a.Key)
	v := a.Value.Resolve()
	var text string
	switch v.Kind() {
	case slog.KindString:
		text = v.String()
	case slog.KindAny:
		if err, isError := v.Any().(error); isError {
			text = err.Error()
		} else {
			text = fmt.Sprint(v.Any())
		}
	case slog.KindGroup:
		return shortGroup(a.Key, v.Group())
	default:
		return a, false
	}
	if len(text) <= most {
		return a, false
	}
	return slog.String(a.Key, Cut(text, most)), true
}

func shortGroup(key string, attrs []slog.Attr) (slog.Attr, bool) {
	cut, long := make([]slog.Attr, len(attrs)), false
	for i, a := range attrs {
		var l bool
		cut[i], l = shortAttr(a)
		long = long || l
	}
	return slog.Attr{Key: key, Value: slog.GroupValue(cut...)}, long
}

// Cut returns s as it may stand in a log: valid UTF-8, and no more than most bytes of it. Of what
// is longer the length is told.
func Cut(s string, most int) string {
	if len(s) <= most {
		return Clip(s, most)
	}
	return Clip(s, most) + "… (" + strconv.Itoa(len(s)) + " bytes)"
}

// Clip is Cut without a word of the length.
func Clip(s string, most int) string {
	end := len(s)
	if end > most {
		for end = most; end > max(0, most-utf8.UTFMax) && !utf8.RuneStart(s[end]); {
			end--
		}
	}
	return strings.ToValidUTF8(s[:end], "\uFFFD")
}
