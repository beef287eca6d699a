package shadow

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"time"

	"devicehub/devices"
	"devicehub/devices/lights"
)

// PatchRequest changes the desired side.
type PatchRequest struct {
	// Desired has the fields to set; null deletes one.
	Desired map[string]any `json:"desired"`
	IfVer   *int64         `json:"if_ver,omitempty"`
	Until   *int64         `json:"until,omitempty"` // ms since epoch; 0 and null: the policy's
	// Expect is asked about the version before IfVer is; its error is Patch's.
	Expect devices.Expect `json:"-"`
}

// Patch changes what people want of the device. The error is not_found,
// forbidden, invalid, range, too_large, version_conflict with the current
// document, or overloaded.
func (s *Shadows) Patch(_ context.Context, a devices.Actor, o devices.Origin, id devices.ID, r PatchRequest) (Doc, error) {
	rec, err := s.mayWrite(a, id)
	if err != nil {
		s.audit(o, a, id, r, nil, err)
		return Doc{}, err
	}
	var after Doc
	before := map[string]any{}
	err = s.with(rec, func(d *doc, now time.Time) (bool, error) {
		if err := r.Expect.Check(d.ver); err != nil {
			return false, err
		}
		if r.IfVer != nil && *r.IfVer != d.ver {
			return false, s.conflict(rec, d)
		}
		desired, err := s.desiredAfter(rec, d, r, now)
		if err != nil {
			return false, err
		}
		until, err := s.untilOf(rec, r.Until, now)
		if err != nil {
			return false, err
		}
		d.ver++
		m := Meta{Ver: d.ver, At: now.UnixMilli(), By: a.String(), Until: until}
		for name, v := range d.Desired {
			next, stays := desired[name]
			if !stays || !reflect.DeepEqual(next, v) {
				before[name] = v
			}
			if !stays {
				d.drop(name)
			}
		}
		for name, v := range r.Desired {
			if v != nil {
				d.want(name, desired[name], m)
			}
		}
		s.settle(rec, d)
		after = s.view(rec, d)
		return true, nil
	})
	s.audit(o, a, id, r, before, err)
	if err != nil {
		return Doc{}, err
	}
	for _, f := range s.patched {
		f(id)
	}
	return after, nil
}

func (s *Shadows) mayWrite(a devices.Actor, id devices.ID) (*devices.Device, error) {
	rec, ok := s.cfg.Registry.Get(id)
	switch {
	case !ok && a.Rights&devices.RightCommand != 0:
		return nil, devices.NotFound("device")
	case !ok || !a.May(devices.RightCommand, rec):
		return nil, devices.Refuse(devices.CodeForbidden, "you may not control this device")
	}
	return rec, nil
}

func (s *Shadows) conflict(rec *devices.Device, d *doc) error {
	return devices.Refuse(devices.CodeVersionConflict, "the shadow has changed meanwhile").With("current", s.view(rec, d))
}

// desiredAfter is the desired side as the patch would leave it.
func (s *Shadows) desiredAfter(rec *devices.Device, d *doc, r PatchRequest, now time.Time) (lights.Fields, error) {
	if len(r.Desired) == 0 {
		return nil, devices.Invalid("desired", "an object of fields to set, or null to delete")
	}
	after := lights.Fields{}
	for name, v := range d.Desired {
		if d.DesiredMeta[name].live(now.UnixMilli()) {
			after[name] = v
		}
	}
	said := lights.Fields{}
	for name, v := range r.Desired {
		if v == nil {
			delete(after, name)
			continue
		}
		if rec.Is(devices.KindLight) {
			var err error
			if v, err = lights.CheckField(rec.Light, name, v); err != nil {
				return nil, err
			}
		}
		said[name] = v
	}
	if rec.Is(devices.KindLight) {
		if err := said.OneColour(); err != nil {
			return nil, err
		}
		after = after.Over(said)
	}
	maps.Copy(after, said)
	if depth(map[string]any(after)) > MaxDepth {
		return nil, devices.Invalid("desired", "at most 4 levels")
	}
	b, err := json.Marshal(after)
	if err != nil {
		return nil, devices.Invalid("desired", "JSON")
	}
	if len(b) > MaxBytes {
		return nil, devices.Refuse(devices.CodeTooLarge, "desired is too large").With("limit", MaxBytes)
	}
	return after, nil
}

