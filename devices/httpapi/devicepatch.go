package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// field is a field of a patch: left out, null or a value.
type field[T any] struct {
	set, null bool
	v         T
}

func (f *field[T]) read(b json.RawMessage) error {
	f.set, f.null = true, string(b) == "null"
	if f.null {
		return nil
	}
	return devices.Decode(b, "body", &f.v)
}

// apply puts the field's value, or for null the zero value, where to points.
func (f *field[T]) apply(to *T) {
	if f.set {
		*to = f.v
	}
}

// merging is a field of a patch that is an object, and is merged into what there
// is: null takes a field of it away, or as a whole all of it.
type merging struct {
	set   bool
	patch json.RawMessage
}

func (f *merging) read(b json.RawMessage) error {
	if b[0] != '{' && string(b) != "null" {
		return devices.Invalid("body", "an object")
	}
	f.set, f.patch = true, b
	return nil
}

// apply merges into what to points to. It stays as it is, to the byte, where that
// makes no difference.
func (f *merging) apply(to *json.RawMessage) error {
	if !f.set {
		return nil
	}
	if string(f.patch) == "null" {
		*to = nil
		return nil
	}
	after, err := merged(*to, f.patch)
	if err != nil {
		return devices.Invalid("body", "JSON")
	}
	if before, err := merged(*to, []byte("{}")); len(*to) == 0 || err != nil || !bytes.Equal(before, after) {
		*to = after
	}
	return nil
}

// applyLabels is apply for labels, whose values are text.
func (f *merging) applyLabels(to *map[string]string) error {
	if string(f.patch) == "null" {
		*to = nil
	}
	var patch map[string]*string
	if f.set {
		if err := devices.Decode(f.patch, "body", &patch); err != nil {
			return within("labels", err)
		}
	}
	for k, v := range patch {
		if v == nil {
			delete(*to, k)
			continue
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[k] = *v
	}
	return nil
}

// applyLight is apply for what a light can do.
func (f *merging) applyLight(to **devices.Light) error {
	if !f.set {
		return nil
	}
	var light json.RawMessage
	if *to != nil {
		b, err := json.Marshal(*to)
		if err != nil {
			return err
		}
		light = b
	}
	if err := f.apply(&light); err != nil {
		return within("light", err)
	}
	*to = nil
	if light == nil {
		return nil
	}
	after := &devices.Light{}
	if err := devices.Decode(light, "body", after); err != nil {
		return within("light", err)
	}
	*to = after
	return nil
}

// devicePatch changes a record. null takes a field away where it can be absent.
// labels, light and config are merged; metrics, a list, is replaced.
type devicePatch struct {
	IfVer             field[int64]
	Name              field[string]
	Labels            merging
	Area              field[string]
	Enabled           field[bool]
	ExpectedIntervalS field[float64]
	Sleepy            field[bool]
	Metrics           field[[]devices.Metric]
	Undeclared        field[devices.Undeclared]
	Light             merging
	ShadowPolicy      field[string]
	Config            merging
	Lat               field[*float64]
	Lon               field[*float64]
	Via               field[string]
	Notes             field[string]
}

// UnmarshalJSON names the field that is wrong.
func (p *devicePatch) UnmarshalJSON(b []byte) error {
	in := map[string]json.RawMessage{}
	if json.Unmarshal(b, &in) != nil {
		return devices.Invalid("body", "an object")
	}
	known := map[string]interface{ read(json.RawMessage) error }{
		"if_ver": &p.IfVer, "name": &p.Name, "labels": &p.Labels, "area": &p.Area, "enabled": &p.Enabled, "expected_interval_s": &p.ExpectedIntervalS, "sleepy": &p.Sleepy,
		"metrics": &p.Metrics, "undeclared": &p.Undeclared, "light": &p.Light, "shadow_policy": &p.ShadowPolicy, "config": &p.Config,
		"lat": &p.Lat, "lon": &p.Lon, "via": &p.Via, "notes": &p.Notes,
	}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		f := known[name]
		if f == nil {
			return devices.UnknownField(name)
		}
		if err := f.read(in[name]); err != nil {
			return within(name, err)
		}
	}
	return nil
}

