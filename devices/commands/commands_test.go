package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

func TestMainPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":false,"brightness":10,"kelvin":2700,"cause":"boot"}`)
		rc := w.must("lamp", `{"op":"set","params":{"brightness":200}}`)
		e := l.last()
		if rc.Status != Sent || e.CmdID != rc.CmdID || e.Op != "set" || e.Params["brightness"] != 200.0 || e.Params["on"] != true ||
			e.Attempt != 1 || e.TTLMS != 10000 || e.ExpiresAt-e.IssuedAt != 10000 || e.By != "user:ana" {
			t.Errorf("receipt %+v, envelope %+v", rc, e)
		}
		time.Sleep(20 * time.Millisecond)
		l.ack(rc.CmdID, "acked")
		time.Sleep(30 * time.Millisecond)
		l.ack(rc.CmdID, "done")
		time.Sleep(5 * time.Millisecond)
		l.state(fmt.Sprintf(`{"on":true,"brightness":200,"cause":"command","cmd":%q}`, rc.CmdID))
		w.wantStatuses(rc.CmdID, "pending sent acked done confirmed")
		r, err := w.Get(t.Context(), viewer, "lamp", rc.CmdID)
		if err != nil || r.Status != Confirmed {
			t.Fatalf("got %+v %v", r, err)
		}
		for name, hop := range map[string]*int64{"0 hub": r.Hops.Hub, "20 wire": r.Hops.Wire, "30 device": r.Hops.Device, "5 confirm": r.Hops.Confirm} {
			if hop == nil || fmt.Sprint(*hop) != strings.Fields(name)[0] {
				t.Errorf("hop: got %v, want %s ms", hop, name)
			}
		}
		last := w.told[len(w.told)-2]
		if st := last.Payload.(map[string]any); last.Name != "state" || st["by"] != "user:ana" || st["cmd"] != rc.CmdID || st["brightness"] != 200.0 || last.Kinds[0] != devices.KindLight {
			t.Errorf("state: got %v", last)
		}
		if doc, _ := w.shadows.Doc("lamp"); len(doc.Desired) != 0 {
			t.Errorf("desired: got %v, want it reached", doc.Desired)
		}
		if len(w.audit) != 1 || w.audit[0].Action != "command.issue" || w.audit[0].Outcome != "ok" || w.audit[0].CmdID != rc.CmdID {
			t.Errorf("audit: got %+v", w.audit)
		}
	})
}

func TestToggleAndStepAreAbsolute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":false,"brightness":100}`)
		a := w.must("lamp", `{"op":"toggle"}`)
		if e := l.last(); e.Op != "set" || e.Params["on"] != true {
			t.Errorf("toggle: got %+v", e)
		}
		b := w.must("lamp", `{"op":"toggle"}`) // against what is under way
		l.state(fmt.Sprintf(`{"on":true,"cmd":%q}`, a.CmdID))
		if e := l.last(); e.CmdID != b.CmdID || e.Params["on"] != false {
			t.Errorf("toggle of a toggle: got %+v", e)
		}
		l.state(fmt.Sprintf(`{"on":false,"cmd":%q}`, b.CmdID))
		time.Sleep(time.Second)
		w.must("lamp", `{"op":"step","params":{"brightness_delta":50}}`)
		if e := l.last(); e.Params["brightness"] != 150.0 {
			t.Errorf("step: got %+v", e)
		}
		w.must("lamp", `{"op":"step","params":{"brightness_delta":50}}`)
		r, _ := w.Last("lamp")
		if r.Params["brightness"] != 200.0 || r.Op != "set" {
			t.Errorf("step of a step: got %+v", r)
		}
		time.Sleep(time.Millisecond)
		w.must("lamp", `{"op":"toggle"}`) // brightness means on
		if r, _ := w.Last("lamp"); r.Params["on"] != false {
			t.Errorf("toggle of a step: got %+v", r)
		}
	})
}

