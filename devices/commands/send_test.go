package commands

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

func TestOfflinePolicies(t *testing.T) {
	for _, tt := range []struct {
		name    string
		id      devices.ID
		state   devices.State
		request string
		want    Status
		code    devices.Code
		warning string
		linked  bool
	}{
		{name: "offline", id: "lamp", state: devices.Offline, request: `{"op":"set","params":{"on":true}}`, code: devices.CodeDeviceOffline},
		{name: "never seen", id: "lamp", state: devices.NeverSeen, request: `{"op":"toggle"}`, code: devices.CodeDeviceOffline},
		{name: "offline, latest", id: "lamp", state: devices.Offline, request: `{"op":"set","params":{"on":true},"policy":"latest"}`, want: Queued},
		{name: "offline, all", id: "lamp", state: devices.Offline, request: `{"op":"set","params":{"on":true},"policy":"all"}`, want: Queued},
		{name: "a sleepy device's set waits", id: "sleepy", state: devices.Sleeping, request: `{"op":"set","params":{"on":true}}`, want: Queued},
		{name: "its identify does not", id: "sleepy", state: devices.Sleeping, request: `{"op":"identify"}`, code: devices.CodeDeviceOffline},
		{name: "quiet", id: "lamp", state: devices.Quiet, request: `{"op":"toggle"}`, want: Sent, warning: "quiet", linked: true},
		{name: "unresponsive", id: "lamp", state: devices.Unresponsive, request: `{"op":"toggle"}`, want: Sent, warning: "unresponsive", linked: true},
		{name: "data only, through a bridge", id: "lamp", state: devices.DataOnly, request: `{"op":"toggle"}`, want: Sent, warning: "data_only", linked: true},
		{name: "data only, no way to it", id: "lamp", state: devices.DataOnly, request: `{"op":"toggle"}`, code: devices.CodeDeviceOffline},
		{name: "a long transition", id: "lamp", state: devices.Online, request: `{"op":"toggle","params":{"transition_ms":7000000}}`, want: Sent, warning: "transition_ms is 6553000", linked: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.live.set(tt.id, tt.state)
				if tt.linked {
					w.connect(tt.id, 7, "mqtt", 1)
				}
				rc, err := w.issue(tt.id, tt.request)
				if devices.CodeOf(err) != tt.code || rc.Status != tt.want || rc.Warning != tt.warning {
					t.Errorf("got %+v %v, want %s %q %s", rc, err, tt.want, tt.warning, tt.code)
				}
				if tt.code == devices.CodeDeviceOffline {
					var e *devices.Error
					if errors.As(err, &e); e.Details["status"] != string(tt.state) {
						t.Errorf("details: got %v, want the status", e.Details)
					}
					time.Sleep(time.Second)
					rs, _, err := w.History(t.Context(), ana, tt.id, 0, "")
					if err != nil || len(rs) != 1 || rs[0].Status != Refused || rs[0].Code != string(tt.code) {
						t.Errorf("history: got %+v %v, want the refusal", rs, err)
					}
				}
			})
		})
	}
}

func TestQueuedCommandsGoWhenTheDeviceComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.live.set("sleepy", devices.Sleeping)
		a := w.must("sleepy", `{"op":"set","params":{"brightness":10}}`)
		b := w.must("sleepy", `{"op":"set","params":{"brightness":20}}`)
		c := w.must("sleepy", `{"op":"set","params":{"kelvin":3000}}`)
		w.wantStatuses(a.CmdID, "queued superseded")
		ps := w.Pending("sleepy")
		if len(ps) != 2 || ps[0].CmdID != b.CmdID || ps[1].CmdID != c.CmdID {
			t.Errorf("pending: got %+v", ps)
		}
		time.Sleep(5 * time.Minute)
		w.live.set("sleepy", devices.Online)
		l := w.connect("sleepy", 9, "websocket", 0)
		if l.count() != 2 || l.got[0].CmdID != b.CmdID || l.got[0].TTLMS != 5*60*1000 {
			t.Errorf("got %+v", l.got)
		}
		w.Disconnected("sleepy", 9)
		w.live.set("sleepy", devices.Sleeping)
		d := w.must("sleepy", `{"op":"set","params":{"on":false}}`)
		time.Sleep(11 * time.Minute)
		w.wantStatuses(d.CmdID, "queued expired")
		if got := w.Delta("sleepy"); len(got) != 0 {
			t.Errorf("delta: got %v; expired intent is never applied", got)
		}
	})
}

func TestPolicyAllIsBoundedAndKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.live.set("lamp", devices.Offline)
		var ids []string
		for i := range 32 {
			ids = append(ids, w.must("lamp", fmt.Sprintf(`{"op":"set","params":{"brightness":%d},"policy":"all"}`, i+1)).CmdID)
		}
		if _, err := w.issue("lamp", `{"op":"set","params":{"on":true},"policy":"all"}`); devices.CodeOf(err) != devices.CodeRateLimited {
			t.Errorf("the 33rd: got %v, want rate_limited", err)
		}
		w.live.set("lamp", devices.Online)
		l := w.connect("lamp", 9, "websocket", 0)
		for i := range ids {
			time.Sleep(200 * time.Millisecond)
			e := l.last()
			if e.CmdID != ids[i] {
				t.Fatalf("%d: got %v, want %s", i, e, ids[i])
			}
			l.state(fmt.Sprintf(`{"on":true,"brightness":%v,"cmd":%q}`, e.Params["brightness"], e.CmdID))
		}
	})
}

func TestGroupsGoOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		a := w.must("lamp", `{"op":"set","params":{"brightness":10}}`)
		b := w.must("lamp", `{"op":"set","params":{"brightness":20}}`)
		c := w.must("lamp", `{"op":"set","params":{"kelvin":3000}}`)
		d := w.must("lamp", `{"op":"set","params":{"brightness":30,"kelvin":4000}}`) // both groups
		e := w.must("lamp", `{"op":"set","params":{"effect":"blink"}}`)
		w.wantStatuses(a.CmdID, "pending sent")
		w.wantStatuses(b.CmdID, "pending superseded")
		w.wantStatuses(c.CmdID, "pending sent")
		w.wantStatuses(d.CmdID, "pending")
		time.Sleep(200 * time.Millisecond)
		w.wantStatuses(e.CmdID, "pending sent")
		l.state(fmt.Sprintf(`{"on":true,"brightness":10,"cmd":%q}`, a.CmdID))
		w.wantStatuses(d.CmdID, "pending") // colour is still under way
		l.state(fmt.Sprintf(`{"kelvin":3000,"cmd":%q}`, c.CmdID))
		w.wantStatuses(d.CmdID, "pending sent")
	})
}

// TestSlider: sixty values a second for three seconds, a device that does each
// within 30 ms: at most ten a second reach it, and the last one does.
func TestSlider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.delay = 3 * time.Millisecond
		l := w.connect("lamp", 7, "websocket", 0)
		done := 0
		var last Receipt
		for i := range 180 {
			last = w.must("lamp", fmt.Sprintf(`{"op":"set","params":{"brightness":%d}}`, i+1))
			time.Sleep(13 * time.Millisecond)
			for ; done < l.count(); done++ {
				e := l.got[done]
				l.state(fmt.Sprintf(`{"on":true,"brightness":%v,"cmd":%q}`, e.Params["brightness"], e.CmdID))
			}
		}
		time.Sleep(time.Second)
		e := l.last()
		if e.CmdID != last.CmdID || e.Params["brightness"] != 180.0 {
			t.Errorf("last: got %+v, want the last value", e)
		}
		for i := range l.at {
			n := 0
			for _, at := range l.at[i:] {
				if at.Sub(l.at[i]) < time.Second {
					n++
				}
			}
			if n > 10 {
				t.Errorf("%d within a second", n)
			}
		}
		if l.count() < 25 {
			t.Errorf("got %d, want nearly 10 a second", l.count())
		}
	})
}

func TestOneUnacknowledgedOverMQTT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "mqtt", 1)
		a := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		b := w.must("lamp", `{"op":"set","params":{"kelvin":3000}}`)
		c := w.must("lamp", `{"op":"identify"}`)
		if l.count() != 1 {
			t.Fatalf("got %d, want one", l.count())
		}
		l.ack(a.CmdID, "acked")
		if e := l.last(); l.count() != 2 || e.CmdID != b.CmdID {
			t.Errorf("after the ack: got %+v", l.got)
		}
		time.Sleep(5100 * time.Millisecond)
		if e := l.last(); l.count() != 3 || e.CmdID != b.CmdID || e.Attempt != 2 {
			t.Errorf("after the ack_timeout: got %+v", l.got)
		}
		l.ack(b.CmdID, "done")
		if e := l.last(); e.CmdID != c.CmdID {
			t.Errorf("at last: got %+v", e)
		}
	})
}

func TestReconnectAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.connect("lamp", 7, "websocket", 0)
		a := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		id := w.must("lamp", `{"op":"identify"}`)
		w.Disconnected("lamp", 7)
		time.Sleep(time.Second)
		l := w.connect("lamp", 8, "websocket", 0)
		if l.count() != 1 || l.got[0].CmdID != a.CmdID || l.got[0].Attempt != 2 || l.got[0].TTLMS != 9000 {
			t.Errorf("got %+v, want the set again and not the identify", l.got)
		}
		w.wantStatuses(id.CmdID, "pending sent")
		l.ack(a.CmdID, "acked")
		l.state(`{"on":true}`)
		w.wantStatuses(a.CmdID, "pending sent sent2 acked done confirmed")
	})
}

func TestFullLinkIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.full = true
		a := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		time.Sleep(time.Second)
		w.wantStatuses(a.CmdID, "pending")
		if r, _ := w.Get(t.Context(), ana, "lamp", a.CmdID); r.Attempt != 0 || r.Hops.Hub != nil {
			t.Errorf("a command that the link did not take: got %+v", r)
		}
		l.mu.Lock()
		l.full = false
		l.mu.Unlock()
		time.Sleep(300 * time.Millisecond)
		w.wantStatuses(a.CmdID, "pending sent")
	})
}

func TestAnswerBeforeTheLinkReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Connected("lamp", 7, "websocket", 0, func(e Envelope) bool {
			time.Sleep(10 * time.Millisecond)
			if err := w.Answer("lamp", 7, fmt.Appendf(nil, `{"cmd_id":%q,"status":"done"}`, e.CmdID)); err != nil {
				t.Error(err)
			}
			return true
		})
		rc := w.must("lamp", `{"op":"identify"}`)
		w.wantStatuses(rc.CmdID, "pending sent acked done")
		r, err := w.Get(t.Context(), ana, "lamp", rc.CmdID)
		if err != nil || r.Attempt != 1 || r.Hops.Wire == nil || *r.Hops.Wire != 10 {
			t.Errorf("got %+v %v, want one attempt and 10 ms on the wire", r, err)
		}
	})
}
