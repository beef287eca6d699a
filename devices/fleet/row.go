package fleet

import (
	"slices"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// Latest is the last value of a metric, as the readings have it.
type Latest = readings.Latest

// Row is one device in a view.
type Row struct {
	ID          devices.ID        `json:"id"`
	Name        string            `json:"name"`
	Kinds       []devices.Kind    `json:"kinds"`
	Area        string            `json:"area"`
	Status      Status            `json:"status"`
	Latest      map[string]Metric `json:"latest"`
	Light       *Light            `json:"light,omitempty"`
	Battery     *float64          `json:"battery,omitempty"`
	RSSI        *float64          `json:"rssi,omitempty"`
	Firmware    string            `json:"fw,omitempty"`
	LastCommand *Command          `json:"last_command,omitempty"`
}

// Status is what a row shows of a device's status.
type Status struct {
	State      devices.State `json:"state"`
	Link       string        `json:"link"`
	Data       string        `json:"data"`
	Control    string        `json:"control"`
	Reason     string        `json:"reason,omitempty"`
	Since      int64         `json:"since"`
	Flapping   bool          `json:"flapping"`
	Unverified bool          `json:"unverified,omitempty"`
	AwakeAt    int64         `json:"awake_at,omitempty"`
}

// Metric is what a row shows of a metric.
type Metric struct {
	V     any    `json:"v"`
	U     string `json:"u"`
	T     int64  `json:"t"`
	Stale bool   `json:"stale"`
}

// Light is what a row shows of a light, as reported at T. Brightness is 0 when it
// is not known.
type Light struct {
	On         bool  `json:"on"`
	Brightness int   `json:"brightness,omitempty"`
	T          int64 `json:"t,omitempty"`
}

// Command is what a row shows of the last command.
type Command struct {
	CmdID  string `json:"cmd_id"`
	Status string `json:"status"`
	At     int64  `json:"at"`
}

// row shows a device; of its metrics those named, else all that are declared.
func (s *subject) row(metrics []string) Row {
	d, st := s.dev, s.st()
	r := Row{ID: d.ID, Name: d.Name, Kinds: d.Kinds, Area: d.Area, Firmware: d.Firmware, Latest: map[string]Metric{},
		Status: Status{st.State, st.Link, st.Data, st.Control, st.Reason, st.Since, st.Flapping, st.Unverified, st.AwakeAt}}
	for name, l := range s.last() {
		if v, ok := l.V.(float64); ok {
			switch name {
			case "battery":
				r.Battery = &v
			case "rssi":
				r.RSSI = &v
			}
		}
		if metrics == nil && !l.Undeclared || slices.Contains(metrics, name) {
			r.Latest[name] = Metric{l.V, l.U, l.T, l.Stale}
		}
	}
	r.Light = s.light()
	if s.f.cfg.Command != nil {
		if c, ok := s.f.cfg.Command(d.ID); ok {
			r.LastCommand = &c
		}
	}
	return r
}

// patch is what to change in old to have r: the id and the fields that differ,
// of latest the metrics that differ; null removes. nil: nothing does.
func (r *Row) patch(old *Row) map[string]any {
	p := map[string]any{}
	if r.Name != old.Name {
		p["name"] = r.Name
	}
	if !slices.Equal(r.Kinds, old.Kinds) {
		p["kinds"] = r.Kinds
	}
	if r.Area != old.Area {
		p["area"] = r.Area
	}
	if r.Status != old.Status {
		p["status"] = r.Status
	}
	if r.Firmware != old.Firmware {
		p["fw"] = r.Firmware
	}
	latest := map[string]any{}
	for name, m := range r.Latest {
		if o, ok := old.Latest[name]; !ok || o != m {
			latest[name] = m
		}
	}
	for name := range old.Latest {
		if _, ok := r.Latest[name]; !ok {
			latest[name] = nil
		}
	}
	if len(latest) > 0 {
		p["latest"] = latest
	}
	changed(p, "light", r.Light, old.Light)
	changed(p, "battery", r.Battery, old.Battery)
	changed(p, "rssi", r.RSSI, old.RSSI)
	changed(p, "last_command", r.LastCommand, old.LastCommand)
	if len(p) == 0 {
		return nil
	}
	p["id"] = r.ID
	return p
}

func changed[T comparable](p map[string]any, name string, now, old *T) {
	switch {
	case now == nil && old == nil, now != nil && old != nil && *now == *old:
	case now == nil:
		p[name] = nil
	default:
		p[name] = now
	}
}
