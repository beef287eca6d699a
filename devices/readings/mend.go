package readings

import (
	"strconv"
	"strings"

	"devicehub/devices"
)

// mend tells how to write what looks like a number and is none: "write 21.4, not
// 21,4". It is empty for anything else.
func mend(text string) string {
	s := strings.Trim(text, " \t\r\n\x00")
	if s == "" || len(s) > 64 || !devices.GoodText(s) {
		return ""
	}
	if isNotFinite(s) {
		return "leave out a reading that is no number, " + s
	}
	if n := numberLen([]byte(s)); n == len(s) {
		if _, ok := parseFloat([]byte(s)); !ok {
			return "leave out a reading too large for a number, " + s
		}
		if s != text {
			return "write " + s + " and nothing behind it"
		}
		return ""
	}
	if better, ok := inJSON(s); ok {
		return "write " + better + ", not " + s
	}
	if n := numberLen([]byte(s)); n > 0 && len(devices.ConvertibleTo(devices.NormalizeUnit(s[n:]))) > 1 {
		return "write " + s[:n] + " and the unit apart, not " + s
	}
	return ""
}

// inJSON writes a number as JSON does.
func inJSON(s string) (better string, ok bool) {
	if strings.Count(s, ",") == 1 && !strings.Contains(s, ".") {
		s = strings.Replace(s, ",", ".", 1)
	}
	if n, err := strconv.ParseInt(strings.TrimPrefix(s, "+"), 0, 53); err == nil && strings.ContainsAny(s, "xXoObB") {
		return strconv.FormatInt(n, 10), true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f-f != 0 || strings.ContainsAny(s, "xX_") {
		return "", false
	}
	return string(appendFloat(nil, f+0)), true
}

// isNotFinite knows the ways in which programs print what is no number.
func isNotFinite(s string) bool {
	switch strings.TrimLeft(strings.ToLower(s), "+-") {
	case "nan", "inf", "infinity", "1.#inf", "1.#ind", "1.#qnan", "nan(ind)", "nan(snan)":
		return true
	}
	return false
}

// token is the word that stands at the scanner's place.
func (s *scanner) token() string {
	rest := s.b[min(s.i, len(s.b)):]
	end := 0
	for end < len(rest) && end < 64 && !strings.ContainsRune(",]}:\" \t\r\n", rune(rest[end])) {
		end++
	}
	return string(rest[:end])
}

// malformed refuses a text that is no JSON, with how to mend it if that can be
// told from what stands where it went wrong.
func (s *scanner) malformed() error {
	if m := mend(s.token()); m != "" {
		return devices.Invalid("payload", "valid JSON: "+m)
	}
	return errJSON
}

// wantValue is what a value is to be.
const wantValue = "a finite number, true, false or a text of UTF-8"

// badValue refuses what stands at the scanner's place in the place of a value.
func (s *scanner) badValue(field string) *devices.Error {
	if m := mend(s.token()); m != "" {
		return devices.Invalid(field, wantValue+": "+m)
	}
	return devices.Invalid(field, wantValue)
}

// typeConflict refuses a value of another type than the metric holds.
func typeConflict(m *metric, it *item) *devices.Error {
	reason := m.name + " holds texts: send one, in quotes"
	switch m.typ {
	case devices.TypeFloat:
		reason = m.name + " holds numbers: " + numberFor(it)
	case devices.TypeBool:
		reason = m.name + " holds true or false: send one of them, without quotes"
	}
	return devices.Refuse(devices.CodeTypeConflict, reason).With("field", "v").With("expect", string(m.typ))
}

// numberFor tells what to send in the place of a value that is no number.
func numberFor(it *item) string {
	if it.typ != kindString {
		return "send one, not true or false"
	}
	if how := mend(it.text); how != "" {
		return how
	}
	if it.text != "" && numberLen([]byte(it.text)) == len(it.text) {
		return "send " + it.text + " without quotes"
	}
	return "send one, not a text"
}

// withoutMark refuses a payload that begins with a byte order mark.
func withoutMark(b []byte, field string) error {
	if strings.HasPrefix(string(b[:min(len(b), 3)]), devices.ByteOrderMark) {
		return devices.Invalid(field, "no byte order mark: leave out the bytes EF BB BF at the beginning")
	}
	return nil
}
