package hub_test

import (
	"encoding/json"
	"testing"

	"devicehub/hub"
)

// A payload may be passed on within another value.
func TestPayloadWithin(t *testing.T) {
	for _, row := range []struct {
		payload hub.Payload
		want    string
	}{
		{hub.JSONPayload([]byte(`{"text":"<b>"}`)), `{"by":"ann","what":{"text":"\u003cb\u003e"}}`},
		{hub.JSONPayload([]byte(`"hello"`)), `{"by":"ann","what":"hello"}`},
		{hub.Payload{}, `{"by":"ann","what":null}`},
	} {
		got, err := json.Marshal(map[string]any{"by": "ann", "what": row.payload})
		if err != nil || string(got) != row.want {
			t.Errorf("got %s, %v, want %s", got, err, row.want)
		}
	}
	if _, err := json.Marshal(hub.BinaryPayload([]byte{1})); err == nil {
		t.Error("a binary payload within JSON: got nil, want an error")
	}
}
