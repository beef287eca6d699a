package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"devicehub/devices"
	"devicehub/hub/hubclient"
)

// Numbers, times and texts at their edges come to the same by whichever way they
// are sent: over a WebSocket and by long polling, over HTTP, over MQTT to the hub
// and to a broker that it is bridged to; as one reading, as many, bare, as SenML
// in JSON and in CBOR.

// edgeCase is one such value, spelled for each form that can spell it. An empty
// spelling passes the form over.
type edgeCase struct {
	name   string
	metric string
	json   string // the value as a token of JSON
	bare   string // as a bare payload
	cbor   []byte // as an item of CBOR
	// want is what becomes of it: "<value> <qualities>", or the code of its refusal.
	want     string
	wantBare string // where a bare payload has no JSON around it that could be broken
	mend     string // said in the refusal
	broken   bool   // Phoenix's decoder does not take it: on a channel the frame itself is none
}

// item is a value in CBOR.
func item(v any) []byte {
	b, err := cbor.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func edges() []edgeCase {
	text := func(s string) []byte { return append(item(strings.Repeat("x", len(s)))[:len(item(s))-len(s)], s...) }
	float := func(f float64) []byte {
		return binary.BigEndian.AppendUint64([]byte{0xfb}, math.Float64bits(f))
	}
	quoted := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	long := strings.Repeat("y", 255)
	return []edgeCase{
		{name: "a number", metric: "n", json: "21.5", bare: "21.5", cbor: item(21.5), want: "21.5"},
		{name: "a whole number", metric: "n", json: "3", bare: "3", cbor: item(3), want: "3"},
		{name: "an exponent", metric: "n", json: "2.5e-3", bare: "2.5E-3", cbor: float(0.0025), want: "0.0025"},
		{name: "minus zero", metric: "n", json: "-0", bare: "-0.0", cbor: float(math.Copysign(0, -1)), want: "0"},
		{name: "a short float", metric: "n", json: "21.4", bare: "21.4", cbor: []byte{0xfa, 0x41, 0xab, 0x33, 0x33}, want: "21.4"},
		{name: "a huge whole number", metric: "n", json: "123456789012345678901234567890", bare: "123456789012345678901234567890",
			cbor: append([]byte{0xc2, 0x4d}, 0x01, 0x8e, 0xe9, 0x0f, 0xf6, 0xc3, 0x73, 0xe0, 0xee, 0x4e, 0x3f, 0x0a, 0xd2), want: "1.2345678901234568e+29"},
		{name: "too large for a number", metric: "n", json: "1e400", bare: "1e400", cbor: item(cbor.Tag{Number: 4, Content: []any{400, 1}}), want: "invalid", mend: "finite", broken: true},
		{name: "just too large", metric: "n", json: "1e309", bare: "1e309", want: "invalid", mend: "finite", broken: true},
		{name: "NaN", metric: "n", json: "NaN", bare: "nan", cbor: float(math.NaN()), want: "invalid", mend: "leave out|finite", broken: true},
		{name: "an infinity", metric: "n", json: "Infinity", bare: "inf", cbor: float(math.Inf(1)), want: "invalid", mend: "leave out|finite", broken: true},
		{name: "another infinity", metric: "n", json: "-Infinity", bare: "-INF", cbor: float(math.Inf(-1)), want: "invalid", mend: "leave out|finite", broken: true},
		{name: "a plus", metric: "n", json: "+5", bare: "+5", want: "invalid", wantBare: "type_conflict", mend: "write 5, not +5", broken: true},
		{name: "no digit before the point", metric: "n", json: ".5", bare: ".5", want: "invalid", wantBare: "type_conflict", mend: "write 0.5, not .5", broken: true},
		{name: "no digit behind it", metric: "n", json: "5.", bare: "5.", want: "invalid", wantBare: "type_conflict", mend: "write 5, not 5.", broken: true},
		{name: "zeros before", metric: "n", json: "00021.4", bare: "00021.4", want: "invalid", wantBare: "type_conflict", mend: "write 21.4, not 00021.4", broken: true},
		{name: "hexadecimal", metric: "n", json: "0x10", bare: "0x10", want: "invalid", wantBare: "type_conflict", mend: "write 16, not 0x10", broken: true},
		{name: "a decimal comma", metric: "n", bare: "21,4", wantBare: "type_conflict", mend: "write 21.4, not 21,4"},
		{name: "a decimal comma, quoted", metric: "n", json: `"21,4"`, cbor: text("21,4"), want: "type_conflict", mend: "write 21.4, not 21,4"},
		{name: "a number in quotes", metric: "n", json: `"21.4"`, cbor: text("21.4"), want: "type_conflict", mend: "send 21.4 without quotes"},
		{name: "a number with its unit", metric: "n", json: `"21.4 °C"`, bare: "21.4 °C", cbor: text("21.4 °C"), want: "type_conflict", mend: "the unit apart"},
		{name: "a number and a NUL", metric: "n", bare: "21.4\x00", wantBare: "type_conflict", mend: "write 21.4"},
		{name: "true for a number", metric: "n", json: "true", bare: "true", cbor: item(true), want: "type_conflict", mend: "not true or false"},
		{name: "null", metric: "n", json: "null", cbor: item(nil), want: "invalid"},
		{name: "a list", metric: "n", json: "[1]", cbor: item([]int{1}), want: "invalid"},
		{name: "an object", metric: "n", json: `{"a":1}`, cbor: item(map[string]int{"a": 1}), want: "invalid"},

		{name: "true", metric: "b", json: "true", bare: "true", cbor: item(true), want: "true"},
		{name: "1 for true", metric: "b", json: "1", bare: "1", cbor: item(1), want: "type_conflict", mend: "true or false"},
		{name: "0 for false", metric: "b", json: "0", bare: "0", cbor: item(0), want: "type_conflict", mend: "true or false"},
		{name: "ON", metric: "b", json: `"ON"`, bare: "ON", cbor: text("ON"), want: "type_conflict", mend: "true or false"},

		{name: "a text", metric: "s", json: `"Grüße 😀"`, bare: "Grüße 😀", cbor: text("Grüße 😀"), want: "Grüße 😀"},
		{name: "a surrogate pair", metric: "s", json: `"\ud83d\ude00"`, bare: "😀", cbor: text("😀"), want: "😀"},
		{name: "tab and line end", metric: "s", json: `"a\tb\n"`, bare: "a\tb\n", cbor: text("a\tb\n"), want: "a\tb\n"},
		{name: "a NUL", metric: "s", json: `"a\u0000b"`, bare: "a\x00b", cbor: text("a\x00b"), want: "invalid", mend: "control characters"},
		{name: "an escape sequence", metric: "s", json: `"\u001b[2J"`, bare: "\x1b[2J", cbor: text("\x1b[2J"), want: "invalid", mend: "control characters"},
		{name: "a C1 control", metric: "s", json: `"a\u0085"`, bare: "a\u0085", cbor: text("a\u0085"), want: "invalid", mend: "control characters"},
		{name: "a lone surrogate", metric: "s", json: `"\ud800"`, want: "invalid", mend: "UTF-8", broken: true},
		{name: "no UTF-8", metric: "s", bare: "caf\xe9", cbor: text("caf\xe9"), want: "invalid", wantBare: "invalid", mend: "UTF-8"},
		{name: "a byte order mark", metric: "s", json: `"\ufeffa"`, bare: "\ufeffa", cbor: text("\ufeffa"), want: "invalid", mend: "byte order mark"},
		{name: "255 bytes", metric: "s", json: quoted(long), bare: long, cbor: text(long), want: long},
		{name: "256 bytes", metric: "s", json: quoted(long + "y"), bare: long + "y", cbor: text(long + "y"), want: "too_large", mend: "255 bytes"},
		{name: "true for a text", metric: "s", json: "true", cbor: item(true), want: "type_conflict", mend: "in quotes"},
		{name: "an option", metric: "e", json: `"eco"`, bare: "eco", cbor: text("eco"), want: "eco"},
		{name: "none of the options", metric: "e", json: `"party"`, bare: "party", cbor: text("party"), want: "party out_of_range"},
	}
}

// whole is a payload that is at an edge itself, by the form that it is of.
type whole struct {
	name          string
	form, payload string
	want, mend    string
	hint          string // in the reply to what is taken
	broken        bool
}

func wholes(now time.Time) []whole {
	ms := now.UnixMilli()
	return []whole{
		{name: "a field twice", form: "reading", payload: `{"m":"n","v":1,"v":2}`, want: "invalid", mend: "each field once"},
		{name: "a field twice, escaped", form: "reading", payload: `{"m":"n","\u0076":1,"v":2}`, want: "invalid", mend: "each field once"},
		{name: "a list twice", form: "readings", payload: `{"r":[["n",1]],"r":[["n",2]]}`, want: "invalid", mend: "each field once"},
		{name: "a unit twice", form: "readings", payload: `{"u":{"n":"a","n":"b"},"r":[["n",1]]}`, want: "invalid", mend: "each field once"},
		{name: "a field twice, further in", form: "readings", payload: `{"r":[["n",{"a":[{"b":1,"b":2}]}]]}`, want: "invalid", mend: "each field once"},
		{name: "a field twice in SenML", form: "senml", payload: `[{"n":"n","v":1,"v":2}]`, want: "invalid", mend: "each field once"},
		{name: "a field twice that is not known", form: "senml", payload: `[{"n":"n","v":1,"x":{"y":1,"y":2}}]`, want: "invalid", mend: "each field once"},
		{name: "a label twice in CBOR", form: "cbor", payload: "\x81\xa3\x00\x61n\x02\x01\x02\x02", want: "invalid", mend: "each field once"},
		{name: "a label twice in CBOR, further in", form: "cbor", payload: "\x81\xa3\x00\x61n\x02\x01\x61x\xa2\x61y\x01\x61y\x02", want: "invalid", mend: "each field once"},
		{name: "a byte order mark", form: "reading", payload: "\ufeff" + `{"m":"n","v":1}`, want: "invalid", mend: "EF BB BF", broken: true},
		{name: "a byte order mark before many", form: "readings", payload: "\ufeff" + `{"r":[["n",1]]}`, want: "invalid", mend: "EF BB BF", broken: true},
		{name: "a byte order mark before SenML", form: "senml", payload: "\ufeff" + `[{"n":"n","v":1}]`, want: "invalid", mend: "EF BB BF", broken: true},
		{name: "a decimal comma", form: "reading", payload: `{"m":"n","v":21,4}`, want: "invalid", mend: "decimal point", broken: true},
		{name: "a field of the other form", form: "reading", payload: `{"m":"n","v":1,"t0":5}`, want: "invalid", mend: "many at once are"},
		{name: "a unit with a control character", form: "reading", payload: `{"m":"n","v":1,"u":"a\u0007"}`, want: "invalid", mend: "printable"},
		{name: "a unit with a control character in SenML", form: "senml", payload: `[{"n":"n","v":1,"u":"a\u0007"}]`, want: "invalid", mend: "printable"},
		{name: "a unit too long", form: "reading", payload: `{"m":"n","v":1,"u":"` + strings.Repeat("u", 33) + `"}`, want: "invalid", mend: "32"},
		{name: "a boot with a NUL", form: "reading", payload: `{"m":"n","v":1,"boot":"a\u0000"}`, want: "invalid", mend: "printable"},
		{name: "a time ahead", form: "reading", payload: fmt.Sprintf(`{"m":"n","v":7,"t":%d}`, ms+7200_000), want: "7 server_time clock_ahead"},
		{name: "a time ahead, of many", form: "readings", payload: fmt.Sprintf(`{"t0":%d,"r":[["n",8,7200000]]}`, ms), want: "8 server_time clock_ahead"},
		{name: "a time ahead in SenML", form: "senml", payload: fmt.Sprintf(`[{"n":"n","v":9,"t":%d}]`, ms/1000+7200), want: "9 server_time clock_ahead"},
		{name: "seconds", form: "reading", payload: fmt.Sprintf(`{"m":"n","v":7,"t":%d}`, ms/1000), want: "7 server_time clock_unset", hint: "milliseconds"},
		{name: "seconds, of many", form: "readings", payload: fmt.Sprintf(`{"t0":%d,"r":[["n",8,10]]}`, ms/1000), want: "8 server_time clock_unset", hint: "milliseconds"},
		{name: "ms since the start of the device", form: "reading", payload: `{"m":"n","v":7,"t":86400000}`, want: "7 server_time clock_unset"},
		{name: "a negative time", form: "reading", payload: `{"m":"n","v":1,"t":-1}`, want: "invalid", mend: "since 1970"},
		{name: "a negative time, of many", form: "readings", payload: `{"t0":5,"r":[["n",1,-6]]}`, want: "invalid", mend: "ms after t0"},
		{name: "a fraction of a ms", form: "reading", payload: fmt.Sprintf(`{"m":"n","v":1,"t":%d.5}`, ms), want: "invalid", mend: "nor a fraction"},
		{name: "a fraction of a second in SenML", form: "senml", payload: fmt.Sprintf(`[{"n":"n","v":3,"t":%d.5}]`, ms/1000+50), want: "3"},
		{name: "a time as text", form: "reading", payload: `{"m":"n","v":1,"t":"2026-11-30T12:00:00Z"}`, want: "invalid", mend: "neither a text"},
		{name: "a time in SenML in ms", form: "senml", payload: fmt.Sprintf(`[{"n":"n","v":1,"t":%d}]`, ms), want: "invalid", mend: "seconds since 1970"},
		{name: "beyond the year 10000", form: "reading", payload: `{"m":"n","v":1,"t":253402300800000}`, want: "invalid", mend: "before the year 10000"},
	}
}

// form spells a value as one payload; ok is false when it cannot.
func (e *edgeCase) form(name string) (payload, want string, ok bool) {
	switch {
	case name == "bare":
		if want = e.wantBare; want == "" {
			want = e.want
		}
		return e.bare, want, e.bare != ""
	case name == "cbor":
		b := append([]byte{0x81, 0xa2, 0x00, 0x61}, e.metric...)
		label := byte(2) // v
		switch {
		case len(e.cbor) == 0:
			return "", "", false
		case e.cbor[0] == 0xf5:
			label = 4 // vb
		case e.cbor[0]>>5 == 3:
			label = 3 // vs
		}
		return string(append(append(b, label), e.cbor...)), e.want, true
	case e.json == "":
		return "", "", false
	case name == "reading":
		return fmt.Sprintf(`{"m":%q,"v":%s}`, e.metric, e.json), e.want, true
	case name == "readings":
		return fmt.Sprintf(`{"r":[[%q,%s]]}`, e.metric, e.json), e.want, true
	}
	label := "v"
	switch e.json[0] {
	case '"':
		label = "vs"
	case 't':
		label = "vb"
	}
	return fmt.Sprintf(`[{"n":%q,%q:%s}]`, e.metric, label, e.json), e.want, true
}

// way sends a payload of a form and returns what the device is told: the whole
// reply, or "" where nothing is.
type way struct {
	name   string
	id     devices.ID
	forms  []string
	json   bool // a payload that is broken does not get through
	replyd bool // every push has a reply
	send   func(form, metric, payload string) string
}

func TestEdgesOverEveryTransport(t *testing.T) {
	broker := startMosquitto(t)
	r := runHub(t, func(c *Config) {
		c.Limits.DeviceEventsPerS, c.Limits.DeviceBurst = 100_000, 100_000
		c.MQTT.Bridges = []BridgeConfig{{Name: "house", URL: "mqtt://" + broker.addr, Trust: "topic", Adapters: []AdapterConfig{{Kind: "native"}}}}
	})
	ways := []way{r.channelWay(hubclient.WebSocket), r.channelWay(hubclient.LongPoll), r.httpWay(), r.mqttWay("mqtt", "direct", r.mqtt.Addr("tcp").String()), r.mqttWay("bridge", "house", broker.addr)}
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			for _, e := range edges() {
				for _, form := range w.forms {
					if payload, want, ok := e.form(form); ok && !(e.broken && w.json && form != "bare" && form != "cbor") {
						r.play(t, w, form, e.metric, e.name, payload, want, e.mend, "")
					}
				}
			}
			for _, p := range wholes(time.Now()) {
				for _, form := range w.forms {
					if form == p.form && !(p.broken && w.json) {
						r.play(t, w, form, "n", p.name, p.payload, p.want, p.mend, p.hint)
					}
				}
			}
		})
	}
}

