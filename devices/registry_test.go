package devices

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"
)

func sensor(id ID) *Device { return &Device{ID: id, Kinds: []Kind{KindSensor}, Enabled: true} }

func open(t *testing.T, s RegistryStore) *Registry {
	t.Helper()
	r, err := OpenRegistry(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRegistryKeepsWhatItAnswered(t *testing.T) {
	ctx, now := context.Background(), time.UnixMilli(1_763_682_000_000)
	store := new(MemoryRegistry)
	r := open(t, store)
	var changes []string
	r.Watch(func(c Change) {
		changes = append(changes, fmt.Sprintf("%s %v %v", c.ID(), c.Before != nil, c.After != nil))
	})
	if err := r.Create(ctx, now, sensor("a"), sensor("b")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Update(ctx, "a", func(d *Device) error { d.Name = "Ada"; d.ID = "c"; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(ctx, "b", now); err != nil {
		t.Fatal(err)
	}
	again := open(t, store)
	if d, ok := again.Get("a"); !ok || d.Name != "Ada" || d.CreatedAt != now.UnixMilli() || again.Len() != 1 {
		t.Errorf("after a restart: got %+v", d)
	}
	if err := again.Create(ctx, now.Add(time.Hour), sensor("b")); CodeOf(err) != CodeConflict {
		t.Errorf("a tombstoned id: got %v, want conflict", err)
	}
	if err := again.Create(ctx, now.Add(TombstoneFor), sensor("b")); err != nil {
		t.Errorf("after the tombstone's time: %v", err)
	}
	if got := fmt.Sprint(changes); got != "[a false true b false true a true true b true false]" {
		t.Errorf("watched %s", got)
	}
}

func TestRegistryCreatesAllOrNone(t *testing.T) {
	ctx, now := context.Background(), time.Now()
	r := open(t, new(MemoryRegistry))
	for name, ds := range map[string][]*Device{
		"one is bad":   {sensor("a"), {ID: "b"}},
		"one is twice": {sensor("a"), sensor("a")},
	} {
		if err := r.Create(ctx, now, ds...); CodeOf(err) == "" {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	if r.Len() != 0 {
		t.Errorf("got %d devices, want none", r.Len())
	}
}

func TestRegistryIsConcurrent(t *testing.T) {
	ctx := context.Background()
	r := open(t, new(MemoryRegistry))
	if err := r.Create(ctx, time.Now(), sensor("a")); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if _, err := r.Update(ctx, "a", func(d *Device) error { d.ConfigVer++; return nil }); err != nil {
					t.Error(err)
				}
				for d := range r.All() {
					_ = d.ConfigVer
				}
			}
		})
	}
	wg.Wait()
	if d, _ := r.Get("a"); d.ConfigVer != 400 {
		t.Errorf("got %d changes, want 400", d.ConfigVer)
	}
}
