package commands

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

// refreshes are the hub's own questions that the device got.
func (l *lamp) refreshes() (got []Envelope, at []time.Time) {
	l.w.t.Helper()
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range l.got {
		if e.Op == "refresh" && e.By == "hub" {
			got, at = append(got, e), append(at, l.at[i])
		}
	}
	return got, at
}

// wantRefresh wants exactly one so far, and that it came at a time.
func (l *lamp) wantRefresh(at time.Time) Envelope {
	l.w.t.Helper()
	got, when := l.refreshes()
	if len(got) != 1 || !when[0].Equal(at) {
		l.w.t.Fatalf("asked for its state %d times, at %v, want once at %v", len(got), when, at)
	}
	return got[0]
}

func TestRefreshBringsTheProof(t *testing.T) {
	for _, tt := range []struct{ name, answers, want string }{
		{"named", "done shown", "pending sent acked done confirmed"},
		{"named, and the state is another", "done other", "pending sent acked done done(unconfirmed)"},
		{"without a name", "bare", "pending sent acked done confirmed"},
		{"in two parts", "half rest", "pending sent acked done confirmed"},
		{"said to be older", "stale", "pending sent acked done confirmed"}, // it was asked for now
		{"under way", "interim", "pending sent acked done done(unconfirmed)"},
		{"unknown to the device", "rejected", "pending sent acked done done(unconfirmed)"},
		{"no answer", "", "pending sent acked done done(unconfirmed)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
				w := newWorld(t)
				l := w.connect("lamp", 7, "websocket", 0)
				l.state(`{"on":false,"brightness":9}`)
				before := time.Now().UnixMilli()
				time.Sleep(time.Second)
				rc := w.must("lamp", `{"op":"set","params":{"on":true,"brightness":200}}`)
				l.ack(rc.CmdID, "done")
				due := time.Now().Add(time.Second)
				time.Sleep(1500 * time.Millisecond)
				e := l.wantRefresh(due)
				if e.CmdID == rc.CmdID || e.Attempt != 1 || len(e.Params) != 0 || e.Params == nil || e.TTLMS != 10_000 || e.ExpiresAt-e.IssuedAt != e.TTLMS {
					t.Errorf("asked by %+v", e)
				}
				n := len(w.events())
				for a := range strings.FieldsSeq(tt.answers) {
					switch a {
					case "shown":
						l.state(fmt.Sprintf(`{"on":true,"brightness":200,"cause":"command","cmd":%q}`, e.CmdID))
					case "other":
						l.state(fmt.Sprintf(`{"on":true,"brightness":9,"cmd":%q}`, e.CmdID))
					case "bare":
						l.state(`{"on":true,"brightness":200}`)
					case "half":
						l.state(`{"on":true}`)
					case "rest":
						l.state(`{"brightness":200}`)
					case "stale":
						l.state(fmt.Sprintf(`{"on":true,"brightness":200,"cause":"sync","t":%d,"cmd":%q}`, before, e.CmdID))
					case "interim":
						l.state(fmt.Sprintf(`{"on":true,"brightness":200,"transitioning":true,"cmd":%q}`, e.CmdID))
					default:
						l.ack(e.CmdID, a)
					}
				}
				for _, told := range w.events()[n:] {
					if st, ok := told.Payload.(map[string]any); ok && (st["cmd"] != nil || st["by"] != nil || st["cause"] == "command") {
						t.Errorf("told of a state that nobody caused: %v", st)
					}
				}
				time.Sleep(time.Minute)
				w.wantStatuses(rc.CmdID, tt.want)
				l.wantRefresh(due) // once
				if st := w.Stats(); st.Resent != 0 || st.Sent != 1 || st.Refreshed != 1 {
					t.Errorf("counted %+v", st)
				}
				rs, _, err := w.History(t.Context(), ana, "lamp", 0, "")
				if err != nil || len(rs) != 1 || rs[0].Attempt != 1 {
					t.Errorf("history: got %+v %v, want the command alone", rs, err)
				}
				w.live.mu.Lock()
				defer w.live.mu.Unlock()
				if w.live.unanswered["lamp"] != 0 || len(w.audit) != 1 {
					t.Errorf("unresponsive %d times; audit %+v", w.live.unanswered["lamp"], w.audit)
				}
			})
		})
	}
}

