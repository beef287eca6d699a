package devices

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// ByteOrderMark is what some editors and languages put before a text in UTF-8.
// JSON does not have it (RFC 8259 §8.1).
const ByteOrderMark = "\xef\xbb\xbf"

// CheckJSON refuses what a JSON text can say in two ways, and what encoding/json
// would mend without a word: an object with a field twice, at any depth, a lone
// surrogate, bytes that are no UTF-8, a byte order mark. Where it is no JSON at
// all, the decoder says so. whole names the value in the error.
func CheckJSON(b []byte, whole string) error {
	switch {
	case bytes.HasPrefix(b, []byte(ByteOrderMark)):
		return Invalid(whole, "JSON without a byte order mark: leave out the bytes EF BB BF before it")
	case !utf8.Valid(b):
		return Invalid(whole, "JSON in UTF-8")
	}
	// Arrays of this call, so that a message of the usual size costs no memory.
	var keyArray [32]jsonKey
	var levelArray [16]jsonLevel
	keys, levels := keyArray[:0], levelArray[:0]
	key := false // a string that comes now is one
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			end, escaped := stringEnd(b, i)
			if end < 0 {
				return nil // no JSON
			}
			k := jsonKey{from: i + 1, to: end}
			if escaped {
				var ok bool
				if k.text, ok = unescape(b[i+1 : end]); !ok {
					return Invalid(whole, "JSON whose texts are UTF-8: a surrogate (\\ud800 to \\udfff) stands alone")
				}
			}
			if key {
				l := &levels[len(levels)-1]
				if l.has(b, keys[l.first:], k) {
					return RepeatedField(shown(k.of(b)))
				}
				keys = append(keys, k)
			}
			key = false
			i = end
		case '{', '[':
			key = b[i] == '{'
			levels = append(levels, jsonLevel{object: key, first: len(keys)})
		case '}', ']':
			key = false
			if n := len(levels); n > 0 {
				keys = keys[:levels[n-1].first]
				levels = levels[:n-1]
			}
		case ',':
			key = len(levels) > 0 && levels[len(levels)-1].object
		}
	}
	return nil
}

// RepeatedField refuses an object that has a field twice.
func RepeatedField(name string) *Error { return Invalid(name, "each field once in an object") }

// jsonKey is a field's name: where it stands, or what it is without its escapes.
type jsonKey struct {
	from, to int
	text     []byte
}

func (k *jsonKey) of(b []byte) []byte {
	if k.text != nil {
		return k.text
	}
	return b[k.from:k.to]
}

// jsonLevel is an object or a list that is open.
type jsonLevel struct {
	object bool
	first  int // its first key
	many   map[string]struct{}
}

// manyKeys is how many keys of an object are compared one by one.
const manyKeys = 16

// has reports whether k is among the keys that the level has so far.
func (l *jsonLevel) has(b []byte, keys []jsonKey, k jsonKey) bool {
	name := k.of(b)
	if len(keys) < manyKeys {
		for i := range keys {
			o := &keys[i]
			if o.text == nil && o.to-o.from != len(name) {
				continue
			}
			if bytes.Equal(o.of(b), name) {
				return true
			}
		}
		return false
	}
	if l.many == nil {
		l.many = map[string]struct{}{}
		for _, o := range keys {
			l.many[string(o.of(b))] = struct{}{}
		}
	}
	if _, twice := l.many[string(name)]; twice {
		return true
	}
	l.many[string(name)] = struct{}{}
	return false
}

// stringEnd is where the string that begins at i ends, −1 for nowhere, and
// whether it has escapes.
func stringEnd(b []byte, i int) (end int, escaped bool) {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i, escaped
		case '\\':
			escaped = true
			i++
		}
	}
	return -1, escaped
}

// unescape resolves the escapes of a string. ok is false for a lone surrogate;
// what is no escape at all is left to the decoder.
func unescape(s []byte) (text []byte, ok bool) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		i++
		switch s[i] {
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
			r, hex := hex4(s[i+1:])
			if !hex {
				return out, true
			}
			i += 4
			if utf16.IsSurrogate(r) {
				low, hex := rune(0), i+2 < len(s) && s[i+1] == '\\' && s[i+2] == 'u'
				if hex {
					low, hex = hex4(s[i+3:])
				}
				if r = utf16.DecodeRune(r, low); !hex || r == utf8.RuneError {
					return nil, false
				}
				i += 6
			}
			out = utf8.AppendRune(out, r)
		default:
			out = append(out, s[i])
		}
	}
	return out, true
}

func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// shown is a client's name of something, as it may stand in an error.
func shown(name []byte) string {
	if len(name) > 64 {
		name = name[:64]
	}
	return string(bytes.ToValidUTF8(name, []byte("?")))
}
