package tsdb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
	"devicehub/devices/readings/storetest"
	"devicehub/devices/tsdb/ingestlog"
)

// faultyDisk is a disk whose writes, syncs and room can be taken away.
type faultyDisk struct {
	ingestlog.Disk
	mu    sync.Mutex
	write error
	sync  error
	free  int64
}

type faultyFile struct {
	ingestlog.File
	d *faultyDisk
}

func (d *faultyDisk) set(write, sync error, free int64) {
	d.mu.Lock()
	d.write, d.sync, d.free = write, sync, free
	d.mu.Unlock()
}

func (d *faultyDisk) Create(path string) (ingestlog.File, error) {
	f, err := d.Disk.Create(path)
	return faultyFile{f, d}, err
}

func (d *faultyDisk) Free(string) (int64, int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free, 100 << 30, nil
}

func (f faultyFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.write != nil {
		n, _ := f.File.WriteAt(b[:len(b)/2], off)
		return n, f.d.write
	}
	return f.File.WriteAt(b, off)
}

func (f faultyFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.sync != nil {
		return f.d.sync
	}
	return f.File.Sync()
}

// TestTroubleThroughTheDoor has a device push while the disk has its troubles,
// and opens the store after each.
func TestTroubleThroughTheDoor(t *testing.T) {
	for _, c := range []struct {
		name        string
		write, sync error
		free        int64
		state       string
		passes      bool
	}{
		{"the disk is full", syscall.ENOSPC, nil, 50 << 30, StateFull, true},
		{"the reserve is reached", nil, nil, 1 << 20, StateFull, true},
		{"the disk fails", syscall.EIO, nil, 50 << 30, StateFailed, false},
		{"fsync fails", nil, syscall.EIO, 50 << 30, StateFailed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "readings")
			disk := &faultyDisk{free: 50 << 30}
			opts := Options{FS: disk, FlushEvery: 20 * time.Millisecond}
			var offset time.Duration // passes the second between looks at the room
			var mu sync.Mutex
			opts.Now = func() time.Time {
				mu.Lock()
				defer mu.Unlock()
				return time.Now().Add(offset)
			}
			d := newDoor(t, dir, opts)
			for range 20 {
				d.push("")
			}
			disk.set(c.write, c.sync, c.free)
			mu.Lock()
			offset += 2 * time.Second
			mu.Unlock()
			for range 5 {
				d.push(devices.CodePlatformUnavailable)
			}
			if st := d.store.Stats(); st.State != c.state || st.Err == "" {
				t.Errorf("got state %s, %q; want %s", st.State, st.Err, c.state)
			}
			d.asks(20) // history answers all the same
			disk.set(nil, nil, 50<<30)
			mu.Lock()
			offset += 2 * time.Second
			mu.Unlock()
			want := devices.CodePlatformUnavailable
			if c.passes {
				want = ""
			}
			for range 5 {
				d.push(want)
			}
			if st := d.store.Stats(); c.passes != (st.State == StateReady) {
				t.Errorf("afterwards: got state %s", st.State)
			}
			d.close()
			acked := d.seq
			d = newDoor(t, dir, Options{})
			d.seq = acked
			for range 5 {
				d.push("")
			}
			d.asks(int(d.seq))
			d.close()
		})
	}
}

// door is a device with an ingest and a store behind it.
type door struct {
	t     *testing.T
	store *Store
	in    *readings.Ingest
	stop  func()
	seq   int64 // acknowledged
}

