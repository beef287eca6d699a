package readings

import (
	"strconv"
	"strings"

	"devicehub/devices"
)

// Bounds of a push.
const (
	MaxReadings = 500 // readings a push, unless configured otherwise
	MaxBoot     = 64  // bytes of a boot id
	maxUnit     = 32  // bytes of a unit
	maxTime     = 253402300799999
)

// Batch is one push as it was decoded: well-formed, but not yet judged.
type Batch struct {
	Boot  string // as the push gives it, or empty
	items []item
}

// Len is the number of readings of the push.
func (b *Batch) Len() int { return len(b.items) }

// item is one reading of a push. An item with err is refused with it.
type item struct {
	metric   string
	unit     string // as sent, or empty
	text     string // a string value; for a bare value the text as sent
	f        float64
	t        int64 // ms since epoch, if timed
	seq      int64 // 0: none
	interval int64 // ms, SenML's update time, 0: none
	err      *devices.Error
	typ      valueKind
	timed    bool
	bare     bool // the text may stand for a string too
}

// valueKind is the type of a value on the wire.
type valueKind uint8

const (
	kindNone valueKind = iota
	kindFloat
	kindBool
	kindString
)

// catalogueNames spares the copy of the usual metric names.
var catalogueNames = func() map[string]string {
	m := map[string]string{}
	for _, c := range devices.Catalogue() {
		m[c.Name] = c.Name
	}
	return m
}()

func metricName(b []byte) string {
	if s, ok := catalogueNames[string(b)]; ok {
		return s
	}
	return string(b)
}

// ownName is a metric's name in memory of its own: the caller's may be part of
// a larger text, or be used again.
func ownName(s string) string {
	if known, ok := catalogueNames[s]; ok {
		return known
	}
	return strings.Clone(s)
}

var unitNames = func() map[string]string {
	m := map[string]string{}
	for _, c := range devices.Catalogue() {
		m[c.Unit] = c.Unit
	}
	return m
}()

func unitName(b []byte) string {
	if s, ok := unitNames[string(b)]; ok {
		return s
	}
	return string(b)
}

// Parse reads what may be the payload of either event, as HasList tells them
// apart.
func Parse(b []byte) (Batch, error) {
	if HasList(b) {
		return ParseReadings(b)
	}
	return ParseReading(b)
}

// HasList reports whether a JSON object has a member "r": it is readings then,
// else a reading. It judges nothing: what is no JSON has no members.
func HasList(b []byte) bool {
	depth, start := 0, -1
	for i := 0; i < len(b); i++ {
		switch c := b[i]; c {
		case '"':
			begin := i + 1
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if i >= len(b) {
				return false
			}
			if depth == 1 && start >= 0 && string(b[begin:i]) == "r" {
				return true
			}
			start = -1
		case '{', '[':
			depth++
			if c == '{' && depth == 1 {
				start = i
			}
		case '}', ']':
			depth--
		case ',':
			if depth == 1 {
				start = i // a name follows
			}
		}
	}
	return false
}

// ParseReading reads the payload of the event "reading",
// {"m","v","t"?,"s"?,"u"?,"boot"?}. It returns an invalid error naming the
// field and what it should be.
func ParseReading(b []byte) (Batch, error) {
	if err := withoutMark(b, "payload"); err != nil {
		return Batch{}, err
	}
	s := scanner{b: b}
	var batch Batch
	var it item
	err := s.object(func(name []byte) error {
		switch string(name) {
		case "m":
			text, ok := s.str()
			if !ok {
				return devices.Invalid("m", "a metric name")
			}
			it.metric = metricName(text)
			return nil
		case "v":
			return s.value(&it, "v")
		case "t":
			return s.time(&it.t, &it.timed, "t")
		case "s":
			return s.sequence(&it.seq, "s")
		case "u":
			return s.unit(&it.unit, "u")
		case "boot":
			return s.boot(&batch.Boot)
		}
		return unknownField(name, "a reading has m, v, t, s, u and boot; "+
			"many at once are {boot, s0, t0, u, r: [[metric, value, ms after t0], …]}")
	})
	switch {
	case err != nil:
		return Batch{}, err
	case !s.end():
		return Batch{}, errBehind
	case it.metric == "":
		return Batch{}, devices.Invalid("m", "a metric name")
	case it.typ == kindNone:
		return Batch{}, devices.Invalid("v", wantValue)
	}
	batch.items = []item{it}
	return batch, nil
}

