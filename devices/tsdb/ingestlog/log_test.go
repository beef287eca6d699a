package ingestlog

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// trouble is a Disk on which writes, syncs and allocations can be made to fail.
type trouble struct {
	Disk
	mu     sync.Mutex
	write  func(n int) (int, error) // how much of n bytes is written, and the error
	syncs  error
	alloc  error
	cut    error
	create error
}

type troubled struct {
	File
	t *trouble
}

func (t *trouble) Create(path string) (File, error) {
	t.mu.Lock()
	err := t.create
	t.mu.Unlock()
	if err != nil {
		return nil, err
	}
	f, err := t.Disk.Create(path)
	return troubled{f, t}, err
}

func (t *trouble) Open(path string) (File, error) {
	f, err := t.Disk.Open(path)
	if err != nil {
		return nil, err
	}
	return troubled{f, t}, nil
}

func (f troubled) WriteAt(b []byte, off int64) (int, error) {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if f.t.write == nil {
		return f.File.WriteAt(b, off)
	}
	n, fail := f.t.write(len(b))
	if n > 0 {
		if _, err := f.File.WriteAt(b[:n], off); err != nil {
			return 0, err
		}
	}
	return n, fail
}

func (f troubled) Sync() error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if f.t.syncs != nil {
		return f.t.syncs
	}
	return f.File.Sync()
}

func (f troubled) Allocate(n int64) error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if f.t.alloc != nil {
		return f.t.alloc
	}
	return f.File.Allocate(n)
}

func (f troubled) Truncate(n int64) error {
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if f.t.cut != nil {
		return f.t.cut
	}
	return f.File.Truncate(n)
}

