package fleet

import (
	"slices"
	"strings"

	"devicehub/devices"
)

// fields are the keys of a search that every device has.
var fields = []string{
	"id", "name", "kind", "area", "model", "manufacturer", "via", "fw", "hw", "sleepy", "enabled",
	"status", "link", "data", "control", "reason", "transport", "flapping", "unverified", "on", "brightness",
}

// checkKeys refuses a key that is no field and that no device which who may see has as a label
// or a metric: most likely it is mistyped, and would find nothing without a word. label.… is
// taken whether a device has it or not. The error is invalid, naming q.
func (f *Fleet) checkKeys(who devices.Actor, flt *filter) error {
	for _, t := range flt.terms {
		if t.key != "" && !f.knows(who, t.key) {
			return bad("a field (" + strings.Join(fields, ", ") + "), a label or a metric before " + t.op + "; no device has " + t.key)
		}
	}
	return nil
}

// knows reports whether a search of who may name key.
func (f *Fleet) knows(who devices.Actor, key string) bool {
	if strings.HasPrefix(key, "label.") || slices.Contains(fields, key) || slices.ContainsFunc(devices.Catalogue(), func(m devices.Metric) bool { return m.Name == key }) {
		return true
	}
	for d := range f.cfg.Registry.All() {
		if !who.May(devices.RightRead, d) {
			continue
		}
		for k := range d.Labels {
			if strings.EqualFold(k, key) {
				return true
			}
		}
		if slices.ContainsFunc(d.Metrics, func(m devices.Metric) bool { return m.Name == key }) {
			return true
		}
		if f.cfg.Latest != nil {
			if _, has := f.cfg.Latest(d.ID)[key]; has {
				return true
			}
		}
	}
	return false
}
