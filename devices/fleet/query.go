package fleet

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"devicehub/devices"
)

const (
	maxQuery = 512
	maxTerms = 32
)

// concern is what an event or a term is about.
type concern uint8

const (
	aboutRecord concern = 1 << iota
	aboutStatus
	aboutReadings
	aboutLight
	aboutCommand
)

// filter is a parsed query: every term must hold. Those of the status are kept
// apart, so that the others can be counted by status.
type filter struct {
	terms  []term
	status []term
	uses   concern
}

type term struct {
	key    string // "" for a free word
	op     string // : = != < <= > >=
	values []string
	nums   []float64 // of values, NaN where they are no numbers
	not    bool
}

// parseQuery reads the grammar of searches: terms separated by spaces, all of
// which must hold. A term is a word that stands in the id, name, area or model,
// or key, operator and value: area:kitchen status:quiet,offline battery<20
// fw!=1.4 temperature>30 name:"living room" on:true label:floor:2 label.floor>1 -kind:light.
// A key is a field of the record or the status, a label, or a metric; with ":"
// and "=" several values stand for any of them, and * for anything in one.
// The error is invalid, naming q.
func parseQuery(q string) (*filter, error) {
	if len(q) > maxQuery {
		return nil, bad("at most 512 bytes")
	}
	f := &filter{}
	for rest := strings.TrimSpace(q); rest != ""; {
		var word string
		var err error
		if word, rest, err = cutWord(rest); err != nil {
			return nil, err
		}
		t, err := parseTerm(word)
		if err != nil {
			return nil, err
		}
		if t.key == "status" {
			f.status = append(f.status, t)
		} else {
			f.terms = append(f.terms, t)
		}
		f.uses |= t.concern()
		if len(f.terms)+len(f.status) > maxTerms {
			return nil, bad("at most 32 terms")
		}
	}
	return f, nil
}

func bad(want string) error { return devices.Invalid("q", want) }

// cutWord splits at the first space outside quotes.
func cutWord(s string) (word, rest string, err error) {
	quoted := false
	for i, c := range s {
		switch {
		case c == '"':
			quoted = !quoted
		case unicode.IsSpace(c) && !quoted:
			return s[:i], strings.TrimSpace(s[i:]), nil
		}
	}
	if quoted {
		return "", "", bad("a quotation mark that ends")
	}
	return s, "", nil
}

func parseTerm(word string) (term, error) {
	t := term{}
	if len(word) > 1 && word[0] == '-' {
		t.not, word = true, word[1:]
	}
	i := strings.IndexAny(word, `:=!<>"`)
	if i < 0 || word[i] == '"' {
		t.values = []string{strings.ToLower(strings.ReplaceAll(word, `"`, ""))}
		return t, nil
	}
	t.key = strings.ToLower(word[:i])
	n := 1
	if i+1 < len(word) && word[i+1] == '=' && word[i] != ':' && word[i] != '=' {
		n = 2
	}
	t.op = word[i : i+n]
	value := word[i+n:]
	if k, v, ok := strings.Cut(value, ":"); t.key == "label" && ok && t.op == ":" {
		t.key, value = "label."+strings.ToLower(k), v // label:floor:2, as in ?label=
	}
	switch {
	case t.op == "!":
		return t, bad("!= and not !")
	case t.key == "":
		return t, bad("a key before " + t.op)
	case value == "":
		return t, bad("a value after " + t.key + t.op)
	}
	list := []string{value}
	if !strings.Contains(value, `"`) && (t.op == ":" || t.op == "=" || t.op == "!=") {
		list = strings.Split(value, ",")
	}
	for _, v := range list {
		v = strings.ToLower(strings.ReplaceAll(v, `"`, ""))
		if v == "" {
			return t, bad("a value after " + t.key + t.op)
		}
		num, err := strconv.ParseFloat(v, 64)
		if err != nil {
			num = math.NaN()
		}
		t.values, t.nums = append(t.values, v), append(t.nums, num)
	}
	return t, t.check()
}