// ParseReadings reads the payload of the event "readings",
// {"boot"?,"s0"?,"t0"?,"u"?:{metric:unit},"r":[[metric,value,ms after t0?],…]}.
// An entry whose parts are wrong is refused alone when it is judged; anything
// else that is wrong is returned as an invalid error.
func ParseReadings(b []byte) (Batch, error) {
	if err := withoutMark(b, "payload"); err != nil {
		return Batch{}, err
	}
	s := scanner{b: b}
	var batch Batch
	var t0, s0 int64
	var timed, listed bool
	var units []pair
	err := s.object(func(name []byte) error {
		switch string(name) {
		case "boot":
			return s.boot(&batch.Boot)
		case "s0":
			return s.sequence(&s0, "s0")
		case "t0":
			return s.time(&t0, &timed, "t0")
		case "u":
			return s.units(&units)
		case "r":
			listed = true
			return s.entries(&batch)
		}
		return unknownField(name, "readings have boot, s0, t0, u and r; one alone is {m, v, t, s, u, boot}")
	})
	switch {
	case err != nil:
		return Batch{}, err
	case !s.end():
		return Batch{}, errBehind
	case !listed || len(batch.items) == 0:
		return Batch{}, devices.Invalid("r", "a list of one or more [metric, value, ms after t0]")
	}
	for i := range batch.items {
		batch.items[i].place(i, s0, t0, timed, units)
	}
	return batch, nil
}

// place gives entry i of readings what stands for all of them.
func (it *item) place(i int, s0, t0 int64, timed bool, units []pair) {
	if s0 > 0 {
		it.seq = s0 + int64(i)
	}
	if it.timed && it.err == nil {
		it.t += t0
		if !timed {
			it.err = devices.Invalid(entryField(i, 2), "a t0 beside r")
		} else if it.t < 0 || it.t > maxTime {
			it.err = devices.Invalid(entryField(i, 2), "ms after t0, a time before the year 10000")
		}
	}
	for k := range units {
		if units[k].metric == it.metric {
			it.unit = units[k].unit
			break
		}
	}
}

// pair is one member of the object u.
type pair struct{ metric, unit string }

func (s *scanner) units(units *[]pair) error {
	if s.peek() != '{' {
		return devices.Invalid("u", "an object of metric and unit")
	}
	return s.object(func(name []byte) error {
		p := pair{metric: metricName(name)}
		if err := s.unit(&p.unit, "u"); err != nil {
			return err
		}
		*units = append(*units, p)
		if len(*units) > devices.MaxMetrics {
			return devices.Invalid("u", "at most 64 units")
		}
		return nil
	})
}

func (s *scanner) entries(batch *Batch) error {
	if !s.take('[') {
		return devices.Invalid("r", "a list of [metric, value, ms after t0]")
	}
	batch.items = make([]item, 0, 1+len(s.b)/24)
	if s.take(']') {
		return nil
	}
	for {
		i := len(batch.items)
		batch.items = append(batch.items, item{})
		it := &batch.items[i]
		if i > 0 && s.sameName(batch.items[i-1].metric) {
			it.metric = batch.items[i-1].metric
		}
		if err := s.entry(it, i); err != nil {
			return err
		}
		if !s.take(',') {
			if !s.take(']') {
				return s.malformed()
			}
			return nil
		}
	}
}

// sameName looks ahead whether the entry's metric is the one before's.
func (s *scanner) sameName(name string) bool {
	if s.peek() != '[' {
		return false
	}
	rest := s.b[s.i+1:]
	return len(rest) > len(name)+2 && rest[0] == '"' && string(rest[1:1+len(name)]) == name && rest[1+len(name)] == '"'
}

