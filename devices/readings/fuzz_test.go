package readings_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"devicehub/devices"
	"devicehub/devices/readings"
)

// judged has a push judged alone and checks what holds for every one.
func judged(t *testing.T, b readings.Batch, err error) {
	t.Helper()
	if err != nil {
		var e *devices.Error
		if !errors.As(err, &e) || e.Code != devices.CodeInvalid {
			t.Fatalf("got %v, want an invalid error", err)
		}
		return
	}
	store := readings.NewMemory()
	in := readings.New(store, readings.Config{Feed: devices.FeedFunc(func(e devices.Event) {
		if p, err := json.Marshal(e.Payload); err != nil || !json.Valid(p) {
			t.Errorf("event %s: %v", p, err)
		}
	})})
	in.SetMaxReadings(1 << 20)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := in.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	d := sensor()
	answered := make(chan struct{})
	in.Submit(readings.Source{Device: d}, b, func(r readings.Result, err error) {
		defer close(answered)
		if r.Accepted+r.Dup+len(r.Rejected) != b.Len() {
			t.Errorf("%+v of %d", r, b.Len())
		}
		if (err == nil) != (r.Accepted+r.Dup > 0) {
			t.Errorf("%+v: %v", r, err)
		}
		if text, err := json.Marshal(r); err != nil || !json.Valid(text) {
			t.Errorf("%s: %v", text, err)
		}
	})
	<-answered
	cancel()
	<-done
	for m, l := range in.Latest(d.ID) {
		if f, ok := l.V.(float64); !devices.ValidMetricName(m) || ok && (math.IsNaN(f) || math.IsInf(f, 0)) || l.T < 0 {
			t.Errorf("stored %s %+v", m, l)
		}
	}
}

func FuzzParseReading(f *testing.F) {
	f.Add([]byte(`{"m":"temperature","v":21.4,"t":1763682000123,"s":1042,"u":"°C","boot":"01JD"}`))
	f.Add([]byte(`{"m":"mode","v":"a\ud83d\ude00\u00e9\n","u":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := readings.ParseReading(b)
		judged(t, batch, err)
		if err == nil && !json.Valid(b) {
			t.Error("no JSON, and taken")
		}
	})
}

func FuzzParseReadings(f *testing.F) {
	f.Add([]byte(`{"boot":"01JD…","s0":1000,"t0":1763682000000,"u":{"temperature":"°F"},"r":[["temperature",70.1,0],["humidity",40.2,0],["temperature",70.3,1000]]}`))
	f.Add([]byte(`{"r":[["a",true],["b"],[1,2,3,4],["c",{"x":[]}],["d",1e400],["e",-0]]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		batch, err := readings.ParseReadings(b)
		judged(t, batch, err)
		if err == nil && !json.Valid(b) {
			t.Error("no JSON, and taken")
		}
	})
}

func FuzzParseSenML(f *testing.F) {
	f.Add([]byte(`[{"bn":"urn:dev:hub:t-1:","bt":1763682000,"n":"temperature","u":"Cel","v":61.2,"ut":60},{"n":"temperature","t":-60,"v":61.0}]`), false)
	f.Add([]byte("\x81\xa3\x00\x6btemperature\x01\x63Cel\x02\xf9\x4d\x40"), true)
	f.Add([]byte("\x81\xa2\x00\x64door\x04\xf5"), true)
	f.Fuzz(func(t *testing.T, b []byte, isCBOR bool) {
		batch, err := readings.ParseSenML(b, isCBOR, "t-1", time.UnixMilli(1763682000000))
		judged(t, batch, err)
	})
}

func FuzzParseBare(f *testing.F) {
	for _, s := range []string{"21.4", "true", "eco", "-", "1e5", "nan"} {
		f.Add("temperature", []byte(s))
	}
	f.Fuzz(func(t *testing.T, metric string, b []byte) {
		batch, err := readings.ParseBare(metric, b)
		judged(t, batch, err)
	})
}

// TestNumbersAreReadAsStrconvDoes holds the short way of reading decimals
// against the library's.
func TestNumbersAreReadAsStrconvDoes(t *testing.T) {
	for _, text := range []string{"0", "-0", "1", "21.4", "-17.25", "0.1", "0.30000000000000004", "123456789012345", "1234567890123456", "0.000001",
		"1e3", "1.5E-7", "4.9e-324", "1.7976931348623157e308", "99999.99999", "0.0000000000000000000001", "9007199254740993", "3.141592653589793"} {
		batch, err := readings.ParseReading([]byte(`{"m":"x","v":` + text + `}`))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var want float64
		if err := json.Unmarshal([]byte(strings.TrimPrefix(text, "-0")+"0"[:btoi(text == "-0")]), &want); err != nil {
			t.Fatal(err)
		}
		var got float64
		store := readings.NewMemory()
		in := readings.New(store, readings.Config{})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- in.Run(ctx) }()
		in.Submit(readings.Source{Device: sensor()}, batch, func(readings.Result, error) { cancel() })
		if err := <-done; err != nil {
			t.Error(err)
		}
		got = in.Latest("t-1")["x"].V.(float64)
		if got != want || math.Signbit(got) != math.Signbit(want) {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
