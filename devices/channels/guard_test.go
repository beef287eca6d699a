package channels

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/quota"
)

// bounded sets what people and devices may ask for.
func (h *house) bounded() {
	var l quota.Limits
	for _, b := range []*quota.Bounds{&l.Device, &l.Other} {
		b.Rates[quota.Events] = quota.Rate{PerSecond: 20, Burst: 100}
		b.Rates[quota.Reads] = quota.Rate{PerSecond: 100, Burst: 400}
		b.Rates[quota.Connects] = quota.Rate{PerSecond: 5, Burst: 50}
		b.Places[quota.Sockets], b.Places[quota.LongPolls] = 32, 8
	}
	h.app.Quota.SetLimits(l)
}

const refusedCommand = `{"op":"set","params":{"on":true},"policy":"none"}`

// The events of a person are bounded over all their connections, whether they are taken or not;
// the slider of the dashboard never meets the bound.
func TestEventsOfAPersonAreBounded(t *testing.T) {
	inHouse(t, func(h *house) {
		h.bounded()
		h.device("lamp", light)
		token := h.person("ana", devices.RoleViewer, "")
		one, two, ben := h.connect(token), h.connect(token), h.connect(h.person("ben", devices.RoleOperator, ""))
		for _, c := range []*client{one, two, ben} {
			c.join("light:lamp")
		}
		codes := map[any]int{}
		for i := range 150 {
			c := one
			if i%2 == 1 {
				c = two
			}
			_, got := c.ask("light:lamp", "command", refusedCommand)
			codes[got["code"]]++
			if ms, _ := got["retry_after_ms"].(float64); got["code"] == "rate_limited" && ms <= 0 {
				t.Fatalf("got %v, want retry_after_ms", got)
			}
		}
		if codes["forbidden"] != 100 || codes["rate_limited"] != 50 {
			t.Errorf("got %v, want 100 forbidden and the rest rate_limited", codes)
		}
		if status, got := one.ask("light:lamp", "get", "{}"); status != "ok" {
			t.Errorf("a question at the same time: got %s %v", status, got)
		}
		for range 600 { // a minute of a slider that is dragged
			if _, got := ben.ask("light:lamp", "shadow_update", `{"desired":{"brightness":5}}`); got["code"] == "rate_limited" {
				t.Fatalf("somebody else, ten times a second: got %v", got)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// Whoever goes on is cut off, whatever it sends: events, questions, joins of topics that there are
// not, heartbeats and frames that are none.
func TestFloodsOfPeopleAreCutOff(t *testing.T) {
	inHouse(t, func(h *house) {
		h.bounded()
		h.device("lamp", light)
		for name, frame := range map[string]string{
			"commands":   `["1","2","light:lamp","command",` + refusedCommand + `]`,
			"shadows":    `["1","2","light:lamp","shadow_update",{"desired":{"on":true}}]`,
			"questions":  `["1","2","light:lamp","get",{}]`,
			"views":      `["1","2","fleet:all","view",{"q":"lamp"}]`,
			"joins":      `["1","1","light:lamp","phx_join",{}]`,
			"unmatched":  `["1","1","nowhere","phx_join",{}]`,
			"unjoined":   `[null,"1","light:other","get",{}]`,
			"leaves":     `["9","9","light:other","phx_leave",{}]`,
			"heartbeats": `[null,"3","phoenix","heartbeat",{}]`,
		} {
			c := h.connect(h.person(name, devices.RoleViewer, ""))
			c.join("light:lamp")
			c.join("fleet:all")
			n := 0
			for ; n < 30_000 && c.open(); n++ {
				c.Send(frame)
			}
			synctest.Wait()
			if c.open() || n > 5000 {
				t.Errorf("%s: open %t after %d, want closed after some 2000", name, c.open(), n)
				continue
			}
			c.want("light:lamp", "disconnect")
			c.wantClosed(1008)
		}
	})
}

// A device over its rate is cut off as over MQTT, with what is no event, too.
func TestFloodsOfDevicesAreCutOff(t *testing.T) {
	inHouse(t, func(h *house) {
		h.bounded()
		for i, frame := range []string{
			`["1","2","light:%s","dance",{}]`, `["1","2","light:%s","ack",{}]`, `["1","1","nowhere:%s","phx_join",{}]`, `["1","2","light:%s","token_refresh",{}]`,
		} {
			id := fmt.Sprint("lamp", i)
			c := h.connect(h.device(devices.ID(id), light))
			c.join("light:" + id)
			text := fmt.Sprintf(frame, id)
			n := 0
			for ; n < 30_000 && c.open(); n++ {
				c.Send(text)
			}
			synctest.Wait()
			if c.open() || n > 5000 {
				t.Errorf("%s: open %t after %d, want closed", text, c.open(), n)
				continue
			}
			if got := c.want("light:"+id, "disconnect"); got["code"] != "rate_limited" {
				t.Errorf("told %v, want rate_limited", got)
			}
			c.wantClosed(1008)
		}
	})
}

// Sockets and connects of one person are bounded, and given back.
func TestSocketsOfAPersonAreBounded(t *testing.T) {
	inHouse(t, func(h *house) {
		h.bounded()
		token := h.person("ana", devices.RoleViewer, "")
		var open []*client
		for range 32 {
			open = append(open, h.connect(token))
		}
		if _, err := h.dial(token); devices.CodeOf(err) != devices.CodeRateLimited {
			t.Errorf("a 33rd: got %v, want rate_limited", err)
		}
		h.connect(h.person("ben", devices.RoleViewer, ""))
		open[0].Close()
		synctest.Wait()
		h.connect(token)
		// It connects and connects.
		limited := 0
		open[1].Close()
		synctest.Wait()
		for range 100 {
			c, err := h.dial(token)
			if err != nil {
				limited++
				continue
			}
			c.Close()
			synctest.Wait()
		}
		if limited < 80 {
			t.Errorf("%d of 100 reconnects without a pause were refused, want most", limited)
		}
		time.Sleep(10 * time.Second)
		h.connect(token)
	})
}
