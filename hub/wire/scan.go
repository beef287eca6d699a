package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf16"
)

// maxDepth is how deep arrays and objects may nest, the same as in encoding/json.
const maxDepth = 10000

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFrame, fmt.Sprintf(format, args...))
}

// Classes of bytes inside a JSON string.
const (
	plain = iota
	quote
	escape
	control
)

var stringClass = func() (t [256]uint8) {
	for i := range 0x20 {
		t[i] = control
	}
	t['"'], t['\\'] = quote, escape
	return t
}()

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// scanString returns the index after the string that begins at b[i], which is a quote,
// and whether there are escapes in it.
func scanString(b []byte, i int) (end int, escaped bool, ok bool) {
	i++
	for i < len(b) {
		switch stringClass[b[i]] {
		case plain:
			i++
		case quote:
			return i + 1, escaped, true
		case control:
			return i, escaped, false
		case escape:
			escaped = true
			i++
			if i >= len(b) {
				return i, escaped, false
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i++
			case 'u':
				r, ok := hexRune(b, i+1)
				if !ok {
					return i, escaped, false
				}
				i += 5
				if utf16.IsSurrogate(r) {
					// Half a surrogate pair is no character; Phoenix refuses it too.
					if i+1 >= len(b) || b[i] != '\\' || b[i+1] != 'u' {
						return i, escaped, false
					}
					low, ok := hexRune(b, i+2)
					if !ok || utf16.DecodeRune(r, low) == unicode.ReplacementChar {
						return i, escaped, false
					}
					i += 6
				}
			default:
				return i, escaped, false
			}
		}
	}
	return i, escaped, false
}

// hexRune reads the four hexadecimal digits at b[i].
func hexRune(b []byte, i int) (r rune, ok bool) {
	if i+4 > len(b) {
		return 0, false
	}
	for _, c := range b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

func scanDigits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

// scanNumber returns the index after the number at b[i] (RFC 8259 §6). A number with a fraction
// or exponent must be in the range of a float64, as it must for Phoenix.
func scanNumber(b []byte, i int) (end int, ok bool) {
	start, float := i, false
	if i < len(b) && b[i] == '-' {
		i++
	}
	switch {
	case i >= len(b):
		return i, false
	case b[i] == '0':
		i++
	case b[i] >= '1' && b[i] <= '9':
		i = scanDigits(b, i)
	default:
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		end := scanDigits(b, i+1)
		if end == i+1 {
			return end, false
		}
		i = end
		float = i-start > 300
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		end := scanDigits(b, i)
		if end == i {
			return end, false
		}
		float = float || end-i > 2 || end-start > 200
		i = end
	}
	if float {
		if _, err := strconv.ParseFloat(string(b[start:i]), 64); err != nil {
			return i, false
		}
	}
	return i, true
}

// scanScalar returns the index after the string, number or word at b[i].
func scanScalar(b []byte, i int) (end int, ok bool) {
	switch c := b[i]; {
	case c == '"':
		end, _, ok = scanString(b, i)
		return end, ok
	case c == '-' || c >= '0' && c <= '9':
		return scanNumber(b, i)
	case c == 't' && bytes.HasPrefix(b[i:], []byte("true")):
		return i + 4, true
	case c == 'n' && bytes.HasPrefix(b[i:], []byte("null")):
		return i + 4, true
	case c == 'f' && bytes.HasPrefix(b[i:], []byte("false")):
		return i + 5, true
	}
	return i, false
}

// scanValue returns the index after the JSON value at b[i], which is not white space.
// The value is checked in full. It does not recurse: the kinds of the open containers
// are kept as bits, so that a hostile frame costs a bit a level.
func scanValue(b []byte, i int) (end int, ok bool) {
	if i >= len(b) {
		return i, false
	}
	if b[i] != '{' && b[i] != '[' {
		return scanScalar(b, i)
	}
	var room [4]uint64
	objects := room[:] // bit d: the container at depth d is an object
	depth := 0
	for {
		// At the start of a value.
		if i >= len(b) {
			return i, false
		}
		switch b[i] {
		case '{', '[':
			object := b[i] == '{'
			if depth == maxDepth {
				return i, false
			}
			if depth>>6 == len(objects) {
				objects = append(objects, 0)
			}
			if object {
				objects[depth>>6] |= 1 << (depth & 63)
			} else {
				objects[depth>>6] &^= 1 << (depth & 63)
			}
			depth++
			i = skipSpace(b, i+1)
			if i >= len(b) {
				return i, false
			}
			if object && b[i] != '}' {
				if i, ok = scanKey(b, i); !ok {
					return i, false
				}
				continue
			}
			if !object && b[i] != ']' {
				continue
			}
		default:
			if i, ok = scanScalar(b, i); !ok {
				return i, false
			}
		}
		// After a value, or at the end of an empty container.
		for {
			i = skipSpace(b, i)
			if i >= len(b) {
				return i, false
			}
			object := objects[(depth-1)>>6]&(1<<((depth-1)&63)) != 0
			if c := b[i]; object && c == '}' || !object && c == ']' {
				i++
				depth--
				if depth == 0 {
					return i, true
				}
				continue
			}
			if b[i] != ',' {
				return i, false
			}
			i = skipSpace(b, i+1)
			if object {
				if i, ok = scanKey(b, i); !ok {
					return i, false
				}
			}
			break
		}
	}
}

// scanKey scans `"key" :` and the space around it; it returns the index of the value.
func scanKey(b []byte, i int) (next int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return i, false
	}
	if i, _, ok = scanString(b, i); !ok {
		return i, false
	}
	i = skipSpace(b, i)
	if i >= len(b) || b[i] != ':' {
		return i, false
	}
	return skipSpace(b, i+1), true
}

// scanField decodes the envelope field at b[i] and returns the index after it.
func scanField(b []byte, i int) (v Value, end int, err error) {
	if i >= len(b) {
		return Value{}, i, malformed("ends at byte %d", i)
	}
	if b[i] == '"' {
		end, escaped, ok := scanString(b, i)
		if !ok {
			return Value{}, end, malformed("string at byte %d", i)
		}
		text := b[i+1 : end-1 : end-1]
		if escaped {
			if text, err = unescape(b[i:end]); err != nil {
				return Value{}, end, err
			}
		}
		return Value{Kind: String, Text: text}, end, nil
	}
	end, ok := scanValue(b, i)
	if !ok {
		return Value{}, end, malformed("value at byte %d", i)
	}
	text := b[i:end:end]
	switch {
	case string(text) == "null":
		return Value{}, end, nil
	case text[0] == '{' || text[0] == '[':
		var compact bytes.Buffer
		if err := json.Compact(&compact, text); err != nil {
			return Value{}, end, malformed("value at byte %d", i)
		}
		text = compact.Bytes()
	}
	return Value{Kind: Literal, Text: text}, end, nil
}

// unescape returns the contents of a quoted JSON string that has escapes in it.
func unescape(quoted []byte) ([]byte, error) {
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return nil, malformed("string: %v", err)
	}
	return []byte(s), nil
}

// Valid reports whether b is one JSON value. It is json.Valid, faster, without allocation, and
// stricter: half of a surrogate pair and a float beyond the range of float64 are not valid.
func Valid(b []byte) bool {
	i, ok := scanValue(b, skipSpace(b, 0))
	return ok && skipSpace(b, i) == len(b)
}

const hex = "0123456789abcdef"

// AppendString appends s as a JSON string. Only what JSON demands is escaped: some Phoenix
// clients read topic and event without a JSON parser.
func AppendString[T []byte | string](dst []byte, s T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		if stringClass[s[i]] == plain {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c := s[i]; c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
