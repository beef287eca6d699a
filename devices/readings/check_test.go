package readings_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/fxamacker/cbor/v2"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// What is found is shown without giving away what it may be a piece of.
func TestCheckShowsLittleOfANameThatIsNone(t *testing.T) {
	store := readings.NewMemory()
	in := readings.New(store, readings.Config{})
	for i, c := range []struct {
		name, shown string
		token       bool
	}{
		{"eyJpc3MiOiJkZXZpY2VodWIiLCJhdWQi", `eyJp…`, true},
		{"dh1.3.zik0zj.x9", `dh1.…`, true},
		{"zj.Rp-4_Qx", `zj.R…`, true},
		{"re\x00\x0120JFZERTQSIsImtpZCI6IjIwMjYt", `re\x00\x01…`, true},
		{"{\"m\":\"humidity\"", `{\"m\"…`, false},
		{"\x1b[2J", `\x1b[2J`, false},
		{"shop-meter/", `shop…`, false},
		{"°C", `\u00b0C`, false},
		{"Up", `Up`, false},
		{strings.Repeat("a", 33), `aaaa…`, false},
	} {
		id := devices.ID(fmt.Sprintf("d-%02d", i))
		store.Book().Define(store.Book().Record(id), c.name, devices.TypeFloat, "", false)
		found, err := in.Check(t.Context())
		if err != nil || len(found) != i+1 {
			t.Fatalf("%q: found %v, %v", c.name, found, err)
		}
		f := found[i]
		if f.Device != id || f.Why != readings.WhyName || f.Name != c.shown || f.Bytes != len(c.name) || f.Token != c.token {
			t.Errorf("%q: got %+v, want %s, token %v", c.name, f, c.shown, c.token)
		}
	}
}

// A metric of the catalogue in a unit or type that neither it nor the record has
// is another metric's; what converts, and what nothing declares, is not.
func TestCheckFindsWhatStandsUnderAnothersName(t *testing.T) {
	store := readings.NewMemory()
	dev := &devices.Device{ID: "d", Metrics: []devices.Metric{
		{Name: "pressure", Type: devices.TypeFloat, Unit: "furlong"}, {Name: "mode", Type: devices.TypeEnum}, {Name: "co2", Type: devices.TypeString},
	}}
	in := readings.New(store, readings.Config{Device: func(devices.ID) (*devices.Device, bool) { return dev, true }, Now: func() time.Time { return time.UnixMilli(1_763_700_100_000) }})
	rec := store.Book().Record("d")
	at := int64(1_763_700_000_000)
	want := map[string]bool{}
	for _, c := range []struct {
		metric, unit string
		typ          devices.ValueType
		wrong        bool
	}{
		{"temperature", "°C", devices.TypeFloat, false}, {"temperature", "K", devices.TypeFloat, false}, {"temperature", "lx", devices.TypeFloat, true},
		{"humidity", "", devices.TypeString, true}, {"motion", "", devices.TypeBool, false}, {"motion", "%", devices.TypeFloat, true},
		{"pressure", "furlong", devices.TypeFloat, false}, {"pressure", "hPa", devices.TypeFloat, false}, {"mode", "", devices.TypeString, false},
		{"co2", "", devices.TypeString, false}, {"own_value", "lx", devices.TypeFloat, false},
	} {
		x := store.Book().Define(rec, c.metric, c.typ, c.unit, false)
		e := &readings.Entry{Rec: rec, At: at, Items: []readings.Stored{{S: x, Point: readings.Point{T: at}}, {S: x, Point: readings.Point{T: at + 5000}}}}
		if err := store.Append(&readings.Group{Entries: []*readings.Entry{e}, Readings: 2}); err != nil {
			t.Fatal(err)
		}
		if c.wrong {
			want[c.metric+" "+c.unit] = true
		}
	}
	found, err := in.Check(t.Context())
	if err != nil || len(found) != len(want) {
		t.Fatalf("found %+v, %v; want %v", found, err, want)
	}
	for _, f := range found {
		if !want[f.Name+" "+f.Unit] || f.Why != readings.WhyUnit || f.Readings != 2 || f.First != at || f.Last != at+5000 || f.Token {
			t.Errorf("got %+v", f)
		}
	}
}

// Nothing of what a push was read from is kept, in whatever form it came.
func TestParsedReadingsAreTheirOwn(t *testing.T) {
	in := readings.New(readings.NewMemory(), readings.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx) }()
	defer func() { cancel(); <-done }()
	pack, err := cbor.Marshal([]map[int]any{{0: "in_cbor", 3: "some text"}})
	if err != nil {
		t.Fatal(err)
	}
	dev := &devices.Device{ID: "d", Kinds: []devices.Kind{devices.KindSensor}}
	for metric, parse := range map[string]func([]byte) (readings.Batch, error){
		"in_json":   readings.ParseReading,
		"in_batch":  readings.ParseReadings,
		"in_senml":  func(b []byte) (readings.Batch, error) { return readings.ParseSenML(b, false, "d", time.Now()) },
		"in_cbor":   func(b []byte) (readings.Batch, error) { return readings.ParseSenML(b, true, "d", time.Now()) },
		"bare_text": nil,
	} {
		name := metric
		body := map[string][]byte{
			"in_json": []byte(`{"m":"in_json","v":"some text","boot":"boot 1"}`), "in_batch": []byte(`{"boot":"boot 1","r":[["in_batch","some text"]]}`),
			"in_senml": []byte(`[{"n":"in_senml","vs":"some text"}]`), "in_cbor": pack, "bare_text": []byte("some text"),
		}[metric]
		if parse == nil {
			topic := []byte("r/bare_text")
			name = unsafe.String(unsafe.SliceData(topic), len(topic))
			parse = func(b []byte) (readings.Batch, error) {
				batch, err := readings.ParseBare(name[2:], b)
				copy(topic, bytes.Repeat([]byte{0xFB}, len(topic)))
				return batch, err
			}
		}
		batch, err := parse(body)
		if err != nil {
			t.Fatalf("%s: %v", metric, err)
		}
		copy(body, bytes.Repeat([]byte{0xFB}, len(body)))
		kept := make(chan error, 1)
		in.Submit(readings.Source{Device: dev}, batch, func(_ readings.Result, err error) { kept <- err })
		if err := <-kept; err != nil {
			t.Fatalf("%s: %v", metric, err)
		}
		if l, ok := in.Latest("d")[metric]; !ok || l.V != "some text" {
			t.Errorf("%s: got %v", metric, in.Latest("d"))
		}
	}
	for _, a := range in.AckThrough("d") {
		if a.Boot != "boot 1" {
			t.Errorf("got boot %q", a.Boot)
		}
	}
}
