package shadow

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"time"

	"devicehub/devices"
	"devicehub/devices/lights"
)

// ParseReport reads a device's event "state": a light's by the rules of lights,
// any other's as an object of its own fields beside t, cause, cmd,
// transitioning and target. The error is invalid, range or too_large.
func ParseReport(rec *devices.Device, payload []byte) (lights.Report, error) {
	if len(payload) > MaxBytes {
		return lights.Report{}, devices.Refuse(devices.CodeTooLarge, "the state is too large").With("limit", MaxBytes)
	}
	if rec.Is(devices.KindLight) {
		return lights.ParseReport(payload)
	}
	if err := devices.CheckJSON(payload, "payload"); err != nil {
		return lights.Report{}, err
	}
	var raw map[string]any
	dec := json.NewDecoder(bytes.NewReader(payload))
	if err := dec.Decode(&raw); err != nil || raw == nil || dec.More() {
		return lights.Report{}, devices.Invalid("payload", "one JSON object")
	}
	if depth(raw) > MaxDepth {
		return lights.Report{}, devices.Invalid("payload", "at most 4 levels")
	}
	about := map[string]any{}
	for _, name := range []string{"t", "cause", "cmd", "transitioning"} {
		if v, ok := raw[name]; ok {
			about[name] = v
			delete(raw, name)
		}
	}
	b, err := json.Marshal(about)
	if err != nil {
		return lights.Report{}, devices.Invalid("payload", "JSON")
	}
	r, err := lights.ParseReport(b)
	if target, ok := raw["target"].(map[string]any); ok && r.Transitioning {
		r.Target = target
	}
	for _, name := range []string{"target", "ver", "by"} {
		delete(raw, name)
	}
	r.Fields = raw
	return r, err
}

// Outcome is what a report came to.
type Outcome struct {
	Ver     int64
	State   map[string]any // as people see it, with ver, t, cause, by, cmd
	Fields  lights.Fields  // the state now, interim values included
	Changed bool           // it differs from the state before
}

// Report takes over what the device says of itself; by is who sent the command
// that it names. An interim report is shown, but neither raises the version nor
// is written. The error is overloaded.
func (s *Shadows) Report(rec *devices.Device, r lights.Report, by string) (o Outcome, err error) {
	err = s.with(rec, func(d *doc, now time.Time) (bool, error) {
		before := d.Reported
		if d.interim != nil {
			before = d.interim
		}
		after := merge(rec, before, r.Fields)
		d.Last = said{T: r.T, Cause: r.Cause, By: by, Cmd: r.Cmd}
		if d.Last.T == 0 {
			d.Last.T = now.UnixMilli()
		}
		if d.Last.Cause == "" && r.Cmd != "" {
			d.Last.Cause = lights.CauseCommand
		}
		o.Changed = !equal(before, after) || (d.interim != nil) != r.Transitioning
		o.Fields = maps.Clone(after)
		written := false
		if r.Transitioning {
			d.interim, d.target = after, r.Target
		} else {
			d.interim, d.target = nil, nil
			written = s.accept(rec, d, r, after, now)
		}
		o.Ver, o.State = d.ver, d.state(rec)
		return written, nil
	})
	return o, err
}

// accept makes after the reported state.
func (s *Shadows) accept(rec *devices.Device, d *doc, r lights.Report, after lights.Fields, now time.Time) (changed bool) {
	ver := d.ver + 1
	m := Meta{Ver: ver, At: now.UnixMilli(), Cause: d.Last.Cause, By: d.Last.By, Cmd: d.Last.Cmd}
	meta := map[string]Meta{}
	for name, v := range after {
		if old, ok := d.Reported[name]; ok && reflect.DeepEqual(old, v) {
			meta[name] = d.ReportedMeta[name]
			continue
		}
		meta[name], changed = m, true
	}
	changed = changed || len(after) != len(d.Reported)
	d.Reported, d.ReportedMeta = after, meta
	if rec.ShadowPolicy != devices.DesiredWins {
		n := len(d.Desired)
		if r.Cause == lights.CauseLocal {
			s.localWins(rec, d, r, now)
		}
		s.settle(rec, d)
		changed = changed || len(d.Desired) != n
	}
	if changed {
		d.ver = ver
	}
	return changed
}

// localWins clears the desired fields that somebody changed at the device after
// they were asked for. A colour changed in one representation is changed in all.
func (s *Shadows) localWins(rec *devices.Device, d *doc, r lights.Report, now time.Time) {
	at := s.Happened(rec.ID, r.T, now)
	light := rec.Is(devices.KindLight)
	colour := light && r.Fields.Groups()&lights.Colour != 0
	for name, m := range d.DesiredMeta {
		_, said := r.Fields[name]
		if (said || colour && lights.GroupOf(name) == lights.Colour) && m.At <= at {
			d.drop(name)
		}
	}
}

// Happened is when, by the hub's clock, what a device reports now with its time t
// took place, in ms since epoch. A time that cannot be right is taken for now.
func (s *Shadows) Happened(id devices.ID, t int64, now time.Time) int64 {
	const unset = 1420070400000 // 2015-01-01: a clock that was never set
	arrived := now.UnixMilli()
	if t < unset {
		return arrived
	}
	if s.cfg.ClockOffset != nil {
		if off, ok := s.cfg.ClockOffset(id); ok {
			t -= off
		}
	}
	return min(t, arrived)
}

func merge(rec *devices.Device, before, report lights.Fields) lights.Fields {
	if rec.Is(devices.KindLight) {
		return before.Merge(report)
	}
	after := lights.Fields{}
	maps.Copy(after, before)
	for name, v := range report {
		if v == nil {
			delete(after, name)
		} else {
			after[name] = v
		}
	}
	return after
}

func equal(a, b lights.Fields) bool {
	return maps.EqualFunc(a, b, func(x, y any) bool {
		if lx, ok := x.([]any); ok {
			ly, ok := y.([]any)
			return ok && slices.EqualFunc(lx, ly, func(a, b any) bool { return reflect.DeepEqual(a, b) })
		}
		return reflect.DeepEqual(x, y)
	})
}
