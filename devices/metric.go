package devices

import (
	"slices"
)

// ValueType is the type of a metric's values.
type ValueType string

// The value types. A float is a float64, always; an enum is a string out of the
// metric's options.
const (
	TypeFloat  ValueType = "float"
	TypeBool   ValueType = "bool"
	TypeEnum   ValueType = "enum"
	TypeString ValueType = "string"
)

// Text reports whether values of the type are texts.
func (t ValueType) Text() bool { return t == TypeEnum || t == TypeString }

// OnRange says what becomes of a value outside a metric's plausible range, or
// that is none of its options.
type OnRange string

// The policies for implausible values.
const (
	FlagRange   OnRange = "flag" // stored with quality out_of_range
	RejectRange OnRange = "reject"
)

// State classes, named as in Home Assistant. Every metric in a unit of angles is
// a direction, whatever its class.
const (
	Measurement      = "measurement"
	MeasurementAngle = "measurement_angle"
	Total            = "total"            // may fall as well
	TotalIncreasing  = "total_increasing" // a meter: falls only when it starts again
)

// Metric declares one thing that a device measures.
type Metric struct {
	Name              string    `json:"name"`            // a-z, then up to 31 of a-z, 0-9, _
	Class             string    `json:"class,omitempty"` // Home Assistant's device class
	Unit              string    `json:"unit,omitempty"`
	Type              ValueType `json:"type"`
	Min               *float64  `json:"min,omitempty"` // plausible range
	Max               *float64  `json:"max,omitempty"`
	OnRange           OnRange   `json:"on_range,omitempty"`
	Options           []string  `json:"options,omitempty"`   // of an enum, 1 to 64
	Precision         float64   `json:"precision,omitempty"` // the smallest step that means something
	StateClass        string    `json:"state_class,omitempty"`
	ExpectedIntervalS float64   `json:"expected_interval_s,omitempty"`
}

// ValidMetricName reports whether s is ^[a-z][a-z0-9_]{0,31}$.
func ValidMetricName(s string) bool {
	if len(s) == 0 || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := 1; i < len(s); i++ {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_') {
			return false
		}
	}
	return true
}

func checkMetrics(ms []Metric) error {
	if len(ms) > MaxMetrics {
		return Invalid("metrics", "at most 64")
	}
	for i := range ms {
		m := &ms[i]
		if !ValidMetricName(m.Name) {
			return Invalid("metrics.name", "a-z, then up to 31 of a-z, 0-9 and _")
		}
		if slices.ContainsFunc(ms[:i], func(o Metric) bool { return o.Name == m.Name }) {
			return Invalid("metrics.name", "each metric once")
		}
		m.fill()
		if err := m.check(); err != nil {
			return err
		}
	}
	return nil
}

// fill takes what the declaration leaves open from the catalogue.
func (m *Metric) fill() {
	c, known := catalogue[m.Name]
	switch {
	case m.Type != "":
	case len(m.Options) > 0:
		m.Type = TypeEnum
	case known:
		m.Type = c.Type
	default:
		m.Type = TypeFloat
	}
	if !known || m.Type != c.Type {
		return
	}
	if m.Unit == "" {
		m.Unit = c.Unit
	}
	if m.Class == "" {
		m.Class = c.Class
	}
	if m.StateClass == "" {
		m.StateClass = c.StateClass
	}
	if m.Precision == 0 {
		m.Precision = c.Precision
	}
	if m.Min == nil && m.Max == nil && NormalizeUnit(m.Unit) == c.Unit {
		m.Min, m.Max = c.Min, c.Max
	}
}

func (m *Metric) check() error {
	switch m.Type {
	case TypeFloat, TypeBool, TypeEnum, TypeString:
	default:
		return Invalid("metrics.type", "float, bool, enum or string")
	}
	switch m.OnRange {
	case "", FlagRange, RejectRange:
	default:
		return Invalid("metrics.on_range", "flag or reject")
	}
	if m.Min != nil && m.Max != nil && !(*m.Min <= *m.Max) {
		return Invalid("metrics.min", "at most max")
	}
	if !within(m.ExpectedIntervalS, 0, maxExpectedPeriod) {
		return OutOfRange("metrics.expected_interval_s", 0, maxExpectedPeriod, "s")
	}
	if m.Type != TypeFloat && m.Unit != "" {
		return Invalid("metrics.unit", "none on a metric that is not a float")
	}
	if len(m.Unit) > 32 || len(m.Class) > MaxLabel {
		return Invalid("metrics.unit", "at most 32 bytes, and a class of at most 63")
	}
	m.Unit = NormalizeUnit(m.Unit)
	return nil
}

// Declared returns the declaration of a metric of this device: the record's,
// else the catalogue's. ok is false when neither has one.
func (d *Device) Declared(name string) (m Metric, ok bool) {
	for i := range d.Metrics {
		if d.Metrics[i].Name == name {
			return d.Metrics[i], true
		}
	}
	m, ok = catalogue[name]
	return m, ok
}