// TestWhenItIsRefreshed: a second after all that the device can be expected to say.
func TestWhenItIsRefreshed(t *testing.T) {
	const never = time.Duration(-1)
	for _, tt := range []struct {
		name, params string
		steps        string // what happens, with ms to wait in between
		want         time.Duration
	}{
		{"done", `{"on":true}`, "100 done", 1100 * time.Millisecond},
		{"shown in time", `{"on":true}`, "done 900 bare", never},
		{"shown before", `{"on":true}`, "bare 900 done", never},
		{"not done", `{"on":true}`, "acked", never},
		{"acked by an adapter", `{"on":true}`, "100 forwarded", 1100 * time.Millisecond},
		{"failed", `{"on":true}`, "acked failed", never},
		{"another state", `{"on":true}`, "done 500 other", time.Second},
		{"a transition that has begun", `{"brightness":9,"transition_ms":3000}`, "100 done", 4 * time.Second},
		{"a transition that is over", `{"brightness":9,"transition_ms":3000}`, "3100 done", 4100 * time.Millisecond},
		{"a fade of its own", `{"brightness":9}`, "done 600 interim 600 interim", 2200 * time.Millisecond},
		{"away", `{"on":true}`, "done 500 away 5000 back", 6500 * time.Millisecond},
		{"away, and it shows when it joins", `{"on":true}`, "done 500 away 5000 join back", never},
		{"asleep", `{"on":true}`, "done sleep 5200 wake", 6 * time.Second},
		{"a full link", `{"on":true}`, "done full 1100 room", 1250 * time.Millisecond},
		{"no state to see", `{}`, "done", never},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				l := w.connect("lamp", 7, "mqtt", 1)
				l.state(`{"on":false,"brightness":100}`)
				request := fmt.Sprintf(`{"op":"set","params":%s}`, tt.params)
				if tt.params == "{}" {
					request = `{"op":"identify"}`
				}
				start := time.Now()
				rc := w.must("lamp", request)
				for step := range strings.FieldsSeq(tt.steps) {
					var ms int
					switch step {
					case "bare":
						l.state(`{"on":true}`)
					case "other":
						l.state(`{"on":false}`)
					case "interim":
						l.state(`{"brightness":50,"transitioning":true}`)
					case "forwarded":
						w.Forwarded("lamp", 7, rc.CmdID)
					case "away":
						w.Disconnected("lamp", 7)
					case "join":
						l.epoch = 8
						l.state(`{"on":true,"cause":"sync"}`)
					case "back":
						l = w.connect("lamp", 8, "mqtt", 1)
					case "sleep":
						w.live.set("lamp", devices.Sleeping)
					case "wake":
						w.live.set("lamp", devices.Online)
					case "full", "room":
						l.mu.Lock()
						l.full = step == "full"
						l.mu.Unlock()
					default:
						if _, err := fmt.Sscan(step, &ms); err != nil {
							l.ack(rc.CmdID, step)
						}
						time.Sleep(time.Duration(ms) * time.Millisecond)
					}
				}
				time.Sleep(time.Minute)
				if tt.want == never {
					if got, at := l.refreshes(); len(got) != 0 {
						t.Errorf("asked after %v", at[0].Sub(start))
					}
					return
				}
				l.wantRefresh(start.Add(tt.want))
			})
		})
	}
}

// TestOneRefreshForAll: what is due at once is asked for at once, and what a newer
// command has overtaken is not asked for.
func TestOneRefreshForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		a := w.must("lamp", `{"op":"set","params":{"brightness":9}}`)
		l.ack(a.CmdID, "done")
		b := w.must("lamp", `{"op":"set","params":{"brightness":200}}`)
		l.ack(b.CmdID, "done")
		c := w.must("lamp", `{"op":"set","params":{"kelvin":3000}}`)
		l.ack(c.CmdID, "done")
		start := time.Now()
		time.Sleep(5 * time.Second)
		e := l.wantRefresh(start.Add(time.Second))
		l.state(fmt.Sprintf(`{"on":true,"brightness":200,"kelvin":3000,"cmd":%q}`, e.CmdID))
		w.wantStatuses(a.CmdID, "pending sent acked done")
		w.wantStatuses(b.CmdID, "pending sent acked done confirmed")
		w.wantStatuses(c.CmdID, "pending sent acked done confirmed")
		time.Sleep(time.Minute)
		l.wantRefresh(start.Add(time.Second))
		w.wantStatuses(a.CmdID, "pending sent acked done done(unconfirmed)")
	})
}

