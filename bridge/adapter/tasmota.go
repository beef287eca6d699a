package adapter

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"devicehub/devices"
	"devicehub/devices/commands"
	"devicehub/devices/lights"
	"devicehub/devices/liveness"
	"devicehub/devices/readings"
)

// tasmota speaks to devices with Tasmota and its default full topic,
// %prefix%/%topic%/. A device is adopted under its topic.
//
// Its clock has no zone: telemetry counts from its arrival.
type tasmota struct {
	*Behind

	mu    sync.Mutex
	asked map[devices.ID][]tasmotaAsk      // the commands that wait for a RESULT
	names map[devices.ID]map[string]string // which metric each field of a sensor has become
	words map[string]string                // the LWT of those that nobody has adopted
}

func newTasmota(b *Behind) *tasmota {
	return &tasmota{Behind: b, asked: map[devices.ID][]tasmotaAsk{}, names: map[devices.ID]map[string]string{}, words: map[string]string{}}
}

func (*tasmota) Filters() []string {
	return []string{"tele/+/LWT", "tele/+/STATE", "tele/+/SENSOR", "stat/+/RESULT", "cmnd/+/+"}
}

func (*tasmota) Up() {}

func (*tasmota) Lane(topic string) string {
	_, rest, _ := strings.Cut(topic, "/")
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func (t *tasmota) Handle(m Message, done func(error)) {
	prefix, rest, _ := strings.Cut(m.Topic, "/")
	name, what, _ := strings.Cut(rest, "/")
	if prefix == "cmnd" {
		if m.Retained && len(m.Payload) > 0 { // it would be obeyed at every reconnect
			t.retainedCommand("topic:" + m.Topic)
		}
		done(nil)
		return
	}
	if m.Retained && what != "LWT" {
		done(nil) // of any age
		return
	}
	var f map[string]any
	if what != "LWT" && json.Unmarshal(m.Payload, &f) != nil {
		done(nil)
		return
	}
	dev, ok := t.adopted("tasmota", name)
	if !ok {
		if what == "LWT" {
			t.mu.Lock()
			if len(t.words) < maxMet {
				t.words[name] = string(m.Payload)
			}
			t.mu.Unlock()
		}
		t.learn(name, f)
		done(nil)
		return
	}
	t.speaks(dev.ID, liveness.Announced, t.command)
	done = t.taken(done)
	switch what {
	case "LWT":
		t.there(dev, string(m.Payload))
		done(nil)
	case "SENSOR":
		t.sensor(m, dev, f, done)
	default: // STATE, RESULT
		t.state(dev, f, what == "RESULT", m.At, done)
	}
}

// there hands on a device's availability.
func (t *tasmota) there(dev *devices.Device, word string) {
	t.speaks(dev.ID, liveness.Announced, t.command)
	t.available(dev.ID, word == "Online", "connection_lost")
}

// join hands on the availability of a device that has just been adopted.
func (t *tasmota) join(dev *devices.Device, name string) {
	t.mu.Lock()
	word, said := t.words[name]
	delete(t.words, name)
	t.mu.Unlock()
	if said {
		t.there(dev, word)
	}
}

// learn keeps what an unknown device shows of itself, for its adoption.
func (t *tasmota) learn(name string, f map[string]any) {
	dev := &devices.Device{Name: name, Manufacturer: "Tasmota", Via: t.bus.Name(), Kinds: []devices.Kind{devices.KindSensor}}
	if old := t.known("tasmota", name); old != nil {
		dev = old.Clone()
	}
	if l := tasmotaLight(f); l != nil {
		if dev.Light == nil || len(l.Modes) >= len(dev.Light.Modes) {
			dev.Light = l
		}
		if !dev.Is(devices.KindLight) {
			dev.Kinds = []devices.Kind{devices.KindLight}
		}
	}
	if len(tasmotaReadings(f, map[string]string{})) > 0 && !dev.Is(devices.KindSensor) {
		dev.Kinds = append(dev.Kinds, devices.KindSensor)
	}
	t.meet("tasmota", name, dev, func(dev *devices.Device) { t.join(dev, name) })
}

// tasmotaLight is what the fields of a STATE or RESULT say of a light: only a
// light has a Dimmer.
func tasmotaLight(f map[string]any) *devices.Light {
	if _, ok := f["Dimmer"]; !ok {
		return nil
	}
	l := &devices.Light{}
	if _, ok := f["HSBColor"]; ok {
		l.Modes = append(l.Modes, devices.ModeHS)
	}
	if _, ok := f["CT"]; ok {
		l.Modes = append(l.Modes, devices.ModeColorTemp)
		l.MinKelvin, l.MaxKelvin = lights.FromMireds(500), lights.FromMireds(153)
	}
	if len(l.Modes) == 0 {
		l.Modes = []devices.LightMode{devices.ModeBrightness}
	}
	return l
}

// state takes a light's STATE, or the RESULT of a command.
func (t *tasmota) state(dev *devices.Device, f map[string]any, result bool, at time.Time, done func(error)) {
	if result {
		if say := t.answers(dev.ID, f); say != nil {
			b, _ := json.Marshal(say)
			_ = t.answer(dev.ID, b) // it may have ended in the meantime
		}
	}
	s := tasmotaState(dev.Light, f)
	if !dev.Is(devices.KindLight) || len(s) == 0 {
		t.heard(dev.ID)
		done(nil)
		return
	}
	b, _ := json.Marshal(s)
	done(t.report(dev, at, b))
}

// tasmotaState is the fields of a STATE or RESULT as a state report.
func tasmotaState(l *devices.Light, f map[string]any) map[string]any {
	s := map[string]any{}
	power, ok := f["POWER"].(string)
	if !ok {
		power, ok = f["POWER1"].(string)
	}
	if ok { // any other text is one that somebody chose, and tells nothing
		switch strings.ToUpper(power) {
		case "ON":
			s["on"] = true
		case "OFF":
			s["on"] = false
		}
	}
	if d, ok := f["Dimmer"].(float64); ok && d >= 1 {
		s["brightness"] = lights.FromScale(int(d), 100)
	}
	ct, hasCT := f["CT"].(float64)
	hsb := strings.Split(fmt.Sprint(f["HSBColor"]), ",")
	var hue, sat float64
	hasHS := len(hsb) == 3
	if hasHS {
		var e1, e2 error
		hue, e1 = strconv.ParseFloat(hsb[0], 64)
		sat, e2 = strconv.ParseFloat(hsb[1], 64)
		hasHS = e1 == nil && e2 == nil
	}
	// Of both, a saturation says that the colour shines.
	switch {
	case l == nil:
	case hasHS && l.Has(devices.ModeHS) && (sat > 0 || !hasCT):
		s["mode"], s["hs"] = "hs", []float64{hue, sat}
	case hasCT && ct > 0 && l.Has(devices.ModeColorTemp):
		s["mode"], s["kelvin"] = "color_temp", lights.FromMireds(int(ct))
	}
	return s
}

// tasmotaMetrics are the hub's metrics for Tasmota's names.
var tasmotaMetrics = map[string]string{
	"Temperature": "temperature", "Humidity": "humidity", "Pressure": "pressure", "Illuminance": "illuminance", "CarbonDioxide": "co2",
	"PM1": "pm1", "PM2.5": "pm25", "PM10": "pm10", "Moisture": "moisture", "Distance": "distance",
	"Power": "power", "Voltage": "voltage", "Current": "current", "Total": "energy", "Factor": "power_factor", "Frequency": "frequency",
}

// row is one reading out of a SENSOR message.
type row struct {
	metric, unit string
	value        float64
}

// tasmotaReadings are the readings of a SENSOR message. A second sensor of the
// same kind has its own name behind the metric's. known keeps which is which, so
// that none takes the place of another that is missing from a message.
func tasmotaReadings(f map[string]any, known map[string]string) (rows []row) {
	var sensors []string
	for name, v := range f {
		if _, ok := v.(map[string]any); ok {
			sensors = append(sensors, name)
		}
	}
	slices.Sort(sensors)
	taken := map[string]bool{}
	for _, metric := range known {
		taken[metric] = true
	}
	for _, sensor := range sensors {
		fields := f[sensor].(map[string]any)
		var names []string
		for name := range fields {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			metric, ok := tasmotaMetrics[name]
			v, isNumber := fields[name].(float64)
			if !ok || !isNumber {
				continue
			}
			if field := sensor + "/" + name; known[field] != "" {
				metric = known[field]
			} else {
				if taken[metric] {
					metric += "_" + metricName(sensor)
				}
				if taken[metric] || !devices.ValidMetricName(metric) {
					continue
				}
				taken[metric], known[field] = true, metric
			}
			rows = append(rows, row{metric, tasmotaUnit(name, f), v})
		}
	}
	return rows
}

func tasmotaUnit(name string, f map[string]any) string {
	switch name {
	case "Temperature":
		if f["TempUnit"] == "F" {
			return "°F"
		}
		return "°C"
	case "Pressure":
		if u, ok := f["PressureUnit"].(string); ok {
			return devices.NormalizeUnit(u)
		}
		return "hPa"
	case "Distance":
		return "cm"
	case "Total":
		return "kWh"
	}
	return ""
}

func metricName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, s)
}

