package adapter_test

import (
	"strings"
	"testing"

	"devicehub/bridge/adapter/adaptertest"
)

// What a device left on the broker is of any age: dropped, counted and audited,
// its will as well (2-domain §11).
func TestNativeRetained(t *testing.T) {
	h := adaptertest.New(t, nil, sensor("k-1", "house"))
	s, _ := newSet(t, h, true, "native")
	for i, last := range []string{"r", "r/co2", "senml", "state", "ack", "lwt"} {
		say(t, s, "hub/v1/k-1/"+last, `{"m":"temperature","v":1}`, true)
		if got := s.Stats(); got.Retained != int64(i+1) || got.Refused != int64(i+1) || got.Accepted != 0 {
			t.Errorf("%s: counted %+v", last, got)
		}
	}
	log := strings.Join(h.Log(), "\n")
	if n := strings.Count(log, "audit bridge:house mqtt.retained device:k-1 retained_command"); n != 6 || strings.Contains(log, "offline") {
		t.Errorf("audited %d times: %s", n, log)
	}
	if got := h.Values("k-1"); got != "{}" {
		t.Errorf("stored %s", got)
	}
}

// A device behind a foreign broker hears errors as over MQTT 3.1.1, and not too
// many of them (2-domain §8).
func TestNativeErrors(t *testing.T) {
	h := adaptertest.New(t, nil, sensor("k-1", "house"), sensor("near", "direct"))
	s, b := newSet(t, h, true, "native")
	say(t, s, "hub/v1/k-1/r", `{"m":"temperature","v":20,"u":"lx"}`)
	if m := b.wantSent(t, "hub/v1/k-1/sys/down "); !strings.Contains(m, `{"e":"error","code":"unit_mismatch","reason":`) ||
		!strings.Contains(m, `"topic":"hub/v1/k-1/r"}`) || !strings.HasSuffix(m, "qos=0 retain=false") {
		t.Errorf("got %s", m)
	}
	h.Want(t, "connected k-1") // what is refused is a sign of life
	b.take()
	for range 30 {
		say(t, s, "hub/v1/k-1/r", `{"m":"temperature"}`)
	}
	say(t, s, "hub/v1/near/r", `{"m":"temperature"}`) // not the bridge's to speak to
	if n := len(b.take()); n < 5 || n > 15 {
		t.Errorf("told of %d errors at once", n)
	}
}
