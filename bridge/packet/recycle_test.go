package packet

import (
	"bytes"
	"testing"

	"devicehub/hub/poison"
)

// What was given back reads as the pattern where the tests poison it.
func TestGivenBack(t *testing.T) {
	if !poison.On {
		return // there is nothing to see
	}
	publish := []byte{Publish << 4, 4, 0, 1, 't', 'x'}
	r := NewReader(PlainSource{bytes.NewReader(append(publish, publish...))}, 100)
	head, body, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	pk := Get()
	if err := Decode(pk, head, body, V311); err != nil || pk.TopicName != "t" {
		t.Fatalf("got %q, %v", pk.TopicName, err)
	}
	kept, payload := pk.TopicName, pk.Payload
	if _, _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if kept == "t" || payload[0] != poison.Byte {
		t.Errorf("got topic %q and payload %q after the next packet, want the pattern", kept, payload)
	}
	Put(pk)
	if pk.TopicName != poison.Text {
		t.Errorf("got topic %q of a packet that was given back", pk.TopicName)
	}
	_, body, _ = func() (byte, []byte, error) {
		r := NewReader(PlainSource{bytes.NewReader(publish)}, 100)
		defer r.Close()
		return r.Next()
	}()
	if body[2] != poison.Byte {
		t.Errorf("got %q of a closed reader", body)
	}
}
