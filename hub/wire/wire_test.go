package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"devicehub/hub/wire"
)

func TestNegotiate(t *testing.T) {
	for vsn, want := range map[string]wire.Version{
		"1.0.0": wire.V1, "1.0.5": wire.V1, "1.0.0+build": wire.V1, "2.0.0": wire.V2, "2.0.9": wire.V2,
		"1.1.0": 0, "2.1.0": 0, "3.0.0": 0, "123.1.1": 0, "2": 0, "2.0": 0, "abc": 0, "": 0, "2.0.0-rc.1": 0,
		"2.0.1-rc.1": wire.V2, "2.1.0-rc.1": 0, "2.0.1-": 0, "02.0.0": 0, "2.0.00": 0, "+2.0.0": 0, "2.0.0.0": 0, "2.0.0+": 0,
	} {
		if got, err := wire.Negotiate(vsn); got != want || (err == nil) != (want != 0) {
			t.Errorf("Negotiate(%q): got %d, %v, want %d", vsn, got, err, want)
		}
	}
}

func TestDecodeText(t *testing.T) {
	for _, c := range []struct {
		name  string
		v     wire.Version
		frame string
		want  string // join_ref ref topic event payload, as JSON; "" means ErrFrame
	}{
		{"push", wire.V2, `["1","2","room:a","echo",{"a":[1,2,{"b":null}]}]`, `"1" "2" "room:a" "echo" {"a":[1,2,{"b":null}]}`},
		{"null refs and spaces", wire.V2, " [ null , null , \"t\" , \"e\" , [ 1 , 2 ] ] \n", `null null "t" "e" [ 1 , 2 ]`},
		{"numbers keep their type", wire.V2, `[1,2.5,"t","e",{}]`, `1 2.5 "t" "e" {}`},
		{"escaped quote in the topic", wire.V2, `["1","2","a\"\u00e9","e","x"]`, `"1" "2" "a\"é" "e" "x"`},
		{"escaped letters are the same ref", wire.V2, `["\u0031","2","t","e",null]`, `"1" "2" "t" "e" null`},
		{"more than five elements", wire.V2, `["1","2","t","e",{},"more",[{}]]`, `"1" "2" "t" "e" {}`},
		{"topic of another type", wire.V2, `["1","2",{ "a": 1 },42,{}]`, `"1" "2" {"a":1} 42 {}`},
		{"four elements", wire.V2, `["1","2","t","e"]`, ``},
		{"object", wire.V2, `{"topic":"t"}`, ``},
		{"empty", wire.V2, ``, ``},
		{"cut short", wire.V2, `["1","2","t","e",{}`, ``},
		{"text behind", wire.V2, `["1","2","t","e",{}]x`, ``},
		{"bad payload", wire.V2, `["1","2","t","e",{"a":01}]`, ``},
		{"bad sixth", wire.V2, `["1","2","t","e",{},tru]`, ``},
		{"comma at the end", wire.V2, `["1","2","t","e",{},]`, ``},
		{"control character", wire.V2, "[\"1\",\"2\",\"t\",\"e\",\"\n\"]", ``},
		{"bad escape", wire.V2, `["1","2","t","e","\x"]`, ``},
		{"unclosed array in payload", wire.V2, `["1","2","t","e",[[]]`, ``},
		{"too deep", wire.V2, `["1","2","t","e",` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `]`, ``},
		{"deep", wire.V2, `["1","2","t","e",` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `]`,
			`"1" "2" "t" "e" ` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000)},

		{"v1", wire.V1, `{"topic":"t","event":"e","payload":{"x":1},"ref":"7","join_ref":"3"}`, `"3" "7" "t" "e" {"x":1}`},
		{"v1 without join_ref", wire.V1, `{"ref":5, "payload":[], "event":"e", "topic":"t"}`, `null 5 "t" "e" []`},
		{"v1 last key counts", wire.V1, `{"ref":5,"payload":1,"event":"e","topic":"a","topic":"b","other":[1]}`, `null 5 "b" "e" 1`},
		{"v1 escaped key", wire.V1, `{"r\u0065f":null,"payload":1,"event":"e","topic":"a"}`, `null null "a" "e" 1`},
		{"v1 no ref", wire.V1, `{"topic":"t","event":"e","payload":{}}`, ``},
		{"v1 array", wire.V1, `["1","2","t","e",{}]`, ``},
		{"v1 empty", wire.V1, `{}`, ``},
		{"v1 comma at the end", wire.V1, `{"ref":5,"payload":1,"event":"e","topic":"a",}`, ``},
		{"v1 text behind", wire.V1, `{"ref":5,"payload":1,"event":"e","topic":"a"}{}`, ``},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m wire.Message
			err := c.v.DecodeText(&m, []byte(c.frame))
			if c.want == "" {
				if !errors.Is(err, wire.ErrFrame) {
					t.Fatalf("got %+v, %v, want ErrFrame", m, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			for _, v := range []wire.Value{m.JoinRef, m.Ref, m.Topic, m.Event} {
				got = append(v.AppendJSON(got), ' ')
			}
			if got = append(got, m.Payload...); string(got) != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestAppendText(t *testing.T) {
	jr, ref, topic, event := wire.Str("1"), wire.Value{}, wire.Str("a<b>&\"\\\n\x01é"), wire.Str("e")
	for _, c := range []struct{ got, want string }{
		{string(wire.V2.AppendPush(nil, jr, ref, topic, event, []byte(`{}`))), `["1",null,"a<b>&\"\\\n\u0001é","e",{}]`},
		{string(wire.V1.AppendPush(nil, jr, ref, topic, event, []byte(`{}`))), `{"event":"e","payload":{},"ref":null,"topic":"a<b>&\"\\\n\u0001é"}`},
		{string(wire.V2.AppendReply(nil, jr, jr, wire.Str("t"), "ok", []byte(`{"a":1}`))), `["1","1","t","phx_reply",{"response":{"a":1},"status":"ok"}]`},
		{string(wire.V1.AppendReply(nil, jr, jr, wire.Str("t"), "ok", []byte(`{"a":1}`))), `{"event":"phx_reply","payload":{"response":{"a":1},"status":"ok"},"ref":"1","topic":"t"}`},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

func TestBinary(t *testing.T) {
	jr, ref, topic, event := wire.Str("1"), wire.Str("22"), wire.Str("room:b"), wire.Str("é")
	data := []byte{0, 1, 255}
	push, _ := wire.AppendBinaryPush(nil, jr, topic, event, data)
	reply, _ := wire.AppendBinaryReply(nil, jr, ref, topic, "ok", data)
	cast, _ := wire.AppendBinaryBroadcast(nil, topic, event, data)
	for _, c := range []struct {
		name   string
		frame  []byte
		want   string
		decode func(*wire.Message, []byte) error
	}{
		{"push from server", push, `"1" null "room:b" "é" `, wire.DecodeServer},
		{"reply", reply, `"1" "22" "room:b" "phx_reply" ok`, wire.DecodeServer},
		{"broadcast", cast, `null null "room:b" "é" `, wire.DecodeServer},
		{"push from client", []byte("\x00\x00\x01\x01\x012te\x00\x01\xff"), `null "2" "t" "e" `, wire.DecodePush},
	} {
		var m wire.Message
		if err := c.decode(&m, c.frame); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []byte
		for _, v := range []wire.Value{m.JoinRef, m.Ref, m.Topic, m.Event} {
			got = append(v.AppendJSON(got), ' ')
		}
		if got = append(got, m.Status...); string(got) != c.want || !bytes.Equal(m.Payload, data) || !m.Binary {
			t.Errorf("%s: got %s %x, want %s %x", c.name, got, m.Payload, c.want, data)
		}
	}
	for _, frame := range []string{"", "\x01\x00\x00\x00\x00", "\x03", "\x00", "\x00\x00\x00\x00", "\x00\x00\x00\x05\x00abc"} {
		if err := wire.DecodePush(new(wire.Message), []byte(frame)); !errors.Is(err, wire.ErrFrame) {
			t.Errorf("DecodePush(%q): got %v, want ErrFrame", frame, err)
		}
	}
	if _, err := wire.AppendBinaryBroadcast(nil, wire.Str(strings.Repeat("x", 256)), event, nil); !errors.Is(err, wire.ErrFieldSize) {
		t.Errorf("long topic: got %v, want ErrFieldSize", err)
	}
	if _, _, err := wire.V1.AppendMessage(nil, &wire.Message{Binary: true}); !errors.Is(err, wire.ErrBinary) {
		t.Errorf("binary in V1: got %v, want ErrBinary", err)
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	text := []byte(`["1","2","room:a","echo",{"a":[1,2,{"b":"c"}],"t":21.5}]`)
	v1 := []byte(`{"topic":"t","event":"e","payload":{"x":1},"ref":"7","join_ref":"3"}`)
	bin := []byte("\x00\x00\x01\x01\x012te\x00\x01\xff")
	var m wire.Message
	n := testing.AllocsPerRun(100, func() {
		if wire.V2.DecodeText(&m, text) != nil || wire.V1.DecodeText(&m, v1) != nil || wire.DecodePush(&m, bin) != nil {
			t.Fatal("does not decode")
		}
	})
	if n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// A frame is an error, or a message that survives being encoded and decoded again.
func fuzzText(f *testing.F, v wire.Version) {
	f.Fuzz(func(t *testing.T, frame []byte) {
		var m, again wire.Message
		if err := v.DecodeText(&m, frame); err != nil {
			if !errors.Is(err, wire.ErrFrame) {
				t.Fatalf("got %v, want ErrFrame", err)
			}
			return
		}
		if !json.Valid(m.Payload) {
			t.Fatalf("payload %q is not JSON", m.Payload)
		}
		out, _, err := v.AppendMessage(nil, &m)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.DecodeText(&again, out); err != nil {
			t.Fatalf("%q does not decode: %v", out, err)
		}
		if !again.JoinRef.Equal(m.JoinRef) || !again.Ref.Equal(m.Ref) || !again.Topic.Equal(m.Topic) || !again.Event.Equal(m.Event) || !bytes.Equal(again.Payload, m.Payload) {
			t.Fatalf("got %+v, want %+v", again, m)
		}
	})
}

func FuzzV2(f *testing.F) {
	f.Add([]byte(`["1","2","room:a","echo",{"a":[1,2e-5,{"b":null}]},true]`))
	f.Add([]byte(`[null,3,{"x":[]},"\u00e9\ud800",""]`))
	fuzzText(f, wire.V2)
}

func FuzzV1(f *testing.F) {
	f.Add([]byte(`{"topic":"t","event":"e","payload":{"x":1},"ref":"7","join_ref":"3"}`))
	fuzzText(f, wire.V1)
}

func FuzzBinary(f *testing.F) {
	f.Add([]byte("\x00\x00\x01\x01\x012te\x00\x01\xff"))
	f.Add([]byte("\x01\x01\x01\x01\x0212tokdata"))
	f.Add([]byte("\x02\x01\x01tedata"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		var m wire.Message
		if err := wire.DecodePush(&m, frame); err == nil {
			out, err := wire.AppendClientBinary(nil, &m)
			if err != nil || !bytes.Equal(out, frame) {
				t.Fatalf("got %x, %v, want %x", out, err, frame)
			}
		}
		if err := wire.DecodeServer(&m, frame); err != nil && !errors.Is(err, wire.ErrFrame) {
			t.Fatalf("got %v, want ErrFrame", err)
		}
	})
}

func TestValidIsStricterThanJSON(t *testing.T) {
	for text, want := range map[string]bool{
		`"\ud83d\ude00"`: true, `"\ud800"`: false, `"\ude00"`: false, `"\ud800\u0041"`: false, `"\ud800x"`: false, `"\ud800\`: false,
		`1e308`: true, `1e400`: false, `-1e400`: false, `1e-400`: true, `12345678901234567890123`: true,
		`0.` + strings.Repeat("1", 400): true, strings.Repeat("1", 400): true, strings.Repeat("1", 400) + `.5`: false, strings.Repeat("1", 299) + "e99": false,
	} {
		if got := wire.Valid([]byte(text)); got != want {
			t.Errorf("Valid(%.40s): got %v, want %v", text, got, want)
		}
	}
}

// What is valid is valid for encoding/json, and the other way round but for what it is stricter about.
func FuzzValid(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.5e+3,"\u12aF"]}`, `[]`, ` {} `, `{"a":}`, `-`, `1.`, `"\ud800"`, `[1,]`, `{,}`, "\"\x7f\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, want := wire.Valid(b), json.Valid(b)
		if !got && (bytes.Contains(b, []byte(`\u`)) || bytes.ContainsAny(b, "eE.")) {
			return
		}
		if got != want {
			t.Fatalf("Valid(%q): got %v, want %v", b, got, want)
		}
	})
}

func BenchmarkDecodeV2(b *testing.B) {
	frame := []byte(`["12","345","sensor:t-1","reading",{"metric":"temperature","v":21.53,"t":1790000000000,"pad":"` + strings.Repeat("x", 80) + `"}]`)
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	var m wire.Message
	for b.Loop() {
		if err := wire.V2.DecodeText(&m, frame); err != nil {
			b.Fatal(err)
		}
	}
}