func (t *tasmota) sensor(m Message, dev *devices.Device, f map[string]any, done func(error)) {
	t.mu.Lock()
	if t.names[dev.ID] == nil {
		t.names[dev.ID] = map[string]string{}
	}
	rows := tasmotaReadings(f, t.names[dev.ID])
	t.mu.Unlock()
	if len(rows) == 0 {
		t.heard(dev.ID)
		done(nil)
		return
	}
	r, units := []any{}, map[string]string{}
	for _, x := range rows {
		r = append(r, []any{x.metric, x.value})
		if x.unit != "" {
			units[x.metric] = x.unit
		}
	}
	b, _ := json.Marshal(map[string]any{"r": r, "u": units})
	batch, err := readings.ParseReadings(b)
	if err != nil {
		done(err)
		return
	}
	t.push(m, dev, batch, done)
}

// command sends a set as one Backlog, so that it takes effect as a whole; its
// RESULT is the device's answer.
func (t *tasmota) command(dev *devices.Device, e commands.Envelope) bool {
	name := dev.Labels["tasmota"]
	if name == "" {
		return false
	}
	var verb, body string
	switch e.Op {
	case "set":
		verb, body = "Backlog", tasmotaSet(e.Params)
	case "refresh":
		verb, body = "State", ""
	case "restart":
		verb, body = "Restart", "1"
	default:
		t.unsupported(dev.ID, e.CmdID)
		return true
	}
	t.waits(dev.ID, e.CmdID, verb, body)
	if !t.bus.Publish("cmnd/"+name+"/"+verb, []byte(body), 1, false) {
		t.waits(dev.ID, e.CmdID, "", "")
		return false
	}
	return true
}

