package adapter

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/lights"
	"devicehub/devices/readings"
)

// homeAssistant shows the hub's devices to Home Assistant by its MQTT discovery
// (one message a device), keeps their states and availability on the broker, and
// takes commands for lights.
type homeAssistant struct {
	*Behind
	prefix string
	work   chan work

	mu        sync.Mutex
	announced map[devices.ID]string // the discovery message that stands on the broker
	online    map[devices.ID]string
}

// work is one thing to do for a device: an event to tell, a command to give, or,
// with neither, to say everything anew. Without a device it is for all.
type work struct {
	id    devices.ID
	event *devices.Event
	set   []byte
}

const (
	haPrefix  = "homeassistant"
	haQueue   = 4096
	haSetWait = 10 * time.Second
)

func newHomeAssistant(base string, b *Behind) *homeAssistant {
	if base == "" {
		base = haPrefix
	}
	return &homeAssistant{Behind: b, prefix: base, work: make(chan work, haQueue), announced: map[devices.ID]string{}, online: map[devices.ID]string{}}
}

func (h *homeAssistant) Filters() []string {
	return []string{h.prefix + "/status", h.Root + "/+/ha/+/set"}
}

func (h *homeAssistant) Lane(topic string) string { return topic }

// Up says everything anew.
func (h *homeAssistant) Up() {
	h.mu.Lock()
	clear(h.announced)
	clear(h.online)
	h.mu.Unlock()
	h.later(work{})
}

// later leaves work to Run. When there is too much, the rest is made up for by
// saying everything anew.
func (h *homeAssistant) later(w work) {
	select {
	case h.work <- w:
	default:
		h.mu.Lock()
		clear(h.announced)
		h.mu.Unlock()
	}
}

// Publish is the Feed's: what happens to devices is told to Home Assistant.
func (h *homeAssistant) Publish(e devices.Event) {
	switch e.Name {
	case "reading", "state", "status", "device_changed":
		h.later(work{id: e.Device, event: &e})
	}
}

// Handle takes Home Assistant's birth and its commands.
func (h *homeAssistant) Handle(m Message, done func(error)) {
	defer done(nil)
	if m.Topic == h.prefix+"/status" {
		if string(m.Payload) == "online" && !m.Retained {
			// Not all at once with everyone else on the broker (4-conventions §1).
			time.AfterFunc(rand.N(5*time.Second), h.Up)
		}
		return
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(m.Topic, h.Root+"/"), "/")
	if m.Retained {
		h.retainedCommand("device:" + name)
		return
	}
	if id, err := devices.ParseID(name); err == nil && strings.HasSuffix(m.Topic, "/ha/light/set") {
		h.later(work{id: id, set: m.Payload})
	}
}

// Run does the work until ctx is done.
func (h *homeAssistant) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-h.work:
			switch {
			case w.set != nil:
				h.set(ctx, w.id, w.set)
			case w.event != nil:
				h.tell(w.event)
			default:
				for dev := range h.Registry.All() {
					h.announce(dev, nil)
					h.states(dev)
				}
			}
		}
	}
}

// tell brings one event to the broker.
func (h *homeAssistant) tell(e *devices.Event) {
	dev, ok := h.Registry.Get(e.Device)
	if !ok {
		h.forget(e.Device)
		return
	}
	switch p := e.Payload.(type) {
	case *readings.Event:
		var names []string
		p.All(func(metric, _ string, v readings.Value, t int64, q readings.Quality) bool {
			names = append(names, metric)
			return true
		})
		h.announce(dev, names)
		p.All(func(metric, _ string, v readings.Value, t int64, _ readings.Quality) bool {
			h.value(dev.ID, metric, v, t)
			return true
		})
		return
	}
	switch e.Name {
	case "state":
		h.announce(dev, nil)
		h.light(dev)
	case "status":
		h.announce(dev, nil)
		h.available(dev.ID)
	case "device_changed":
		h.announce(dev, nil)
	}
}

func (h *homeAssistant) topic(id devices.ID, last string) string {
	return h.Root + "/" + string(id) + "/" + last
}

func (h *homeAssistant) config(id devices.ID) string {
	return h.prefix + "/device/hub_" + string(id) + "/config"
}

// announce publishes the discovery message if it says something new: metrics are
// those about to be told, beside the declared and known ones.
func (h *homeAssistant) announce(dev *devices.Device, metrics []string) {
	body, err := json.Marshal(h.discovery(dev, metrics))
	if err != nil {
		return // plain values
	}
	h.mu.Lock()
	same := h.announced[dev.ID] == string(body)
	h.mu.Unlock()
	if same || !h.bus.Publish(h.config(dev.ID), body, 1, true) {
		return
	}
	h.mu.Lock()
	h.announced[dev.ID] = string(body)
	h.mu.Unlock()
}

// forget removes a deleted device from Home Assistant.
func (h *homeAssistant) forget(id devices.ID) {
	h.mu.Lock()
	_, was := h.announced[id]
	delete(h.announced, id)
	delete(h.online, id)
	h.mu.Unlock()
	if was {
		h.bus.Publish(h.config(id), nil, 1, true)
		h.bus.Publish(h.topic(id, "online"), nil, 1, true)
	}
}

