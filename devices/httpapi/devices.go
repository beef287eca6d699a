package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"devicehub/devices"
	"devicehub/devices/identity"
	"devicehub/devices/readings"
)

// deviceDoc is a device as people and programs read it.
type deviceDoc struct {
	*devices.Device
	Status        devices.Status  `json:"status"`
	LastSeen      int64           `json:"last_seen,omitempty"`       // ms since epoch
	ClockOffsetMS *int64          `json:"clock_offset_ms,omitempty"` // its clock against the hub's
	Gaps          []readings.Gap  `json:"gaps,omitempty"`            // readings that never came; of one device alone
	Latest        json.RawMessage `json:"latest,omitempty"`
}

func (a *API) document(d *devices.Device) deviceDoc {
	doc := deviceDoc{Device: d, Status: devices.Status{State: devices.NeverSeen, Link: "unknown", Data: "none", Control: "unknown", Since: d.CreatedAt}}
	if a.s.Liveness != nil {
		doc.Status = a.s.Liveness.Status(d.ID)
		doc.LastSeen = a.s.Liveness.LastSeen(d.ID)
	}
	if a.s.Readings != nil {
		if l := a.s.Readings.AppendLatest(nil, d.ID); string(l) != "{}" {
			doc.Latest = l
		}
		if ms, known := a.s.Readings.ClockOffsetMS(d.ID); known {
			doc.ClockOffsetMS = &ms
		}
	}
	return doc
}

func (c *call) getDevice() (answer, error) {
	d, err := c.device(devices.RightRead)
	if err != nil {
		return answer{}, err
	}
	doc := c.api.document(d)
	if c.api.s.Readings != nil {
		doc.Gaps = c.api.s.Readings.Gaps(d.ID)
	}
	return ok(doc)
}

// newDevice is what a device is made of.
type newDevice struct {
	ID                devices.ID         `json:"id"`
	Kinds             []devices.Kind     `json:"kinds"`
	Name              string             `json:"name"`
	Model             string             `json:"model"`
	Manufacturer      string             `json:"manufacturer"`
	Firmware          string             `json:"fw"`
	Hardware          string             `json:"hw"`
	Labels            map[string]string  `json:"labels"`
	Area              string             `json:"area"`
	Lat               *float64           `json:"lat"`
	Lon               *float64           `json:"lon"`
	Metrics           []devices.Metric   `json:"metrics"`
	Undeclared        devices.Undeclared `json:"undeclared"`
	Light             *devices.Light     `json:"light"`
	ExpectedIntervalS float64            `json:"expected_interval_s"`
	Sleepy            bool               `json:"sleepy"`
	Enabled           *bool              `json:"enabled"`
	Via               string             `json:"via"`
	ShadowPolicy      string             `json:"shadow_policy"`
	Config            json.RawMessage    `json:"config"`
	Notes             string             `json:"notes"`
	Adopt             string             `json:"adopt"`
}

func (n *newDevice) record() (*devices.Device, error) {
	d := &devices.Device{
		ID: n.ID, Name: n.Name, Kinds: n.Kinds, Model: n.Model, Manufacturer: n.Manufacturer, Firmware: n.Firmware, Hardware: n.Hardware,
		Labels: n.Labels, Area: n.Area, Lat: n.Lat, Lon: n.Lon, Metrics: n.Metrics, Undeclared: n.Undeclared, Light: n.Light,
		ExpectedIntervalS: n.ExpectedIntervalS, Sleepy: n.Sleepy, Enabled: n.Enabled == nil || *n.Enabled, Via: n.Via, ShadowPolicy: n.ShadowPolicy, Notes: n.Notes,
	}
	var err error
	if d.Config, err = checkConfig(n.Config); err != nil {
		return nil, err
	}
	if d.Config != nil {
		d.ConfigVer = 1
	}
	return d, nil
}

// checkConfig returns a device's configuration in its shortest form: an object,
// or nothing.
func checkConfig(b json.RawMessage) (json.RawMessage, error) {
	if len(b) == 0 || string(b) == "null" {
		return nil, nil
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil || out.Bytes()[0] != '{' {
		return nil, devices.Invalid("config", "a JSON object")
	}
	return out.Bytes(), nil
}

func (a *API) checkVia(via string) error {
	if via == "" || via == devices.ViaDirect || a.cfg.Bridges == nil || slices.Contains(a.cfg.Bridges, via) {
		return nil
	}
	return devices.Invalid("via", fmt.Sprintf("direct or the name of a bridge, of %q", a.cfg.Bridges))
}

type createdDoc struct {
	Device    deviceDoc `json:"device"`
	Token     string    `json:"token"`
	ExpiresAt int64     `json:"expires_at,omitempty"`
	Issuer    string    `json:"issuer"`
}

// createDevices makes one device of an object, or many of a list, all or none.
func (c *call) createDevices() (answer, error) {
	if !c.actor.Admin() {
		return answer{}, devices.Refuse(devices.CodeForbidden, "administrators only")
	}
	b, err := c.raw()
	if err != nil {
		return answer{}, err
	}
	in, many, err := c.newDevices(b)
	if err != nil {
		return answer{}, err
	}
	records := make([]*devices.Device, len(in))
	adopted := map[string]bool{}
	for i := range in {
		if name := in[i].Adopt; name != "" {
			if adopted[name] {
				return answer{}, devices.Invalid("adopt", "each discovered device once")
			}
			adopted[name] = true
		}
		if err := c.api.adoptFrom(&in[i]); err != nil {
			return answer{}, err
		}
		if err := c.api.checkVia(in[i].Via); err != nil {
			return answer{}, err
		}
		if records[i], err = in[i].record(); err != nil {
			return answer{}, err
		}
	}
	made, err := c.api.s.Identity.CreateDevices(c.Context(), c.actor, c.origin, records, identity.TokenOptions{})
	if err != nil {
		return answer{}, err
	}
	docs := make([]createdDoc, len(made))
	for i, m := range made {
		docs[i] = createdDoc{c.api.document(m.Device), m.Token.Token, m.Token.ExpiresAt, c.api.s.Identity.Issuer()}
	}
	if many {
		return created(map[string]any{"devices": docs})
	}
	return created(docs[0])
}

// newDevices reads one device, or many of a list. A list may be longer than any
// other body.
func (c *call) newDevices(b []byte) (in []newDevice, many bool, err error) {
	objects := []json.RawMessage{b}
	if many = bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")); many {
		if err := devices.Decode(b, "body", &objects); err != nil {
			return nil, many, err
		}
	} else if limit := c.api.body.Load(); int64(len(b)) > limit {
		return nil, many, devices.Refuse(devices.CodeTooLarge, "the body is too large").With("limit", limit)
	}
	in = make([]newDevice, len(objects))
	for i, o := range objects {
		if err := devices.Decode(o, "body", &in[i]); err != nil {
			return nil, many, err
		}
	}
	return in, many, nil
}

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

func (c *call) deleteDevice() (answer, error) {
	keep, err := c.flag("keep_readings")
	if err != nil {
		return answer{}, err
	}
	id := devices.ID(c.PathValue("id"))
	if err := c.api.s.Identity.DeleteDevice(c.Context(), c.actor, c.origin, id); err != nil {
		return answer{}, err
	}
	if !keep && c.api.s.Readings != nil {
		if err := c.api.s.Readings.Forget(c.Context(), id); err != nil {
			return answer{}, fmt.Errorf("forget the readings of %s: %w", id, err)
		}
	}
	return none()
}
