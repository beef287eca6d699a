package commands

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

// TestAnyOrderOfAnswers: what was missed in between is told as it must have been.
func TestAnyOrderOfAnswers(t *testing.T) {
	for _, tt := range []struct{ name, answers, want string }{
		{"in order", "acked done shown", "pending sent acked done confirmed"},
		{"done alone", "done shown", "pending sent acked done confirmed"},
		{"shown alone", "shown", "pending sent acked done confirmed"},
		{"shown first", "shown acked done", "pending sent acked done confirmed"},
		{"acked late", "done acked shown", "pending sent acked done confirmed"},
		{"twice", "acked acked done done shown shown", "pending sent acked done confirmed"},
		{"another state", "done other", "pending sent acked done"},
		{"without a name after the ack", "acked bare", "pending sent acked done confirmed"},
		{"without a name before the ack", "bare acked done", "pending sent acked done confirmed"},
		{"without a name after done", "done bare", "pending sent acked done confirmed"},
		{"without a name, another state", "bare-other done", "pending sent acked done"},
		{"without a name, under way", "interim acked", "pending sent acked"},
		{"failed", "acked failed", "pending sent acked failed"},
		{"rejected at once", "rejected done shown", "pending sent rejected"},
		{"failed after it was done", "done failed", "pending sent acked done"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				l := w.connect("lamp", 7, "websocket", 0)
				rc := w.must("lamp", `{"op":"set","params":{"on":true}}`)
				for a := range strings.FieldsSeq(tt.answers) {
					switch a {
					case "shown":
						l.state(fmt.Sprintf(`{"on":true,"cmd":%q}`, rc.CmdID))
					case "other":
						l.state(fmt.Sprintf(`{"on":false,"cmd":%q}`, rc.CmdID))
					case "bare":
						l.state(`{"on":true}`)
					case "bare-other":
						l.state(`{"on":false}`)
					case "interim":
						l.state(`{"on":true,"transitioning":true}`)
					default:
						l.ack(rc.CmdID, a)
					}
				}
				w.wantStatuses(rc.CmdID, tt.want)
			})
		})
	}
}

func TestUnansweredIsSentThreeTimes(t *testing.T) {
	for _, tt := range []struct {
		transport, request, want string
		at                       []time.Duration
	}{
		{"websocket", `{"op":"set","params":{"on":true}}`, "pending sent sent2 sent3 timed_out timed_out(outcome_unknown)", []time.Duration{0, 2 * time.Second, 4 * time.Second}},
		{"mqtt", `{"op":"set","params":{"on":true}}`, "pending sent sent2 sent3 timed_out timed_out(outcome_unknown)", []time.Duration{0, 5 * time.Second, 10 * time.Second}},
		{"longpoll", `{"op":"set","params":{"on":true}}`, "pending sent sent2 sent3 timed_out timed_out(outcome_unknown)", []time.Duration{0, 15 * time.Second, 30 * time.Second}},
		{"websocket", `{"op":"set","params":{"on":true},"expires_in_ms":3000}`, "pending sent sent2 timed_out timed_out(outcome_unknown)", []time.Duration{0, 2 * time.Second}},
		{"websocket", `{"op":"identify"}`, "pending sent timed_out timed_out(outcome_unknown)", []time.Duration{0}},
		{"websocket", `{"op":"restart"}`, "pending sent timed_out timed_out(outcome_unknown)", []time.Duration{0}},
	} {
		t.Run(tt.transport+tt.request, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				start := time.Now()
				l := w.connect("lamp", 7, devices.Transport(tt.transport), 0)
				rc := w.must("lamp", tt.request)
				time.Sleep(3 * time.Minute)
				w.wantStatuses(rc.CmdID, tt.want)
				var at []time.Duration
				for i, e := range l.got {
					at = append(at, l.at[i].Sub(start))
					if e.Attempt != i+1 || e.CmdID != rc.CmdID || e.TTLMS != e.ExpiresAt-l.at[i].UnixMilli() {
						t.Errorf("envelope %d: %+v", i, e)
					}
				}
				if !slices.Equal(at, tt.at) {
					t.Errorf("sent at %v, want %v", at, tt.at)
				}
				if w.live.unanswered["lamp"] != 1 {
					t.Errorf("told unresponsive %d times, want once", w.live.unanswered["lamp"])
				}
				if len(w.shadows.Delta("lamp")) != 0 {
					t.Errorf("delta: got %v, want none", w.shadows.Delta("lamp"))
				}
			})
		})
	}
}