// tasmotaAsk is a command that waits for a RESULT, and the names that one of its
// RESULTs has.
type tasmotaAsk struct {
	cmd   string
	names []string
}

// maxTasmotaAsks of one device wait; most have one. What has no answer by then
// is the dispatcher's to end.
const maxTasmotaAsks = 4

// waits notes that the command waits for its RESULT, or with no verb that it does
// not.
func (t *tasmota) waits(id devices.ID, cmd, verb, body string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	asks := slices.DeleteFunc(t.asked[id], func(a tasmotaAsk) bool { return a.cmd == cmd })
	if verb != "" {
		asks = append(asks[max(0, len(asks)-maxTasmotaAsks+1):], tasmotaAsk{cmd, tasmotaNames(verb, body)})
	}
	t.asked[id] = asks
}

// tasmotaNames are those by which a RESULT is known as the answer to a command:
// of a Backlog, all that its commands say of the light itself.
func tasmotaNames(verb, body string) (names []string) {
	switch verb {
	case "State":
		return []string{"Uptime"}
	case "Restart":
		return []string{"Restart"}
	}
	for do := range strings.SplitSeq(body, ";") {
		switch name, _, _ := strings.Cut(do, " "); name {
		case "Power":
			names = append(names, "POWER", "POWER1")
		case "HSBColor1", "HSBColor2":
			names = append(names, "HSBColor")
		case "Fade", "Speed": // how it gets there; it has not yet
		default:
			names = append(names, name)
		}
	}
	return names
}

// answers is what a RESULT answers, nil for one that somebody at a button or
// a console has caused.
func (t *tasmota) answers(id devices.ID, f map[string]any) map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	asks := t.asked[id]
	word, _ := f["Command"].(string)
	failed := word == "Unknown" || word == "Error"
	_, dump := f["Uptime"] // of a whole state, which names everything
	i := slices.IndexFunc(asks, func(a tasmotaAsk) bool {
		return failed || slices.ContainsFunc(a.names, func(name string) bool {
			_, holds := f[name]
			return holds && (!dump || name == "Uptime")
		})
	})
	if i < 0 {
		return nil
	}
	say := map[string]string{"cmd_id": asks[i].cmd, "status": "done"}
	if failed {
		say["status"], say["code"] = "failed", "unsupported"
	}
	t.asked[id] = slices.Delete(asks, i, i+1)
	return say
}

// tasmotaSet is the parameters of a set as commands for a Backlog.
func tasmotaSet(p map[string]any) string {
	var do []string
	if ms, ok := number(p["transition_ms"]); ok {
		if ms > 0 { // Speed counts half seconds for the whole way, 1 to 40
			do = append(do, "Fade 1", fmt.Sprint("Speed ", min(40, max(1, int(math.Round(ms/500))))))
		} else {
			do = append(do, "Fade 0")
		}
	}
	if k, ok := number(p["kelvin"]); ok {
		do = append(do, fmt.Sprint("CT ", min(500, max(153, lights.Mireds(int(k))))))
	}
	if c := numbers(p["hs"]); len(c) == 2 {
		do = append(do, fmt.Sprintf("HSBColor1 %d", int(math.Round(c[0]))), fmt.Sprintf("HSBColor2 %d", int(math.Round(c[1]))))
	}
	if c := numbers(p["rgb"]); len(c) >= 3 {
		h, s := lights.RGBToHS(int(c[0]), int(c[1]), int(c[2]))
		do = append(do, fmt.Sprintf("HSBColor1 %d", int(math.Round(h))), fmt.Sprintf("HSBColor2 %d", int(math.Round(s))))
	}
	if w, ok := number(p["white"]); ok {
		do = append(do, fmt.Sprint("White ", lights.ToScale(int(w), 100)))
	}
	if b, ok := number(p["brightness"]); ok {
		do = append(do, fmt.Sprint("Dimmer ", lights.ToScale(int(b), 100)))
	}
	if on, ok := p["on"].(bool); ok {
		do = append(do, map[bool]string{true: "Power ON", false: "Power OFF"}[on])
	}
	return strings.Join(do, ";")
}