func (s *Shadows) untilOf(rec *devices.Device, until *int64, now time.Time) (int64, error) {
	switch {
	case until != nil && *until != 0:
		if ahead := *until - now.UnixMilli(); ahead <= 0 || ahead > maxUntil.Milliseconds() {
			return 0, devices.OutOfRange("until", float64(now.UnixMilli()+1), float64(now.Add(maxUntil).UnixMilli()), "ms since epoch")
		}
		return *until, nil
	case rec.ShadowPolicy == devices.DesiredWins:
		return 0, nil
	}
	return now.Add(IntentFor).UnixMilli(), nil
}

// settle clears, under local_wins, what the device already is.
func (s *Shadows) settle(rec *devices.Device, d *doc) {
	if rec.ShadowPolicy == devices.DesiredWins {
		return
	}
	for name, v := range d.Desired {
		if s.shows(rec, d.Reported, name, v) {
			d.drop(name)
		}
	}
}

// Want notes that a command asks for fields. ifVer, if given, must be the
// present version. The fields that it replaces are gone.
func (s *Shadows) Want(rec *devices.Device, cmd, by string, want lights.Fields, ifVer *int64) error {
	return s.with(rec, func(d *doc, now time.Time) (bool, error) {
		if ifVer != nil && *ifVer != d.ver {
			return false, s.conflict(rec, d)
		}
		if len(want) == 0 {
			return false, nil
		}
		until, err := s.untilOf(rec, nil, now)
		if err != nil {
			return false, err
		}
		d.ver++
		m := Meta{Ver: d.ver, At: now.UnixMilli(), By: by, Cmd: cmd, Until: until}
		over := d.Desired.Over(want)
		for name := range d.Desired {
			if _, stays := over[name]; !stays {
				d.drop(name)
			}
		}
		for name, v := range want {
			d.want(name, v, m)
		}
		s.settle(rec, d)
		return true, nil
	})
}

// Unwant takes back what a command asked for that came to nothing.
func (s *Shadows) Unwant(rec *devices.Device, cmd string) {
	err := s.with(rec, func(d *doc, _ time.Time) (bool, error) {
		changed := false
		for name, m := range d.DesiredMeta {
			if m.Cmd == cmd {
				d.drop(name)
				changed = true
			}
		}
		if changed {
			d.ver++
		}
		return changed, nil
	})
	if err != nil {
		s.log.Warn("intent of a command not taken back", "device", rec.ID, "cmd", cmd, "err", err) // it ends by itself
	}
}

// audit keeps which desired fields a change replaced, and by what.
func (s *Shadows) audit(o devices.Origin, a devices.Actor, id devices.ID, r PatchRequest, before map[string]any, err error) {
	if s.cfg.Audit == nil {
		return
	}
	e := devices.AuditEntry{Actor: a.String(), Via: o.Via, Action: "shadow.update", Target: "device:" + string(id), Outcome: "ok"}
	if err != nil {
		e.Outcome, e.Code = "refused", devices.CodeOf(err)
	} else {
		e.After = r.Desired
		if len(before) > 0 {
			e.Before = before
		}
	}
	s.cfg.Audit.Record(o, e)
}

// depth is how many levels of objects and lists v has.
func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			deepest = max(deepest, depth(e))
		}
	case []any:
		for _, e := range v {
			deepest = max(deepest, depth(e))
		}
	default:
		return 0
	}
	return 1 + deepest
}
