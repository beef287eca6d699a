package broker

import "testing"

func TestMatch(t *testing.T) {
	for _, x := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a", false}, {"a", "a/b", false}, {"a/+", "a/b", true}, {"a/+", "a", false}, {"a/+", "a/", true},
		{"a/#", "a", true}, {"a/#", "a/b/c", true}, {"#", "a/b", true}, {"+", "a", true}, {"+", "/a", false}, {"/+", "/a", true}, {"+/+", "/a", true},
		{"#", "$SYS/x", false}, {"+/x", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true}, {"a/+/c", "a/b/c", true}, {"a/+/c", "a/b/d", false},
		{"+/b/#", "a/b", true}, {"a/b/#", "a/bc", false},
	} {
		if got := Match(x.filter, x.topic); got != x.want {
			t.Errorf("Match(%q, %q) = %v", x.filter, x.topic, got)
		}
		var subs tree[string]
		n := subs.at(x.filter)
		n.value, n.used = x.filter, true
		hit := 0
		subs.match(x.topic, func(string) { hit++ })
		if (hit == 1) != x.want || hit > 1 {
			t.Errorf("tree of %q: %q matched %d times", x.filter, x.topic, hit)
		}
		var kept tree[string]
		k := kept.at(x.topic)
		k.value, k.used = x.topic, true
		hit = 0
		kept.each(x.filter, func(string) { hit++ })
		if (hit == 1) != x.want || hit > 1 {
			t.Errorf("retained %q: found %d times by %q", x.topic, hit, x.filter)
		}
		if subs.remove(x.filter); len(subs.next) != 0 {
			t.Errorf("%q left branches behind", x.filter)
		}
	}
}

func TestValidFilter(t *testing.T) {
	for s, want := range map[string]bool{"a/b": true, "#": true, "a/#": true, "+": true, "a/+/b": true, "/": true, "": false, "a#": false, "a/#/b": false, "a+": false, "a/+b": false, "a\x00": false} {
		if got := ValidFilter(s); got != want {
			t.Errorf("ValidFilter(%q) = %v", s, got)
		}
	}
	for s, want := range map[string]bool{"$share/g/a": true, "$share/g/#": true, "$share//a": false, "$share/g": false, "$share/g/": false, "$share/+/a": false, "$share/g/a#": false, "$sharer/x": true} {
		if _, _, _, got := ParseShare(s); got != want {
			t.Errorf("ParseShare(%q) ok = %v", s, got)
		}
	}
}

// Covers is right when it says yes: what the narrow filter selects, the wide one does.
func FuzzCovers(f *testing.F) {
	f.Add("a/#", "a/+/c", "a/b/c")
	f.Add("+/+", "a/b", "a/b")
	f.Add("#", "$SYS/#", "$SYS/x")
	f.Add("a/#", "a", "a")
	f.Fuzz(func(t *testing.T, wide, narrow, topic string) {
		if !ValidFilter(wide) || !ValidFilter(narrow) || !ValidTopic(topic) {
			return
		}
		if Covers(wide, narrow) && Match(narrow, topic) && !Match(wide, topic) {
			t.Errorf("%q covers %q, but only the latter selects %q", wide, narrow, topic)
		}
	})
}

func TestCovers(t *testing.T) {
	for _, x := range []struct {
		wide, narrow string
		want         bool
	}{{"#", "#", true}, {"#", "a/b", true}, {"a/#", "a/+", true}, {"a/#", "a", true}, {"a/#", "#", false}, {"a/+", "a/#", false}, {"+/b", "a/b", true}, {"a/b", "+/b", false}, {"#", "$SYS/#", false}} {
		if got := Covers(x.wide, x.narrow); got != x.want {
			t.Errorf("Covers(%q, %q) = %v", x.wide, x.narrow, got)
		}
	}
}