// TestRefreshOvertakenInVain: what the device rejects overtakes nothing.
func TestRefreshOvertakenInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		a := w.must("lamp", `{"op":"set","params":{"brightness":9}}`)
		l.ack(a.CmdID, "done")
		b := w.must("lamp", `{"op":"set","params":{"brightness":200}}`)
		time.Sleep(1500 * time.Millisecond)
		if got, _ := l.refreshes(); len(got) != 0 {
			t.Fatal("asked for the state of a while ago")
		}
		l.ack(b.CmdID, "rejected")
		l.wantRefresh(time.Now())
	})
}

// TestRefreshKeepsTheWindow: a device that takes one unacknowledged command at a
// time is asked when it has none, and is sent the next whether it answers or not.
func TestRefreshKeepsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "mqtt", 1)
		a := w.must("lamp", `{"op":"set","params":{"brightness":9}}`)
		l.ack(a.CmdID, "done")
		b := w.must("lamp", `{"op":"set","params":{"kelvin":3000}}`)
		time.Sleep(2 * time.Second)
		if got, _ := l.refreshes(); len(got) != 0 {
			t.Error("asked while a command is unacknowledged")
		}
		l.ack(b.CmdID, "acked")
		l.wantRefresh(time.Now())
		c := w.must("lamp", `{"op":"set","params":{"effect":"blink"}}`)
		if e := l.last(); e.CmdID != c.CmdID {
			t.Errorf("got %+v, want the next command", e)
		}
	})
}

// TestRefreshAnsweredWithinTheSend: the answer is back before the link returns.
func TestRefreshAnsweredWithinTheSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Connected("lamp", 7, "websocket", 0, func(e Envelope) bool {
			if e.Op == "refresh" {
				if _, err := w.Report("lamp", 7, time.Now(), fmt.Appendf(nil, `{"on":true,"cmd":%q}`, e.CmdID)); err != nil {
					t.Error(err)
				}
			}
			return true
		})
		rc := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		if err := w.Answer("lamp", 7, fmt.Appendf(nil, `{"cmd_id":%q,"status":"done"}`, rc.CmdID)); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Second)
		w.wantStatuses(rc.CmdID, "pending sent acked done confirmed")
	})
}

// TestRefreshOfPeople is a command like others. Behind an adapter the device's
// state is its answer, whether it comes before or after the adapter's own word.
func TestRefreshOfPeople(t *testing.T) {
	for _, tt := range []struct{ steps, want string }{
		{"named", "pending sent acked done"},
		{"done", "pending sent acked done"},
		{"bare", "pending sent"},
		{"acked bare", "pending sent acked"},
		{"forwarded bare", "pending sent acked done"},
		{"bare forwarded", "pending sent acked done"},
		{"bare refused forwarded", "pending sent acked done"},
		{"forwarded", "pending sent acked"},
		{"forwarded interim", "pending sent acked"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			l := w.connect("lamp", 7, "mqtt", 1)
			rc := w.must("lamp", `{"op":"refresh"}`)
			for step := range strings.FieldsSeq(tt.steps) {
				switch step {
				case "named":
					l.state(fmt.Sprintf(`{"on":true,"cmd":%q}`, rc.CmdID))
				case "bare":
					l.state(`{"on":true}`)
				case "interim":
					l.state(`{"on":true,"transitioning":true}`)
				case "refused": // the second attempt
					l.mu.Lock()
					l.full = true
					l.mu.Unlock()
					time.Sleep(6 * time.Second)
				case "forwarded":
					w.Forwarded("lamp", 7, rc.CmdID)
					synctest.Wait()
				default:
					l.ack(rc.CmdID, step)
				}
			}
			if got := w.statuses(rc.CmdID); got != tt.want {
				t.Errorf("%s: got %q, want %q", tt.steps, got, tt.want)
			}
		})
	}
}