var states = []string{"never_seen", "sleeping", "offline", "data_only", "unresponsive", "quiet", "online"}

func (t *term) check() error {
	ordered := strings.ContainsAny(t.op, "<>")
	switch t.key {
	case "status":
		for _, v := range t.values {
			if !slices.Contains(states, v) && !strings.Contains(v, "*") {
				return bad("status: one of " + strings.Join(states, ", "))
			}
		}
	case "flapping", "unverified", "sleepy", "enabled", "on":
		for i, v := range t.values {
			b, ok := truth(v)
			if !ok {
				return bad(t.key + ": true or false")
			}
			t.values[i] = strconv.FormatBool(b)
		}
	case "kind":
		for _, v := range t.values {
			if !slices.Contains(devices.Kinds(), devices.Kind(v)) {
				return bad("kind: sensor or light")
			}
		}
	case "fw", "hw":
		return nil // compared as versions
	default:
		if ordered && math.IsNaN(t.nums[0]) {
			return bad("a number after " + t.key + t.op)
		}
		return nil
	}
	if ordered {
		return bad(t.key + " with : or != ")
	}
	return nil
}

func truth(s string) (value, ok bool) {
	switch s {
	case "true", "yes", "on", "1":
		return true, true
	case "false", "no", "off", "0":
		return false, true
	}
	return false, false
}

// concern is what may change whether the term holds, besides the record.
func (t *term) concern() concern {
	switch t.key {
	case "", "id", "name", "kind", "area", "fw", "hw", "model", "manufacturer", "via", "sleepy", "enabled":
		return aboutRecord
	case "status", "link", "data", "control", "reason", "transport", "flapping", "unverified":
		return aboutRecord | aboutStatus
	case "on", "brightness":
		return aboutRecord | aboutLight
	}
	if strings.HasPrefix(t.key, "label.") {
		return aboutRecord
	}
	return aboutRecord | aboutReadings
}

// subject is one device under question; what costs to find out is found out
// once, when it is asked for.
type subject struct {
	f   *Fleet
	dev *devices.Device

	status   *devices.Status
	latest   map[string]Latest
	gotLast  bool
	power    *Light
	gotLight bool
}

func (s *subject) st() *devices.Status {
	if s.status == nil {
		st := s.f.cfg.Status(s.dev.ID)
		s.status = &st
	}
	return s.status
}

func (s *subject) last() map[string]Latest {
	if !s.gotLast {
		s.gotLast = true
		if s.f.cfg.Latest != nil {
			s.latest = s.f.cfg.Latest(s.dev.ID)
		}
	}
	return s.latest
}

// light is nil for what is no light, or never said how it is.
func (s *subject) light() *Light {
	if !s.gotLight {
		s.gotLight = true
		if s.f.cfg.Light != nil && s.dev.Is(devices.KindLight) {
			if on, brightness, at, ok := s.f.cfg.Light(s.dev.ID); ok {
				s.power = &Light{on, brightness, at}
			}
		}
	}
	return s.power
}

// beside reports whether every term holds but those of the status.
func (f *filter) beside(s *subject) bool { return all(f.terms, s) }

// ofStatus reports whether the terms of the status hold.
func (f *filter) ofStatus(s *subject) bool { return all(f.status, s) }

func all(ts []term, s *subject) bool {
	for i := range ts {
		if ts[i].holds(s) == ts[i].not {
			return false
		}
	}
	return true
}

