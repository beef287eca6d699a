package httpapi

import (
	"context"
	"net/http"

	"devicehub/devices"
	"devicehub/devices/identity"
)

// Discovery is a device that an adapter has met and that nobody has adopted.
type Discovery struct {
	Adopt  string          `json:"adopt"`  // names it in POST /devices
	Bridge string          `json:"bridge"` // becomes the record's via
	SeenAt int64           `json:"seen_at"`
	Device *devices.Device `json:"device"` // what the adapter knows of it
}

// adoptFrom fills what the request left open with what the adapter knows, and ties
// the record to the device.
func (a *API) adoptFrom(n *newDevice) error {
	if n.Adopt == "" {
		return nil
	}
	if a.s.Discovered != nil {
		for _, d := range a.s.Discovered() {
			if d.Adopt == n.Adopt {
				n.fill(d)
				return nil
			}
		}
	}
	return devices.NotFound("discovered device").With("field", "adopt")
}

func (n *newDevice) fill(d Discovery) {
	n.Via = d.Bridge
	if d.Device == nil {
		return
	}
	for k, v := range d.Device.Labels { // by which the adapter knows it again
		if n.Labels == nil {
			n.Labels = map[string]string{}
		}
		n.Labels[k] = v
	}
	if len(n.Kinds) == 0 {
		n.Kinds = d.Device.Kinds
	}
	if n.Light == nil {
		n.Light = d.Device.Light
	}
	if n.Metrics == nil {
		n.Metrics = d.Device.Metrics
	}
	for _, f := range []struct {
		to   *string
		from string
	}{{&n.Name, d.Device.Name}, {&n.Model, d.Device.Model}, {&n.Manufacturer, d.Device.Manufacturer}, {&n.Firmware, d.Device.Firmware}, {&n.Hardware, d.Device.Hardware}, {&n.Area, d.Device.Area}} {
		if *f.to == "" {
			*f.to = f.from
		}
	}
}

func (c *call) discovered() (answer, error) {
	if err := c.administrator(); err != nil {
		return answer{}, err
	}
	list := []Discovery{}
	if c.api.s.Discovered != nil {
		list = orEmpty(c.api.s.Discovered())
	}
	return ok(map[string]any{"discovered": list})
}

func (c *call) nodes() (answer, error)   { return c.operatorList("nodes", c.api.s.Nodes) }
func (c *call) bridges() (answer, error) { return c.operatorList("bridges", c.api.s.Bridges) }
func (c *call) sinks() (answer, error)   { return c.operatorList("sinks", c.api.s.Sinks) }

// replay has a sink send again what it put aside.
func (c *call) replay() (answer, error) {
	name := c.PathValue("name")
	err := c.administrator()
	if err == nil && c.api.s.Replay == nil {
		err = devices.NotFound("sink")
	}
	var result any
	if err == nil {
		result, err = c.api.s.Replay(c.Context(), name)
	}
	c.record("sink.replay", "sink:"+name, result, err)
	if err != nil {
		return answer{}, err
	}
	return ok(result)
}

// operatorList answers with what answers, or without it with an empty list.
func (c *call) operatorList(name string, answers func(context.Context) (any, error)) (answer, error) {
	if err := c.administrator(); err != nil {
		return answer{}, err
	}
	if answers == nil {
		return ok(map[string]any{name: []any{}})
	}
	v, err := answers(c.Context())
	if err != nil {
		return answer{}, err
	}
	return ok(v)
}

func (c *call) backup() (answer, error) {
	var in struct {
		WithoutKeys bool `json:"without_keys"`
	}
	if err := c.administrator(); err != nil {
		return answer{}, err
	}
	if err := c.optionalBody(&in); err != nil {
		return answer{}, err
	}
	if c.api.s.Backup == nil {
		return unavailable("backup")
	}
	w := &stream{ResponseWriter: c.w, set: func(h http.Header) {
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Disposition", `attachment; filename="devicehub.backup"`)
	}}
	err := c.api.s.Backup(c.Context(), w, in.WithoutKeys)
	c.record("backup", "hub", map[string]bool{"without_keys": in.WithoutKeys}, err)
	switch {
	case err == nil:
		return streamed()
	case !w.begun:
		return answer{}, err
	}
	c.api.cfg.Logger.Error("backup broke off", "err", err)
	panic(http.ErrAbortHandler) // the client must not take half for the whole
}

func (c *call) acceptClock() (answer, error) {
	err := c.administrator()
	if err == nil && c.api.s.Readings == nil {
		return unavailable("clock")
	}
	if err == nil {
		err = c.api.s.Readings.AcceptClock(c.Context())
	}
	c.record("clock.accept", "hub", nil, err)
	if err != nil {
		return answer{}, err
	}
	return ok(c.api.s.Readings.Clock())
}

func (c *call) checkReadings() (answer, error) {
	if err := c.administrator(); err != nil {
		return answer{}, err
	}
	if c.api.s.Readings == nil {
		return unavailable("check")
	}
	found, err := c.api.s.Readings.Check(c.Context())
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{"series": found})
}

func (c *call) repairReadings() (answer, error) {
	var in struct {
		Misfiled bool `json:"misfiled"`
	}
	if err := c.administrator(); err != nil {
		return answer{}, err
	}
	if c.ContentLength != 0 {
		if err := c.body(&in); err != nil {
			return answer{}, err
		}
	}
	if c.api.s.Readings == nil {
		return unavailable("repair")
	}
	erased, left, err := c.api.s.Readings.Repair(c.Context(), in.Misfiled)
	c.record("readings.repair", "hub", map[string]int{"erased": len(erased), "left": len(left)}, err)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{"erased": erased, "left": left})
}

func (c *call) audit() (answer, error) {
	limit, at, err := c.page("audit")
	if err != nil {
		return answer{}, err
	}
	q := devices.AuditQuery{
		Device: devices.ID(c.query("device")), Actor: c.query("actor"), Action: c.query("action"),
		Outcome: c.query("outcome"), Limit: limit, Cursor: at,
	}
	if q.From, err = c.instant("from", 0); err != nil {
		return answer{}, err
	}
	if q.To, err = c.instant("to", 0); err != nil {
		return answer{}, err
	}
	list, next, err := identity.ReadAudit(c.Context(), c.api.s.Audit, c.api.s.Registry, c.actor, q)
	if err != nil {
		return answer{}, err
	}
	return ok(map[string]any{"entries": orEmpty(list), "next_cursor": cursor("audit", next)})
}

// pruneAudit takes out what is older than a time, or what the configuration's bounds ask for.
func (c *call) pruneAudit() (answer, error) {
	var in struct {
		Before int64 `json:"before"`
	}
	if err := c.optionalBody(&in); err != nil {
		return answer{}, err
	}
	if in.Before < 0 {
		return answer{}, devices.Invalid("before", "ms since epoch")
	}
	p, err := identity.PruneAudit(c.Context(), c.api.s.Audit, c.actor, c.origin, in.Before)
	if err != nil {
		return answer{}, err
	}
	return ok(p)
}
