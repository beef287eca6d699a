package adapter_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
	"devicehub/devices/liveness"
)

// What a device left on the broker is of any age: dropped, counted and audited,
// its will as well (devices/PROTOCOL.md#over-somebody-elses-broker).
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
// many of them (devices/README.md#errors).
func TestNativeErrors(t *testing.T) {
	h := adaptertest.New(t, nil, sensor("k-1", "house"), sensor("near", "direct"))
	s, b := newSet(t, h, true, "native")
	say(t, s, "hub/v1/k-1/r", `{"m":"temperature","v":20,"u":"lx"}`)
	if m := b.wantSent(t, "hub/v1/k-1/sys/down "); !strings.Contains(m, `{"e":"error","topic":"hub/v1/k-1/r","reason":`) ||
		!strings.Contains(m, `"code":"unit_mismatch"`) || !strings.HasSuffix(m, "qos=0 retain=false") {
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

// A batch that is refused in part is told of, with the readings that were, as a
// channel's reply has them.
func TestNativePartialRefusal(t *testing.T) {
	h := adaptertest.New(t, nil, sensor("k-1", "house"))
	s, b := newSet(t, h, true, "native")
	say(t, s, "hub/v1/k-1/r", `{"r":[["temperature",20],["temperature","warm"],["humidity",50]]}`)
	m := b.wantSent(t, "hub/v1/k-1/sys/down ")
	for _, want := range []string{`{"e":"error","topic":"hub/v1/k-1/r"`, `"code":"type_conflict"`, `"accepted":2,"late":0,"dup":0,"rejected":[{"i":1,"code":"type_conflict"`} {
		if !strings.Contains(m, want) {
			t.Errorf("got %s, want %s", m, want)
		}
	}
	if got := s.Stats(); got.Accepted != 1 || got.Refused != 0 {
		t.Errorf("counted %+v", got)
	}
	b.take()
	say(t, s, "hub/v1/k-1/senml", `[{"n":"temperature","v":20},{"n":"humidity","v":51}]`)
	if got := b.take(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

// A device behind a foreign broker is told its settings when they change, and again
// over each link that it opens.
func TestNativeConfig(t *testing.T) {
	h := adaptertest.New(t, nil, sensor("k-1", "house"), sensor("near", "direct"))
	s, b := newSet(t, h, true, "native")
	set := func(id devices.ID, config string) {
		t.Helper()
		if _, err := h.Registry.Update(t.Context(), id, func(d *devices.Device) error {
			d.Config = []byte(config)
			d.ConfigVer++
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		s.Publish(devices.Event{Device: id, Name: "device_changed"})
	}
	status := func(state devices.State, epoch int64) {
		s.Publish(devices.Event{Device: "k-1", Name: "status", Payload: liveness.Event{Device: "k-1", Status: devices.Status{State: state, Epoch: epoch}}})
	}
	want := func(what string, configs ...string) {
		t.Helper()
		var got []string
		for _, m := range b.take() {
			if strings.Contains(m, "/sys/down ") {
				got = append(got, m)
			}
		}
		for i, c := range configs {
			configs[i] = `hub/v1/k-1/sys/down {"e":"config",` + c + `} qos=1 retain=false`
		}
		if !slices.Equal(got, configs) {
			t.Errorf("%s: got %q, want %q", what, got, configs)
		}
	}
	status(devices.Online, 1)
	want("nothing is set")
	set("k-1", `{"interval":30}`)
	want("a change", `"interval":30,"ver":1`)
	status(devices.Quiet, 1)
	s.Publish(devices.Event{Device: "k-1", Name: "device_changed"}) // of something else
	want("nothing new")
	status(devices.Offline, 1)
	want("it is away")
	set("k-1", `{"interval":40}`)
	want("a change while it is away", `"interval":40,"ver":2`)
	status(devices.Online, 2)
	want("it is back", `"interval":40,"ver":2`)
	b.refuse(true)
	set("k-1", `{"interval":45}`)
	b.refuse(false)
	s.Up()
	want("a change while the broker was away", `"interval":45,"ver":3`)
	s.Up()
	want("nothing new")
	set("near", `{"interval":50}`)
	want("a device of another way")
}
