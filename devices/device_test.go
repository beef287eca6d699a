package devices

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParseID(t *testing.T) {
	for id, ok := range map[string]bool{
		"kitchen-temp": true, "a": true, "0": true, strings.Repeat("a", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a_b": false, "a/b": false, "ä": false, "+": false, strings.Repeat("a", 64): false,
	} {
		if _, err := ParseID(id); (err == nil) != ok {
			t.Errorf("ParseID(%q): got %v, want ok %v", id, err, ok)
		}
	}
}

func TestNormalizeRefuses(t *testing.T) {
	far := 91.0
	for name, d := range map[string]Device{
		"no kind":                 {ID: "a"},
		"unknown kind":            {ID: "a", Kinds: []Kind{"toaster"}},
		"kind twice":              {ID: "a", Kinds: []Kind{KindSensor, KindSensor}},
		"name over 80":            {ID: "a", Kinds: []Kind{KindSensor}, Name: strings.Repeat("ü", 81)},
		"name no text":            {ID: "a", Kinds: []Kind{KindSensor}, Name: "\xff"},
		"latitude":                {ID: "a", Kinds: []Kind{KindSensor}, Lat: &far},
		"undeclared":              {ID: "a", Kinds: []Kind{KindSensor}, Undeclared: "drop"},
		"shadow policy":           {ID: "a", Kinds: []Kind{KindSensor}, ShadowPolicy: "mine"},
		"metric name":             {ID: "a", Kinds: []Kind{KindSensor}, Metrics: []Metric{{Name: "Temp"}}},
		"metric twice":            {ID: "a", Kinds: []Kind{KindSensor}, Metrics: []Metric{{Name: "x"}, {Name: "x"}}},
		"metric type":             {ID: "a", Kinds: []Kind{KindSensor}, Metrics: []Metric{{Name: "x", Type: "int"}}},
		"unit of a bool":          {ID: "a", Kinds: []Kind{KindSensor}, Metrics: []Metric{{Name: "x", Type: TypeBool, Unit: "V"}}},
		"white alone":             {ID: "a", Kinds: []Kind{KindLight}, Light: &Light{Modes: []LightMode{ModeWhite}}},
		"brightness among others": {ID: "a", Kinds: []Kind{KindLight}, Light: &Light{Modes: []LightMode{ModeBrightness, ModeRGB}}},
		"kelvin upside down":      {ID: "a", Kinds: []Kind{KindLight}, Light: &Light{Modes: []LightMode{ModeColorTemp}, MinKelvin: 5000, MaxKelvin: 3000}},
	} {
		if err := d.Normalize(); CodeOf(err) == "" {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
}

func TestNormalizeFillsDefaults(t *testing.T) {
	d := Device{ID: "lamp", Kinds: []Kind{KindLight, KindSensor}, Name: strings.Repeat("ü", 80), Metrics: []Metric{{Name: "temperature", Unit: "C"}, {Name: "door"}}}
	if err := d.Normalize(); err != nil {
		t.Fatal(err)
	}
	if d.Via != ViaDirect || d.Undeclared != QuarantineUndeclared || d.ShadowPolicy != LocalWins || !d.Light.Has(ModeBrightness) {
		t.Errorf("got %+v", d)
	}
	temp, _ := d.Declared("temperature")
	if temp.Unit != "°C" || temp.Type != TypeFloat || temp.Min == nil || *temp.Min != -60 {
		t.Errorf("temperature: got %+v, want the catalogue's range", temp)
	}
	if door, _ := d.Declared("door"); door.Type != TypeBool {
		t.Errorf("door: got %+v, want a bool", door)
	}
	if _, ok := d.Declared("co2"); !ok {
		t.Error("co2: want the catalogue's declaration")
	}
	if _, ok := d.Declared("mood"); ok {
		t.Error("mood: declared by nothing")
	}
}

func TestErrorShape(t *testing.T) {
	b, err := json.Marshal(OutOfRange("brightness", 1, 255, "").With("hint", "x"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"reason":"brightness is out of range","code":"range","details":{"field":"brightness","hint":"x","max":255,"min":1,"unit":""}}`
	if string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
	var back Error
	if err := json.Unmarshal(b, &back); err != nil || back.Code != CodeRange {
		t.Errorf("got %+v, %v", back, err)
	}
	if !errors.Is(&back, &Error{Code: CodeRange}) || errors.Is(&back, &Error{Code: CodeInvalid}) {
		t.Error("errors.Is does not go by the code")
	}
}

func TestScope(t *testing.T) {
	d := &Device{ID: "lamp", Kinds: []Kind{KindLight}, Area: "kitchen", Labels: map[string]string{"floor": "1"}}
	for text, want := range map[string]bool{
		"": true, "area=kitchen": true, "area=hall": false, "floor=1": true, "floor=1,area=kitchen": true, "floor=2,area=kitchen": false,
		"id in [lamp,other]": true, "id in [other]": false, "kind=light": true, "kind=sensor": false, "room=x": false, "area in [hall, kitchen], floor=1": true,
	} {
		s, err := ParseScope(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if got := s.Covers(d); got != want {
			t.Errorf("%q covers: got %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"kitchen", "=x", "area=", "id in lamp", "id in []"} {
		if _, err := ParseScope(text); CodeOf(err) != CodeInvalid {
			t.Errorf("%q: got %v, want invalid", text, err)
		}
	}
}

func TestRights(t *testing.T) {
	d := &Device{ID: "lamp", Area: "kitchen"}
	kitchen, _ := ParseScope("area=kitchen")
	hall, _ := ParseScope("area=hall")
	for _, row := range []struct {
		name  string
		actor Actor
		right Right
		want  bool
	}{
		{"viewer reads", Actor{Kind: ActorUser, Rights: RoleViewer.Rights()}, RightRead, true},
		{"viewer commands", Actor{Kind: ActorUser, Rights: RoleViewer.Rights()}, RightCommand, false},
		{"operator in scope", Actor{Kind: ActorUser, Rights: RoleOperator.Rights(), Scope: kitchen}, RightCommand, true},
		{"operator out of scope", Actor{Kind: ActorUser, Rights: RoleOperator.Rights(), Scope: hall}, RightCommand, false},
		{"admin out of scope", Actor{Kind: ActorUser, Rights: RoleAdmin.Rights(), Scope: hall}, RightCommand, true},
		{"service admin out of scope", Actor{Kind: ActorService, Rights: RightAdmin, Scope: hall}, RightAdmin, false},
		{"device", Actor{Kind: ActorDevice, Name: "lamp"}, RightRead, false},
	} {
		if got := row.actor.May(row.right, d); got != row.want {
			t.Errorf("%s: got %v, want %v", row.name, got, row.want)
		}
	}
}

func TestWhatOfARecordIsSeen(t *testing.T) {
	lat, lon := 48.1, 11.5
	d := &Device{ID: "a", Config: []byte(`{"key":"secret"}`), Notes: "under the mat", Lat: &lat, Lon: &lon}
	for _, tt := range []struct {
		name           string
		a              Actor
		config, others bool
	}{
		{"the owner", CLI(), true, true},
		{"an administrator", Actor{Kind: ActorUser, Rights: RoleAdmin.Rights()}, true, true},
		{"an operator", Actor{Kind: ActorUser, Rights: RoleOperator.Rights()}, false, true},
		{"a viewer", Actor{Kind: ActorUser, Rights: RoleViewer.Rights()}, false, false},
		{"a program that reads", Actor{Kind: ActorService, Rights: RightRead}, false, false},
		{"a program that administers", Actor{Kind: ActorService, Rights: RightRead | RightAdmin}, true, true},
		{"nobody", Actor{}, false, false},
	} {
		got := d.SeenBy(tt.a)
		if (got.Config != nil) != tt.config || (got.Notes != "") != tt.others || (got.Lat != nil) != tt.others || (got.Lon != nil) != tt.others || got.ID != "a" {
			t.Errorf("%s sees %+v", tt.name, got)
		}
	}
	if d.Config == nil || d.Notes == "" || d.Lat == nil {
		t.Error("the record itself has changed")
	}
}