func TestIdempotency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		const req = `{"op":"set","params":{"on":true,"brightness":9},"cmd_id":"my-key_1"}`
		a := w.must("lamp", req)
		b := w.must("lamp", `{"cmd_id":"my-key_1","params":{"brightness":9,"on":true},"op":"set"}`)
		if a.CmdID != "my-key_1" || b.CmdID != a.CmdID || l.count() != 1 {
			t.Errorf("got %+v and %+v, %d sent", a, b, l.count())
		}
		if _, err := w.issue("lamp", `{"op":"set","params":{"on":false},"cmd_id":"my-key_1"}`); devices.CodeOf(err) != devices.CodeConflict {
			t.Errorf("another body: got %v, want conflict", err)
		}
		l.state(`{"on":true,"brightness":9,"cmd":"my-key_1"}`)
		w.stop()
		w.start()
		l = w.connect("lamp", 8, "websocket", 0)
		if c := w.must("lamp", req); c.Status != Confirmed || l.count() != 0 {
			t.Errorf("after a restart: got %+v, %d sent", c, l.count())
		}
		w.stop()
		w.start()
		if r, ok := w.Last("lamp"); !ok || r.CmdID != a.CmdID || r.Status != Confirmed {
			t.Errorf("last, from before the restart: got %+v %t", r, ok)
		}
		if _, ok := w.Last("sign"); ok {
			t.Error("a last command of a device that got none")
		}
		w.live.set("lamp", devices.Offline)
		w.Disconnected("lamp", 8)
		const off = `{"op":"set","params":{"on":true},"cmd_id":"k2"}`
		_, err1 := w.issue("lamp", off)
		w.live.set("lamp", devices.Online)
		_, err2 := w.issue("lamp", off)
		if devices.CodeOf(err1) != devices.CodeDeviceOffline || devices.CodeOf(err2) != devices.CodeDeviceOffline {
			t.Errorf("a refusal again: got %v and %v", err1, err2)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":true}`)
		for _, tt := range []struct {
			name, request string
			actor         devices.Actor
			id            devices.ID
			want          devices.Code
		}{
			{"a viewer", `{"op":"toggle"}`, viewer, "lamp", devices.CodeForbidden},
			{"nobody's device", `{"op":"toggle"}`, ana, "none", devices.CodeNotFound},
			{"disabled", `{"op":"toggle"}`, ana, "off", devices.CodeDeviceDisabled},
			{"unknown op", `{"op":"explode"}`, ana, "lamp", devices.CodeInvalid},
			{"out of range", `{"op":"set","params":{"brightness":256}}`, ana, "lamp", devices.CodeRange},
			{"policy", `{"op":"toggle","policy":"maybe"}`, ana, "lamp", devices.CodeInvalid},
			{"life", `{"op":"toggle","expires_in_ms":0}`, ana, "lamp", devices.CodeRange},
			{"id", `{"op":"toggle","cmd_id":"a b"}`, ana, "lamp", devices.CodeInvalid},
			{"another version", `{"op":"toggle","if_ver":9}`, ana, "lamp", devices.CodeVersionConflict},
			{"a sensor", `{"op":"toggle"}`, ana, "probe", devices.CodeInvalid},
		} {
			var r Request
			if err := json.Unmarshal([]byte(tt.request), &r); err != nil {
				t.Fatal(err)
			}
			_, err := w.Issue(t.Context(), tt.actor, devices.Origin{Via: "ws"}, tt.id, r)
			if devices.CodeOf(err) != tt.want {
				t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
			}
			if e := w.audit[len(w.audit)-1]; e.Outcome != "refused" || e.Code != tt.want {
				t.Errorf("%s: audit %+v", tt.name, e)
			}
		}
		if l.count() != 0 {
			t.Errorf("the device got %+v", l.got)
		}
		for _, payload := range []string{`{}`, `[]`, `{"cmd_id":"a","status":"sent"}`, `{"cmd_id":"a","status":"done","more":1}`, `{"cmd_id":"a","status":"done"} x`} {
			if err := w.Answer("lamp", 7, []byte(payload)); devices.CodeOf(err) != devices.CodeInvalid {
				t.Errorf("ack %s: got %v, want invalid", payload, err)
			}
		}
		if err := w.Answer("lamp", 7, []byte(`{"cmd_id":"a","status":"done"}`)); devices.CodeOf(err) != devices.CodeNotFound {
			t.Errorf("ack of nothing: got %v, want not_found", err)
		}
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.live.set("lamp", devices.Offline)
		bob := ana
		bob.Name = "bob"
		a := w.must("lamp", `{"op":"set","params":{"on":true},"policy":"latest"}`)
		if _, err := w.Cancel(t.Context(), bob, devices.Origin{}, "lamp", a.CmdID); devices.CodeOf(err) != devices.CodeForbidden {
			t.Errorf("somebody else: got %v, want forbidden", err)
		}
		if r, err := w.Cancel(t.Context(), ana, devices.Origin{}, "lamp", a.CmdID); err != nil || r.Status != Cancelled {
			t.Errorf("got %+v %v", r, err)
		}
		b := w.must("lamp", `{"op":"set","params":{"on":true},"policy":"latest"}`)
		if r, err := w.Cancel(t.Context(), admin, devices.Origin{}, "lamp", b.CmdID); err != nil || r.Status != Cancelled {
			t.Errorf("an administrator: got %+v %v", r, err)
		}
		w.live.set("lamp", devices.Online)
		l := w.connect("lamp", 7, "websocket", 0)
		if l.count() != 0 {
			t.Errorf("a cancelled command was sent: %+v", l.got)
		}
		c := w.must("lamp", `{"op":"toggle"}`)
		if _, err := w.Cancel(t.Context(), ana, devices.Origin{}, "lamp", c.CmdID); devices.CodeOf(err) != devices.CodeConflict {
			t.Errorf("sent: got %v, want conflict", err)
		}
		if _, err := w.Cancel(t.Context(), ana, devices.Origin{}, "lamp", "nothing"); devices.CodeOf(err) != devices.CodeNotFound {
			t.Errorf("unknown: got %v, want not_found", err)
		}
	})
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		rc := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		type result struct {
			r   Record
			err error
			at  time.Duration
		}
		start := time.Now()
		wait := func(until string, limit time.Duration) chan result {
			ch := make(chan result, 1)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				r, err := w.Wait(ctx, "lamp", rc.CmdID, until)
				ch <- result{r, err, time.Since(start)}
			}()
			return ch
		}
		done, confirmed, short := wait("done", time.Minute), wait("confirmed", time.Minute), wait("done", time.Second/2)
		time.Sleep(time.Second)
		l.ack(rc.CmdID, "done")
		time.Sleep(time.Second)
		l.state(`{"on":true}`)
		if r := <-done; r.err != nil || r.r.Status != Done || r.at != time.Second {
			t.Errorf("done: got %+v", r)
		}
		if r := <-confirmed; r.err != nil || r.r.Status != Confirmed || r.at != 2*time.Second {
			t.Errorf("confirmed: got %+v", r)
		}
		var e *devices.Error
		if r := <-short; !errors.As(r.err, &e) || e.Code != devices.CodeTimeout || e.Details["cmd_id"] != rc.CmdID {
			t.Errorf("short: got %+v", r)
		}
		if r := <-wait("confirmed", time.Second); r.r.Status != Confirmed {
			t.Errorf("afterwards: got %+v", r)
		}
		if _, err := w.Wait(t.Context(), "lamp", "nothing", "done"); devices.CodeOf(err) != devices.CodeNotFound {
			t.Errorf("unknown: got %v", err)
		}
	})
}

func TestHistoryIsPaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.live.set("lamp", devices.Offline)
		var want []string
		for i := range 25 {
			want = append(want, w.must("lamp", fmt.Sprintf(`{"op":"set","params":{"brightness":%d},"policy":"latest"}`, i+1)).CmdID)
		}
		slices.Reverse(want)
		var got []string
		cursor := ""
		for {
			rs, next, err := w.History(t.Context(), viewer, "lamp", 10, cursor)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				got = append(got, r.CmdID)
			}
			if cursor = next; cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if _, _, err := w.History(t.Context(), viewer, "lamp", 10, "?"); devices.CodeOf(err) != devices.CodeInvalid {
			t.Errorf("cursor: got %v", err)
		}
		scope, _ := devices.ParseScope("area=attic")
		other := viewer
		other.Scope = scope
		if _, _, err := w.History(t.Context(), other, "lamp", 10, ""); devices.CodeOf(err) != devices.CodeForbidden {
			t.Errorf("out of scope: got %v", err)
		}
	})
}

func TestAllCommandsOfAScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		// Far more of devices that the scope leaves out than one page looks at.
		var rows []Row
		for i := range 2 * allRows {
			id := fmt.Sprintf("c%05d", i)
			dev := devices.ID("lamp")
			if i%1000 == 0 {
				dev = "sign"
			}
			rows = append(rows, Row{Device: dev, CmdID: id, IssuedAt: int64(i + 1), Final: true, Body: fmt.Appendf(nil, `{"device":%q,"cmd_id":%q}`, dev, id)})
		}
		rows = append(rows, Row{Device: "gone", CmdID: "c", IssuedAt: 5000, Final: true, Body: []byte(`{}`)})
		if err := w.store.SaveCommands(t.Context(), rows); err != nil {
			t.Fatal(err)
		}
		scoped := viewer
		scope, err := devices.ParseScope("id in [sign]")
		if err != nil {
			t.Fatal(err)
		}
		scoped.Scope = scope
		var got []string
		pages := 0
		for cursor := ""; pages == 0 || cursor != ""; pages++ {
			rs, next, err := w.All(t.Context(), scoped, 3, cursor)
			if err != nil || len(rs) > 3 {
				t.Fatalf("got %d, %v", len(rs), err)
			}
			for _, r := range rs {
				got = append(got, r.CmdID)
			}
			cursor = next
		}
		if want := []string{"c08000", "c07000", "c06000", "c05000", "c04000", "c03000", "c02000", "c01000", "c00000"}; !slices.Equal(got, want) {
			t.Errorf("got %v in %d pages, want %v", got, pages, want)
		}
		for _, cursor := range []string{"?", "MQ", "MSAy"} {
			if _, _, err := w.All(t.Context(), viewer, 10, cursor); devices.CodeOf(err) != devices.CodeInvalid {
				t.Errorf("cursor %q: got %v", cursor, err)
			}
		}
		if _, _, err := w.All(t.Context(), devices.Actor{Kind: devices.ActorService, Rights: devices.RightCommand}, 10, ""); devices.CodeOf(err) != devices.CodeForbidden {
			t.Errorf("without the right: got %v", err)
		}
	})
}

