package adapter

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"

	"devicehub/bridge/broker"
	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/lights"
	"devicehub/devices/liveness"
	"devicehub/devices/readings"
)

// zigbee2mqtt speaks to Zigbee2MQTT. A device is adopted under its IEEE address,
// which stays when its friendly name changes.
type zigbee2mqtt struct {
	*Behind
	base string

	mu    sync.Mutex
	named map[string]*zigbeeDevice // by friendly name
	words map[string]string        // availability, by friendly name: it may come before the list
	away  bool                     // Zigbee2MQTT itself
}

// zigbeeDevice is what <base>/bridge/devices says of one device.
type zigbeeDevice struct {
	ieee, name string
	scale      int  // of brightness, 254 if not said
	announced  bool // it has an availability topic
	units      map[string]string
}

func newZigbee2MQTT(base string, b *Behind) *zigbee2mqtt {
	if base == "" {
		base = "zigbee2mqtt"
	}
	return &zigbee2mqtt{Behind: b, base: base, named: map[string]*zigbeeDevice{}, words: map[string]string{}}
}

func (z *zigbee2mqtt) Filters() []string { return []string{z.base + "/#"} }

func (z *zigbee2mqtt) Up() {}

// Lane keeps the order of one device. The list of devices says whose a name is,
// and the state of Zigbee2MQTT itself is that of all of them.
func (z *zigbee2mqtt) Lane(topic string) string {
	name := strings.TrimPrefix(topic, z.base+"/")
	if name == "bridge/devices" || name == "bridge/state" {
		return everyone
	}
	return strings.TrimSuffix(name, "/availability")
}

func (z *zigbee2mqtt) Handle(m Message, done func(error)) {
	name := strings.TrimPrefix(m.Topic, z.base+"/")
	switch {
	case name == "bridge/devices":
		z.devices(m)
	case name == "bridge/state":
		z.bridgeState(m.Payload)
	case strings.HasPrefix(name, "bridge/"), strings.HasSuffix(name, "/get"):
	case strings.HasSuffix(name, "/set"), strings.Contains(name, "/set/"):
		if m.Retained && len(m.Payload) > 0 {
			z.retainedCommand("topic:" + m.Topic)
		}
	case strings.HasSuffix(name, "/availability"):
		z.availability(strings.TrimSuffix(name, "/availability"), m)
	case !m.Retained: // a retained state may be of any age
		z.state(name, m, z.taken(done))
		return
	}
	done(nil)
}

func (z *zigbee2mqtt) find(name string) *zigbeeDevice {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.named[name]
}

// word is the state of {"state":"online"}, or of the bare word of old versions.
func word(payload []byte) string {
	var s struct {
		State string `json:"state"`
	}
	if json.Unmarshal(payload, &s) == nil && s.State != "" {
		return s.State
	}
	return string(payload)
}

// bridgeState takes what is said of Zigbee2MQTT itself. While it is away, so is
// every device; when it is back, each is what was last said of it. Zigbee2MQTT
// does not say so again of those whose availability has not changed, and it says
// nothing at all of most: availability is off by default.
func (z *zigbee2mqtt) bridgeState(payload []byte) {
	away := word(payload) == "offline"
	z.mu.Lock()
	was := z.away
	z.away = away
	all := slices.Collect(maps.Values(z.named))
	z.mu.Unlock()
	if !away && !was {
		return
	}
	for _, d := range all {
		z.stand(d)
	}
}

// stand is what is known of a device's link.
func (z *zigbee2mqtt) stand(d *zigbeeDevice) {
	dev, ok := z.adopted("z2m", d.ieee)
	if !ok {
		return
	}
	z.mu.Lock()
	word, said := z.words[d.name]
	away := z.away
	z.mu.Unlock()
	switch {
	case away:
		z.speaks(dev.ID, z.can(d), z.command)
		z.available(dev.ID, false, "bridge_down")
	case said:
		z.there(dev, word)
	default:
		z.silent(dev)
	}
}

func (z *zigbee2mqtt) can(d *zigbeeDevice) liveness.Availability {
	z.mu.Lock()
	defer z.mu.Unlock()
	if d.announced {
		return liveness.Announced
	}
	return liveness.NoAvailability
}