// within puts the name of the field before the one that an error is about.
func within(name string, err error) error {
	var e *devices.Error
	if !errors.As(err, &e) {
		return err
	}
	inner, _ := e.Details["field"].(string)
	if inner != "body" && inner != "" {
		name += "." + inner
	}
	want, _ := e.Details["want"].(string)
	return devices.Invalid(name, want)
}

// check refuses what does not depend on the record.
func (p *devicePatch) check(a *API) error {
	switch {
	case p.IfVer.null:
		return devices.Invalid("if_ver", "a whole number")
	case p.Enabled.null:
		return devices.Invalid("enabled", "true or false")
	case p.Sleepy.null:
		return devices.Invalid("sleepy", "true or false")
	}
	return a.checkVia(p.Via.v)
}

func (p *devicePatch) ifVer() *int64 {
	if !p.IfVer.set {
		return nil
	}
	return &p.IfVer.v
}

func (p *devicePatch) apply(d *devices.Device) error {
	before := told(d)
	p.Name.apply(&d.Name)
	p.Area.apply(&d.Area)
	p.Enabled.apply(&d.Enabled)
	p.ExpectedIntervalS.apply(&d.ExpectedIntervalS)
	p.Sleepy.apply(&d.Sleepy)
	p.Metrics.apply(&d.Metrics)
	p.Undeclared.apply(&d.Undeclared)
	p.ShadowPolicy.apply(&d.ShadowPolicy)
	p.Lat.apply(&d.Lat)
	p.Lon.apply(&d.Lon)
	p.Via.apply(&d.Via)
	p.Notes.apply(&d.Notes)
	if err := p.Labels.applyLabels(&d.Labels); err != nil {
		return err
	}
	if err := p.Light.applyLight(&d.Light); err != nil {
		return err
	}
	if err := p.Config.apply(&d.Config); err != nil {
		return within("config", err)
	}
	if err := d.Normalize(); err != nil {
		return err
	}
	if !bytes.Equal(before, told(d)) {
		d.ConfigVer++
	}
	return nil
}

// told is what of a record the device itself is told as its configuration,
// under one version.
func told(d *devices.Device) []byte {
	b, err := json.Marshal([]any{d.Config, d.ExpectedIntervalS, d.Metrics, d.Light})
	if err != nil {
		return nil // Config is JSON that was checked
	}
	return b
}

func (c *call) updateDevice() (answer, error) {
	var p devicePatch
	if err := c.body(&p); err != nil {
		return answer{}, err
	}
	if err := p.check(c.api); err != nil {
		return answer{}, err
	}
	expect, err := c.expect(p.ifVer())
	if err != nil {
		return answer{}, err
	}
	ctx, err := c.hiding()
	if err != nil {
		return answer{}, err
	}
	id := devices.ID(c.PathValue("id"))
	d, err := c.api.s.Identity.UpdateDevice(ctx, c.actor, c.origin, id, func(d *devices.Device) error {
		if err := expect.Check(d.Ver); err != nil {
			return err
		}
		return p.apply(d)
	})
	if err != nil {
		return answer{}, c.withDevice(err, id)
	}
	return answer{status: http.StatusOK, body: c.document(d), ver: &d.Ver}, nil
}

// hiding is the request's context, in which readings may be hidden by a
// declaration if that is what the caller asks for.
func (c *call) hiding() (context.Context, error) {
	hide, err := c.flag("hide_readings")
	if err == nil && hide {
		return readings.Hiding(c.Context()), nil
	}
	return c.Context(), err
}

// withDevice adds the present record to a version_conflict.
func (c *call) withDevice(err error, id devices.ID) error {
	return withCurrent(err, func() (any, bool) {
		d, there := c.api.s.Registry.Get(id)
		if !there {
			return nil, false
		}
		return c.document(d), true
	})
}