// opened opens a log and returns the bodies it replays.
func opened(t testing.TB, dir string, o Options, from uint64) (*Log, []string) {
	t.Helper()
	var got []string
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 4096
	}
	l, err := Open(dir, o, from, func(f Frame) error {
		got = append(got, string(f.Body))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, got
}

func put(l *Log, body string) (pos uint64, err error) {
	pos, _, err = l.Commit(append(l.Begin(1), body...))
	return pos, err
}

func mustPut(t testing.TB, l *Log, body string) uint64 {
	t.Helper()
	pos, err := put(l, body)
	if err != nil {
		t.Fatal(err)
	}
	return pos
}

func TestWhatIsCommittedIsReplayed(t *testing.T) {
	for _, sync := range []bool{false, true} {
		r := rand.New(rand.NewPCG(1, 2))
		dir := t.TempDir()
		var want []string
		for range 30 {
			l, got := opened(t, dir, Options{SyncEvery: sync}, 0)
			if !slices.Equal(got, want) {
				t.Fatalf("got %d frames, want %d", len(got), len(want))
			}
			for range r.IntN(40) {
				body := strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(600))
				mustPut(t, l, body)
				want = append(want, body)
			}
			if r.IntN(2) == 0 { // else as after a kill: nothing is closed
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestReplayFromAPosition(t *testing.T) {
	dir := t.TempDir()
	l, _ := opened(t, dir, Options{}, 0)
	var at []uint64
	for i := range 100 {
		at = append(at, mustPut(t, l, fmt.Sprintf("%d %s", i, strings.Repeat("x", 200))))
	}
	if err := l.Release(at[60]); err != nil {
		t.Fatal(err)
	}
	if first, _ := l.Bounds(); first == 0 || first > at[60] {
		t.Errorf("the log begins at %d, want more than 0 and at most %d", first, at[60])
	}
	_, got := opened(t, dir, Options{}, at[60])
	if len(got) != 40 || !strings.HasPrefix(got[0], "60 ") {
		t.Errorf("got %d frames, want 40 from 60 on", len(got))
	}
}

// last is the path of the newest segment.
func last(t testing.TB, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(names) == 0 {
		t.Fatal("no segment", err)
	}
	slices.Sort(names)
	return names[len(names)-1]
}

func TestATornTailIsCut(t *testing.T) {
	full := t.TempDir()
	l, _ := opened(t, full, Options{SegmentBytes: 1 << 20, SyncEvery: true}, 0)
	for i := range 10 {
		mustPut(t, l, fmt.Sprintf("%d %s", i, strings.Repeat("x", 100)))
	}
	end := int64(l.end) + headerLen
	start := int64(mustPut(t, l, strings.Repeat("torn", 50))) + headerLen
	image, err := os.ReadFile(last(t, full))
	if err != nil {
		t.Fatal(err)
	}
	if start != end {
		t.Fatalf("the last frame is at %d, want %d", start, end)
	}
	for at := start; at < start+200; at += 3 {
		for _, how := range []string{"short", "zeros", "hole"} {
			dir := t.TempDir()
			b := bytes.Clone(image)
			switch how {
			case "short":
				b = b[:at]
			case "zeros":
				clear(b[at:])
			case "hole":
				clear(b[at:min(at+64, start+208)])
			}
			if err := os.WriteFile(filepath.Join(dir, "0000000000000000.log"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			l, got := opened(t, dir, Options{}, 0)
			if len(got) != 10 || l.State() != nil {
				t.Fatalf("%s at %d: got %d frames, state %v; want 10 and none", how, at, len(got), l.State())
			}
			mustPut(t, l, "after")
			if _, got = opened(t, dir, Options{}, 0); len(got) != 11 || got[10] != "after" {
				t.Fatalf("%s at %d: got %d frames after going on, want 11", how, at, len(got))
			}
		}
	}
}

func TestDamageIsNotATornTail(t *testing.T) {
	dir := t.TempDir()
	l, _ := opened(t, dir, Options{SegmentBytes: 1 << 20, SyncEvery: true}, 0)
	var at []uint64
	for i := range 10 {
		at = append(at, mustPut(t, l, fmt.Sprintf("%d %s", i, strings.Repeat("x", 100))))
	}
	path := last(t, dir)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[headerLen+int(at[4])+20] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	l, got := opened(t, dir, Options{}, 0)
	if !errors.Is(l.State(), ErrCorrupt) || len(got) != 9 {
		t.Errorf("got state %v and %d frames, want damage and 9", l.State(), len(got))
	}
	if _, err := put(l, "more"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a damaged log takes more: %v", err)
	}
	// The operator sets the segment aside: the log goes on behind it.
	if err := os.Rename(path, path+".bad"); err != nil {
		t.Fatal(err)
	}
	if l, _ = opened(t, dir, Options{}, 0); l.State() != nil {
		t.Errorf("got %v, want a log that works", l.State())
	}
}

func TestAMissingSegmentIsDamage(t *testing.T) {
	dir := t.TempDir()
	l, _ := opened(t, dir, Options{}, 0)
	for i := range 100 {
		mustPut(t, l, fmt.Sprintf("%d %s", i, strings.Repeat("x", 200)))
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	slices.Sort(names)
	if err := os.Rename(names[2], names[2]+".bad"); err != nil {
		t.Fatal(err)
	}
	if l, got := opened(t, dir, Options{}, 0); l.State() != nil || len(got) >= 100 {
		t.Errorf("set aside: got state %v and %d frames, want none and fewer than 100", l.State(), len(got))
	}
	if err := os.Remove(names[2] + ".bad"); err != nil {
		t.Fatal(err)
	}
	if l, _ := opened(t, dir, Options{}, 0); !errors.Is(l.State(), ErrCorrupt) {
		t.Errorf("gone: got state %v, want damage", l.State())
	}
}

func TestANewerVersionIsRefused(t *testing.T) {
	dir := t.TempDir()
	h := header{}.encode()
	h[6] = Version + 1
	h = append(h[:32], sumOf(h[:32])...)
	if err := os.WriteFile(filepath.Join(dir, "0000000000000000.log"), append(h, 0, 0, 0, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}, 0, func(Frame) error { return nil }); !errors.Is(err, errVersion) {
		t.Errorf("got %v, want %v", err, errVersion)
	}
}

func TestTroubleIsAState(t *testing.T) {
	short := func(err error) func(n int) (int, error) { return func(n int) (int, error) { return n / 2, err } }
	for _, c := range []struct {
		name   string
		make   func(*trouble)
		state  error
		passes bool
	}{
		{"the disk is full", func(d *trouble) { d.write = short(syscall.ENOSPC) }, ErrFull, true},
		{"nothing is written", func(d *trouble) { d.write = func(int) (int, error) { return 0, syscall.ENOSPC } }, ErrFull, true},
		{"file size limit", func(d *trouble) { d.write = short(syscall.EFBIG) }, ErrFull, true},
		{"quota", func(d *trouble) { d.write = short(syscall.EDQUOT) }, ErrFull, true},
		{"a short write", func(d *trouble) { d.write = short(io.ErrShortWrite) }, ErrFailed, false},
		{"the disk is gone", func(d *trouble) { d.write = short(syscall.EIO) }, ErrFailed, false},
		{"full, and the cut fails", func(d *trouble) { d.write, d.cut = short(syscall.ENOSPC), syscall.EIO }, ErrFailed, false},
		{"fsync fails", func(d *trouble) { d.syncs = syscall.EIO }, ErrFailed, false},
		{"no room for a segment", func(d *trouble) { d.alloc = syscall.ENOSPC }, ErrFull, true},
		{"a segment cannot be made", func(d *trouble) { d.create = syscall.EROFS }, ErrFailed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			d := &trouble{}
			l, _ := opened(t, dir, Options{FS: d, SyncEvery: true}, 0)
			var want []string
			for i := range 12 {
				want = append(want, fmt.Sprintf("%d %s", i, strings.Repeat("x", 300)))
				mustPut(t, l, want[i])
			}
			c.make(d)
			failed := 0
			for i := range 12 {
				body := fmt.Sprintf("refused %d %s", i, strings.Repeat("y", 300))
				switch _, err := put(l, body); {
				case err == nil && failed == 0:
					want = append(want, body) // no new segment was needed
				case err == nil:
					t.Fatal("a frame was taken in between")
				case !errors.Is(err, c.state) || !errors.Is(l.State(), c.state):
					t.Fatalf("got %v, state %v; want %v", err, l.State(), c.state)
				default:
					failed++
				}
			}
			if failed == 0 {
				t.Fatal("nothing failed")
			}
			*d = trouble{}
			_, err := put(l, "room again")
			if c.passes {
				want = append(want, "room again")
			}
			if (err == nil) != c.passes || (l.State() == nil) != c.passes {
				t.Errorf("afterwards: got %v, state %v; want it to pass: %v", err, l.State(), c.passes)
			}
			_, got := opened(t, dir, Options{}, 0)
			if c.name == "fsync fails" { // what was written and not synced may be there
				got = got[:len(want)]
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %d frames, want %d", len(got), len(want))
			}
		})
	}
}

func TestReadFollowsTheLog(t *testing.T) {
	dir := t.TempDir()
	l, _ := opened(t, dir, Options{}, 0)
	pos := uint64(0)
	n := 0
	for round := range 20 {
		for i := range 30 {
			mustPut(t, l, fmt.Sprintf("%d %s", round*30+i, strings.Repeat("x", 1+i*5)))
		}
		took := 0
		next, err := l.Read(pos, func(f Frame) bool {
			if took == 25 {
				return false
			}
			if want := fmt.Sprintf("%d ", n); !strings.HasPrefix(string(f.Body), want) {
				t.Fatalf("got %q, want %q", f.Body[:10], want)
			}
			n++
			took++
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		pos = next
		if err := l.Release(pos); err != nil {
			t.Fatal(err)
		}
	}
	if n != 500 {
		t.Errorf("read %d, want 500", n)
	}
	if _, err := l.Read(0, func(Frame) bool { return true }); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want %v", err, ErrGone)
	}
	if next, err := l.Read(l.end, func(Frame) bool { return true }); err != nil || next != l.end {
		t.Errorf("at the end: got %d, %v; want %d", next, err, l.end)
	}
}

// FuzzOpen opens a segment of any bytes. It must not panic, must not refuse
// what is not of a newer version, and opened again must replay the same.
func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	l, _ := opened(f, dir, Options{SegmentBytes: 1 << 16, SyncEvery: true}, 0)
	for i := range 5 {
		mustPut(f, l, fmt.Sprintf("frame %d", i))
	}
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(last(f, dir))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, uint16(0), byte(0))
	f.Add(b, uint16(100), byte(3))
	f.Add(b[:len(b)-9], uint16(41), byte(255))
	f.Fuzz(func(t *testing.T, b []byte, at uint16, with byte) {
		dir := t.TempDir()
		b = bytes.Clone(b)
		if int(at) < len(b) {
			b[at] ^= with
		}
		if err := os.WriteFile(filepath.Join(dir, "0000000000000000.log"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		replay := func() (got []string, err error) {
			_, err = Open(dir, Options{}, 0, func(f Frame) error {
				got = append(got, string(f.Body))
				return nil
			})
			return got, err
		}
		first, err := replay()
		if err != nil {
			if !errors.Is(err, errVersion) {
				t.Fatal(err)
			}
			return
		}
		again, err := replay()
		if err != nil || !slices.Equal(first, again) {
			t.Errorf("got %d frames, then %d, %v", len(first), len(again), err)
		}
	})
}

func sumOf(b []byte) []byte {
	sum := crc32.Checksum(b, castagnoli)
	return []byte{byte(sum), byte(sum >> 8), byte(sum >> 16), byte(sum >> 24)}
}
