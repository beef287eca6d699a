package packet

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"testing"
	"testing/iotest"
)

func frame(head byte, body []byte) []byte {
	return append(appendLength([]byte{head}, len(body)), body...)
}

func TestReaderCutsPackets(t *testing.T) {
	var stream []byte
	var want [][]byte
	for _, n := range []int{0, 1, 127, 128, 4090, 4096, 9000, 60000} {
		body := bytes.Repeat([]byte{byte(n)}, n)
		stream = append(stream, frame(0x30, body)...)
		want = append(want, body)
	}
	for name, src := range map[string]io.Reader{
		"whole": bytes.NewReader(stream), "byte by byte": iotest.OneByteReader(bytes.NewReader(stream)), "halves": iotest.HalfReader(bytes.NewReader(stream)),
	} {
		r := NewReader(PlainSource{src}, 64<<10)
		for i, w := range want {
			head, body, err := r.Next()
			if err != nil || head != 0x30 || !bytes.Equal(body, w) {
				t.Fatalf("%s: packet %d: %02x, %d bytes, %v", name, i, head, len(body), err)
			}
		}
		if _, _, err := r.Next(); err != io.EOF {
			t.Errorf("%s: got %v at the end, want EOF", name, err)
		}
	}
}

// Memory follows what arrives, not what is announced.
func TestReaderBounds(t *testing.T) {
	for name, x := range map[string]struct {
		in   []byte
		want error
	}{
		"over the limit":  {[]byte{0x30, 0x81, 0x80, 0x04}, ErrTooLarge},
		"at the limit":    {[]byte{0x30, 0xFC, 0xFF, 0x03}, io.ErrUnexpectedEOF},
		"the largest":     {[]byte{0x30, 0xff, 0xff, 0xff, 0x7f}, ErrTooLarge},
		"cut in its head": {[]byte{0x30, 0x80}, io.ErrUnexpectedEOF},
	} {
		r := NewReader(PlainSource{bytes.NewReader(x.in)}, 64<<10)
		if _, _, err := r.Next(); !errors.Is(err, x.want) {
			t.Errorf("%s: got %v, want %v", name, err, x.want)
		}
		if len(r.buf) > bufferSize {
			t.Errorf("%s: took %d bytes", name, len(r.buf))
		}
	}
	r := NewReader(PlainSource{bytes.NewReader(bytes.Repeat([]byte{0x80}, 100))}, 64<<10)
	if _, _, err := r.Next(); CodeOf(err) != Malformed {
		t.Errorf("a remaining length without end: got %v", err)
	}
}

func TestCodecPanicIsContained(t *testing.T) {
	// Past the checks, the codec would index behind the last filter.
	var pk Packet
	if err := Decode(&pk, Subscribe<<4|2, []byte{0, 1, 0, 0, 1, 'a'}, V5); CodeOf(err) != Malformed {
		t.Errorf("got %v", err)
	}
}

func TestAppend(t *testing.T) {
	for _, pk := range []Packet{
		{PacketID: 7, ReasonCode: PayloadInvalid, Properties: Properties{ReasonString: "range"}},
		{TopicName: "a/b", Payload: []byte("x"), Properties: Properties{CorrelationData: []byte("id"), MessageExpiryInterval: 9, ResponseTopic: "r"}},
	} {
		pk.ProtocolVersion = V5
		pk.FixedHeader.Type = Puback
		if pk.TopicName != "" {
			pk.FixedHeader.Type = Publish
		}
		b, err := Append(nil, &pk)
		if err != nil {
			t.Fatal(err)
		}
		var got Packet
		if err := Decode(&got, b[0], b[2:], V5); err != nil {
			t.Fatal(err)
		}
		if got.ReasonCode != pk.ReasonCode || got.PacketID != pk.PacketID || got.TopicName != pk.TopicName || !reflect.DeepEqual(got.Properties, pk.Properties) {
			t.Errorf("got %+v, want %+v", got, pk)
		}
	}
	for _, v := range []byte{V311, V5} { // the short form writes what the codec writes
		pk := Packet{ProtocolVersion: v, TopicName: "a/b", Payload: []byte("xyz"), PacketID: 9}
		pk.FixedHeader.Type, pk.FixedHeader.Qos, pk.FixedHeader.Retain = Publish, 1, true
		want, err := Append(nil, &pk)
		if got := AppendPublish(nil, "a/b", []byte("xyz"), 1, true, false, 9, v); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %x, want %x", got, want)
		}
		for _, typ := range []byte{Puback, Pubrec, Pubrel, Pubcomp} {
			pk := Packet{ProtocolVersion: v, PacketID: 300, ReasonCode: 0x92}
			pk.FixedHeader.Type = typ
			want, err := Append(nil, &pk)
			if got := AppendAck(nil, typ, 300, v, 0x92); err != nil || !bytes.Equal(got, want) {
				t.Errorf("type %d: got %x, want %x", typ, got, want)
			}
		}
	}
}

