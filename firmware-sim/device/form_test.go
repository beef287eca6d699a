package device

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"
)

func TestEncode(t *testing.T) {
	rs := []Reading{
		{Metric: "temperature", Value: 70.1, Unit: "°F", T: 1763682000123, Boot: "b", Seq: 7},
		{Metric: "motion", Value: true, T: 1763682000623, Boot: "b", Seq: 8},
		{Metric: "mode", Value: `a "b"`, T: 1763682000023, Boot: "b", Seq: 9},
	}
	tests := []struct {
		name string
		form Form
		n    int
		want string
	}{
		{"object", Form{}, 1, `{"m":"temperature","v":70.1,"t":1763682000123,"s":7,"u":"°F","boot":"b"}`},
		{"object without anything", Form{Plain: true, Untimed: true}, 1, `{"m":"temperature","v":70.1,"u":"°F"}`},
		{"object without a time", Form{Untimed: true}, 1, `{"m":"temperature","v":70.1,"s":7,"u":"°F","boot":"b"}`},
		{
			"batch",
			Form{Kind: Batch},
			3,
			`{"boot":"b","s0":7,"t0":1763682000123,"u":{"temperature":"°F"},"r":[["temperature",70.1,0],["motion",true,500],["mode","a \"b\"",-100]]}`,
		},
		{
			"batch without boot",
			Form{Kind: Batch, Plain: true},
			2,
			`{"t0":1763682000123,"u":{"temperature":"°F"},"r":[["temperature",70.1,0],["motion",true,500]]}`,
		},
		{
			"batch without anything",
			Form{Kind: Batch, Plain: true, Untimed: true},
			2,
			`{"u":{"temperature":"°F"},"r":[["temperature",70.1],["motion",true]]}`,
		},
		{
			"SenML",
			Form{Kind: SenML},
			3,
			`[{"bn":"urn:dev:hub:d:","bt":1763682000.123,"n":"temperature","u":"°F","v":70.1},{"t":0.5,"n":"motion","vb":true},{"t":-0.1,"n":"mode","vs":"a \"b\""}]`,
		},
		{"SenML without a time", Form{Kind: SenML, Untimed: true}, 1, `[{"n":"temperature","u":"°F","v":70.1}]`},
		{"bare number", Form{Kind: Bare, Untimed: true}, 1, `70.1`},
	}
	for _, tt := range tests {
		if got := string(encode("d", tt.form, rs[:tt.n])); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.name, got, tt.want)
		}
	}
	for _, kind := range []Kind{SenML, CBOR} { // small times would be in the future
		r := Reading{Metric: "x", Value: 1.5, T: 1080}
		if got, want := string(encode("d", Form{Kind: kind}, []Reading{r})), string(encode("d", Form{Kind: kind, Untimed: true}, []Reading{r})); got != want {
			t.Errorf("a clock that was never set: got %q, want %q", got, want)
		}
	}
	for want, v := range map[string]any{"true": true, "a \"b\"": `a "b"`, "-3": -3.0} {
		if got := string(encode("d", Form{Kind: Bare}, []Reading{{Metric: "x", Value: v}})); got != want {
			t.Errorf("bare %v: got %s, want %s", v, got, want)
		}
	}
}

// What is written as CBOR says the same as what is written as JSON, to a decoder of others.
func TestEncodeCBOR(t *testing.T) {
	var rs []Reading
	for i, v := range []any{70.1, true, false, "cool", -3.0, 1e300, 0.0, 1e7} {
		rs = append(rs, Reading{Metric: fmt.Sprintf("m%d", i), Value: v, T: 1763682000123 + int64(i)*250})
	}
	rs[0].Unit = "°F"
	labels := map[int64]string{
		-2: "bn",
		-3: "bt",
		0:  "n",
		1:  "u",
		2:  "v",
		3:  "vs",
		4:  "vb",
		6:  "t",
	} // RFC 8428, table 4
	for _, form := range []Form{{}, {Untimed: true}} {
		for _, n := range []int{1, len(rs), 300} {
			many := rs[:min(n, len(rs))]
			for len(many) < n {
				many = append(many, rs[0])
			}
			var packed []map[int64]any
			if err := cbor.Unmarshal(encodeCBOR("d", form, many), &packed); err != nil {
				t.Fatal(err)
			}
			var got []map[string]any
			for _, rec := range packed {
				named := map[string]any{}
				for k, v := range rec {
					named[labels[k]] = v
				}
				got = append(got, named)
			}
			var want []map[string]any
			if err := json.Unmarshal(encodeSenML("d", form, many), &want); err != nil {
				t.Fatal(err)
			}
			asJSON := func(v any) (out any) {
				b, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				_ = json.Unmarshal(b, &out)
				return out
			}
			if !reflect.DeepEqual(asJSON(got), asJSON(want)) {
				t.Errorf("%d records, %+v:\ngot  %v\nwant %v", n, form, got, want)
			}
		}
	}
}

