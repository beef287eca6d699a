package lights

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"devicehub/devices"
)

// TestPercentRoundTrips: every percent survives (P24: a slider that jumps).
func TestPercentRoundTrips(t *testing.T) {
	for pct := 1; pct <= 100; pct++ {
		b := FromPercent(pct)
		if got := Percent(b); got != pct || b < 1 || b > 255 {
			t.Errorf("%d %% is %d is %d %%", pct, b, got)
		}
	}
}

// TestScales: a device's own value comes back exactly in every scale up to ours,
// a brightness need not; both are the same in the coarser scale.
func TestScales(t *testing.T) {
	for scale := 1; scale <= 1000; scale++ {
		for v := 1; v <= scale && scale <= 255; v++ {
			if got := ToScale(FromScale(v, scale), scale); got != v {
				t.Fatalf("scale %d: %d comes back as %d", scale, v, got)
			}
		}
		for b := 1; b <= 255; b++ {
			v := ToScale(b, scale)
			if v < 1 || v > scale {
				t.Fatalf("scale %d: %d is %d", scale, b, v)
			}
			if back := FromScale(v, scale); !Same(Brightness, float64(b), float64(back), scale) {
				t.Fatalf("scale %d: %d comes back as %d, which is not the same", scale, b, back)
			}
		}
	}
	moved := 0
	for b := 1; b <= 255; b++ {
		if FromScale(ToScale(b, 100), 100) != b {
			moved++
		}
	}
	if moved != 155 {
		t.Errorf("in percent %d of 255 move, want 155", moved)
	}
}

func TestSame(t *testing.T) {
	list := func(n ...float64) any {
		var l []any
		for _, v := range n {
			l = append(l, v)
		}
		return l
	}
	for _, tt := range []struct {
		name, field string
		a, b        any
		scale       int
		want        bool
	}{
		{"brightness of a percent light", Brightness, 127.0, 128.0, 100, true},
		{"another percent", Brightness, 128.0, 131.0, 100, false},
		{"our own scale", Brightness, 127.0, 128.0, 255, false},
		{"an unknown scale", Brightness, 127.0, 128.0, Unknown, true},
		{"far apart in any scale", Brightness, 127.0, 130.0, Unknown, false},
		{"no brightness", Brightness, 127.0, nil, Unknown, false},
		{"kelvin of one mired", Kelvin, 2700.0, 2703.0, Unknown, true},
		{"kelvin of two mireds", Kelvin, 2700.0, 2712.0, Unknown, false},
		{"on", On, true, true, Unknown, true},
		{"off", On, true, false, Unknown, false},
		{"rgb", RGB, list(255, 0, 1), list(255, 0, 1), 255, true},
		{"rgb never black for colour", RGB, list(1, 0, 0), list(0, 0, 0), 100, false},
		{"rgb of another length", RGB, list(1, 2, 3), list(1, 2, 3, 4), Unknown, false},
		{"hue across zero", HS, list(359.5, 50), list(0.5, 50), Unknown, true},
		{"hue of white", HS, list(120, 0), list(0, 0.5), Unknown, true},
		{"hue of nearly white", HS, list(120, 3), list(0, 3), Unknown, false},
		{"xy", XY, list(0.31, 0.33), list(0.312, 0.329), Unknown, true},
		{"effect", Effect, "none", "blink", Unknown, false},
	} {
		if got := Same(tt.field, tt.a, tt.b, tt.scale); got != tt.want {
			t.Errorf("%s: got %t, want %t", tt.name, got, tt.want)
		}
	}
}

// TestMireds: a device's mired value survives, and so does its meaning.
func TestMireds(t *testing.T) {
	for m := 50; m <= 1000; m++ {
		if got := Mireds(FromMireds(m)); got != m {
			t.Errorf("%d mireds come back as %d", m, got)
		}
	}
	for k := 1000; k <= 20000; k++ {
		if !Same(Kelvin, float64(k), float64(FromMireds(Mireds(k))), Unknown) {
			t.Errorf("%d K is not the same after mireds", k)
		}
	}
}

func TestColoursRoundTrip(t *testing.T) {
	for h := 0.0; h < 360; h += 7 {
		for s := 20.0; s <= 100; s += 16 {
			r, g, b := HSToRGB(h, s)
			h2, s2 := RGBToHS(r, g, b)
			d := math.Abs(h - h2)
			if min(d, 360-d) > 1.5 || math.Abs(s-s2) > 0.5 {
				t.Errorf("hs %v %v comes back as %v %v", h, s, h2, s2)
			}
			x, y := RGBToXY(r, g, b)
			r2, g2, b2 := XYToRGB(x, y)
			x2, y2 := RGBToXY(r2, g2, b2)
			if math.Abs(x-x2) > 0.005 || math.Abs(y-y2) > 0.005 {
				t.Errorf("xy %v %v of %d %d %d comes back as %v %v", x, y, r, g, b, x2, y2)
			}
		}
	}
	if x, y := RGBToXY(255, 255, 255); math.Abs(x-0.3127) > 0.001 || math.Abs(y-0.3290) > 0.001 {
		t.Errorf("white: got %v %v, want D65", x, y)
	}
}