// A stranger's bytes are packets or an error, and a PUBLISH that was understood
// is written back the same.
func FuzzDecode(f *testing.F) {
	f.Add(byte(V5), []byte{0x82, 6, 0, 1, 0, 0, 1, 'a'})
	f.Add(byte(V311), []byte{0x30, 5, 0, 1, 'a', 'x', 'y'})
	f.Add(byte(V5), []byte{0x32, 11, 0, 1, 'a', 0, 1, 3, 35, 0, 1, 'x', 'y'})
	f.Add(byte(V5), []byte{0x10, 16, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 3, 33, 0, 9, 0, 0})
	f.Add(byte(V311), []byte{0x10, 22, 0, 4, 'M', 'Q', 'T', 'T', 4, 0xC6, 0, 60, 0, 1, 'c', 0, 1, 't', 0, 0, 0, 1, 'u', 0, 0})
	f.Add(byte(V5), []byte{0xE0, 2, 4, 0})
	f.Add(byte(V5), []byte{0x62, 3, 0, 1, 0x92})
	f.Fuzz(func(t *testing.T, version byte, b []byte) {
		if version != V5 {
			version = V311
		}
		r := NewReader(PlainSource{iotest.HalfReader(bytes.NewReader(b))}, 1<<16)
		for {
			head, body, err := r.Next()
			if err != nil {
				return
			}
			body = bytes.Clone(body)
			var pk Packet
			if Decode(&pk, head, body, version) != nil || pk.FixedHeader.Type != Publish {
				continue
			}
			out, err := Append(nil, &pk)
			if err != nil {
				t.Fatalf("%x: cannot be written: %v", body, err)
			}
			var again Packet
			n := 1
			for out[n]&0x80 != 0 {
				n++
			}
			if err := Decode(&again, out[0], out[n+1:], version); err != nil {
				t.Fatalf("%x written as %x: %v", body, out, err)
			}
			type said struct {
				topic, payload string
				id             uint16
				props          Properties
			}
			pick := func(pk *Packet) said {
				p := pk.Properties
				return said{pk.TopicName, string(pk.Payload), pk.PacketID, Properties{ContentType: p.ContentType, ResponseTopic: p.ResponseTopic,
					MessageExpiryInterval: p.MessageExpiryInterval, TopicAlias: p.TopicAlias, User: p.User, CorrelationData: append([]byte(nil), p.CorrelationData...)}}
			}
			if got, want := pick(&again), pick(&pk); !reflect.DeepEqual(got, want) {
				t.Fatalf("got %+v, want %+v", got, want)
			}
		}
	})
}

// A bridge between brokers speaks MQTT 3.1.1, with one bit more in its level; other
// bits are another version's.
func TestBridgesLevel(t *testing.T) {
	connect := func(level byte) []byte {
		return []byte{0, 4, 'M', 'Q', 'T', 'T', level, 2, 0, 60, 0, 1, 'c'}
	}
	for level, want := range map[byte]bool{V311: false, V311 | 0x80: true} {
		var pk Packet
		body := connect(level)
		if err := Decode(&pk, Connect<<4, body, 0); err != nil || pk.ProtocolVersion != V311 || pk.Connect.ClientIdentifier != "c" || FromBridge(body) != want {
			t.Errorf("level %02x: got %v, version %d, a bridge's: %t", level, err, pk.ProtocolVersion, FromBridge(body))
		}
	}
	for _, level := range []byte{0, 3, 6, 0x24, 0x83, 0x85, 0xC4, 0xFF} {
		var v *VersionError
		if err := Decode(new(Packet), Connect<<4, connect(level), 0); !errors.As(err, &v) || v.Level != level {
			t.Errorf("level %02x: got %v", level, err)
		}
	}
	if FromBridge(nil) || FromBridge([]byte{0, 4, 'M'}) {
		t.Error("nothing is a bridge's")
	}
}

// A will may not name an empty response topic [MQTT-4.7.3-1].
func TestWillWithAnEmptyResponseTopic(t *testing.T) {
	will := func(topic string) []byte {
		b := []byte{0, 4, 'M', 'Q', 'T', 'T', V5, 6, 0, 60, 0, 0, 1, 'c', byte(3 + len(topic)), 8, 0, byte(len(topic))}
		return append(append(b, topic...), 0, 1, 't', 0, 0)
	}
	if err := Decode(new(Packet), Connect<<4, will("r"), 0); err != nil {
		t.Error(err)
	}
	for _, topic := range []string{"", "a/#"} {
		if err := Decode(new(Packet), Connect<<4, will(topic), 0); CodeOf(err) != ProtocolError {
			t.Errorf("%q: got %v", topic, err)
		}
	}
}
