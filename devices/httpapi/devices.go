package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
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

// document is a device as the caller may see it.
func (c *call) document(d *devices.Device) deviceDoc {
	a := c.api
	doc := deviceDoc{Device: d.SeenBy(c.actor), Status: devices.Status{State: devices.NeverSeen, Link: "unknown", Data: "none", Control: "unknown", Since: d.CreatedAt}}
	if a.s.Liveness != nil {
		doc.Status = a.s.Liveness.Status(d.ID)
		doc.LastSeen = a.s.Liveness.LastSeen(d.ID)
	}
	if a.s.Readings != nil {
		doc.Latest = c.latestOf(d.ID)
		if ms, known := a.s.Readings.ClockOffsetMS(d.ID); known {
			doc.ClockOffsetMS = &ms
		}
	}
	return doc
}

// latestOf is a device's latest values, nil where there are none or nobody asks.
func (c *call) latestOf(id devices.ID) json.RawMessage {
	if !c.wants("latest") {
		return nil
	}
	if l := c.api.s.Readings.AppendLatest(nil, id); string(l) != "{}" {
		return l
	}
	return nil
}

func (c *call) getDevice() (answer, error) {
	d, err := c.device(devices.RightRead)
	if err != nil {
		return answer{}, err
	}
	doc := c.document(d)
	if c.api.s.Readings != nil {
		doc.Gaps = c.api.s.Readings.Gaps(d.ID)
	}
	return answer{status: http.StatusOK, body: doc, ver: &d.Ver, live: true}, nil
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
	var v map[string]any
	if err := decodeNumbers(b, &v); err != nil {
		return nil, devices.Invalid("config", "a JSON object")
	}
	return encode(v)
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
	ctx, err := c.hiding()
	if err != nil {
		return answer{}, err
	}
	reuse, err := c.flag("reuse")
	if err != nil {
		return answer{}, err
	}
	b, err := c.raw()
	if err != nil {
		return answer{}, err
	}
	in, many, err := c.newDevices(b)
	if err != nil {
		return answer{}, err
	}
	if slices.ContainsFunc(in, func(n newDevice) bool { return n.Adopt != "" }) {
		c.api.adopting.Lock() // until it is registered, a second adoption would find it, too
		defer c.api.adopting.Unlock()
	}
	records, err := c.api.records(in)
	if err != nil {
		return answer{}, err
	}
	if reuse {
		ctx = devices.Reusing(ctx)
		c.api.deleting.Lock() // what a deleted device has left is erased before its id is another's
		defer c.api.deleting.Unlock()
	}
	made, err := c.api.s.Identity.CreateDevices(ctx, c.actor, c.origin, records, identity.TokenOptions{})
	if err != nil {
		return answer{}, err
	}
	docs := make([]createdDoc, len(made))
	for i, m := range made {
		docs[i] = createdDoc{c.document(m.Device), m.Token.Token, m.Token.ExpiresAt, c.api.s.Identity.Issuer()}
	}
	if many {
		return created(map[string]any{"devices": docs})
	}
	return answer{status: http.StatusCreated, body: docs[0], ver: &docs[0].Device.Ver, location: base + "/devices/" + string(docs[0].Device.ID)}, nil
}

// records are the devices as they are to be registered.
func (a *API) records(in []newDevice) (records []*devices.Device, err error) {
	records = make([]*devices.Device, len(in))
	adopted := map[string]bool{}
	for i := range in {
		n := &in[i]
		if n.Adopt != "" && adopted[n.Adopt] {
			return nil, devices.Invalid("adopt", "each discovered device once")
		}
		adopted[n.Adopt] = true
		if err := a.adoptFrom(n); err != nil {
			return nil, err
		}
		if err := a.checkVia(n.Via); err != nil {
			return nil, err
		}
		if records[i], err = n.record(); err != nil {
			return nil, err
		}
	}
	return records, nil
}

// newDevices reads one device, or many of a list. A list may be longer than any
// other body.
func (c *call) newDevices(b []byte) (in []newDevice, many bool, err error) {
	objects := []json.RawMessage{b}
	if many = bytes.HasPrefix(bytes.TrimSpace(b), []byte("[")); many {
		if err := devices.Decode(b, "body", &objects); err != nil {
			return nil, many, err
		}
		if len(objects) == 0 {
			return nil, many, devices.Invalid("body", "at least one device")
		}
	} else if limit := c.api.body.Load(); int64(len(b)) > limit {
		return nil, many, devices.Refuse(devices.CodeTooLarge, "the body is too large").With("limit", limit)
	}
	in = make([]newDevice, len(objects))
	for i, o := range objects {
		if string(bytes.TrimSpace(o)) == "null" {
			return nil, many, devices.Invalid("body", "a JSON object for each device")
		}
		if err := devices.Decode(o, "body", &in[i]); err != nil {
			return nil, many, err
		}
	}
	return in, many, nil
}

func (c *call) deleteDevice() (answer, error) {
	keep, err := c.flag("keep_readings")
	if err != nil {
		return answer{}, err
	}
	expect, err := c.expectQuery()
	if err != nil {
		return answer{}, err
	}
	c.api.deleting.RLock()
	defer c.api.deleting.RUnlock()
	id := devices.ID(c.PathValue("id"))
	if err := c.api.s.Identity.DeleteDevice(c.Context(), c.actor, c.origin, id, expect); err != nil {
		return answer{}, c.withDevice(err, id)
	}
	if !keep && c.api.s.Readings != nil {
		if err := c.api.s.Readings.Forget(c.Context(), id); err != nil {
			return answer{}, fmt.Errorf("forget the readings of %s: %w", id, err)
		}
	}
	return none()
}