// availability takes what is said of a device. What the broker kept of one while
// Zigbee2MQTT is away is of before.
func (z *zigbee2mqtt) availability(name string, m Message) {
	z.mu.Lock()
	d := z.named[name]
	if d != nil {
		d.announced = true
	}
	if d != nil || len(z.words) < maxMet {
		z.words[name] = word(m.Payload)
	}
	late := z.away && m.Retained
	z.mu.Unlock()
	if d == nil || late {
		return
	}
	if dev, ok := z.adopted("z2m", d.ieee); ok {
		z.there(dev, word(m.Payload))
	}
}

// there hands on a device's availability.
func (z *zigbee2mqtt) there(dev *devices.Device, word string) {
	z.speaks(dev.ID, liveness.Announced, z.command)
	z.available(dev.ID, word == "online", "connection_lost")
}

// join makes commands reach a device that has just been adopted.
func (z *zigbee2mqtt) join(ieee string) {
	z.mu.Lock()
	var d *zigbeeDevice
	for _, x := range z.named {
		if x.ieee == ieee {
			d = x
		}
	}
	z.mu.Unlock()
	if d != nil {
		z.stand(d)
	}
}

// silent is a device that announces nothing: its link is unknown, whatever was
// said of it before, and it hears commands without having spoken first.
func (z *zigbee2mqtt) silent(dev *devices.Device) {
	z.speaks(dev.ID, liveness.NoAvailability, z.command)
	z.Liveness.BridgeUnknown(dev.ID, z.bus.Name())
	z.link(dev.ID, 0)
}

// expose is one capability in <base>/bridge/devices.
type expose struct {
	Type     string   `json:"type"`
	Name     string   `json:"name"`
	Property string   `json:"property"`
	Unit     string   `json:"unit"`
	Access   int      `json:"access"`
	ValueMin *float64 `json:"value_min"`
	ValueMax *float64 `json:"value_max"`
	Features []expose `json:"features"`
}

// publishable reports whether a device of that name can be sent anything: the
// name becomes a part of topics.
func (z *zigbee2mqtt) publishable(name string) bool {
	return name != "" && broker.ValidTopic(z.base+"/"+name+"/set")
}

// devices reads the list of devices: names, capabilities, what can be adopted.
// One that is not of before says that Zigbee2MQTT is there.
func (z *zigbee2mqtt) devices(m Message) {
	var list []struct {
		IEEE       string `json:"ieee_address"`
		Type       string `json:"type"`
		Name       string `json:"friendly_name"`
		Model      string `json:"model_id"`
		Definition *struct {
			Model       string   `json:"model"`
			Vendor      string   `json:"vendor"`
			Description string   `json:"description"`
			Exposes     []expose `json:"exposes"`
		} `json:"definition"`
		Software string `json:"software_build_id"`
	}
	if json.Unmarshal(m.Payload, &list) != nil {
		return
	}
	named, listed := map[string]*zigbeeDevice{}, map[string]bool{}
	for _, x := range list {
		if x.Type == "Coordinator" || x.Definition == nil || x.IEEE == "" || !z.publishable(x.Name) {
			continue
		}
		d := &zigbeeDevice{ieee: x.IEEE, name: x.Name, scale: 254, units: map[string]string{}}
		dev := &devices.Device{Name: x.Name, Model: x.Definition.Model, Manufacturer: x.Definition.Vendor, Firmware: x.Software, Via: z.bus.Name()}
		for _, e := range x.Definition.Exposes {
			if e.Type == "light" {
				dev.Light = d.light(e)
				dev.Kinds = append(dev.Kinds, devices.KindLight)
				continue
			}
			if m, _, ok := zigbeeMetric(e.Property, 0.0); ok {
				d.units[e.Property] = e.Unit
				if m != "" && len(dev.Kinds) == 0 {
					dev.Kinds = []devices.Kind{devices.KindSensor}
				}
			}
		}
		if len(dev.Kinds) == 0 {
			dev.Kinds = []devices.Kind{devices.KindSensor}
		}
		named[x.Name], listed[x.IEEE] = d, true
		z.meet("z2m", x.IEEE, dev, func(*devices.Device) { z.join(x.IEEE) })
	}
	z.keepMet("z2m", listed)
	z.mu.Lock()
	back := z.away && !m.Retained
	z.away = z.away && m.Retained
	var news []*zigbeeDevice // of which there is a word, or was never any
	for name, d := range named {
		_, said := z.words[name]
		if d.announced = said; back || !said || z.named[name] == nil {
			news = append(news, d)
		}
	}
	maps.DeleteFunc(z.words, func(name, _ string) bool { return named[name] == nil })
	z.named = named
	z.mu.Unlock()
	for _, d := range news {
		z.stand(d)
	}
}

