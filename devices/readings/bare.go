package readings

import (
	"strings"
	"unicode/utf8"

	"devicehub/devices"
)

// ParseBare reads the payload of an MQTT topic r/<metric>: a number, true,
// false, or text, which is taken as a string. The metric decides in the end:
// where it holds strings, "5" is one too. Nothing of the arguments is kept.
func ParseBare(metric string, b []byte) (Batch, error) {
	metric = ownName(metric)
	if !devices.ValidMetricName(metric) {
		return Batch{}, devices.Invalid("m", "a metric name")
	}
	if len(b) == 0 {
		return Batch{}, devices.Invalid("v", "a number, true, false or text")
	}
	if err := withoutMark(b, "v"); err != nil {
		return Batch{}, err
	}
	if !utf8.Valid(b) {
		return Batch{}, devices.Invalid("v", "UTF-8")
	}
	it := item{metric: metric, text: string(b), bare: true, typ: kindString}
	s := scanner{b: b}
	switch s.peek() {
	case 't', 'f', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		var n item
		if s.scalar(&n) && s.end() {
			it.typ, it.f = n.typ, n.f
			return Batch{items: []item{it}}, nil
		}
	}
	if word := strings.TrimSpace(it.text); isNotFinite(word) || isHuge(word) {
		s.i = 0
		s.space()
		return Batch{}, s.badValue("v")
	}
	return Batch{items: []item{it}}, nil
}

// isHuge reports whether the text is a number, though none that fits.
func isHuge(s string) bool {
	n := numberLen([]byte(s))
	_, fits := parseFloat([]byte(s))
	return n > 0 && n == len(s) && !fits
}