func newDoor(t *testing.T, dir string, opts Options) *door {
	s := mustOpen(t, dir, opts)
	d := &door{t: t, store: s, in: readings.New(s, readings.Config{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.in.Run(ctx) }()
	d.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return d
}

func (d *door) close() {
	d.stop()
	if err := d.store.Close(); err != nil {
		d.t.Error(err)
	}
}

// push sends the next number and wants a code, "" for an acknowledgement.
func (d *door) push(want devices.Code) {
	d.t.Helper()
	b, err := readings.ParseReading(fmt.Appendf(nil, `{"m":"temperature","v":%d,"s":%d,"boot":"b"}`, d.seq+1, d.seq+1))
	if err != nil {
		d.t.Fatal(err)
	}
	done := make(chan error, 1)
	var res readings.Result
	d.in.Submit(readings.Source{Device: &devices.Device{ID: "t-1"}}, b, func(r readings.Result, err error) {
		res = r
		done <- err
	})
	err = <-done
	if got := devices.CodeOf(err); got != want {
		d.t.Fatalf("number %d: got %v, want code %q", d.seq+1, err, want)
	}
	var e *devices.Error
	if errors.As(err, &e) && e.RetryAfter == 0 {
		d.t.Error("it is not said when to try again")
	}
	if err == nil {
		d.seq++
		if res.Ack != d.seq {
			d.t.Errorf("ack is %d, want %d", res.Ack, d.seq)
		}
	}
}

// asks counts the readings that are stored: each number once.
func (d *door) asks(want int) {
	d.t.Helper()
	rec, ok := d.store.Book().Lookup("t-1")
	if !ok {
		d.t.Fatal("the device is not known")
	}
	got := storetest.Points(d.t, d.store, rec.Series()[0], 0, 1<<46)
	if len(got) < want || len(got) > want+1 { // one that was written and not acknowledged may be there
		d.t.Errorf("%d readings are stored, want %d", len(got), want)
	}
}

func TestADamagedLogIsAState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "readings")
	d := newDoor(t, dir, Options{FlushEvery: time.Hour})
	for range 20 {
		d.push("")
	}
	copied := filepath.Join(t.TempDir(), "readings")
	if err := d.store.Backup(context.Background(), copied); err != nil {
		t.Fatal(err)
	}
	d.close()
	logs, err := filepath.Glob(filepath.Join(copied, "log", "*.log"))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	b, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0x40
	if err := os.WriteFile(logs[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	d = newDoor(t, copied, Options{})
	d.push(devices.CodePlatformUnavailable)
	if st := d.store.Stats(); st.State != StateCorrupt {
		t.Errorf("got state %s, want corrupt", st.State)
	}
	d.asks(19)
	d.close()
}

// TestRetention lets days go by.
func TestRetention(t *testing.T) {
	now := time.UnixMilli(1_763_726_400_000)
	opts := testOptions()
	opts.RetainRaw, opts.RetainQuarter, opts.RetainHour = 10*24*time.Hour, 20*24*time.Hour, 30*24*time.Hour
	opts.Now = func() time.Time { return now }
	s := mustOpen(t, t.TempDir(), opts)
	rec := s.Book().Record("t-1")
	x := s.Book().Define(rec, "energy", devices.TypeFloat, "kWh", true)
	start := now.UnixMilli() / dayMS * dayMS
	put := func(ts ...int64) {
		e := &readings.Entry{Rec: rec, At: now.UnixMilli()}
		for _, at := range ts {
			e.Items = append(e.Items, readings.Stored{S: x, Point: readings.Point{T: at, F: float64(at % 1000)}})
		}
		if err := s.Append(&readings.Group{Entries: []*readings.Entry{e}, Readings: len(ts)}); err != nil {
			t.Fatal(err)
		}
	}
	flush := func() {
		s.freezeNow()
		if err := s.flushFrozen(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for day := range int64(45) {
		for h := range int64(24) {
			put(start-(44-day)*dayMS+h*3600_000, start-(44-day)*dayMS+h*3600_000+60_000)
		}
		flush()
	}
	days := func() [3]int {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return [3]int{len(s.days[classRaw]), len(s.days[classQuarter]), len(s.days[classHour])}
	}
	for i, want := range [][3]int{{43, 42, 42}, {41, 40, 40}} {
		if err := s.Retain(context.Background(), now, false); err != nil {
			t.Fatal(err)
		}
		if got := days(); got != want {
			t.Errorf("pass %d: got %v days, want %v: no more than two a pass", i, got, want)
		}
	}
	if err := s.Retain(context.Background(), now, true); err != nil {
		t.Fatal(err)
	}
	if got, want := days(), [3]int{11, 20, 30}; got != want {
		t.Errorf("got %v days, want %v", got, want)
	}
	if got, want := s.Kept(readings.Raw), start-10*dayMS; got != want {
		t.Errorf("raw is kept from %d, want %d", got, want)
	}
	if got := storetest.Points(t, s, x, 0, 1<<46); len(got) != 11*48 || got[0].T != start-10*dayMS {
		t.Errorf("got %d readings, want %d", len(got), 11*48)
	}
	buckets := func(tier readings.Tier) (bs []readings.Bucket) {
		if err := s.Rollups(context.Background(), x, tier, 0, 1<<46, func(k []readings.Bucket) error {
			bs = append(bs, k...)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return bs
	}
	if got := len(buckets(readings.Quarter)); got != 21*24 {
		t.Errorf("got %d buckets of 15 minutes, want %d", got, 21*24)
	}
	if got := len(buckets(readings.Hour)); got != 31*24 {
		t.Errorf("got %d buckets of an hour, want %d", got, 31*24)
	}

	// A late one where the readings are gone is merged into what is left.
	late := start - 15*dayMS + 5*3600_000 + 30_000
	put(late)
	check := func(when string) {
		t.Helper()
		for _, k := range buckets(readings.Hour) {
			if k.T == late-30_000 && (k.Count != 3 || k.FirstT != k.T) {
				t.Errorf("%s: got %+v, want 3 readings", when, k)
			}
		}
	}
	check("in the head")
	flush()
	check("flushed")
	if err := s.RollUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	check("rolled up again")
	// And one where they are kept makes the roll-up anew.
	again := start - 3*dayMS + 5*3600_000 + 30_000
	put(again)
	flush()
	if st := s.Stats(); st.StaleRollUps != 1 {
		t.Errorf("%d roll-ups are stale, want 1", st.StaleRollUps)
	}
	for i := range 2 {
		found := false
		for _, k := range buckets(readings.Hour) {
			if k.T == again-30_000 {
				found = k.Count == 3
			}
		}
		if !found {
			t.Errorf("look %d: the late reading is not in its roll-up", i)
		}
		if err := s.RollUp(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Stats(); st.StaleRollUps != 0 {
		t.Errorf("%d roll-ups are stale, want none", st.StaleRollUps)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPebbleThatGivesUp has the chunk store fail at a flush: the store says so
// and refuses, and what was acknowledged is there after the next start.
func TestPebbleThatGivesUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "readings")
	d := newDoor(t, dir, Options{FlushEvery: time.Hour})
	for range 20 {
		d.push("")
	}
	l := pebbleLog{d.store.opts.Logger, d.store.breakDown}
	if err := guard(func() error {
		l.Fatalf("the disk %s", "is gone")
		return nil
	}); err == nil || err.Error() != "the disk is gone" {
		t.Errorf("got %v, want what Pebble said", err)
	}
	own := make(chan bool)
	go func() { // as a goroutine of Pebble's
		defer close(own)
		l.Fatalf("again")
		own <- true
	}()
	if <-own {
		t.Error("Fatalf came back")
	}
	d.push(devices.CodePlatformUnavailable)
	if st, why := d.store.Health(); st != StateFailed || why == "" {
		t.Errorf("got state %s, want failed", st)
	}
	d.asks(20)
	d.stop()
	copied := filepath.Join(t.TempDir(), "readings")
	if err := d.store.Backup(context.Background(), copied); err != nil {
		t.Fatal(err)
	}
	acked := d.seq
	d = newDoor(t, copied, Options{})
	d.asks(int(acked))
	d.close()
}
