package device

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"time"
)

// Duration distributions of a light, in milliseconds; nil is none at all.
type Dist func(*rand.Rand) float64

// LightConfig is how a light behaves.
type LightConfig struct {
	Modes      []string // as declared to the hub; empty: brightness
	Ack        Dist     // from the command's arrival to the acknowledgement
	Exec       Dist     // from there to done
	FailPct    float64
	HangPct    float64 // of the commands are acknowledged, and nothing comes of them
	Transition bool    // honours transition_ms, with interim reports
	// Reports draws how it shows what a set has made of it. nil: ReportAfter.
	Reports func(*rand.Rand) Reporting
}

// Reporting is a way to show what a command has made of a light.
type Reporting uint8

// The ways.
const (
	ReportAfter  Reporting = iota // done, then a report for the command
	ReportBefore                  // the report for the command, then done
	ReportEarly                   // a report for no command, before any answer
	ReportPlain                   // done, then a report for no command
	ReportAsked                   // done; a report when one is asked for
	ReportNever                   // done; none at all until another command has been executed
)

func ms(dist Dist, r *rand.Rand) time.Duration {
	if dist == nil {
		return 0
	}
	return time.Duration(max(dist(r), 0) * float64(time.Millisecond))
}

// LightState is the state on the wire (devices/PROTOCOL.md#state); exactly one colour is set where the mode has one.
type LightState struct {
	On            bool      `json:"on"`
	Brightness    int       `json:"brightness,omitempty"`
	Mode          string    `json:"mode"`
	RGB           []int     `json:"rgb,omitempty"`
	HS            []float64 `json:"hs,omitempty"`
	XY            []float64 `json:"xy,omitempty"`
	Kelvin        int       `json:"kelvin,omitempty"`
	White         *int      `json:"white,omitempty"`
	Effect        string    `json:"effect,omitempty"`
	Transitioning bool      `json:"transitioning,omitempty"`
	Target        *target   `json:"target,omitempty"`
	T             int64     `json:"t,omitempty"`
	Cause         string    `json:"cause,omitempty"`
	Cmd           string    `json:"cmd,omitempty"`
}

type target struct {
	On         *bool `json:"on,omitempty"`
	Brightness int   `json:"brightness,omitempty"`
}

// setParams are those of op set: every field may be absent.
type setParams struct {
	On         *bool     `json:"on"`
	Brightness *int      `json:"brightness"`
	RGB        []int     `json:"rgb"`
	HS         []float64 `json:"hs"`
	XY         []float64 `json:"xy"`
	Kelvin     *int      `json:"kelvin"`
	White      *int      `json:"white"`
	Effect     *string   `json:"effect"`
	Transition int       `json:"transition_ms"`
}

type light struct {
	cfg   LightConfig
	state LightState
	moves int // counts changes, so that an older transition ends
	mute  bool
}

func newLight(cfg LightConfig) *light {
	if len(cfg.Modes) == 0 {
		cfg.Modes = []string{"brightness"}
	}
	l := &light{cfg: cfg, state: LightState{Mode: cfg.Modes[0], Effect: "none"}}
	switch l.state.Mode {
	case "onoff":
	case "color_temp":
		l.state.Brightness, l.state.Kelvin = 255, 2700
	case "hs":
		l.state.Brightness, l.state.HS = 255, []float64{30, 50}
	case "xy":
		l.state.Brightness, l.state.XY = 255, []float64{0.4, 0.4}
	case "rgb", "rgbw", "rgbww":
		l.state.Brightness, l.state.RGB = 255, slices.Repeat([]int{255}, len(l.state.Mode))
	default:
		l.state.Brightness = 255
	}
	return l
}

// apply moves the state to what was asked for.
func (l *light) apply(p setParams) {
	s := &l.state
	if p.Brightness != nil {
		s.Brightness = *p.Brightness
	}
	colour := func(mode string) {
		s.RGB, s.HS, s.XY, s.Kelvin, s.White = nil, nil, nil, 0, nil
		s.Mode = mode
	}
	switch {
	case p.RGB != nil:
		colour([]string{"rgb", "rgbw", "rgbww"}[min(max(len(p.RGB)-3, 0), 2)])
		s.RGB = p.RGB
	case p.HS != nil:
		colour("hs")
		s.HS = p.HS
	case p.XY != nil:
		colour("xy")
		s.XY = p.XY
	case p.Kelvin != nil:
		colour("color_temp")
		s.Kelvin = *p.Kelvin
	case p.White != nil:
		colour("white")
		s.White = p.White
	}
	if p.Effect != nil {
		s.Effect = *p.Effect
	}
	switch {
	case p.On != nil:
		s.On = *p.On
	case p.Brightness != nil || p.RGB != nil || p.HS != nil || p.XY != nil || p.Kelvin != nil || p.White != nil || p.Effect != nil:
		s.On = true
	}
}

