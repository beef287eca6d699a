package shadow

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/lights"
)

type world struct {
	*Shadows
	t     *testing.T
	reg   *devices.Registry
	store Store
	stop  func()
}

var ana = devices.Actor{Kind: devices.ActorUser, Name: "ana", Role: devices.RoleOperator, Rights: devices.RoleOperator.Rights()}

func newWorld(t *testing.T) *world {
	t.Helper()
	reg, err := devices.OpenRegistry(t.Context(), new(devices.MemoryRegistry))
	if err != nil {
		t.Fatal(err)
	}
	lamp := &devices.Light{Modes: []devices.LightMode{devices.ModeRGB, devices.ModeColorTemp}}
	err = reg.Create(t.Context(), time.Now(),
		&devices.Device{ID: "lamp", Kinds: []devices.Kind{devices.KindLight}, Enabled: true, Light: lamp},
		&devices.Device{ID: "sign", Kinds: []devices.Kind{devices.KindLight}, Enabled: true, Light: lamp, ShadowPolicy: devices.DesiredWins},
		&devices.Device{ID: "stat", Kinds: []devices.Kind{devices.KindSensor}, Enabled: true, ShadowPolicy: devices.DesiredWins})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, reg: reg, store: new(Memory)}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start() {
	w.t.Helper()
	s, err := New(w.t.Context(), Config{Store: w.store, Registry: w.reg})
	if err != nil {
		w.t.Fatal(err)
	}
	w.Shadows = s
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	w.stop = sync.OnceFunc(func() { cancel(); <-done })
}

func (w *world) report(id devices.ID, payload string) Outcome {
	w.t.Helper()
	rec, _ := w.reg.Get(id)
	r, err := ParseReport(rec, []byte(payload))
	if err != nil {
		w.t.Fatalf("report %s: %v", payload, err)
	}
	o, err := w.Report(rec, r, "")
	if err != nil {
		w.t.Fatalf("report %s: %v", payload, err)
	}
	return o
}

func (w *world) patch(id devices.ID, request string) (Doc, error) {
	w.t.Helper()
	var r PatchRequest
	if err := json.Unmarshal([]byte(request), &r); err != nil {
		w.t.Fatal(err)
	}
	return w.Patch(w.t.Context(), ana, devices.Origin{Via: "http"}, id, r)
}

func (w *world) wantDelta(id devices.ID, want string) {
	w.t.Helper()
	got, _ := json.Marshal(w.Delta(id))
	if string(got) != want {
		w.t.Errorf("delta of %s: got %s, want %s", id, got, want)
	}
}

func TestReportsRaiseTheVersionWhenTheyChangeSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a := w.report("lamp", `{"on":true,"brightness":128,"rgb":[255,120,0],"cause":"boot"}`)
		b := w.report("lamp", `{"on":true}`)
		c := w.report("lamp", `{"kelvin":2700}`)
		if a.Ver != 1 || b.Ver != 1 || b.Changed || c.Ver != 2 {
			t.Errorf("versions: got %d %d %d, want 1 1 2", a.Ver, b.Ver, c.Ver)
		}
		if c.State["rgb"] != nil || c.State["kelvin"] != 2700.0 || c.State["mode"] != "color_temp" || c.State["brightness"] != 128.0 {
			t.Errorf("state: got %v, want kelvin in place of rgb and the rest unchanged", c.State)
		}
		d, _ := w.Doc("lamp")
		if d.ReportedMeta["brightness"].Ver != 1 || d.ReportedMeta["kelvin"].Ver != 2 || d.ReportedMeta["brightness"].Cause != "boot" {
			t.Errorf("meta: got %+v", d.ReportedMeta)
		}
	})
}

// TestWhenTheSwitchWasPressed: a device's clock may be an hour off. Of a switch
// pressed before somebody asked for a state, and of one pressed after, the hub
// knows which is which all the same.
func TestWhenTheSwitchWasPressed(t *testing.T) {
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour} {
		for _, tt := range []struct {
			pressed time.Duration // before it is told of
			delta   string
		}{{5 * time.Second, `{"on":true}`}, {500 * time.Millisecond, `{}`}} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				now := func() time.Time { return time.Now().AddDate(20, 0, 0) } // from 2000, when no clock is set
				var err error
				w.Shadows, err = New(t.Context(), Config{Store: w.store, Registry: w.reg, Now: now,
					ClockOffset: func(devices.ID) (int64, bool) { return ahead.Milliseconds(), true }})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := w.patch("lamp", `{"desired":{"on":true}}`); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				at := now().Add(ahead - tt.pressed).UnixMilli()
				w.report("lamp", fmt.Sprintf(`{"on":false,"cause":"local","t":%d}`, at))
				if got, _ := json.Marshal(w.Delta("lamp")); string(got) != tt.delta {
					t.Errorf("clock %v ahead, pressed %v ago: got %s, want %s", ahead, tt.pressed, got, tt.delta)
				}
			})
		}
	}
}

func TestInterimReportsAreShownAndNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.report("lamp", `{"on":true,"brightness":10}`)
		o := w.report("lamp", `{"brightness":100,"transitioning":true,"target":{"brightness":200}}`)
		if o.Ver != 1 || o.State["brightness"] != 100.0 || o.State["transitioning"] != true || !reflect.DeepEqual(o.State["target"], map[string]any{"brightness": 200.0}) {
			t.Errorf("interim: got %v", o.State)
		}
		if got := w.State("lamp")["brightness"]; got != 10.0 {
			t.Errorf("kept: got %v, want 10", got)
		}
		o = w.report("lamp", `{"transitioning":false,"brightness":200}`)
		if o.Ver != 2 || w.State("lamp")["brightness"] != 200.0 || o.State["transitioning"] != false {
			t.Errorf("at the end: got %v", o.State)
		}
	})
}

func TestLocalWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.report("lamp", `{"on":false,"brightness":10,"kelvin":2700}`)
		if _, err := w.patch("lamp", `{"desired":{"on":true,"brightness":127,"kelvin":3000}}`); err != nil {
			t.Fatal(err)
		}
		w.wantDelta("lamp", `{"brightness":127,"kelvin":3000,"on":true}`)
		w.report("lamp", `{"on":true}`) // reached
		w.wantDelta("lamp", `{"brightness":127,"kelvin":3000}`)
		w.report("lamp", `{"brightness":128}`) // the same in percent
		w.wantDelta("lamp", `{"kelvin":3000}`)
		// Pressed before the wish, reported after it: the wish stands.
		w.report("lamp", `{"kelvin":2500,"cause":"local","t":946684799000}`)
		time.Sleep(time.Minute)
		w.report("lamp", `{"rgb":[255,0,0],"cause":"local"}`)
		w.wantDelta("lamp", `{}`)
	})
}

func TestReportOfBeforeTheWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 365 * 24 * time.Hour) // to a time that a clock may show
		w := newWorld(t)
		before := time.Now().UnixMilli()
		time.Sleep(time.Second)
		if _, err := w.patch("lamp", `{"desired":{"on":true}}`); err != nil {
			t.Fatal(err)
		}
		b, _ := json.Marshal(map[string]any{"on": false, "cause": "local", "t": before})
		w.report("lamp", string(b))
		w.wantDelta("lamp", `{"on":true}`)
	})
}

func TestIntentEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.patch("lamp", `{"desired":{"on":true}}`); err != nil {
			t.Fatal(err)
		}
		time.Sleep(IntentFor - time.Second)
		w.wantDelta("lamp", `{"on":true}`)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		w.wantDelta("lamp", `{}`)
		if d, _ := w.Doc("lamp"); d.Ver != 2 || len(d.Desired) != 0 {
			t.Errorf("got %+v, want an empty desired under version 2", d)
		}
		until := time.Now().Add(time.Hour).UnixMilli()
		b, _ := json.Marshal(map[string]any{"desired": map[string]any{"on": true}, "until": until})
		if d, err := w.patch("lamp", string(b)); err != nil || d.DesiredMeta["on"].Until != until {
			t.Errorf("until: got %+v %v", d.DesiredMeta, err)
		}
	})
}

func TestDesiredWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.report("sign", `{"on":true,"brightness":100}`)
		if _, err := w.patch("sign", `{"desired":{"brightness":200}}`); err != nil {
			t.Fatal(err)
		}
		w.report("sign", `{"brightness":200}`)
		w.wantDelta("sign", `{}`)
		w.report("sign", `{"brightness":50,"cause":"local"}`)
		time.Sleep(24 * time.Hour)
		w.wantDelta("sign", `{"brightness":200}`)
		if _, err := w.patch("sign", `{"desired":{"brightness":null}}`); err != nil {
			t.Fatal(err)
		}
		w.wantDelta("sign", `{}`)
	})
}

func TestThingsThatAreNoLights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		if _, err := w.patch("stat", `{"desired":{"heat":{"setpoint":21.5,"mode":"eco"}}}`); err != nil {
			t.Fatal(err)
		}
		o := w.report("stat", `{"heat":{"setpoint":20,"mode":"eco"},"cause":"local","t":5}`)
		if o.State["cause"] != "local" || o.Ver != 2 {
			t.Errorf("got %v", o.State)
		}
		w.wantDelta("stat", `{"heat":{"mode":"eco","setpoint":21.5}}`)
		w.report("stat", `{"heat":{"setpoint":21.5,"mode":"eco"}}`)
		w.wantDelta("stat", `{}`)
	})
}

func TestPatchRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.report("lamp", `{"on":true}`)
		big := `{"desired":{"x":"` + strings.Repeat("a", MaxBytes) + `"}}`
		for _, tt := range []struct {
			name, request string
			id            devices.ID
			want          devices.Code
		}{
			{"another version", `{"desired":{"on":true},"if_ver":7}`, "lamp", devices.CodeVersionConflict},
			{"nothing", `{"desired":{}}`, "lamp", devices.CodeInvalid},
			{"out of range", `{"desired":{"brightness":0}}`, "lamp", devices.CodeRange},
			{"kelvin of another light", `{"desired":{"kelvin":9000}}`, "lamp", devices.CodeRange},
			{"not a light's", `{"desired":{"heat":1}}`, "lamp", devices.CodeInvalid},
			{"two colours", `{"desired":{"rgb":[1,2,3],"kelvin":3000}}`, "lamp", devices.CodeInvalid},
			{"a mode it has not", `{"desired":{"hs":[1,2]}}`, "lamp", devices.CodeInvalid},
			{"past", `{"desired":{"on":true},"until":5}`, "lamp", devices.CodeRange},
			{"too deep", `{"desired":{"a":{"b":{"c":{"d":{}}}}}}`, "stat", devices.CodeInvalid},
			{"too large", big, "stat", devices.CodeTooLarge},
			{"unknown device", `{"desired":{"on":true}}`, "nobody", devices.CodeNotFound},
		} {
			_, err := w.patch(tt.id, tt.request)
			if devices.CodeOf(err) != tt.want {
				t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
			}
			if tt.want == devices.CodeVersionConflict && err.(*devices.Error).Details["current"].(Doc).Ver != 1 {
				t.Errorf("%s: no current document: %v", tt.name, err)
			}
		}
		viewer := ana
		viewer.Rights = devices.RoleViewer.Rights()
		if _, err := w.Patch(t.Context(), viewer, devices.Origin{}, "lamp", PatchRequest{Desired: map[string]any{"on": true}}); devices.CodeOf(err) != devices.CodeForbidden {
			t.Errorf("a viewer: got %v, want forbidden", err)
		}
	})
}

func TestVersionsRiseAcrossRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		last := int64(0)
		for i := range 6 {
			for range 5 {
				last2 := w.report("lamp", `{"brightness":`+string(rune('1'+last%7))+`}`).Ver
				_ = last2
				o := w.report("lamp", `{"brightness":`+string(rune('1'+(last+1)%7))+`0}`)
				if o.Ver <= last {
					t.Fatalf("version %d after %d", o.Ver, last)
				}
				last = o.Ver
				if i%2 == 0 {
					time.Sleep(50 * time.Millisecond)
				}
			}
			if i%3 == 1 { // kill -9: what waits is lost, its versions are not used again
				old := w.stop
				w.start()
				defer old()
				continue
			}
			w.stop()
			w.start()
		}
		if got := w.State("lamp"); len(got) == 0 {
			t.Error("the state was lost")
		}
	})
}

func TestReportsCostFewWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for i := range 50 {
			w.report("lamp", `{"brightness":`+string(rune('1'+i%9))+`,"transitioning":true}`)
			time.Sleep(200 * time.Millisecond)
		}
		if n := w.store.(*Memory).written(); n != 0 {
			t.Errorf("interim reports: %d writes, want 0", n)
		}
		for i := range 50 {
			w.report("lamp", `{"brightness":`+string(rune('1'+i%9))+`}`)
			time.Sleep(2 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := w.store.(*Memory).written(); n > 4 {
			t.Errorf("50 reports in 100 ms: %d writes, want at most 4", n)
		}
	})
}

func TestVersionsAheadOfTheDiskAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		rec, _ := w.reg.Get("lamp")
		var err error
		n := 0
		for ; err == nil && n < 10*firstBlock; n++ {
			_, err = w.Report(rec, lights.Report{Fields: lights.Fields{"brightness": float64(1 + n%2)}}, "")
		}
		if devices.CodeOf(err) != devices.CodeOverloaded {
			t.Fatalf("after %d: got %v, want overloaded", n, err)
		}
		time.Sleep(100 * time.Millisecond)
		if _, err = w.Report(rec, lights.Report{Fields: lights.Fields{"brightness": 9.0}}, ""); err != nil {
			t.Errorf("after the write: %v", err)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(`{"heat":{"setpoint":20,"mode":"eco"},"cause":"local","t":5,"transitioning":true,"target":{"heat":1}}`))
	f.Add([]byte(`{"a":{"b":{"c":{"d":{}}}}}`))
	f.Add([]byte(`null`))
	thing := &devices.Device{ID: "stat", Kinds: []devices.Kind{devices.KindSensor}}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(thing, b)
		if err != nil {
			if devices.CodeOf(err) == "" {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		if depth(map[string]any(r.Fields)) > MaxDepth {
			t.Fatalf("accepted %s", b)
		}
		if _, err := json.Marshal(r.Fields); err != nil {
			t.Fatal(err)
		}
	})
}

func TestUnwrittenShadow(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.start() // versions of a later start are higher
	for _, id := range []devices.ID{"lamp", "stat"} {
		before, _ := w.Doc(id)
		after, err := w.Patch(t.Context(), ana, devices.Origin{}, id, PatchRequest{Desired: map[string]any{"on": true}, IfVer: &before.Ver})
		if err != nil {
			t.Fatalf("%s: a change of the version that was shown, %d: %v", id, before.Ver, err)
		}
		if len(before.Reported) != 0 || len(after.Reported) != 0 {
			t.Errorf("%s has said nothing and is shown as %v, then %v", id, before.Reported, after.Reported)
		}
	}
}
