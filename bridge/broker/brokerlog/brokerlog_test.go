package brokerlog

import (
	"bytes"
	"path/filepath"
	"testing"

	"devicehub/bridge/broker"
	"devicehub/bridge/broker/storetest"
)

func open(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	for name, o := range map[string]Options{"synced": {Sync: true}, "small segments": {SegmentBytes: 16 << 10}} {
		t.Run(name, func(t *testing.T) {
			dirs := map[broker.Store]string{}
			storetest.Test(t, func(t *testing.T) broker.Store {
				dir := filepath.Join(t.TempDir(), "mqtt")
				s := open(t, dir, o)
				dirs[s] = dir
				return s
			}, func(t *testing.T, s broker.Store) broker.Store { // as after a crash: without Close
				next := open(t, dirs[s], o)
				dirs[next] = dirs[s]
				return next
			})
		})
	}
}

// The log stays below twice what is kept and a few segments more, whatever is
// written and deleted.
func TestStaysSmall(t *testing.T) {
	const segment = 64 << 10
	dir := filepath.Join(t.TempDir(), "mqtt")
	s := open(t, dir, Options{SegmentBytes: segment})
	keep := broker.Change{Key: broker.Key{Kind: 'k', A: 1 << 40}, Value: []byte("from the beginning")}
	if err := s.Commit([]broker.Change{keep}); err != nil {
		t.Fatal(err)
	}
	value := bytes.Repeat([]byte("x"), 1000)
	most := int64(0)
	for n := range uint64(4_000) { // a queue: 50 in it at a time
		cs := []broker.Change{{Key: broker.Key{Kind: 'q', A: n}, Value: value}}
		if n >= 50 {
			cs = append(cs, broker.Change{Key: broker.Key{Kind: 'q', A: n - 50}})
		}
		if err := s.Commit(cs); err != nil {
			t.Fatal(err)
		}
		disk, live := s.Size()
		if most = max(most, disk); disk > 2*live+(slack+2)*segment {
			t.Fatalf("after %d commits %d bytes on the disk for %d", n, disk, live)
		}
	}
	next := open(t, dir, Options{SegmentBytes: segment})
	got := 0
	if err := next.Load(func(k broker.Key, v []byte) error {
		if got++; k == keep.Key && string(v) != string(keep.Value) {
			t.Errorf("got %q", v)
		}
		return nil
	}); err != nil || got != 51 {
		t.Errorf("got %d records, %v, want 51", got, err)
	}
	t.Logf("at most %d bytes", most)
}

// A backup is a store that opens, while the one that it was made of goes on.
func TestBackup(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "mqtt"), Options{SegmentBytes: 16 << 10})
	for n := range uint64(100) {
		if err := s.Commit([]broker.Change{{Key: broker.Key{Kind: 'k', A: n}, Value: bytes.Repeat([]byte{1}, 1000)}}); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(t.TempDir(), "copy")
	if err := s.Backup(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit([]broker.Change{{Key: broker.Key{Kind: 'k', A: 7}}}); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := open(t, to, Options{}).Load(func(broker.Key, []byte) error { n++; return nil }); err != nil || n != 100 {
		t.Errorf("got %d records, %v, want 100", n, err)
	}
}
