package adapter_test

import (
	"strings"
	"testing"
	"time"

	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
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

// The hub's own word on a device stands on the device's broker, and on no other.
func TestNativeOnline(t *testing.T) {
	h := adaptertest.New(t, nil, sensor("k-1", "house"), sensor("near", "direct"))
	s, b := newSet(t, h, true, "native")
	if m := b.wantSent(t, "hub/v1/k-1/online "); m != "hub/v1/k-1/online online qos=1 retain=true" {
		t.Errorf("got %s", m)
	}
	b.take()
	s.Publish(devices.Event{Device: "k-1", Name: "status"}) // nothing new
	s.Publish(devices.Event{Device: "near", Name: "status"})
	h.SetStatus(devices.Status{State: devices.Offline})
	s.Publish(devices.Event{Device: "k-1", Name: "status"})
	if err := h.Registry.Delete(t.Context(), "k-1", time.Now()); err != nil {
		t.Fatal(err)
	}
	s.Publish(devices.Event{Device: "k-1", Name: "device_changed"})
	if got, want := strings.Join(b.take(), "; "), "hub/v1/k-1/online offline qos=1 retain=true; hub/v1/k-1/online  qos=1 retain=true"; got != want {
		t.Errorf("got %s, want %s", got, want)
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
