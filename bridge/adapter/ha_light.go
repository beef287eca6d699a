package adapter

import (
	"encoding/json"
	"math"
	"slices"

	"devicehub/devices"
	"devicehub/devices/lights"
)

// lightPart is a light's component: Home Assistant's JSON schema.
func (h *homeAssistant) lightPart(dev *devices.Device) map[string]any {
	l := dev.Light
	p := map[string]any{"p": "light", "schema": "json", "unique_id": "hub_" + string(dev.ID) + "_light", "name": nil,
		"stat_t": h.topic(dev.ID, "ha/light"), "cmd_t": h.topic(dev.ID, "ha/light/set"),
		"supported_color_modes": l.Modes, "brightness": l.Dimmable(), "transition": true, "flash": false, "optimistic": false, "retain": false, "qos": 1}
	if l.Dimmable() {
		p["brightness_scale"] = lights.MaxBrightness
	}
	if l.Has(devices.ModeColorTemp) {
		p["color_temp_kelvin"] = true
		p["min_kelvin"], p["max_kelvin"] = l.Kelvin()
	}
	if len(l.Effects) > 0 {
		p["effect"], p["effect_list"] = true, append([]string{lights.NoEffect}, without(l.Effects, lights.NoEffect)...)
	}
	return p
}

func without(list []string, s string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(x string) bool { return x == s })
}

// haState is a light's state in the JSON schema of Home Assistant.
func haState(l *devices.Light, f lights.Fields) map[string]any {
	s := map[string]any{"state": nil}
	if on, ok := f[lights.On].(bool); ok {
		s["state"] = map[bool]string{true: "ON", false: "OFF"}[on]
	}
	if b, ok := f[lights.Brightness].(float64); ok && b > 0 { // 0 would be ignored
		s["brightness"] = b
	}
	if m, ok := f[lights.Mode].(string); ok && l.Has(devices.LightMode(m)) {
		s["color_mode"] = m
	} else if len(l.Modes) > 0 {
		s["color_mode"] = l.Modes[0]
	}
	nums := func(field string) []any { v, _ := f[field].([]any); return v }
	switch c := nums(lights.RGB); {
	case len(c) == 3:
		s["color"] = map[string]any{"r": c[0], "g": c[1], "b": c[2]}
	case len(c) == 4:
		s["color"] = map[string]any{"r": c[0], "g": c[1], "b": c[2], "w": c[3]}
	case len(c) == 5:
		s["color"] = map[string]any{"r": c[0], "g": c[1], "b": c[2], "c": c[3], "w": c[4]}
	}
	if c := nums(lights.HS); len(c) == 2 {
		s["color"] = map[string]any{"h": c[0], "s": c[1]}
	}
	if c := nums(lights.XY); len(c) == 2 {
		s["color"] = map[string]any{"x": c[0], "y": c[1]}
	}
	if k, ok := f[lights.Kelvin].(float64); ok {
		s["color_temp"] = k
	}
	if w, ok := f[lights.White].(float64); ok {
		s["white"] = w
	}
	if e, ok := f[lights.Effect].(string); ok && len(l.Effects) > 0 {
		s["effect"] = e
	}
	return s
}

// haCommand is a command in the JSON schema of Home Assistant as the parameters
// of a set. color_temp is in Kelvin: the discovery message says so.
func haCommand(payload []byte) (map[string]any, error) {
	var c struct {
		State      string             `json:"state"`
		Brightness *float64           `json:"brightness"`
		Color      map[string]float64 `json:"color"`
		ColorTemp  *float64           `json:"color_temp"`
		White      *float64           `json:"white"`
		Effect     string             `json:"effect"`
		Transition *float64           `json:"transition"`
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, devices.Invalid("payload", "a JSON light command")
	}
	p := map[string]any{}
	switch c.State {
	case "ON":
		p["on"] = true
	case "OFF":
		p["on"] = false
	case "":
	default:
		return nil, devices.Invalid("state", "ON or OFF")
	}
	if c.Brightness != nil {
		p["brightness"] = int(math.Round(*c.Brightness))
	}
	pick := func(keys ...string) (list []float64, ok bool) {
		for _, k := range keys {
			v, has := c.Color[k]
			if !has {
				return nil, false
			}
			list = append(list, v)
		}
		return list, true
	}
	for _, x := range []struct {
		field string
		keys  []string
	}{{"xy", []string{"x", "y"}}, {"hs", []string{"h", "s"}}, {"rgb", []string{"r", "g", "b", "c", "w"}}, {"rgb", []string{"r", "g", "b", "w"}}, {"rgb", []string{"r", "g", "b"}}} {
		if v, ok := pick(x.keys...); ok {
			p[x.field] = v
			break
		}
	}
	if c.ColorTemp != nil {
		p["kelvin"] = int(math.Round(*c.ColorTemp))
	}
	if c.White != nil {
		p["white"] = int(math.Round(*c.White))
	}
	if c.Effect != "" {
		p["effect"] = c.Effect
	}
	if c.Transition != nil && *c.Transition >= 0 {
		p["transition_ms"] = int64(math.Round(*c.Transition * 1000))
	}
	return p, nil
}