// entry reads one [metric, value, dt?]. An error is returned only when the
// text is not JSON or the entry no list; the rest is the item's own.
func (s *scanner) entry(it *item, i int) error {
	if !s.take('[') {
		return devices.Invalid("r["+strconv.Itoa(i)+"]", "[metric, value] or [metric, value, ms after t0]")
	}
	n := 0
	if !s.take(']') {
		for {
			if err := s.element(it, i, n); err != nil {
				return err
			}
			n++
			if !s.take(',') {
				if !s.take(']') {
					return s.malformed()
				}
				break
			}
		}
	}
	if it.err == nil && (n < 2 || n > 3) {
		it.err = devices.Invalid("r["+strconv.Itoa(i)+"]", "[metric, value] or [metric, value, ms after t0]")
	}
	return nil
}

func (s *scanner) element(it *item, i, n int) error {
	from := s.i
	var wrong *devices.Error
	switch n {
	case 0:
		text, ok := s.str()
		if !ok {
			wrong = devices.Invalid(entryField(i, 0), "a metric name")
		} else if it.metric == "" {
			it.metric = metricName(text)
		}
	case 1:
		if !s.scalar(it) {
			s.i = from
			s.space()
			wrong = s.badValue(entryField(i, 1))
		}
	case 2:
		dt, ok := s.integer()
		it.t, it.timed = dt, ok
		if !ok {
			wrong = devices.Invalid(entryField(i, 2), "a whole number, ms after t0")
		}
	default:
		wrong = devices.Invalid("r["+strconv.Itoa(i)+"]", "[metric, value] or [metric, value, ms after t0]")
	}
	if wrong == nil {
		return nil
	}
	if it.err == nil {
		it.err = wrong
	}
	s.i = from
	return s.skip(0)
}

func entryField(i, n int) string { return "r[" + strconv.Itoa(i) + "][" + strconv.Itoa(n) + "]" }

// scalar reads a value; false when it is none, or a number too large for a
// float64.
func (s *scanner) scalar(it *item) bool {
	switch c := s.peek(); c {
	case '"':
		text, ok := s.str()
		it.typ, it.text = kindString, string(text)
		return ok
	case 't', 'f':
		word := "true"
		it.typ, it.f = kindBool, 1
		if c == 'f' {
			word, it.f = "false", 0
		}
		return s.literal(word)
	}
	text, ok := s.number()
	if !ok {
		return false
	}
	it.typ = kindFloat
	it.f, ok = parseFloat(text)
	return ok
}

func (s *scanner) value(it *item, field string) error {
	s.space()
	from := s.i
	if !s.scalar(it) {
		s.i = from
		return s.badValue(field)
	}
	return nil
}

func (s *scanner) time(t *int64, set *bool, field string) error {
	n, ok := s.integer()
	if !ok || n < 0 || n > maxTime {
		return devices.Invalid(field,
			"a whole number of ms since 1970, before the year 10000: neither a text nor a fraction")
	}
	*t, *set = n, true
	return nil
}

func (s *scanner) sequence(seq *int64, field string) error {
	n, ok := s.integer()
	if !ok || n < 1 {
		return devices.Invalid(field, "a whole number from 1")
	}
	*seq = n
	return nil
}

func (s *scanner) unit(u *string, field string) error {
	text, ok := s.str()
	if !ok || len(text) > maxUnit || !goodName(string(text)) {
		return devices.Invalid(field, wantUnit)
	}
	*u = unitName(text)
	return nil
}

func (s *scanner) boot(boot *string) error {
	text, ok := s.str()
	if !ok || CheckBoot(string(text)) != nil {
		return CheckBoot("")
	}
	*boot = string(text)
	return nil
}

// CheckBoot returns an invalid error unless boot is 1 to 64 bytes of printable
// UTF-8.
func CheckBoot(boot string) error {
	if boot == "" || len(boot) > MaxBoot || !goodName(boot) {
		return devices.Invalid("boot", "an id of 1 to 64 printable bytes, new at every power-up")
	}
	return nil
}

// goodName reports whether s is a text of one line.
func goodName(s string) bool { return devices.GoodText(s) && !strings.ContainsAny(s, "\t\r\n") }

// wantUnit is what a unit is to be.
const wantUnit = "a unit of at most 32 printable bytes"

func unknownField(name []byte, known string) error {
	e := devices.UnknownField(printable(name)).With("want", known)
	e.Reason += ": " + known
	return e
}