// setLight executes a set, over its transition if it has one: an interim report, then the end.
func (d *Device) setLight(c Command, began time.Time) {
	var p setParams
	if d.light == nil || json.Unmarshal(c.Params, &p) != nil {
		d.finishCommand(c, "rejected", "params", began)
		return
	}
	d.mu.Lock()
	d.light.moves++
	move := d.light.moves
	over := time.Duration(p.Transition) * time.Millisecond
	if !d.light.cfg.Transition || over <= 0 || c.reports == ReportEarly {
		d.light.apply(p)
		d.mu.Unlock()
		d.shown(c, began)
		return
	}
	interim := d.light.state
	interim.Transitioning, interim.Target = true, &target{On: p.On}
	if p.Brightness != nil {
		interim.Target.Brightness = *p.Brightness
		interim.Brightness = max(1, (interim.Brightness+*p.Brightness)/2)
	}
	interim.On = true
	d.after(over, func() {
		d.mu.Lock()
		if d.light.moves != move {
			d.mu.Unlock()
			d.finishCommand(c, "failed", "interrupted", began)
			return
		}
		d.light.apply(p)
		d.mu.Unlock()
		d.shown(c, began)
	})
	d.mu.Unlock()
	if c.reports < ReportAsked {
		d.sendState(interim, "command", c.ID)
	}
}

// shown answers a set that was executed and reports, in the way that was drawn for it.
func (d *Device) shown(c Command, began time.Time) {
	d.mu.Lock()
	d.light.mute = c.reports == ReportNever
	d.mu.Unlock()
	switch c.reports {
	case ReportBefore:
		d.report("command", c.ID)
	case ReportEarly:
		d.report("command", "")
		d.link.ack(ackPayload(c.ID, heard{status: "acked"}), c.answer, d.answering(c.ID, "acked"))
	}
	d.blips(blipAtEnd)
	d.finishCommand(c, "done", "", began)
	switch c.reports {
	case ReportAfter:
		d.report("command", c.ID)
	case ReportPlain:
		d.report("command", "")
	}
}

// Press is somebody at the switch: the light toggles, and says so.
func (d *Device) Press() {
	d.mu.Lock()
	if d.light == nil {
		d.mu.Unlock()
		return
	}
	d.light.moves++
	d.light.mute = false
	d.light.state.On = !d.light.state.On
	d.mu.Unlock()
	d.report("local", "")
}

// Dim is somebody at the dial; 1 to 255, which also switches on, or 0 for off.
func (d *Device) Dim(brightness int) {
	d.mu.Lock()
	if d.light == nil {
		d.mu.Unlock()
		return
	}
	d.light.moves++
	d.light.mute = false
	d.light.state.On = brightness > 0
	if brightness > 0 {
		d.light.state.Brightness = min(brightness, 255)
	}
	d.mu.Unlock()
	d.report("local", "")
}

// State returns the light's state, and false if the device is none.
func (d *Device) State() (LightState, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.light == nil {
		return LightState{}, false
	}
	return d.light.state, true
}

// report sends the whole state, unless the light is mute.
func (d *Device) report(cause, cmd string) {
	if s, ok := d.reportable(); ok {
		d.sendState(s, cause, cmd)
	}
}

// reportable is the state for those who may hear it.
func (d *Device) reportable() (LightState, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.light == nil || d.light.mute {
		return LightState{}, false
	}
	return d.light.state, true
}

func (d *Device) sendState(s LightState, cause, cmd string) {
	s.T, s.Cause, s.Cmd = d.cfg.Clock().UnixMilli(), cause, cmd
	b, err := json.Marshal(s)
	if err != nil {
		d.failed("malformed_state")
		return
	}
	d.link.state(b, d.reporting(s))
}

// reporting tells that a report leaves; what it returns, that the hub has it.
func (d *Device) reporting(s LightState) (taken func()) {
	if d.cfg.Hooks.Reported == nil {
		return nil
	}
	return d.cfg.Hooks.Reported(s)
}

// welcome is the join reply of a light's topic, as far as a device heeds it.
type welcome struct {
	Delta   json.RawMessage   `json:"delta"`
	Pending []json.RawMessage `json:"pending"`
}

// welcomed reports the state, and then does what the hub had waiting: commands, else the fields that people want otherwise.
func (d *Device) welcomed(w welcome, cause string) {
	d.report(cause, "")
	for _, env := range w.Pending {
		d.command(env, request{})
	}
	var p setParams
	if len(w.Pending) > 0 || len(w.Delta) < 3 || json.Unmarshal(w.Delta, &p) != nil {
		return
	}
	d.mu.Lock()
	d.light.moves++
	d.light.apply(p)
	d.mu.Unlock()
	d.report("sync", "")
}
