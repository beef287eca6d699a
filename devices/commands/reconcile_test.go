package commands

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/shadow"
)

func TestDesiredStateIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":false,"brightness":5}`)
		if _, err := w.shadows.Patch(t.Context(), ana, devices.Origin{}, "lamp", shadow.PatchRequest{Desired: map[string]any{"on": true}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		e := l.last()
		if e.Op != "set" || e.Params["on"] != true || e.By != "user:ana" {
			t.Errorf("got %+v", e)
		}
		l.state(fmt.Sprintf(`{"on":true,"cmd":%q}`, e.CmdID))
		time.Sleep(time.Minute)
		if l.count() != 1 {
			t.Errorf("got %d, want one", l.count())
		}

		// Under desired_wins what was changed at the device is changed back.
		s := w.connect("sign", 8, "mqtt", 1)
		s.state(`{"on":true,"brightness":100}`)
		if _, err := w.shadows.Patch(t.Context(), ana, devices.Origin{}, "sign", shadow.PatchRequest{Desired: map[string]any{"brightness": 200.0}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		s.state(fmt.Sprintf(`{"brightness":200,"cmd":%q}`, s.last().CmdID))
		time.Sleep(time.Minute)
		n := s.count()
		s.state(`{"brightness":7,"cause":"local"}`)
		time.Sleep(time.Second)
		if e := s.last(); s.count() != n+1 || e.Params["brightness"] != 200.0 {
			t.Errorf("changed back: got %+v", e)
		}
	})
}

func TestDeltaIsAppliedOnReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.live.set("lamp", devices.Offline)
		if _, err := w.shadows.Patch(t.Context(), ana, devices.Origin{}, "lamp", shadow.PatchRequest{Desired: map[string]any{"on": true}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if d := w.Delta("lamp"); d["on"] != true {
			t.Errorf("delta in the join reply: got %v", d)
		}
		w.live.set("lamp", devices.Online)
		l := w.connect("lamp", 7, "websocket", 0)
		time.Sleep(2 * time.Second)
		if l.count() != 0 {
			t.Error("it was not given the time to do it by itself")
		}
		time.Sleep(2 * time.Second)
		if e := l.last(); e.Params["on"] != true {
			t.Errorf("got %+v", e)
		}
	})
}
