package tsdb

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"devicehub/devices/readings"
	"devicehub/devices/readings/storetest"
)

// sample is a sample of FORMAT.md: hexadecimal digits, and what they mean behind two spaces.
func sample(t *testing.T, name string) (b []byte) {
	t.Helper()
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```hex " + name + "\n(.*?)```").FindSubmatch(page)
	if m == nil {
		t.Fatalf("FORMAT.md has no sample %s", name)
	}
	for line := range strings.Lines(string(m[1])) {
		digits := regexp.MustCompile(`^(?:[0-9a-f]{2} ?)+`).FindString(line)
		some, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		b = append(b, some...)
	}
	return b
}

// The segment of the page is a log that the store opens.
func TestPageSegment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "readings")
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "log", "0000000000000000.log"), sample(t, "segment"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, dir, testOptions())
	rec, ok := s.book.Lookup("kitchen-temp")
	if !ok {
		t.Fatal("the device of the sample is not there")
	}
	w := rec.Windows()
	if len(w) != 1 || w[0].Boot != "b1" || w[0].Ack != 2 {
		t.Errorf("got windows %+v, want boot b1 through 2", w)
	}
	x := s.book.Series(1)
	if x == nil || x.Metric != "temperature" || x.Unit != "°C" {
		t.Fatalf("got series %+v", x)
	}
	got := storetest.Points(t, s, x, 0, 1<<46)
	want := []readings.Point{{T: 1763682000000, F: 21.4}, {T: 1763682001000, F: 21.5}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// pagePoints are the readings of the chunk and the bucket of the page.
var pagePoints = []readings.Point{{T: 1000, F: 21.4}, {T: 2000, F: 21.5}, {T: 3000, F: 21.5}, {T: 4000, F: 21.5, Q: readings.Converted}}

func TestPageChunk(t *testing.T) {
	c := &coder{zip: new(zipper)}
	if got := c.appendChunk(nil, kindFloat, pagePoints); !slices.Equal(got, sample(t, "chunk")) {
		t.Errorf("got % x, the page has % x", got, sample(t, "chunk"))
	}
	kind, blocks, err := splitChunk(nil, sample(t, "chunk"))
	if err != nil || kind != kindFloat || len(blocks) != 1 {
		t.Fatalf("got kind %d, %d blocks, %v", kind, len(blocks), err)
	}
	if got, err := c.decode(nil, kind, &blocks[0], 0); err != nil || !slices.Equal(got, pagePoints) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestPageRollup(t *testing.T) {
	var b readings.Bucket
	for i := range pagePoints {
		b.Add(&pagePoints[i])
	}
	got := appendRollups(nil, kindFloat, readings.Plain, []readings.Bucket{b}, 900_000)
	if !slices.Equal(got, sample(t, "rollup")) {
		t.Errorf("got % x, the page has % x", got, sample(t, "rollup"))
	}
}

// The page has every class of key and every meta, with the value that the code has.
func TestPageKeys(t *testing.T) {
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range []byte{classMeta, classRaw, classQuarter, classHour, classMeter, classDevice, classSeries, classState, classDirty} {
		if want := "\n| `0x" + hex.EncodeToString([]byte{class}) + "` |"; !strings.Contains(string(page), want) {
			t.Errorf("FORMAT.md has no class %#02x", class)
		}
	}
	for _, meta := range []string{metaFormat, metaPos, metaClock, metaNumbers, metaKept, metaRolled, metaMetered} {
		if !strings.Contains(string(page), "\n| `"+meta+"`") {
			t.Errorf("FORMAT.md has no meta %s", meta)
		}
	}
	if formatVersion != 2 || chunkVersion != 1 || rollupVersion != 0x82 || meterVersion != 0x91 || blockMax != 512 || meterDays != 256 {
		t.Error("a constant that FORMAT.md names has changed: bring the page up to date, and this test")
	}
	if got := chunkKey(nil, classRaw, 20412, 7); binary.BigEndian.Uint32(got[1:]) != 20412 || len(got) != 9 {
		t.Errorf("got key % x", got)
	}
}