// states publishes all that is known of a device.
func (h *homeAssistant) states(dev *devices.Device) {
	h.available(dev.ID)
	for metric, l := range h.Latest(dev.ID) {
		if !l.Undeclared {
			h.publishValue(dev.ID, metric, l.V, l.T)
		}
	}
	h.light(dev)
}

func (h *homeAssistant) available(id devices.ID) {
	word := "online"
	if s := h.Status(id).State; s == devices.Offline || s == devices.NeverSeen {
		word = "offline"
	}
	h.mu.Lock()
	same := h.online[id] == word
	h.online[id] = word
	h.mu.Unlock()
	if !same {
		h.bus.Publish(h.topic(id, "online"), []byte(word), 1, true)
	}
}

func (h *homeAssistant) value(id devices.ID, metric string, v readings.Value, t int64) {
	var x any
	if json.Unmarshal(v.AppendJSON(nil), &x) == nil {
		h.publishValue(id, metric, x, t)
	}
}

func (h *homeAssistant) publishValue(id devices.ID, metric string, v any, t int64) {
	b, err := json.Marshal(map[string]any{"v": v, "t": t})
	if err == nil {
		h.bus.Publish(h.topic(id, "ha/"+metric), b, 0, true)
	}
}

func (h *homeAssistant) light(dev *devices.Device) {
	if dev.Light == nil {
		return
	}
	f, ok := h.State(dev.ID)
	if !ok {
		return
	}
	b, err := json.Marshal(haState(dev.Light, f))
	if err == nil {
		h.bus.Publish(h.topic(dev.ID, "ha/light"), b, 1, true)
	}
}

// set gives a command that Home Assistant sent.
func (h *homeAssistant) set(ctx context.Context, id devices.ID, payload []byte) {
	params, err := haCommand(payload)
	if err == nil {
		var b []byte
		if b, err = json.Marshal(params); err == nil {
			ctx, cancel := context.WithTimeout(ctx, haSetWait)
			defer cancel()
			actor := devices.Actor{Kind: devices.ActorBridge, Name: h.bus.Name(), Rights: devices.RightCommand}
			_, err = h.Issue(ctx, actor, devices.Origin{Via: "mqtt"}, id, commands.Request{Op: "set", Params: b})
		}
	}
	if err == nil {
		h.accepted.Add(1)
		return
	}
	h.refused.Add(1)
	h.Log.Info("command from Home Assistant refused", "bridge", h.bus.Name(), "device", string(id), "err", err)
	if dev, ok := h.Registry.Get(id); ok {
		h.light(dev) // what it shows is not so
	}
}

// discovery is the device's discovery message (4-conventions §1).
func (h *homeAssistant) discovery(dev *devices.Device, metrics []string) map[string]any {
	id := string(dev.ID)
	about := map[string]any{"ids": []string{"hub_" + id}, "name": dev.Title()}
	for key, v := range map[string]string{"mf": dev.Manufacturer, "mdl": dev.Model, "sw": dev.Firmware, "hw": dev.Hardware, "suggested_area": dev.Area} {
		if v != "" {
			about[key] = v
		}
	}
	parts := map[string]any{}
	for _, m := range h.metrics(dev, metrics) {
		parts[m.Name] = h.sensor(dev, m)
	}
	if dev.Light != nil {
		parts["light"] = h.lightPart(dev)
	}
	return map[string]any{
		"dev": about, "o": map[string]any{"name": "devicehub"}, "cmps": parts, "availability_mode": "all",
		"availability": []any{map[string]any{"topic": h.Root + "/_hub/online"}, map[string]any{"topic": h.topic(dev.ID, "online")}},
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
		if m, ok := dev.Declared(name); ok && name != "light" {
			list = append(list, m)
		}
	}
	return list
}

func (h *homeAssistant) sensor(dev *devices.Device, m devices.Metric) map[string]any {
	p := map[string]any{"p": "sensor", "unique_id": "hub_" + string(dev.ID) + "_" + m.Name, "name": title(m.Name),
		"stat_t": h.topic(dev.ID, "ha/"+m.Name), "val_tpl": "{{ value_json.v }}"}
	if m.Class != "" && m.Class != "enum" { // which wants a list of options
		p["dev_cla"] = m.Class
	}
	switch m.Type {
	case devices.TypeBool:
		p["p"], p["val_tpl"] = "binary_sensor", "{{ 'ON' if value_json.v else 'OFF' }}"
	case devices.TypeFloat:
		if m.Unit != "" {
			p["unit_of_meas"] = m.Unit
		}
		if p["stat_cla"] = m.StateClass; m.StateClass == "" {
			p["stat_cla"] = devices.Measurement
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

// title is a metric's name for people: "wind_speed" is "Wind speed".
func title(name string) string {
	s := strings.ReplaceAll(name, "_", " ")
	return strings.ToUpper(s[:1]) + s[1:]
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
		Brightness *int               `json:"brightness"`
		Color      map[string]float64 `json:"color"`
		ColorTemp  *int               `json:"color_temp"`
		White      *int               `json:"white"`
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
		p["brightness"] = *c.Brightness
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
		p["kelvin"] = *c.ColorTemp
	}
	if c.White != nil {
		p["white"] = *c.White
	}
	if c.Effect != "" {
		p["effect"] = c.Effect
	}
	if c.Transition != nil && *c.Transition >= 0 {
		p["transition_ms"] = int64(math.Round(*c.Transition * 1000))
	}
	return p, nil
}