func TestLateAnswers(t *testing.T) {
	for _, tt := range []struct{ name, answer, want string }{
		{"done", "done", "pending sent sent2 sent3 timed_out late_done"},
		{"failed", "failed", "pending sent sent2 sent3 timed_out failed"},
		{"rejected", "rejected", "pending sent sent2 sent3 timed_out failed"},
		{"acked only", "acked", "pending sent sent2 sent3 timed_out timed_out(outcome_unknown)"},
		{"shown", "shown", "pending sent sent2 sent3 timed_out late_done"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				l := w.connect("lamp", 7, "websocket", 0)
				rc := w.must("lamp", `{"op":"set","params":{"on":true}}`)
				time.Sleep(65 * time.Second) // expired 55 s ago
				if tt.answer == "shown" {
					l.state(fmt.Sprintf(`{"on":true,"cmd":%q}`, rc.CmdID))
				} else {
					l.ack(rc.CmdID, tt.answer)
				}
				time.Sleep(time.Minute)
				w.wantStatuses(rc.CmdID, tt.want)
				l.ack(rc.CmdID, "done") // final by now
				w.wantStatuses(rc.CmdID, tt.want)
			})
		})
	}
}

func TestDoneWithoutAStateToShow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		set := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		l.ack(set.CmdID, "done")
		id := w.must("lamp", `{"op":"identify","params":{"ms":1000}}`)
		l.ack(id.CmdID, "done")
		slow := w.must("lamp", `{"op":"set","params":{"kelvin":3000,"transition_ms":20000}}`)
		l.ack(slow.CmdID, "done")
		time.Sleep(15 * time.Second)
		w.wantStatuses(set.CmdID, "pending sent acked done done(unconfirmed)")
		w.wantStatuses(id.CmdID, "pending sent acked done")
		l.state(`{"kelvin":3000}`)
		w.wantStatuses(slow.CmdID, "pending sent acked done confirmed")
	})
}

func TestRestartIsConfirmedByANewBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.Booted("lamp", 7, "boot1")
		l := w.connect("lamp", 7, "websocket", 0)
		rc := w.must("lamp", `{"op":"restart"}`)
		l.ack(rc.CmdID, "acked")
		w.Disconnected("lamp", 7)
		time.Sleep(20 * time.Second)
		w.Booted("lamp", 8, "boot1") // the network only
		w.wantStatuses(rc.CmdID, "pending sent acked")
		w.Booted("lamp", 9, "boot2")
		w.wantStatuses(rc.CmdID, "pending sent acked done confirmed")
		if l2 := w.connect("lamp", 9, "websocket", 0); l2.count() != 0 {
			t.Error("restart was sent again")
		}
	})
}

func TestSyncIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":true,"brightness":5,"cause":"boot"}`)
		n := len(w.told)
		l.state(`{"on":true,"brightness":5,"cause":"sync"}`)
		l.state(`{"on":true,"cause":"boot"}`)
		if len(w.told) != n {
			t.Errorf("told %v", w.told[n:])
		}
		l.state(`{"on":true,"transitioning":true,"brightness":50,"target":{"brightness":100}}`)
		if e := w.told[len(w.told)-1]; e.Key != "state" || e.Payload.(map[string]any)["transitioning"] != true {
			t.Errorf("interim: got %+v", e)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"cmd_id":"01JD","status":"done","exec_ms":12.5}`))
	f.Add([]byte(`{"cmd_id":"01JD","status":"failed","code":"hot","msg":"too hot"}`))
	f.Add([]byte(`{"cmd_id":null,"status":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b)
		if err != nil {
			if devices.CodeOf(err) == "" {
				t.Fatalf("an error without a code: %v", err)
			}
			return
		}
		if !validID(a.CmdID) || len(a.Code) > maxCode || len(a.Msg) > maxMsg {
			t.Fatalf("accepted %+v", a)
		}
	})
}