func (t *term) holds(s *subject) bool {
	d := s.dev
	switch t.key {
	case "":
		return slices.ContainsFunc([]string{string(d.ID), d.Name, d.Area, d.Model}, func(text string) bool {
			return strings.Contains(strings.ToLower(text), t.values[0])
		})
	case "id":
		return t.text(string(d.ID))
	case "name":
		return t.part(d.Name)
	case "model":
		return t.part(d.Model)
	case "manufacturer":
		return t.part(d.Manufacturer)
	case "kind":
		return slices.ContainsFunc(d.Kinds, func(k devices.Kind) bool { return slices.Contains(t.values, string(k)) }) == (t.op != "!=")
	case "area":
		return t.text(d.Area)
	case "via":
		return t.text(d.Via)
	case "fw":
		return t.version(d.Firmware)
	case "hw":
		return t.version(d.Hardware)
	case "sleepy":
		return t.text(strconv.FormatBool(d.Sleepy))
	case "enabled":
		return t.text(strconv.FormatBool(d.Enabled))
	case "status":
		return t.text(string(s.st().State))
	case "link":
		return t.text(s.st().Link)
	case "data":
		return t.text(s.st().Data)
	case "control":
		return t.text(s.st().Control)
	case "reason":
		return t.text(s.st().Reason)
	case "transport":
		return t.text(string(s.st().Transport))
	case "flapping":
		return t.text(strconv.FormatBool(s.st().Flapping))
	case "unverified":
		return t.text(strconv.FormatBool(s.st().Unverified))
	case "on":
		l := s.light()
		return l != nil && t.text(strconv.FormatBool(l.On))
	case "brightness":
		if l := s.light(); l != nil {
			return t.number(float64(l.Brightness))
		}
	}
	return t.labelOrMetric(s)
}

func (t *term) labelOrMetric(s *subject) bool {
	key, named := strings.CutPrefix(t.key, "label.")
	for k, v := range s.dev.Labels {
		if strings.EqualFold(k, key) {
			return t.textOrNumber(v)
		}
	}
	if named {
		return t.op == "!=" // a label that is not there is not the value
	}
	l, ok := s.last()[key]
	if !ok {
		return false
	}
	switch v := l.V.(type) {
	case float64:
		return t.number(v)
	case bool:
		want, ok := truth(t.values[0])
		return ok && (v == want) == (t.op != "!=")
	case string:
		return t.text(v)
	}
	return false
}

// text compares whole texts, whatever their case.
func (t *term) text(s string) bool {
	s = strings.ToLower(s)
	hit := slices.ContainsFunc(t.values, func(v string) bool { return glob(v, s) })
	return hit == (t.op != "!=")
}

// part is text, but ":" is content with a part.
func (t *term) part(s string) bool {
	if t.op != ":" {
		return t.text(s)
	}
	s = strings.ToLower(s)
	return slices.ContainsFunc(t.values, func(v string) bool { return strings.Contains(s, v) || glob(v, s) })
}

func (t *term) textOrNumber(s string) bool {
	if !strings.ContainsAny(t.op, "<>") {
		return t.text(s)
	}
	n, err := strconv.ParseFloat(s, 64)
	return err == nil && t.number(n)
}

func (t *term) number(n float64) bool {
	v := t.nums[0]
	switch t.op {
	case "<":
		return n < v
	case "<=":
		return n <= v
	case ">":
		return n > v
	case ">=":
		return n >= v
	}
	return slices.Contains(t.nums, n) == (t.op != "!=")
}

func (t *term) version(s string) bool {
	if !strings.ContainsAny(t.op, "<>") {
		return t.text(s)
	}
	if s == "" {
		return false
	}
	c := compareVersions(strings.ToLower(s), t.values[0])
	switch t.op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

// compareVersions orders 1.4 before 1.10: runs of digits count as numbers.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		x, restA := run(a)
		y, restB := run(b)
		if digit(x[0]) && digit(y[0]) {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if len(x) != len(y) {
				return sign(len(x) - len(y))
			}
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
		a, b = restA, restB
	}
	return sign(len(a) - len(b))
}

func run(s string) (run, rest string) {
	i := 1
	for i < len(s) && digit(s[i]) == digit(s[0]) {
		i++
	}
	return s[:i], s[i:]
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// glob matches s against a pattern in which * stands for anything.
func glob(pattern, s string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	parts := strings.Split(rest, "*")
	for _, p := range parts[:len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return strings.HasSuffix(s, parts[len(parts)-1])
}
