package devices

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
	if err := again.Create(Reusing(ctx), now.Add(time.Hour), sensor("b")); err != nil {
		t.Errorf("a tombstoned id that is asked for: %v", err)
	}
	if err := again.Create(Reusing(ctx), now.Add(time.Hour), sensor("b")); CodeOf(err) != CodeConflict {
		t.Errorf("an id that is in use: got %v, want conflict", err)
	}
	if err := again.Delete(ctx, "b", now); err != nil {
		t.Fatal(err)
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

func TestVersionsRiseWithChanges(t *testing.T) {
	ctx := context.Background()
	store := new(MemoryRegistry)
	r := open(t, store)
	if err := r.Create(ctx, time.Now(), sensor("a")); err != nil {
		t.Fatal(err)
	}
	told := 0
	r.Watch(func(Change) { told++ })
	rename := func(d *Device) error { d.Name, d.Ver = "Ada", 99; return nil }
	for _, tt := range []struct {
		name   string
		change func(context.Context, ID, func(*Device) error) (*Device, error)
		f      func(*Device) error
		ver    int64
		told   int
	}{
		{"a change", r.Update, rename, 2, 1},
		{"the same again", r.Update, rename, 2, 1},
		{"a device's own report", r.Report, func(d *Device) error { d.Firmware = "1.1"; return nil }, 2, 2},
		{"another change", r.Update, func(d *Device) error { d.Name = ""; return nil }, 3, 3},
	} {
		d, err := tt.change(ctx, "a", tt.f)
		if err != nil || d.Ver != tt.ver || told != tt.told {
			t.Errorf("%s: got version %d, told %d times, %v; want %d and %d", tt.name, d.Ver, told, err, tt.ver, tt.told)
		}
	}
	if d, _ := open(t, store).Get("a"); d.Ver != 3 || d.Firmware != "1.1" {
		t.Errorf("after a restart: got version %d, firmware %q, want 3 and 1.1", d.Ver, d.Firmware)
	}
	one, three := int64(1), int64(3)
	if err := r.Delete(ctx, "a", time.Now(), nil, IfVer(&one)); CodeOf(err) != CodeVersionConflict {
		t.Errorf("delete of an old version: got %v, want version_conflict", err)
	}
	if err := r.Delete(ctx, "a", time.Now(), IfVer(&three)); err != nil {
		t.Error(err)
	}
}

// Of many who edit one version at the same time, one wins.
func TestOneEditOfAVersionWins(t *testing.T) {
	ctx := context.Background()
	r := open(t, new(MemoryRegistry))
	if err := r.Create(ctx, time.Now(), sensor("a")); err != nil {
		t.Fatal(err)
	}
	const editors, rounds = 16, 50
	for ver := int64(1); ver <= rounds; ver++ {
		var won atomic.Int64
		var wg sync.WaitGroup
		for e := range editors {
			wg.Go(func() {
				_, err := r.Update(ctx, "a", func(d *Device) error {
					if err := IfVer(&ver).Check(d.Ver); err != nil {
						return err
					}
					d.Name = fmt.Sprint(ver, " by ", e)
					return nil
				})
				switch {
				case err == nil:
					won.Add(1)
				case CodeOf(err) != CodeVersionConflict:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d, _ := r.Get("a"); won.Load() != 1 || d.Ver != ver+1 {
			t.Fatalf("version %d: %d editors won, and it is at %d", ver, won.Load(), d.Ver)
		}
	}
}

// slowRegistry is a disk that takes its time, and counts who waits for it at once.
type slowRegistry struct {
	MemoryRegistry
	waiting, most atomic.Int64
}

func (s *slowRegistry) PutDevices(ctx context.Context, ds []*Device) error {
	n := s.waiting.Add(1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	time.Sleep(time.Second)
	s.waiting.Add(-1)
	return s.MemoryRegistry.PutDevices(ctx, ds)
}

// Changes of several devices wait for the disk together, those of one device one after the
// other; they are told one at a time.
func TestChangesWaitForTheDiskTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(slowRegistry)
		r := open(t, store)
		ctx := t.Context()
		if err := r.Create(ctx, time.Now(), sensor("a"), sensor("b"), sensor("c")); err != nil {
			t.Fatal(err)
		}
		var telling atomic.Int64
		told := 0
		r.Watch(func(Change) {
			if telling.Add(1) != 1 {
				t.Error("two changes are told at once")
			}
			told++
			telling.Add(-1)
		})
		began := time.Now()
		var wg sync.WaitGroup
		for _, id := range []ID{"a", "b", "b", "c"} {
			wg.Go(func() {
				if _, err := r.Update(ctx, id, func(d *Device) error { d.ConfigVer++; return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		wg.Go(func() { // waits for those that it shares an id with
			if err := r.Create(ctx, time.Now(), sensor("c"), sensor("d")); CodeOf(err) != CodeConflict {
				t.Errorf("an id that is in use: got %v, want conflict", err)
			}
		})
		wg.Wait()
		if took := time.Since(began); took != 2*time.Second || store.most.Load() != 3 || told != 4 {
			t.Errorf("took %v, %d at once, %d told; want 2s, 3 and 4", took, store.most.Load(), told)
		}
		if b, _ := r.Get("b"); b.ConfigVer != 2 {
			t.Errorf("b: got %d changes, want 2", b.ConfigVer)
		}
	})
}

func TestRecordsWithoutAVersionGetTheFirst(t *testing.T) {
	store := new(MemoryRegistry)
	if err := store.PutDevices(context.Background(), []*Device{sensor("old")}); err != nil {
		t.Fatal(err)
	}
	if d, _ := open(t, store).Get("old"); d.Ver != 1 {
		t.Errorf("got %d, want 1", d.Ver)
	}
}
