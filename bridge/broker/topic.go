package broker

import (
	"strings"
)

// MaxLevels bounds how deep a topic or filter may go.
const MaxLevels = 64

// ValidTopic reports whether s can be published on: not empty, no wildcard, no
// NUL (MQTT 5 §4.7.3).
func ValidTopic(s string) bool {
	return s != "" && len(s) <= 65535 && !strings.ContainsAny(s, "+#\x00") && strings.Count(s, "/") < MaxLevels
}

// ValidFilter reports whether s is a topic filter (MQTT 5 §4.7.1).
func ValidFilter(s string) bool {
	if s == "" || len(s) > 65535 || strings.ContainsRune(s, 0) || strings.Count(s, "/") >= MaxLevels {
		return false
	}
	for s != "" {
		level, rest, more := strings.Cut(s, "/")
		if strings.Contains(level, "#") && (level != "#" || more) {
			return false
		}
		if strings.Contains(level, "+") && level != "+" {
			return false
		}
		if !more {
			return true
		}
		s = rest
	}
	return true
}

// ParseShare cuts "$share/<group>/<filter>"; shared is false for any other
// filter. ok is false when either part is not what it has to be (MQTT 5 §4.8.2).
func ParseShare(s string) (group, filter string, shared, ok bool) {
	rest, shared := strings.CutPrefix(s, "$share/")
	if !shared {
		return "", s, false, ValidFilter(s)
	}
	group, filter, found := strings.Cut(rest, "/")
	return group, filter, true, found && group != "" && !strings.ContainsAny(group, "+#") && ValidFilter(filter)
}

// Match reports whether a topic is selected by a filter. A wildcard at the
// beginning selects no topic that begins with $ [MQTT-4.7.2-1].
func Match(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && (strings.HasPrefix(filter, "+") || strings.HasPrefix(filter, "#")) {
		return false
	}
	for {
		f, frest, fmore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, trest, tmore := strings.Cut(topic, "/")
		if f != "+" && f != t {
			return false
		}
		switch {
		case !fmore && !tmore:
			return true
		case fmore && !tmore:
			return frest == "#" // "a/#" selects "a" too
		case !fmore:
			return false
		}
		filter, topic = frest, trest
	}
}

// Covers reports whether every topic that narrow selects is selected by wide.
func Covers(wide, narrow string) bool {
	if strings.HasPrefix(narrow, "$") && (strings.HasPrefix(wide, "+") || strings.HasPrefix(wide, "#")) {
		return false
	}
	for {
		w, wrest, wmore := strings.Cut(wide, "/")
		if w == "#" {
			return true
		}
		n, nrest, nmore := strings.Cut(narrow, "/")
		if n == "#" || w != "+" && w != n {
			return false
		}
		switch {
		case !wmore && !nmore:
			return true
		case wmore && !nmore:
			return wrest == "#"
		case !wmore:
			return false
		}
		wide, narrow = wrest, nrest
	}
}

// tree holds something at topic filters or at topics, by their levels.
type tree[V any] struct {
	next  map[string]*tree[V]
	value V
	used  bool
}

// holds reports whether something is held here; nil holds nothing.
func (t *tree[V]) holds() bool { return t != nil && t.used }

// at is the node of a filter, made if it is not there.
func (t *tree[V]) at(filter string) *tree[V] {
	for {
		level, rest, more := strings.Cut(filter, "/")
		n := t.next[level]
		if n == nil {
			if t.next == nil {
				t.next = map[string]*tree[V]{}
			}
			n = &tree[V]{}
			t.next[strings.Clone(level)] = n // which outlives the rest of the filter
		}
		if t = n; !more {
			return t
		}
		filter = rest
	}
}

// find is the node of a filter, or nil.
func (t *tree[V]) find(filter string) *tree[V] {
	for {
		level, rest, more := strings.Cut(filter, "/")
		if t = t.next[level]; t == nil || !more {
			return t
		}
		filter = rest
	}
}

// remove empties the node of a filter and drops the branches that hold nothing
// any more.
func (t *tree[V]) remove(filter string) {
	level, rest, more := strings.Cut(filter, "/")
	n := t.next[level]
	if n == nil {
		return
	}
	if more {
		n.remove(rest)
	} else {
		var zero V
		n.value, n.used = zero, false
	}
	if !n.used && len(n.next) == 0 {
		delete(t.next, level)
	}
}

// match calls f for the node of every filter that selects the topic.
func (t *tree[V]) match(topic string, f func(V)) {
	t.walk(topic, strings.HasPrefix(topic, "$"), f)
}

func (t *tree[V]) walk(topic string, first bool, f func(V)) {
	level, rest, more := strings.Cut(topic, "/")
	if n := t.next["#"]; n != nil && n.used && !first {
		f(n.value)
	}
	for _, l := range [2]string{level, "+"} {
		n := t.next[l]
		if n == nil || l == "+" && first {
			continue
		}
		if more {
			n.walk(rest, false, f)
			continue
		}
		if n.used {
			f(n.value)
		}
		if h := n.next["#"]; h != nil && h.used {
			f(h.value)
		}
	}
}

// all calls f for everything held.
func (t *tree[V]) all(f func(V)) {
	if t.used {
		f(t.value)
	}
	for _, n := range t.next {
		n.all(f)
	}
}

// each calls f for everything held at a topic that the filter selects.
func (t *tree[V]) each(filter string, f func(V)) {
	t.pick(filter, true, f)
}

func (t *tree[V]) pick(filter string, first bool, f func(V)) {
	level, rest, more := strings.Cut(filter, "/")
	switch level {
	case "#":
		if !first && t.used {
			f(t.value)
		}
		for l, n := range t.next {
			if !first || !strings.HasPrefix(l, "$") {
				n.pick("#", false, f)
			}
		}
	case "+":
		for l, n := range t.next {
			if !first || !strings.HasPrefix(l, "$") {
				n.take(rest, more, f)
			}
		}
	default:
		if n := t.next[level]; n != nil {
			n.take(rest, more, f)
		}
	}
}

func (t *tree[V]) take(rest string, more bool, f func(V)) {
	if more {
		t.pick(rest, false, f)
	} else if t.used {
		f(t.value)
	}
}