// Only readings with a number get one, so that a boot has no holes; a push holds what goes
// together.
func TestFormsAreNumberedWithoutHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent []Reading
		style := Style{Kinds: [Bare + 1]float64{Object: 1, Batch: 1, SenML: 1, CBOR: 1}}
		d, l := newTest(t, Config{Sensor: true, Batch: 3, InFlight: 1000, Seed: 5, Style: style,
			Hooks: Hooks{Sent: func(rs []Reading) { sent = append(sent, rs...) }}})
		d.isUp(nil)
		for range 300 {
			d.Measure("temperature", 1.0, "", time.Now())
		}
		d.Flush(time.Now())
		synctest.Wait()
		kinds, next := map[Kind]int{}, uint64(1)
		for _, p := range l.take() {
			kinds[p.form.Kind]++
		}
		for _, r := range sent {
			if !r.Form.numbered() {
				if r.Seq != 0 {
					t.Fatalf("%v has number %d", r.Form, r.Seq)
				}
				continue
			}
			if r.Seq != next {
				t.Fatalf("number %d, want %d", r.Seq, next)
			}
			next++
		}
		if kinds[Object] > 0 || kinds[Batch] < 20 || kinds[SenML] < 20 || kinds[CBOR] < 20 || len(sent) != 300 {
			t.Errorf("pushes %v of %d readings, want all but objects, which hold one", kinds, len(sent))
		}
	})
}

func TestStyleFits(t *testing.T) {
	everything := Style{Kinds: [Bare + 1]float64{1, 1, 1, 1, 1}, QoS: [ExactlyOnce + 1]float64{1, 1, 1}}
	untimed := everything
	untimed.Untimed = true
	bareOnly := Style{Kinds: [Bare + 1]float64{Bare: 1}, Untimed: true}
	tests := []struct {
		name  string
		style Style
		mqtt  bool
		batch int
		kinds string // of those that can be drawn
		qos   int    // how many
	}{
		{"nothing said", Style{}, true, 1, "[0]", 1},
		{"nothing said, many", Style{}, false, 10, "[1]", 1},
		{"with times", everything, true, 1, "[0 1 2 3]", 3},
		{"without times", untimed, true, 1, "[0 1 2 3 4]", 3},
		{"without times, many", untimed, true, 5, "[1 2 3]", 3},
		{"no MQTT", untimed, false, 1, "[0 1 2 3]", 1},
		{"bare alone", bareOnly, true, 1, "[4]", 1},
		{"bare alone, many", bareOnly, true, 5, "[4]", 1},
		{"bare alone, no MQTT", bareOnly, false, 1, "[0]", 1},
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, tt := range tests {
		tt.style.fits(tt.mqtt, tt.batch)
		kinds, qos := map[Kind]bool{}, map[Delivery]bool{}
		for range 500 {
			f := tt.style.draw(r, false)
			kinds[f.Kind], qos[f.Delivery] = true, true
			if f.Kind == Bare && f.numbered() || f.Kind >= SenML && f.numbered() {
				t.Fatalf("%s: %+v has numbers", tt.name, f)
			}
		}
		var drawn []Kind
		for k := range Bare + 1 {
			if kinds[k] {
				drawn = append(drawn, k)
			}
		}
		if got := fmt.Sprint(drawn); got != tt.kinds || len(qos) != tt.qos {
			t.Errorf("%s: kinds %s, %d qualities; want %s and %d", tt.name, got, len(qos), tt.kinds, tt.qos)
		}
	}
}

// What is sent at most once is let go of when it is sent, and kept as long as it is not.
func TestAtMostOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heard := 0
		d, l := newTest(
			t,
			Config{
				Sensor:    true,
				Transport: MQTT,
				MQTT:      &url.URL{Scheme: "mqtt", Host: "h"},
				Style:     Style{QoS: [ExactlyOnce + 1]float64{AtMostOnce: 1}},
				Hooks:     Hooks{Acked: func(Ack) { heard++ }},
			},
		)
		d.Measure("temperature", 1.0, "", time.Now())
		if d.Backlog() != 1 {
			t.Error("offline: it is gone")
		}
		d.isUp(nil)
		d.Measure("temperature", 2.0, "", time.Now())
		synctest.Wait()
		if n := len(l.take()); n != 2 || d.Backlog() != 0 || heard != 0 {
			t.Errorf("sent %d, %d kept, %d acknowledged; want 2, 0, 0", n, d.Backlog(), heard)
		}
	})
}