// What happened since the last write is seen.
func TestAllCommandsAreAheadOfTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.live.set("lamp", devices.Offline)
		id := w.must("lamp", `{"op":"set","params":{"brightness":9},"policy":"latest"}`).CmdID
		w.store.mu.Lock()
		w.store.delay = time.Minute
		w.store.mu.Unlock()
		if _, err := w.Cancel(t.Context(), ana, devices.Origin{}, "lamp", id); err != nil {
			t.Fatal(err)
		}
		rs, next, err := w.All(t.Context(), viewer, 0, "")
		if err != nil || next != "" || len(rs) != 1 || rs[0].CmdID != id || rs[0].Status != Cancelled {
			t.Errorf("got %+v %q %v, want %s cancelled", rs, next, err, id)
		}
	})
}

func TestFloodIsRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.connect("lamp", 7, "websocket", 0)
		var err error
		for i := 0; i < 1000 && err == nil; i++ {
			_, err = w.issue("lamp", `{"op":"set","params":{"on":true}}`)
		}
		var e *devices.Error
		if !errors.As(err, &e) || e.Code != devices.CodeRateLimited || e.RetryAfter == 0 {
			t.Errorf("got %v, want rate_limited", err)
		}
	})
}

// TestManyAtOnce is for the race detector: people, device and clock together.
func TestManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.store.delay = time.Millisecond
		var wg sync.WaitGroup
		for _, id := range []devices.ID{"lamp", "sleepy", "sign"} {
			got := make(chan Envelope, 1000)
			for n := range 3 {
				wg.Go(func() {
					for i := range 30 {
						r := Request{Op: "set", Params: fmt.Appendf(nil, `{"brightness":%d}`, 1+(i*7+n)%200), Policy: "latest"}
						if _, err := w.Issue(t.Context(), ana, devices.Origin{}, id, r); err != nil && devices.CodeOf(err) == "" {
							t.Error(err)
						}
						time.Sleep(17 * time.Millisecond)
					}
				})
			}
			wg.Go(func() {
				for epoch := range int64(5) {
					w.Connected(id, epoch+1, "websocket", 0, func(e Envelope) bool { got <- e; return true })
					time.Sleep(200 * time.Millisecond)
					w.Disconnected(id, epoch+1)
				}
				close(got)
			})
			wg.Go(func() {
				for e := range got {
					time.Sleep(5 * time.Millisecond)
					w.Answer(id, 1, fmt.Appendf(nil, `{"cmd_id":%q,"status":"done"}`, e.CmdID))
					w.Report(id, 1, time.Now(), fmt.Appendf(nil, `{"on":true,"brightness":%v,"cmd":%q}`, e.Params["brightness"], e.CmdID))
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := w.Stats().Open; n != 0 {
			t.Errorf("%d commands never ended", n)
		}
	})
}