// light is what a light's features come to.
func (d *zigbeeDevice) light(e expose) *devices.Light {
	l := &devices.Light{}
	dims := false
	for _, f := range e.Features {
		switch f.Name {
		case "brightness":
			dims = true
			if f.ValueMax != nil && *f.ValueMax >= 1 {
				d.scale = int(*f.ValueMax)
			}
		case "color_temp":
			l.Modes = append(l.Modes, devices.ModeColorTemp)
			if f.ValueMin != nil && f.ValueMax != nil && *f.ValueMin > 0 {
				l.MinKelvin, l.MaxKelvin = lights.FromMireds(int(*f.ValueMax)), lights.FromMireds(int(*f.ValueMin))
			}
		case "color_xy":
			l.Modes = append(l.Modes, devices.ModeXY)
		case "color_hs":
			l.Modes = append(l.Modes, devices.ModeHS)
		}
	}
	if len(l.Modes) == 0 {
		l.Modes = []devices.LightMode{devices.ModeOnOff}
		if dims {
			l.Modes[0] = devices.ModeBrightness
		}
	}
	return l
}

// zigbeeMetric is the hub's metric for a property, and its value there.
func zigbeeMetric(property string, v any) (metric string, value any, ok bool) {
	switch property {
	case "temperature", "humidity", "pressure", "illuminance", "battery", "voltage", "current", "power", "energy", "co2", "pm25", "pm10",
		"voc", "occupancy", "smoke", "power_factor", "conductivity":
		return property, v, true
	case "illuminance_lux":
		return "illuminance", v, true
	case "soil_moisture":
		return "moisture", v, true
	case "water_leak":
		return "leak", v, true
	case "contact": // true is closed; a door that is true is open
		b, isBool := v.(bool)
		return "door", !b, isBool || v == 0.0
	case "ac_frequency":
		return "frequency", v, true
	}
	return "", nil, false
}

// state takes a device's message: readings, and a light's state.
func (z *zigbee2mqtt) state(name string, m Message, done func(error)) {
	d := z.find(name)
	if d == nil { // a group, or a device that the list has not named yet
		done(nil)
		return
	}
	dev, ok := z.adopted("z2m", d.ieee)
	if !ok {
		done(nil)
		return
	}
	var f map[string]any
	if err := json.Unmarshal(m.Payload, &f); err != nil {
		done(devices.Invalid("payload", "JSON"))
		return
	}
	z.speaks(dev.ID, z.can(d), z.command)
	var refused error // of the light's state: its readings are none the worse
	if dev.Is(devices.KindLight) {
		if s := zigbeeState(f, d.scale); len(s) > 0 {
			b, _ := json.Marshal(s)
			refused = z.report(dev, m.At, b)
			if _, again := retry(refused); again {
				done(refused)
				return
			}
		}
	}
	rows, units := []any{}, map[string]string{}
	for property, v := range f {
		if m, value, ok := zigbeeMetric(property, v); ok && value != nil {
			rows = append(rows, []any{m, value})
			if u := d.units[property]; u != "" {
				units[m] = u
			}
		}
	}
	if len(rows) == 0 {
		z.heard(dev.ID)
		done(refused)
		return
	}
	b, _ := json.Marshal(map[string]any{"r": rows, "u": units})
	batch, err := readings.ParseReadings(b)
	if err != nil {
		done(err)
		return
	}
	z.push(m, dev, batch, func(err error) {
		if err == nil {
			err = refused
		}
		done(err)
	})
}

