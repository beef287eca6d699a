package devices

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func num(f float64) *float64 { return &f }

func TestDeclarationsNobodyCanMean(t *testing.T) {
	long := slices.Repeat([]string{"x"}, 65)
	for _, row := range []struct {
		name  string
		m     Metric
		field string // "" where it is fine
	}{
		{"the catalogue's", Metric{Name: "temperature"}, ""},
		{"in another unit of the class", Metric{Name: "temperature", Unit: "F"}, ""},
		{"in a unit of something else", Metric{Name: "temperature", Class: "temperature", Unit: "kg"}, "metrics.unit"},
		{"likewise, by the name alone", Metric{Name: "temperature", Unit: "kg"}, "metrics.unit"},
		{"a spelling nobody knows", Metric{Name: "outside", Class: "temperature", Unit: "degC"}, "metrics.unit"},
		{"a unit that converts, though Home Assistant has it not", Metric{Name: "barometer", Class: "pressure", Unit: "mmHg"}, ""},
		{"a class without its unit", Metric{Name: "outside", Class: "temperature"}, ""},
		{"a class without a unit", Metric{Name: "acid", Class: "ph"}, ""},
		{"a unit on such a one", Metric{Name: "acid", Class: "ph", Unit: "%"}, "metrics.unit"},
		{"any unit without a class", Metric{Name: "flux", Unit: "Wb"}, ""},
		{"a class of one's own", Metric{Name: "flux", Class: "boiler_flux", Unit: "Wb"}, ""},
		{"a class that is no name", Metric{Name: "flux", Class: "No such class"}, "metrics.class"},
		{"a number that is on or off", Metric{Name: "moved", Class: "motion"}, "metrics.class"},
		{"on or off in degrees", Metric{Name: "warm", Class: "temperature", Type: TypeBool}, "metrics.class"},
		{"on or off", Metric{Name: "moved", Class: "motion", Type: TypeBool}, ""},
		{"a text in degrees", Metric{Name: "warm", Class: "temperature", Type: TypeString}, "metrics.class"},
		{"a negative precision", Metric{Name: "x", Precision: -1}, "metrics.precision"},
		{"a precision of nothing", Metric{Name: "x", Precision: 1e-30}, "metrics.precision"},
		{"a precision of everything", Metric{Name: "x", Precision: 1e9}, "metrics.precision"},
		{"a precision", Metric{Name: "x", Precision: 5}, ""},
		{"a precision of a text", Metric{Name: "x", Type: TypeString, Precision: 1}, "metrics.precision"},
		{"a range upside down", Metric{Name: "x", Min: num(5), Max: num(1)}, "metrics.min"},
		{"a range of a bool", Metric{Name: "x", Type: TypeBool, Max: num(1)}, "metrics.min"},
		{"an enum of nothing", Metric{Name: "x", Type: TypeEnum}, "metrics.options"},
		{"an enum", Metric{Name: "x", Type: TypeEnum, Options: []string{"on", "off"}}, ""},
		{"options are an enum's", Metric{Name: "x", Options: []string{"on", "off"}}, ""},
		{"an option twice", Metric{Name: "x", Type: TypeEnum, Options: []string{"on", "off", "on"}}, "metrics.options"},
		{"an empty option", Metric{Name: "x", Type: TypeEnum, Options: []string{""}}, "metrics.options"},
		{"an option with a NUL", Metric{Name: "x", Type: TypeEnum, Options: []string{"a\x00"}}, "metrics.options"},
		{"65 options", Metric{Name: "x", Type: TypeEnum, Options: long}, "metrics.options"},
		{"options of a number", Metric{Name: "x", Type: TypeFloat, Options: []string{"on"}}, "metrics.options"},
		{"options of a text", Metric{Name: "x", Type: TypeString, Options: []string{"on"}}, "metrics.options"},
		{"a state class nobody knows", Metric{Name: "x", StateClass: "nope"}, "metrics.state_class"},
		{"a meter", Metric{Name: "x", Unit: "kWh", StateClass: TotalIncreasing}, ""},
		{"a total", Metric{Name: "x", Unit: "kWh", StateClass: Total}, ""},
		{"a meter that is on or off", Metric{Name: "x", Type: TypeBool, StateClass: TotalIncreasing}, "metrics.state_class"},
		{"a meter of texts", Metric{Name: "x", Type: TypeString, StateClass: TotalIncreasing}, "metrics.state_class"},
		{"a meter of options", Metric{Name: "x", Type: TypeEnum, Options: []string{"a"}, StateClass: TotalIncreasing}, "metrics.state_class"},
		{"a meter of directions", Metric{Name: "wind_direction", StateClass: TotalIncreasing}, "metrics.state_class"},
		{"a meter of degrees Celsius", Metric{Name: "temperature", StateClass: TotalIncreasing}, "metrics.state_class"},
		{"an angle", Metric{Name: "tilt", Unit: "deg", StateClass: MeasurementAngle}, ""},
		{"an angle in volts", Metric{Name: "tilt", Unit: "V", StateClass: MeasurementAngle}, "metrics.state_class"},
		{"no type", Metric{Name: "x", Type: "int"}, "metrics.type"},
	} {
		for _, way := range []string{"create", "update"} {
			err := declare(t, way, row.m)
			var e *Error
			if row.field == "" {
				if err != nil {
					t.Errorf("%s, %s: %v", way, row.name, err)
				}
				continue
			}
			if !errors.As(err, &e) || e.Code != CodeInvalid || e.Details["field"] != row.field || e.Details["want"] == "" {
				t.Errorf("%s, %s: got %v, want %s refused", way, row.name, err, row.field)
			}
		}
	}
}