// play sends a payload and checks what is stored and told.
func (r *running) play(t *testing.T, w way, form, metric, name, payload, want, mend, hint string) {
	t.Helper()
	before := r.readings.Latest(w.id)[metric]
	said := w.send(form, metric, payload)
	got := ""
	for deadline := time.Now().Add(5 * time.Second); got == ""; time.Sleep(2 * time.Millisecond) {
		after := r.readings.Latest(w.id)[metric]
		var told struct{ Code string }
		_ = json.Unmarshal([]byte(said), &told)
		switch {
		case after.T != before.T:
			got = strings.TrimSpace(fmt.Sprint(after.V, " ", strings.Join(after.Quality, " ")))
			if !strings.Contains(want, "server_time ") {
				got = strings.TrimSpace(strings.TrimSuffix(strings.Replace(got, "server_time", "", 1), " "))
				got = strings.ReplaceAll(got, "  ", " ")
			}
			if s, ok := after.V.(string); ok && len(after.Quality) == 1 {
				got = s // with its white space
			}
		case told.Code != "":
			got = told.Code
		case time.Now().After(deadline):
			got = "nothing: " + said
		}
	}
	if got != want {
		t.Errorf("%s, as %s: got %q, want %q; said %s", name, form, got, want, said)
	}
	mended := mend == ""
	for _, m := range strings.Split(mend, "|") {
		mended = mended || strings.Contains(said, m)
	}
	if !mended {
		t.Errorf("%s, as %s: said %s, want %q in it", name, form, said, mend)
	}
	if w.replyd && strings.Contains(said, `"hint"`) != (hint != "") || w.replyd && !strings.Contains(said, hint) {
		t.Errorf("%s, as %s: said %s, want the hint %q", name, form, said, hint)
	}
}

