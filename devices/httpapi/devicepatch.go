package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"devicehub/devices"
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

// devicePatch changes a record. null takes a field away where it can be absent.
type devicePatch struct {
	Name              field[string]
	Labels            field[map[string]string]
	Area              field[string]
	Enabled           field[bool]
	ExpectedIntervalS field[float64]
	Sleepy            field[bool]
	Metrics           field[[]devices.Metric]
	Undeclared        field[devices.Undeclared]
	Light             field[*devices.Light]
	ShadowPolicy      field[string]
	Config            field[json.RawMessage]
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
		"name": &p.Name, "labels": &p.Labels, "area": &p.Area, "enabled": &p.Enabled, "expected_interval_s": &p.ExpectedIntervalS, "sleepy": &p.Sleepy,
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

func (p *devicePatch) check(a *API) (err error) {
	if p.Enabled.null {
		return devices.Invalid("enabled", "true or false")
	}
	if p.Sleepy.null {
		return devices.Invalid("sleepy", "true or false")
	}
	if p.Config.v, err = checkConfig(p.Config.v); err != nil {
		return err
	}
	return a.checkVia(p.Via.v)
}

func (p *devicePatch) apply(d *devices.Device) error {
	before := told(d)
	p.Name.apply(&d.Name)
	p.Labels.apply(&d.Labels)
	p.Area.apply(&d.Area)
	p.Enabled.apply(&d.Enabled)
	p.ExpectedIntervalS.apply(&d.ExpectedIntervalS)
	p.Sleepy.apply(&d.Sleepy)
	p.Metrics.apply(&d.Metrics)
	p.Undeclared.apply(&d.Undeclared)
	p.Light.apply(&d.Light)
	p.ShadowPolicy.apply(&d.ShadowPolicy)
	p.Config.apply(&d.Config)
	p.Lat.apply(&d.Lat)
	p.Lon.apply(&d.Lon)
	p.Via.apply(&d.Via)
	p.Notes.apply(&d.Notes)
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
	d, err := c.api.s.Identity.UpdateDevice(c.Context(), c.actor, c.origin, devices.ID(c.PathValue("id")), p.apply)
	if err != nil {
		return answer{}, err
	}
	return ok(c.api.document(d))
}