// declare gives a device the declaration.
func declare(t *testing.T, way string, m Metric) error {
	t.Helper()
	reg, err := OpenRegistry(t.Context(), new(MemoryRegistry))
	if err != nil {
		t.Fatal(err)
	}
	d := &Device{ID: "d-1", Kinds: []Kind{KindSensor}}
	if way == "create" {
		d.Metrics = []Metric{m}
		return reg.Create(t.Context(), time.Now(), d)
	}
	if err := reg.Create(t.Context(), time.Now(), d); err != nil {
		t.Fatal(err)
	}
	_, err = reg.Update(t.Context(), "d-1", func(d *Device) error {
		d.Metrics = []Metric{m}
		return nil
	})
	return err
}

func TestAClassTakesItsUsualUnit(t *testing.T) {
	for class, want := range map[string]string{"temperature": "°C", "energy": "kWh", "wind_direction": "°", "apparent_power": "VA", "ph": "", "speed": ""} {
		m := Metric{Name: "x", Class: class, Type: TypeFloat}
		if err := m.judge(); class != "speed" && (err != nil || m.Unit != want) {
			t.Errorf("%s: got %q, %v, want %q", class, m.Unit, err, want)
		}
	}
}

// What stands in a record since before it was judged does not keep the rest of
// the record from being changed.
func TestOldDeclarationsAreLeftAlone(t *testing.T) {
	store := new(MemoryRegistry)
	old := &Device{ID: "d-1", Kinds: []Kind{KindSensor}, Name: "a\x07bell", Labels: map[string]string{"k": "\x00"}, Metrics: []Metric{
		{Name: "temperature", Class: "temperature", Unit: "kg", Type: TypeFloat}, {Name: "state", Type: TypeEnum}, {Name: "x", Type: TypeFloat, Precision: -1, StateClass: "nope"}}}
	if err := old.Normalize(); err != nil {
		t.Fatal(err)
	}
	if err := store.PutDevices(t.Context(), []*Device{old}); err != nil {
		t.Fatal(err)
	}
	reg, err := OpenRegistry(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	update := func(f func(*Device)) error {
		_, err := reg.Update(t.Context(), "d-1", func(d *Device) error { f(d); return nil })
		return err
	}
	if err := update(func(d *Device) { d.Firmware = "2"; d.Labels["new"] = "1" }); err != nil {
		t.Error(err)
	}
	if err := update(func(d *Device) { d.Metrics = append(d.Metrics, Metric{Name: "y"}) }); err != nil {
		t.Error(err)
	}
	if err := update(func(d *Device) { d.Metrics[2].Precision = -2 }); err == nil {
		t.Error("what is changed is judged")
	}
	if err := update(func(d *Device) { d.Name = "another\x07bell" }); err == nil {
		t.Error("a name that is changed is judged")
	}
}

func TestTextsOfARecord(t *testing.T) {
	for field, change := range map[string]func(*Device){
		"name": func(d *Device) { d.Name = "a\x00" }, "model": func(d *Device) { d.Model = "\x1b[0m" }, "manufacturer": func(d *Device) { d.Manufacturer = "a\u009b" },
		"fw": func(d *Device) { d.Firmware = "\x7f" }, "hw": func(d *Device) { d.Hardware = "\ufeffa" }, "area": func(d *Device) { d.Area = "\x01" },
		"notes": func(d *Device) { d.Notes = "a\x0b" }, "labels": func(d *Device) { d.Labels = map[string]string{"k": "v\x00"} },
	} {
		reg, err := OpenRegistry(t.Context(), new(MemoryRegistry))
		if err != nil {
			t.Fatal(err)
		}
		d := &Device{ID: "d-1", Kinds: []Kind{KindSensor}}
		change(d)
		var e *Error
		if err := reg.Create(t.Context(), time.Now(), d); !errors.As(err, &e) || e.Details["field"] != field || !strings.Contains(e.Reason, "control characters") {
			t.Errorf("%s: got %v", field, err)
		}
	}
}

func TestGuard(t *testing.T) {
	reg, err := OpenRegistry(t.Context(), new(MemoryRegistry))
	if err != nil {
		t.Fatal(err)
	}
	var seen []Change
	refuse := error(nil)
	reg.Guard(func(_ context.Context, c Change) error {
		seen = append(seen, c)
		return refuse
	})
	if err := reg.Create(t.Context(), time.Now(), &Device{ID: "d-1", Kinds: []Kind{KindSensor}}); err != nil {
		t.Fatal(err)
	}
	refuse = Invalid("metrics.type", "another")
	if err := reg.Create(t.Context(), time.Now(), &Device{ID: "d-2", Kinds: []Kind{KindSensor}}); CodeOf(err) != CodeInvalid {
		t.Errorf("got %v", err)
	}
	if _, err := reg.Update(t.Context(), "d-1", func(d *Device) error { d.Name = "n"; return nil }); CodeOf(err) != CodeInvalid {
		t.Errorf("got %v", err)
	}
	if d, _ := reg.Get("d-1"); d.Name != "" || reg.Len() != 1 {
		t.Errorf("what was refused is there: %+v", d)
	}
	if len(seen) != 3 || seen[0].Before != nil || seen[2].Before == nil || seen[2].After.Name != "n" {
		t.Errorf("asked of %+v", seen)
	}
}