// edgeDevice makes a device that declares a number, a bool, a text and an enum.
func (r *running) edgeDevice(id, via string) string {
	return r.device(map[string]any{"id": id, "kinds": []string{"sensor"}, "via": via, "metrics": []map[string]any{
		{"name": "n"}, {"name": "b", "type": "bool"}, {"name": "s", "type": "string"}, {"name": "e", "type": "enum", "options": []string{"eco", "comfort"}},
	}})
}

func (r *running) channelWay(transport hubclient.Transport) way {
	id := "by-" + string(transport)
	token := r.edgeDevice(id, "direct")
	c, err := hubclient.New(hubclient.Config{URL: r.base + "/socket", Transport: transport, AuthToken: func() string { return token }})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	r.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	ch := c.Channel("sensor:"+id, hubclient.ChannelConfig{})
	ch.Join()
	return way{name: string(transport), id: devices.ID(id), forms: []string{"reading", "readings", "senml", "cbor"}, json: true, replyd: true, send: func(form, _, payload string) string {
		said := make(chan string, 1)
		then := func(a hubclient.Reply, err error) {
			if err != nil {
				r.t.Errorf("%s: %v", payload, err)
			}
			said <- string(a.Payload)
		}
		if form == "cbor" {
			ch.PushBinary("senml", []byte(payload), then)
		} else {
			ch.Push(form, json.RawMessage(payload), then)
		}
		return <-said
	}}
}

