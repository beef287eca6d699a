package readings

import (
	"math"
	"strconv"

	"devicehub/devices"
)

// Value is one measured value. A bool is in F as 0 or 1; enums and strings are
// in S.
type Value struct {
	Type devices.ValueType
	F    float64
	S    string
}

// Float is a float value.
func Float(f float64) Value { return Value{Type: devices.TypeFloat, F: f} }

// Bool is a bool value.
func Bool(b bool) Value {
	v := Value{Type: devices.TypeBool}
	if b {
		v.F = 1
	}
	return v
}

// Text is a string value.
func Text(s string) Value { return Value{Type: devices.TypeString, S: s} }

// Any is the value as encoding/json writes it: float64, bool or string.
func (v Value) Any() any {
	switch v.Type {
	case devices.TypeFloat:
		return v.F
	case devices.TypeBool:
		return v.F != 0
	}
	return v.S
}

// AppendJSON appends the value as JSON.
func (v Value) AppendJSON(b []byte) []byte {
	switch v.Type {
	case devices.TypeFloat:
		return appendFloat(b, v.F)
	case devices.TypeBool:
		return strconv.AppendBool(b, v.F != 0)
	}
	return appendString(b, v.S)
}

// Quality is a set of remarks about a reading. Its bits are in the formats on
// disk: a new one is added at the end.
type Quality uint16

// The qualities, named on the wire as in Names.
const (
	ServerTime Quality = 1 << iota // t is the hub's
	ClockAhead                     // the device's t was more than 60 s in the future
	ClockUnset                     // the device's t was before 2015
	Late                           // stored behind a newer one, or long after it was measured
	RangeFlag                      // outside the metric's plausible range
	Converted                      // sent in another unit
	Undeclared                     // neither the record nor the catalogue declares the metric
	qualityEnd
)

var qualityNames = [...]string{"server_time", "clock_ahead", "clock_unset", "late", "out_of_range", "converted", "undeclared"}

// allNames are the names of every set there can be.
var allNames = func() (all [qualityEnd][]string) {
	for q := range all {
		all[q] = []string{}
		for i, n := range qualityNames {
			if q&(1<<i) != 0 {
				all[q] = append(all[q], n)
			}
		}
	}
	return all
}()

// Names lists the names of the set. The list is shared: do not change it.
func (q Quality) Names() []string { return allNames[q&(qualityEnd-1)] }

func (q Quality) appendJSON(b []byte) []byte {
	b = append(b, '[')
	first := true
	for i, n := range qualityNames {
		if q&(1<<i) != 0 {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(b, '"')
			b = append(b, n...)
			b = append(b, '"')
		}
	}
	return append(b, ']')
}

// appendFloat writes f as encoding/json does (ES6 number formatting), f finite.
func appendFloat(b []byte, f float64) []byte {
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.AppendInt(b, int64(f), 10)
	}
	abs := math.Abs(f)
	for e, by := range [...]float64{1e1, 1e2, 1e3, 1e4} {
		// A decimal of 15 digits or less is the only one of the numbers that
		// it rounds to, so that it is the shortest too.
		if i := math.Round(abs * by); i < 1e15 && i/by == abs {
			return appendDecimal(b, f < 0, int64(i), e+1)
		}
	}
	if abs >= 1e21 || abs < 1e-6 {
		b = strconv.AppendFloat(b, f, 'e', -1, 64)
		if n := len(b); n >= 4 && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' { // e-09 is e-9
			b[n-2] = b[n-1]
			b = b[:n-1]
		}
		return b
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64)
}

// appendDecimal writes i, at least 0, with a point before its last e digits.
func appendDecimal(b []byte, negative bool, i int64, e int) []byte {
	if negative {
		b = append(b, '-')
	}
	by := int64(10)
	for range e - 1 {
		by *= 10
	}
	b = strconv.AppendInt(b, i/by, 10)
	b = append(b, '.')
	for by, i = by/10, i%by; by > 0; by /= 10 {
		b = append(b, '0'+byte(i/by%10))
	}
	return b
}

const hexDigits = "0123456789abcdef"

// appendString writes s, which is valid UTF-8, as a JSON string that is safe
// in HTML too.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' && c != 0xe2 {
			continue
		}
		if c == 0xe2 { // U+2028 and U+2029 end lines in JavaScript
			if i+2 >= len(s) || s[i+1] != 0x80 || s[i+2]&^1 != 0xa8 {
				continue
			}
			b = append(b, s[start:i]...)
			b = append(b, `\u202`...)
			b = append(b, hexDigits[s[i+2]&0xf])
			i += 2
			start = i + 1
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		}
		start = i + 1
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