// zigbeeState is a light's message as a state report.
func zigbeeState(f map[string]any, scale int) map[string]any {
	s := map[string]any{}
	switch f["state"] {
	case "ON":
		s["on"] = true
	case "OFF":
		s["on"] = false
	case nil: // of a Zigbee2MQTT that tells changes alone
	default:
		return nil
	}
	if b, ok := f["brightness"].(float64); ok && b >= 1 {
		s["brightness"] = lights.FromScale(int(b), scale)
	}
	color, _ := f["color"].(map[string]any)
	switch f["color_mode"] {
	case "color_temp":
		if ct, ok := f["color_temp"].(float64); ok && ct > 0 {
			s["mode"], s["kelvin"] = "color_temp", lights.FromMireds(int(ct))
		}
	case "xy":
		if x, y := color["x"], color["y"]; x != nil && y != nil {
			s["mode"], s["xy"] = "xy", []any{x, y}
		}
	case "hs":
		if h, sat := color["hue"], color["saturation"]; h != nil && sat != nil {
			s["mode"], s["hs"] = "hs", []any{h, sat}
		}
	}
	return s
}

// command sends a command in Zigbee2MQTT's words. That it is passed on is all the
// answer there is; the device's state confirms it.
func (z *zigbee2mqtt) command(dev *devices.Device, e commands.Envelope) bool {
	ieee := dev.Labels["z2m"]
	z.mu.Lock()
	var d *zigbeeDevice
	for _, x := range z.named {
		if x.ieee == ieee {
			d = x
		}
	}
	z.mu.Unlock()
	if d == nil {
		return false
	}
	topic, body := z.base+"/"+d.name+"/set", map[string]any{}
	switch e.Op {
	case "set":
		body = zigbeeSet(e.Params, d.scale)
	case "refresh":
		topic, body = z.base+"/"+d.name+"/get", zigbeeGet(dev.Light)
	case "identify":
		body["effect"] = "blink"
	default:
		z.unsupported(dev.ID, e.CmdID)
		return true
	}
	b, err := json.Marshal(body)
	if err != nil || !z.bus.Publish(topic, b, 1, false) {
		return false
	}
	z.forwarded(dev.ID, e.CmdID)
	return true
}

// zigbeeGet asks for everything that a light says of itself.
func zigbeeGet(l *devices.Light) map[string]any {
	get := map[string]any{"state": ""}
	if l == nil {
		return get
	}
	if l.Dimmable() {
		get["brightness"] = ""
	}
	if l.Has(devices.ModeColorTemp) {
		get["color_temp"] = ""
	}
	if l.Has(devices.ModeXY) || l.Has(devices.ModeHS) {
		get["color"] = ""
	}
	return get
}

// zigbeeSet is the parameters of a set in Zigbee2MQTT's words.
func zigbeeSet(p map[string]any, scale int) map[string]any {
	out := map[string]any{}
	num := func(k string) (float64, bool) { return number(p[k]) }
	if on, ok := p["on"].(bool); ok {
		out["state"] = map[bool]string{true: "ON", false: "OFF"}[on]
	}
	if b, ok := num("brightness"); ok {
		out["brightness"] = lights.ToScale(int(b), scale)
	}
	if k, ok := num("kelvin"); ok {
		out["color_temp"] = lights.Mireds(int(k))
	}
	if c := numbers(p["xy"]); len(c) == 2 {
		out["color"] = map[string]any{"x": c[0], "y": c[1]}
	}
	if c := numbers(p["hs"]); len(c) == 2 {
		out["color"] = map[string]any{"hue": c[0], "saturation": c[1]}
	}
	if c := numbers(p["rgb"]); len(c) >= 3 {
		out["color"] = map[string]any{"r": c[0], "g": c[1], "b": c[2]}
	}
	if e, ok := p["effect"].(string); ok && e != lights.NoEffect {
		out["effect"] = e
	}
	if t, ok := num("transition_ms"); ok {
		out["transition"] = math.Round(t) / 1000
	}
	return out
}

// number reads a number of whatever Go type it came in.
func number(v any) (float64, bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case int:
		return float64(n), true
	case int64:
		return float64(n), true
	case json.Number:
		f, err := n.Float64()
		return f, err == nil
	}
	return 0, false
}

func numbers(v any) (list []float64) {
	switch l := v.(type) {
	case []float64:
		return l
	case []any:
		for _, x := range l {
			n, ok := number(x)
			if !ok {
				return nil
			}
			list = append(list, n)
		}
	}
	return list
}
