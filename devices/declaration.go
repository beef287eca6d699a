package devices

import (
	"fmt"
	"reflect"
	"slices"
)

// Bounds of a declaration.
const (
	MaxOptions   = 64
	minPrecision = 1e-9
	maxPrecision = 1e6
)

// judge refuses what no one can mean in a record. What before has already is left
// alone, so that a record of an earlier version of the hub does not stand in the
// way of what is changed beside it; before is nil for a new device.
func (d *Device) judge(before *Device) error {
	if before == nil {
		before = &Device{}
	}
	for _, f := range []struct{ name, text, was string }{
		{"name", d.Name, before.Name}, {"model", d.Model, before.Model},
		{"manufacturer", d.Manufacturer, before.Manufacturer}, {"fw", d.Firmware, before.Firmware},
		{"hw", d.Hardware, before.Hardware}, {"area", d.Area, before.Area}, {"notes", d.Notes, before.Notes},
	} {
		if f.text != f.was && !GoodText(f.text) {
			return Invalid(f.name, WantText)
		}
	}
	for k, v := range d.Labels {
		if was, had := before.Labels[k]; (!had || was != v) && !(GoodText(k) && GoodText(v)) {
			return Invalid("labels", "keys and values of "+WantText)
		}
	}
	return d.judgeMetrics(before)
}

// judgeMetrics refuses declarations that no one can mean and that before does
// not have.
func (d *Device) judgeMetrics(before *Device) error {
	for i := range d.Metrics {
		m := &d.Metrics[i]
		if slices.ContainsFunc(before.Metrics, func(o Metric) bool { return reflect.DeepEqual(o, *m) }) {
			continue
		}
		if err := m.judge(); err != nil {
			err.Reason = fmt.Sprintf("%s of %s: want %s", err.Details["field"], m.Name, err.Details["want"])
			return err.With("metric", m.Name)
		}
	}
	return nil
}

// judge returns why no one can mean the declaration, if so. Of a class that has
// a usual unit it takes that one where none is given.
func (m *Metric) judge() *Error {
	if !validClass(m.Class) {
		return Invalid("metrics.class",
			"a-z, then a-z, 0-9 and _, at most 63: one of Home Assistant's device classes, or none")
	}
	switch m.Type {
	case TypeFloat:
		return m.judgeFloat()
	case TypeEnum:
		if err := checkOptions(m.Options); err != nil {
			return err
		}
	default:
		if len(m.Options) > 0 {
			return Invalid("metrics.options", "none but on an enum")
		}
	}
	return m.judgePlain()
}

// judgePlain judges a metric whose values are no numbers.
func (m *Metric) judgePlain() *Error {
	_, number := classes[m.Class]
	switch {
	case m.Type == TypeBool && number && !BinaryClass(m.Class):
		return Invalid("metrics.class", "a class of what is on or off, or type float: "+m.Class+" is a number")
	case m.Type.Text() && (number || BinaryClass(m.Class)):
		return Invalid("metrics.class", "enum or none on texts, or another type: "+m.Class+" is no text")
	case m.Min != nil || m.Max != nil:
		return Invalid("metrics.min", "neither min nor max on a metric that is not a float")
	case m.Precision != 0:
		return Invalid("metrics.precision", "none on a metric that is not a float")
	case m.StateClass != "":
		return Invalid("metrics.state_class",
			"none on a metric that is not a float: a "+string(m.Type)+" has no sum and no mean")
	}
	return nil
}

func (m *Metric) judgeFloat() *Error {
	if len(m.Options) > 0 {
		return Invalid("metrics.options", "none but on an enum")
	}
	if p := m.Precision; p != 0 && !within(p, minPrecision, maxPrecision) {
		return Invalid("metrics.precision", "a step such as 0.1, from 1e-9 to 1e6, or 0 for none")
	}
	if _, number := classes[m.Class]; number {
		if m.Unit == "" {
			m.Unit = canonicalUnit(m.Class)
		}
		if ok, units := classHas(m.Class, m.Unit); !ok {
			return Invalid("metrics.unit", units+", as class "+m.Class+" is measured, or another class")
		}
	} else if BinaryClass(m.Class) {
		return Invalid("metrics.class", "a class of numbers, or type bool: "+m.Class+" is on or off")
	}
	return m.judgeStateClass()
}

func (m *Metric) judgeStateClass() *Error {
	_, angle := Angle(m.Unit)
	switch m.StateClass {
	case "", Measurement:
	case MeasurementAngle:
		if !angle {
			return Invalid("metrics.state_class", "a unit of angles (°, rad) beside measurement_angle")
		}
	case Total, TotalIncreasing:
		if angle {
			return Invalid("metrics.state_class", "measurement or measurement_angle: a direction has no sum")
		}
		if m.StateClass == TotalIncreasing && units[m.Unit].quantity == "temperature" {
			return Invalid("metrics.state_class", "measurement: a temperature is no meter")
		}
	default:
		return Invalid("metrics.state_class", "measurement, measurement_angle, total or total_increasing")
	}
	return nil
}

func checkOptions(options []string) *Error {
	if len(options) == 0 || len(options) > MaxOptions {
		return Invalid("metrics.options", "1 to 64 texts that an enum can be; without them the type is string")
	}
	for i, o := range options {
		if o == "" || len(o) > MaxStringValue || !GoodText(o) {
			return Invalid("metrics.options", "texts of 1 to 255 bytes, each of "+WantText)
		}
		if slices.Contains(options[:i], o) {
			return Invalid("metrics.options", "each option once")
		}
	}
	return nil
}

// validClass reports whether s is empty or a name as Home Assistant gives its
// classes. What a class of another name means is its users' own business.
func validClass(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('a' <= c && c <= 'z' || i > 0 && ('0' <= c && c <= '9' || c == '_')) {
			return false
		}
	}
	return len(s) <= MaxLabel
}
