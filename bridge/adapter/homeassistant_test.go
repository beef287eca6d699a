package adapter_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/bridge/adapter"
	"devicehub/bridge/adapter/adaptertest"
	"devicehub/devices"
	"devicehub/devices/lights"
)

// Home Assistant switches many lights at once: their commands wait for the
// command log together, those of one light one after the other, and readings are
// told meanwhile.
func TestHomeAssistantCommandsWaitTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ds []*devices.Device
		for i := range 50 {
			ds = append(ds, light(fmt.Sprint("lamp-", i), "direct", devices.Light{Modes: []devices.LightMode{devices.ModeBrightness}}))
		}
		h := adaptertest.New(t, nil, ds...)
		h.SetState("lamp-0", lights.Fields{"on": true})
		h.IssueTakes(100 * time.Millisecond)
		s, b := newSet(t, h, true, "ha_out")
		b.wantSent(t, "hub/v1/lamp-0/ha/light ")
		b.take()
		var out tally
		began := time.Now()
		for _, v := range []int{10, 20, 30} {
			for i := range 50 {
				s.Take(adapter.Message{Topic: fmt.Sprintf("hub/v1/lamp-%d/ha/light/set", i), Payload: fmt.Appendf(nil, `{"state":"ON","brightness":%d}`, v), QoS: 1}, &out)
			}
		}
		s.Publish(devices.Event{Device: "lamp-0", Name: "state"})
		synctest.Wait()
		if sent := b.take(); !slices.ContainsFunc(sent, func(m string) bool { return strings.HasPrefix(m, "hub/v1/lamp-0/ha/light ") }) {
			t.Error("a state waits behind the commands")
		}
		for out.ok.Load() < 150 && time.Since(began) < time.Minute {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("150 commands took %v, each 100 ms", took)
		}
		var seen []string
		for _, line := range h.Log() {
			if strings.Contains(line, " lamp-7 set ") {
				seen = append(seen, line[strings.Index(line, `"brightness":`)+13:][:2])
			}
		}
		if got := strings.Join(seen, " "); got != "10 20 30" {
			t.Errorf("a light was told %s", got)
		}
	})
}
