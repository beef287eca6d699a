package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// TestFoldersOfEarlierFormats opens a whole data folder of every format that
// was ever written. Each was made by the release of its time: a sensor with 500
// readings each of two metrics, a light, people and their tokens.
func TestFoldersOfEarlierFormats(t *testing.T) {
	folders, err := filepath.Glob("testdata/folder-*")
	if err != nil || len(folders) == 0 {
		t.Fatal(folders, err)
	}
	for _, from := range folders {
		t.Run(filepath.Base(from), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			unpack(t, filepath.Join(from, "folder.tar.zst"), dir)
			// Its readings are from the autumn of 2026, for as long as this test is run.
			h := openHub(t, dir, "readings: {retention: {raw: 36500d, 15m: 36500d, 1h: 36500d}}")
			holdsTheFolder(t, h, secret(t, from, "attic.token"), secret(t, from, "exporter.token"))
		})
	}
}

// When the folder's first reading was measured.
const folderStart = 1795735366000

func holdsTheFolder(t *testing.T, h *hub, device, service string) {
	rows := h.export(service, "attic", "temperature")
	if len(rows) != 500 {
		t.Fatalf("got %d readings of temperature, want 500", len(rows))
	}
	n := 0
	for push := range int64(20) {
		for i := int64(1); i < 50; i += 2 {
			at, v := folderStart+push*300_000+i*5000, 20+float64((push*50+i)%100)/10
			if want := fmt.Sprintf("attic,temperature,%d,%v,,°C", at, v); rows[n] != want {
				t.Fatalf("row %d: got %q, want %q", n, rows[n], want)
			}
			n++
		}
	}
	var chart struct{ Buckets []struct{ Count int } }
	h.call("GET", fmt.Sprintf("/api/v1/devices/attic/series?metric=humidity&from=%d&to=%d&points=10", folderStart, folderStart+7200_000), service, nil, http.StatusOK, &chart)
	sum := 0
	for _, b := range chart.Buckets {
		sum += b.Count
	}
	if sum != 500 {
		t.Errorf("series counts %d readings of humidity, want 500", sum)
	}

	// The last push again: its numbers are known.
	var again struct{ Ack, Accepted, Dup int }
	h.call("POST", "/api/v1/devices/attic/readings", device, json.RawMessage(`{"boot":"old-boot","s0":1000,"t0":1795741311000,"r":[["temperature",29.9]]}`), http.StatusOK, &again)
	if again.Ack != 1000 || again.Dup != 1 {
		t.Errorf("a reading that was sent again: got %+v, want it known, and all acknowledged through 1000", again)
	}
	var lamp struct {
		Ver      int
		Reported struct{ Brightness int }
	}
	h.call("GET", "/api/v1/devices/lamp/shadow", h.admin(), nil, http.StatusOK, &lamp)
	if lamp.Reported.Brightness != 128 || lamp.Ver < 2 {
		t.Errorf("the light's shadow: got %+v", lamp)
	}
	vera := h.login("vera", "viewer of old")
	h.call("GET", "/api/v1/devices/attic", vera, nil, http.StatusOK, nil)
	h.call("GET", "/api/v1/devices/lamp", vera, nil, http.StatusNotFound, nil) // out of her scope
	// Records from before there were versions are at the first.
	for path, edit := range map[string]string{"/api/v1/devices/lamp": `{"name":"Lamp of old","if_ver":1}`, "/api/v1/users/vera": `{"scope":"id in [attic,lamp]","if_ver":1}`} {
		var now struct{ Ver int }
		if h.call("PATCH", path, h.admin(), json.RawMessage(edit), http.StatusOK, &now); now.Ver != 2 {
			t.Errorf("%s after an edit of version 1: got version %d, want 2", path, now.Ver)
		}
		h.call("PATCH", path, h.admin(), json.RawMessage(edit), http.StatusConflict, nil)
	}
	var audit struct{ Entries []any }
	h.call("GET", "/api/v1/audit", h.admin(), nil, http.StatusOK, &audit)
	if len(audit.Entries) < 4 {
		t.Errorf("the audit has %d entries", len(audit.Entries))
	}
}

// TestBackupAnswersTheSame takes a backup while readings come in and restores it
// over another hub: for the time before the backup the two answer the same.
func TestBackupAnswersTheSame(t *testing.T) {
	h := newHub(t, "limits: {device_events_per_s: 100000, device_burst: 100000}")
	token := h.mustCLI("device", "add", "attic", "--kind", "sensor")
	start := time.Now().Add(-2 * time.Hour).UnixMilli()
	push := func(n int) {
		h.call("POST", "/api/v1/devices/attic/readings", token, json.RawMessage(fmt.Sprintf(
			`{"boot":"b","s0":%d,"t0":%d,"r":[["temperature",%d.5,0],["mode","m%d",1]]}`, 2*n+1, start+int64(n)*1000, n%50, n)), http.StatusOK, nil)
	}
	for n := range 500 {
		push(n)
	}
	questions := []string{
		fmt.Sprintf("/api/v1/devices/attic/series?metric=temperature&from=%d&to=%d&points=50", start, start+500_000),
		fmt.Sprintf("/api/v1/devices/attic/series?metric=mode&from=%d&to=%d&points=7", start, start+500_000),
		fmt.Sprintf("/api/v1/devices/attic/export?metric=temperature&from=%d&to=%d&format=ndjson", start, start+500_000),
		fmt.Sprintf("/api/v1/devices/attic/export?metric=mode&from=%d&to=%d&format=line", start, start+500_000),
	}
	file := filepath.Join(t.TempDir(), "hub.backup")
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 500; n < 700; n++ {
			push(n)
		}
	})
	h.mustCLI("backup", file)
	wg.Wait()
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the backup: got %v, %v, want mode 0600", st.Mode(), err)
	}
	want := h.answers(questions)

	other := newHub(t)
	if err := other.stop(); err != nil {
		t.Fatal(err)
	}
	other.mustCLI("restore", file)
	other.start()
	for i, got := range other.answers(questions) {
		if got != want[i] {
			t.Errorf("%s\ngot  %.300s\nwant %.300s", questions[i], got, want[i])
		}
	}
	// What came while the backup was made is there without a hole, as far as it goes.
	rows := other.export(other.admin(), "attic", "temperature")
	if last := fmt.Sprintf("attic,temperature,%d,", start+int64(len(rows)-1)*1000); len(rows) < 500 || !strings.HasPrefix(rows[len(rows)-1], last) {
		t.Errorf("got %d rows, the last %q", len(rows), rows[len(rows)-1])
	}
}

func (h *hub) answers(questions []string) (all []string) {
	h.t.Helper()
	token := h.admin()
	for _, q := range questions {
		status, b := h.try("GET", q, token, nil)
		if status != http.StatusOK {
			h.t.Fatalf("%s: got %d %s", q, status, b)
		}
		all = append(all, string(b))
	}
	return all
}

// export returns the rows of a metric as CSV, without the heading.
func (h *hub) export(token, device, metric string) []string {
	h.t.Helper()
	status, b := h.try("GET", "/api/v1/devices/"+device+"/export?metric="+metric+"&from=0", token, nil)
	if status != http.StatusOK {
		h.t.Fatalf("export: got %d %s", status, b)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")[1:]
}

func secret(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(b))
}

// unpack writes a folder as a hub keeps it: for its owner alone.
func unpack(t *testing.T, archive, dir string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for r := tar.NewReader(z); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, filepath.FromSlash(head.Name))
		if head.Typeflag == tar.TypeDir {
			err = os.MkdirAll(to, 0o700)
		} else {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(to, b, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