func (r *running) httpWay() way {
	token := r.edgeDevice("by-http", "direct")
	return way{name: "http", id: "by-http", forms: []string{"reading", "readings"}, replyd: true, send: func(_, _, payload string) string {
		req, err := http.NewRequest("POST", r.base+"/api/v1/devices/by-http/readings", strings.NewReader(payload))
		if err != nil {
			r.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			r.t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		var e devices.Error
		if json.Unmarshal(b, &e) == nil && e.Code != "" && res.StatusCode != e.HTTPStatus() {
			r.t.Errorf("%s: %s with status %d", payload, b, res.StatusCode)
		}
		if err != nil {
			r.t.Error(err)
		}
		return string(b)
	}}
}

// mqttWay publishes at QoS 1 and listens for errors where the device hears them,
// ten a second. What is taken is told to nobody there.
func (r *running) mqttWay(name, via, addr string) way {
	id := "by-" + name
	token := r.edgeDevice(id, via)
	c := dialMQTT(r.t, addr, id, token)
	c.hear("hub/v1/" + id + "/sys/down")
	var told []time.Time
	return way{name: name, id: devices.ID(id), forms: []string{"reading", "readings", "bare", "senml", "cbor"}, send: func(form, metric, payload string) string {
		topic := map[string]string{"reading": "r", "readings": "r", "bare": "r/" + metric, "senml": "senml", "cbor": "senml"}[form]
		before := r.readings.Latest(devices.ID(id))[metric].T
		if n := len(told); n >= 9 {
			time.Sleep(time.Until(told[n-9].Add(1100 * time.Millisecond)))
		}
		c.say("hub/v1/"+id+"/"+topic, payload, false)
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
			select {
			case m := <-c.got:
				if strings.Contains(string(m.Payload()), `"e":"error"`) {
					told = append(told, time.Now())
					return string(m.Payload())
				}
			case <-time.After(2 * time.Millisecond):
				if r.readings.Latest(devices.ID(id))[metric].T != before {
					return ""
				}
			}
		}
		return "silence"
	}}
}