var lamp = &devices.Light{Modes: []devices.LightMode{devices.ModeRGBW, devices.ModeColorTemp, devices.ModeWhite}, MinKelvin: 2200, MaxKelvin: 6500, Effects: []string{"blink"}}

func TestParse(t *testing.T) {
	onoff := &devices.Light{Modes: []devices.LightMode{devices.ModeOnOff}}
	for _, tt := range []struct {
		name   string
		light  *devices.Light
		op     string
		params string
		state  Fields
		want   string // what the device gets
		code   devices.Code
		detail any // details.max, or details.field
	}{
		{name: "brightness means on", light: lamp, op: "set", params: `{"brightness":200}`, want: `{"brightness":200,"on":true}`},
		{name: "off stays off", light: lamp, op: "set", params: `{"on":false,"transition_ms":500}`, want: `{"on":false,"transition_ms":500}`},
		{name: "colour means on", light: lamp, op: "set", params: `{"rgb":[1,2,3,4]}`, want: `{"on":true,"rgb":[1,2,3,4]}`},
		{name: "transition is clamped", light: lamp, op: "set", params: `{"on":true,"transition_ms":99999999}`, want: `{"on":true,"transition_ms":6553000}`},
		{name: "no brightness 0", light: lamp, op: "set", params: `{"brightness":0}`, code: devices.CodeRange, detail: 255.0},
		{name: "kelvin beyond this light", light: lamp, op: "set", params: `{"kelvin":6535}`, code: devices.CodeRange, detail: 6500.0},
		{name: "half a step", light: lamp, op: "set", params: `{"brightness":1.5}`, code: devices.CodeInvalid, detail: "brightness"},
		{name: "rgb on an rgbw light", light: lamp, op: "set", params: `{"rgb":[1,2,3]}`, code: devices.CodeInvalid, detail: "rgb"},
		{name: "rgb out of range", light: lamp, op: "set", params: `{"rgb":[1,2,3,256]}`, code: devices.CodeRange, detail: 255.0},
		{name: "two colours", light: lamp, op: "set", params: `{"kelvin":3000,"white":3}`, code: devices.CodeInvalid, detail: "white"},
		{name: "mode is not asked for", light: lamp, op: "set", params: `{"mode":"rgb"}`, code: devices.CodeInvalid, detail: "mode"},
		{name: "an effect", light: lamp, op: "set", params: `{"effect":"blink"}`, want: `{"effect":"blink","on":true}`},
		{name: "none is always an effect", light: onoff, op: "set", params: `{"effect":"none"}`, want: `{"effect":"none","on":true}`},
		{name: "an effect it has not", light: lamp, op: "set", params: `{"effect":"party"}`, code: devices.CodeInvalid, detail: "effect"},
		{name: "brightness without a dimmer", light: onoff, op: "set", params: `{"brightness":3}`, code: devices.CodeInvalid, detail: "brightness"},
		{name: "unknown field", light: lamp, op: "set", params: `{"colour":3}`, code: devices.CodeInvalid, detail: "colour"},
		{name: "nothing", light: lamp, op: "set", params: `{"transition_ms":3}`, code: devices.CodeInvalid, detail: "params"},
		{name: "a list", light: lamp, op: "set", params: `[1]`, code: devices.CodeInvalid, detail: "params"},
		{name: "toggle of one that is on", light: lamp, op: "toggle", state: Fields{On: true}, want: `{"on":false}`},
		{name: "toggle of one that never said", light: lamp, op: "toggle", params: `{"transition_ms":9}`, want: `{"on":true,"transition_ms":9}`},
		{name: "step up", light: lamp, op: "step", params: `{"brightness_delta":100}`, state: Fields{Brightness: 200.0}, want: `{"brightness":255,"on":true}`},
		{name: "step down never to off", light: lamp, op: "step", params: `{"pct_delta":-50}`, state: Fields{Brightness: FromPercentF(30)}, want: `{"brightness":1,"on":true}`},
		{name: "step in percent", light: lamp, op: "step", params: `{"pct_delta":10}`, state: Fields{Brightness: FromPercentF(30)}, want: `{"brightness":101,"on":true}`},
		{name: "step from nowhere", light: lamp, op: "step", params: `{"pct_delta":10}`, code: devices.CodeInvalid, detail: "brightness"},
		{name: "two steps", light: lamp, op: "step", params: `{"pct_delta":1,"brightness_delta":1}`, code: devices.CodeInvalid, detail: "params"},
		{name: "step without a dimmer", light: onoff, op: "step", params: `{"pct_delta":1}`, code: devices.CodeInvalid, detail: "op"},
		{name: "identify", op: "identify", params: `{"ms":1000}`, want: `{"ms":1000}`},
		{name: "identify for too long", op: "identify", params: `{"ms":60000}`, code: devices.CodeRange, detail: 30000.0},
		{name: "restart takes nothing", op: "restart", params: `{"now":true}`, code: devices.CodeInvalid, detail: "params.now"},
		{name: "refresh", op: "refresh", want: `{}`},
		{name: "set of no light", op: "set", params: `{"on":true}`, code: devices.CodeInvalid, detail: "op"},
		{name: "unknown op", light: lamp, op: "explode", code: devices.CodeInvalid, detail: "op"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := Parse(tt.light, tt.op, json.RawMessage(tt.params))
			var params map[string]any
			if err == nil {
				_, params, _, err = a.Resolve(tt.state)
			}
			if devices.CodeOf(err) != tt.code {
				t.Fatalf("got %v, want code %q", err, tt.code)
			}
			if tt.code != "" {
				d := err.(*devices.Error).Details
				if d["max"] != tt.detail && d["field"] != tt.detail {
					t.Errorf("details: got %v, want %v", d, tt.detail)
				}
				return
			}
			if got, _ := json.Marshal(params); string(got) != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// FromPercentF is FromPercent as it stands in a state.
func FromPercentF(pct int) float64 { return float64(FromPercent(pct)) }

func TestFulfils(t *testing.T) {
	state := Fields{On: true, Brightness: 128.0, Kelvin: 2703.0, Effect: "none"}
	for _, tt := range []struct {
		name string
		want Fields
		ok   bool
	}{
		{"all of it", Fields{On: true, Brightness: 128.0, Kelvin: 2700.0}, true},
		{"another brightness", Fields{Brightness: 200.0}, false},
		{"off", Fields{On: false}, false},
		{"a colour it does not show", Fields{RGB: []any{1.0, 2.0, 3.0}}, false},
	} {
		if got := state.Fulfils(tt.want, Unknown); got != tt.ok {
			t.Errorf("%s: got %t, want %t", tt.name, got, tt.ok)
		}
	}
	if !(Fields{On: false, Brightness: 5.0}).Fulfils(Fields{On: false, Brightness: 200.0}, Unknown) {
		t.Error("a light that is off need not show its brightness")
	}
}

func TestGroups(t *testing.T) {
	for _, tt := range []struct {
		fields Fields
		want   Group
	}{{Fields{On: true}, Power}, {Fields{Brightness: 1.0, Kelvin: 1.0}, Power | Colour}, {Fields{Effect: "none", RGB: nil}, Effects | Colour}} {
		if got := tt.fields.Groups(); got != tt.want {
			t.Errorf("%v: got %b, want %b", tt.fields, got, tt.want)
		}
	}
}

// TestWhiteOfWhichever: a lamp with white LEDs makes white of those, and says so.
func TestWhiteOfWhichever(t *testing.T) {
	list := func(ns ...any) []any { return ns }
	white, colour := Fields{On: true, Mode: "color_temp", Kelvin: 2703.0}, Fields{On: true, Mode: "hs", HS: list(120.0, 0.0)}
	for _, tt := range []struct {
		name  string
		state Fields
		want  Fields
		ok    bool
	}{
		{"no saturation", white, Fields{HS: list(0.0, 0.0)}, true},
		{"of the white channel", Fields{On: true, Mode: "white", White: 200.0}, Fields{HS: list(40.0, 0.0)}, true},
		{"three alike", white, Fields{RGB: list(255.0, 255.0, 255.0)}, true},
		{"black is not white", white, Fields{RGB: list(0.0, 0.0, 0.0)}, false},
		{"a colour is not white", white, Fields{HS: list(0.0, 40.0)}, false},
		{"nor is one of three", white, Fields{RGB: list(255.0, 255.0, 0.0)}, false},
		{"with a white of its own", white, Fields{RGB: list(9.0, 9.0, 9.0, 9.0)}, false},
		{"white by colour", colour, Fields{HS: list(0.0, 0.0)}, true},
		{"a temperature is asked for", colour, Fields{Kelvin: 2703.0}, false},
		{"and it is off", white, Fields{On: false, HS: list(0.0, 0.0)}, false},
	} {
		if got := tt.state.Fulfils(tt.want, Unknown); got != tt.ok {
			t.Errorf("%s: got %t, want %t", tt.name, got, tt.ok)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(`{"on":true,"brightness":128,"mode":"rgb","rgb":[255,120,0],"hs":null,"transitioning":true,"target":{"brightness":255},"t":1763682000123,"cause":"command","cmd":"01JD"}`))
	f.Add([]byte(`{"brightness":0}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"target":{"rgb":[1]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err != nil {
			if devices.CodeOf(err) == "" {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		// What was accepted says the same when said again.
		state := Fields{}.Merge(r.Fields)
		said, err := json.Marshal(state.Wire())
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseReport(said)
		if err != nil {
			t.Fatalf("%s: %v", said, err)
		}
		if !(Fields{}).Merge(again.Fields).Fulfils(state, 255) {
			t.Fatalf("%s says %v, then %v", b, state, again.Fields)
		}
		n := 0
		for c := range state {
			if slices.Contains(colours, c) {
				n++
			}
		}
		if n > 1 {
			t.Fatalf("%v: %d colours", state, n)
		}
	})
}
