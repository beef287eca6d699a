package sqlite

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"devicehub/devices"
)

func TestRegistrySurvivesReopening(t *testing.T) {
	db := open(t)
	ctx := t.Context()
	reg, err := devices.OpenRegistry(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1_700_000_000_000)
	lat, lo := 48.2, 10.0
	full := &devices.Device{
		ID: "kitchen-lamp", Name: "Küche", Kinds: []devices.Kind{devices.KindSensor, devices.KindLight}, Model: "m", Labels: map[string]string{"a": "b"},
		Area: "kitchen", Lat: &lat, ExpectedIntervalS: 2.5, Sleepy: true, Enabled: true, Via: "z2m",
		Metrics: []devices.Metric{{Name: "temperature", Min: &lo, OnRange: devices.RejectRange}}, Light: &devices.Light{Modes: []devices.LightMode{devices.ModeRGB}, Effects: []string{"rainbow"}},
		Config: json.RawMessage(`{"a":[1,2]}`), ConfigVer: 3, Notes: "x",
	}
	gone := &devices.Device{ID: "gone", Kinds: []devices.Kind{devices.KindSensor}}
	if err := reg.Create(ctx, now, full, gone); err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Update(ctx, "kitchen-lamp", func(d *devices.Device) error { d.Area = "hall"; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := reg.Delete(ctx, "gone", now); err != nil {
		t.Fatal(err)
	}
	want, _ := reg.Get("kitchen-lamp")
	path := db.Path()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	reg, err = devices.OpenRegistry(ctx, openAt(t, path))
	if err != nil {
		t.Fatal(err)
	}
	got, ok := reg.Get("kitchen-lamp")
	if !ok || !reflect.DeepEqual(got, want) || got.Area != "hall" {
		t.Errorf("got %+v, want %+v", got, want)
	}
	again := &devices.Device{ID: "gone", Kinds: []devices.Kind{devices.KindSensor}}
	if err := reg.Create(ctx, now.Add(devices.TombstoneFor-time.Hour), again); devices.CodeOf(err) != devices.CodeConflict {
		t.Errorf("a tombstoned id: got %v, want conflict", err)
	}
	if err := reg.Create(ctx, now.Add(devices.TombstoneFor), again); err != nil {
		t.Errorf("after the tombstone's time: %v", err)
	}
}

func TestCreateIsAllOrNothing(t *testing.T) {
	db := open(t)
	bad := []*devices.Device{{ID: "a", Kinds: []devices.Kind{devices.KindSensor}}, {ID: "b", Config: json.RawMessage(`{`)}}
	if err := db.PutDevices(t.Context(), bad); err == nil {
		t.Fatal("a record that cannot be written was accepted")
	}
	if ds, err := db.LoadDevices(t.Context()); err != nil || len(ds) != 0 {
		t.Errorf("got %d devices %v, want none", len(ds), err)
	}
}

// 100,000 records take well under two seconds to load on one core, so that a
// restart is not felt. The bound here is for a few of them on a slow and busy
// machine; with DEVICEHUB_SOAK set it is all of them.
func TestLoadsManyDevices(t *testing.T) {
	db := open(t)
	ds := make([]*devices.Device, 2000)
	if os.Getenv("DEVICEHUB_SOAK") != "" {
		ds = make([]*devices.Device, 100_000)
	}
	for i := range ds {
		ds[i] = &devices.Device{
			ID: devices.ID(fmt.Sprintf("device-%06d", i)), Name: fmt.Sprintf("Device %d", i), Kinds: []devices.Kind{devices.KindSensor}, Labels: map[string]string{"floor": "3", "rack": "r7"},
			Area: "hall", Enabled: true, CreatedAt: 1, ExpectedIntervalS: 10, Via: "direct", Undeclared: devices.QuarantineUndeclared, ShadowPolicy: devices.LocalWins,
		}
	}
	start := time.Now()
	if err := db.PutDevices(t.Context(), ds); err != nil {
		t.Fatal(err)
	}
	put := time.Since(start)
	start = time.Now()
	reg, err := devices.OpenRegistry(t.Context(), db)
	if err != nil || reg.Len() != len(ds) {
		t.Fatalf("got %v, want %d devices", err, len(ds))
	}
	load := time.Since(start)
	t.Logf("put in %v, loaded in %v", put, load)
	if load > 10*time.Second {
		t.Errorf("loading took %v", load)
	}
}
