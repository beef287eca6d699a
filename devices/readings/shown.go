package readings

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"devicehub/devices"
)

// picked is what a chart or an export shows of a metric of a device.
type picked struct {
	series []*Series
	typ    devices.ValueType
	unit   string
	nature Nature
}

// pick is what a chart shows of a metric of a device.
func (in *Ingest) pick(id devices.ID, name string) picked {
	rec, ok := in.book.Lookup(id)
	if !ok {
		return picked{}
	}
	decl := declared(in.record(id), name)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.shown(name, decl)
}

// shown is what a chart shows of a metric that is declared as decl, nil for not
// at all: the series of the declared type, else of that of the latest reading,
// in its unit. The caller holds the record.
func (r *Record) shown(name string, decl *devices.Metric) (p picked) {
	var newest *Series
	for _, s := range r.series {
		if s.has && s.Metric == name {
			p.series = append(p.series, s)
			if newest == nil || s.last.T >= newest.last.T {
				newest = s
			}
		}
	}
	if newest == nil {
		return p
	}
	p.typ, p.unit = newest.Type, newest.Unit
	if decl != nil && slices.ContainsFunc(p.series, func(s *Series) bool { return sameValues(s.Type, decl.Type) }) {
		p.typ, p.unit = decl.Type, decl.Unit
	}
	p.series = slices.DeleteFunc(p.series, func(s *Series) bool { return !s.shownAs(p.typ, p.unit) })
	if p.typ == devices.TypeFloat {
		counter := decl != nil && decl.StateClass == devices.TotalIncreasing
		counter = counter || slices.ContainsFunc(p.series, func(s *Series) bool { return s.Counter })
		p.nature = natureOf(p.unit, counter)
	}
	return p
}

// sameValues reports whether values of the two types are shown alike: an enum is
// a text.
func sameValues(a, b devices.ValueType) bool { return a == b || a.Text() && b.Text() }

// shownAs reports whether the series is shown where the metric is declared with
// a type and unit. One without a unit is taken for the unit that was declared
// since.
func (s *Series) shownAs(typ devices.ValueType, unit string) bool {
	if !sameValues(s.Type, typ) {
		return false
	}
	_, ok := devices.ConvertUnit(0, s.Unit, unit)
	return ok || s.Unit == ""
}

type hiding struct{}

// Hiding returns a context in which Guard lets readings be hidden.
func Hiding(ctx context.Context) context.Context { return context.WithValue(ctx, hiding{}, true) }

// Guard refuses a change of a record that would make readings vanish from every
// chart: a metric with readings is given another type, or a unit that they do not
// convert to. It is a registry's guard; in a context of Hiding it lets them be
// hidden. An export has them all the same.
func (in *Ingest) Guard(ctx context.Context, c devices.Change) error {
	rec, ok := in.book.Lookup(c.After.ID)
	if !ok || ctx.Value(hiding{}) != nil {
		return nil
	}
	before := c.Before
	if before == nil { // made anew, under an id whose readings were kept
		before = &unrecorded
	}
	if reflect.DeepEqual(before.Metrics, c.After.Metrics) {
		return nil
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for _, s := range rec.series {
		if !s.has {
			continue
		}
		was, is := declared(before, s.Metric), declared(c.After, s.Metric)
		same := is == nil || was != nil && was.Type == is.Type && was.Unit == is.Unit
		if same || s.shownAs(is.Type, is.Unit) {
			continue
		}
		if slices.Contains(rec.shown(s.Metric, was).series, s) {
			return hidden(s, is)
		}
	}
	return nil
}

// hidden refuses a declaration in which a series is not shown any more.
func hidden(s *Series, decl *devices.Metric) error {
	field, want := "metrics.type", string(s.Type)
	if sameValues(s.Type, decl.Type) {
		field, want = "metrics.unit", strings.Join(devices.ConvertibleTo(s.Unit), ", ")
	}
	e := devices.Invalid(field, want+", as the readings of "+s.Metric+
		" that are kept; give another name, or hide them with hide_readings=true")
	e.Reason = fmt.Sprintf("%s of %s: want %s", field, s.Metric, e.Details["want"])
	return e.With("metric", s.Metric)
}
