package readings

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"devicehub/devices"
)

// scanner walks one JSON text (RFC 8259). Its methods skip the white space
// before what they read and return false when something else stands there;
// nothing they return, but for strings with escapes, is copied.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek is the next byte after white space, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.i++
	return true
}

func (s *scanner) end() bool {
	s.space()
	return s.i == len(s.b)
}

// str reads a string. Invalid UTF-8 and lone surrogates are refused.
func (s *scanner) str() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	start := s.i
	ascii := true
	for s.i < len(s.b) {
		c := s.b[s.i]
		switch {
		case c == '"':
			text := s.b[start:s.i]
			s.i++
			return text, ascii || utf8.Valid(text)
		case c == '\\':
			return s.escaped(start)
		case c < 0x20:
			return nil, false
		case c >= 0x80:
			ascii = false
		}
		s.i++
	}
	return nil, false
}

func (s *scanner) escaped(start int) ([]byte, bool) {
	out := append([]byte(nil), s.b[start:s.i]...)
	for s.i < len(s.b) {
		c := s.b[s.i]
		s.i++
		switch {
		case c == '"':
			return out, utf8.Valid(out)
		case c < 0x20:
			return nil, false
		case c != '\\':
			out = append(out, c)
			continue
		}
		if s.i == len(s.b) {
			return nil, false
		}
		c = s.b[s.i]
		s.i++
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := s.hex4()
			if !ok {
				return nil, false
			}
			if utf16.IsSurrogate(r) {
				if s.i+1 >= len(s.b) || s.b[s.i] != '\\' || s.b[s.i+1] != 'u' {
					return nil, false
				}
				s.i += 2
				low, ok := s.hex4()
				if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
					return nil, false
				}
			}
			out = utf8.AppendRune(out, r)
		default:
			return nil, false
		}
	}
	return nil, false
}

func (s *scanner) hex4() (rune, bool) {
	if s.i+4 > len(s.b) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s.b[s.i:s.i+4]), 16, 16)
	s.i += 4
	return rune(n), err == nil
}

// number returns the text of a number in JSON's grammar.
func (s *scanner) number() ([]byte, bool) {
	s.space()
	n := numberLen(s.b[s.i:])
	if n == 0 {
		return nil, false
	}
	text := s.b[s.i : s.i+n]
	if end := s.i + n; end < len(s.b) {
		switch s.b[end] {
		case ',', '}', ']', ' ', '\t', '\n', '\r':
		default: // 0x10, 007, 5C
			return nil, false
		}
	}
	s.i += n
	return text, true
}

func numberLen(b []byte) int {
	i := 0
	digits := func() bool {
		from := i
		for i < len(b) && b[i]-'0' <= 9 {
			i++
		}
		return i > from
	}
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if !digits() {
		return 0
	}
	if i < len(b) && b[i] == '.' {
		i++
		if !digits() {
			return 0
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return 0
		}
	}
	return i
}

var pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// parseFloat is strconv.ParseFloat without the copy for the usual short
// decimals: a mantissa below 2^53 and a power of ten up to 22 are exact, so
// one division rounds correctly. ok is false for what overflows float64.
func parseFloat(b []byte) (f float64, ok bool) {
	var mant uint64
	digits, frac, i := 0, 0, 0
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		i++
	}
	seenPoint := false
	for ; i < len(b); i++ {
		c := b[i]
		switch {
		case c == '.':
			seenPoint = true
		case c-'0' <= 9:
			mant = mant*10 + uint64(c-'0')
			if mant > 0 {
				digits++
			}
			if seenPoint {
				frac++
			}
		default:
			digits = 99 // an exponent
		}
		if digits > 15 || frac > 22 {
			f, err := strconv.ParseFloat(string(b), 64)
			return f + 0, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
		}
	}
	f = float64(mant) / pow10[frac]
	if neg && f != 0 { // −0 is stored as 0
		f = -f
	}
	return f, true
}

// integer reads a number that is an integer of at most 2^53 in size.
func (s *scanner) integer() (int64, bool) {
	text, ok := s.number()
	if !ok {
		return 0, false
	}
	return parseInt(text)
}

func parseInt(text []byte) (int64, bool) {
	var n int64
	neg := text[0] == '-'
	if neg {
		text = text[1:]
	}
	if len(text) > 16 {
		return 0, false
	}
	for _, c := range text {
		if c-'0' > 9 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if n > 1<<53 {
		return 0, false
	}
	if neg {
		n = -n
	}
	return n, true
}

func (s *scanner) literal(word string) bool {
	s.space()
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return false
	}
	s.i += len(word)
	return true
}

const maxDepth = 16

// skip passes over one value of any type.
func (s *scanner) skip(depth int) error {
	var ok bool
	switch {
	case depth > maxDepth:
		return devices.Invalid("payload", "JSON of at most 16 levels")
	case s.peek() == '"':
		_, ok = s.str()
	case s.peek() == 't':
		ok = s.literal("true")
	case s.peek() == 'f':
		ok = s.literal("false")
	case s.peek() == 'n':
		ok = s.literal("null")
	case s.peek() == '[':
		return s.skipList(depth)
	case s.peek() == '{':
		return s.object(func([]byte) error { return s.skip(depth + 1) })
	default:
		_, ok = s.number()
	}
	if !ok {
		return s.malformed()
	}
	return nil
}

func (s *scanner) skipList(depth int) error {
	s.i++
	if s.take(']') {
		return nil
	}
	for {
		if err := s.skip(depth + 1); err != nil {
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

// object calls field for each member of an object; field reads the value. A
// member that is there twice is refused.
func (s *scanner) object(field func(name []byte) error) error {
	if !s.take('{') {
		return errShape
	}
	if s.take('}') {
		return nil
	}
	var few [8][]byte // names so far: an array of this call costs no memory
	n := 0
	var many map[string]struct{}
	for {
		name, ok := s.str()
		if !ok && s.peek()-'0' <= 9 {
			return devices.Invalid("payload", "valid JSON: numbers have a decimal point, 21.4 and not 21,4")
		}
		if !ok || !s.take(':') {
			return s.malformed()
		}
		_, twice := many[string(name)]
		for i := 0; i < n && !twice; i++ {
			twice = string(few[i]) == string(name)
		}
		switch {
		case twice:
			return devices.RepeatedField(printable(name))
		case n < len(few):
			few[n] = name
			n++
		default:
			if many == nil {
				many = map[string]struct{}{}
			}
			many[string(name)] = struct{}{}
		}
		if err := field(name); err != nil {
			return err
		}
		if !s.take(',') {
			if !s.take('}') {
				return s.malformed()
			}
			return nil
		}
	}
}

// printable is a client's name of something, as it may stand in an error.
func printable(name []byte) string {
	if len(name) > 64 {
		name = name[:64]
	}
	return strings.ToValidUTF8(string(name), "?")
}

var (
	errJSON   = devices.Invalid("payload", "valid JSON, in UTF-8")
	errShape  = devices.Invalid("payload", "a JSON object")
	errBehind = devices.Invalid("payload", "one JSON object and nothing behind it")
)
