package adapter

import (
	"math"
	"slices"
	"strings"

	"devicehub/devices"
)

// haDevice is a discovery message: one device with its components, by the names
// that they have here. A component of nothing but its platform is taken away.
type haDevice struct {
	About        map[string]any   `json:"dev"`
	Origin       map[string]any   `json:"o"`
	Parts        map[string]any   `json:"cmps"`
	Availability []haAvailability `json:"availability"`
	Mode         string           `json:"availability_mode"`
}

type haAvailability struct {
	Topic string `json:"topic"`
}

// platforms are the components' platforms.
func (d haDevice) platforms() map[string]string {
	list := make(map[string]string, len(d.Parts))
	for name, p := range d.Parts {
		if part, ok := p.(map[string]any); ok {
			list[name], _ = part["p"].(string)
		}
	}
	return list
}

// discovery is the device's discovery message (bridge/adapter/homeassistant.md).
func (h *homeAssistant) discovery(dev *devices.Device, metrics []string) haDevice {
	id := string(dev.ID)
	about := map[string]any{"ids": []string{"hub_" + id}, "name": dev.Title()}
	for key, v := range map[string]string{"mf": dev.Manufacturer, "mdl": dev.Model, "sw": dev.Firmware, "hw": dev.Hardware, "suggested_area": dev.Area} {
		if v != "" {
			about[key] = v
		}
	}
	if h.URL != "" {
		about["cu"] = strings.TrimSuffix(h.URL, "/") + "/devices/" + id
	}
	origin := map[string]any{"name": "devicehub"}
	if h.Version != "" {
		origin["sw"] = h.Version
	}
	parts := map[string]any{}
	for _, m := range h.metrics(dev, metrics) {
		parts[m.Name] = h.sensor(dev, m)
	}
	if dev.Light != nil {
		parts["light"] = h.lightPart(dev)
	}
	return haDevice{
		About: about, Origin: origin, Parts: parts, Mode: "all",
		Availability: []haAvailability{{h.Root + "/_hub/online"}, {h.topic(dev.ID, "online")}},
	}
}

// metrics are the declared ones, those with a value, and more.
func (h *homeAssistant) metrics(dev *devices.Device, more []string) []devices.Metric {
	names := slices.Clone(more)
	for _, m := range dev.Metrics {
		names = append(names, m.Name)
	}
	for name := range h.Latest(dev.ID) {
		names = append(names, name)
	}
	slices.Sort(names)
	var list []devices.Metric
	for _, name := range slices.Compact(names) {
		if m, ok := dev.Declared(name); ok && isPart(dev, name) {
			list = append(list, m)
		}
	}
	return list
}

func (h *homeAssistant) sensor(dev *devices.Device, m devices.Metric) map[string]any {
	p := map[string]any{"p": "sensor", "unique_id": "hub_" + string(dev.ID) + "_" + m.Name, "name": title(m.Name),
		"stat_t": h.topic(dev.ID, "ha/"+m.Name), "val_tpl": "{{ value_json.v }}"}
	switch m.Type {
	case devices.TypeBool:
		p["p"], p["val_tpl"] = "binary_sensor", "{{ 'ON' if value_json.v else 'OFF' }}"
		if devices.BinaryClass(m.Class) {
			p["dev_cla"] = m.Class
		}
	case devices.TypeFloat:
		if m.Unit != "" {
			p["unit_of_meas"] = m.Unit
		}
		// A message with a unit that the class does not have is thrown away as a whole.
		if units, known := devices.ClassUnits(m.Class); known && slices.Contains(units, m.Unit) {
			p["dev_cla"] = m.Class
		}
		p["stat_cla"] = devices.Measurement
		if m.StateClass == "total" || m.StateClass == devices.TotalIncreasing {
			p["stat_cla"] = m.StateClass
		}
		if m.Precision > 0 && m.Precision <= 1 {
			p["sug_dsp_prc"] = int(math.Round(-math.Log10(m.Precision)))
		}
	}
	interval := m.ExpectedIntervalS
	if interval == 0 && m.Type == devices.TypeFloat {
		interval = dev.ExpectedIntervalS
	}
	if interval > 0 && !dev.Sleepy {
		p["exp_aft"] = int(math.Ceil(3 * interval))
	}
	return p
}

// title is a metric's name for people: "wind_speed" is "Wind speed".
func title(name string) string {
	s := strings.ReplaceAll(name, "_", " ")
	return strings.ToUpper(s[:1]) + s[1:]
}
