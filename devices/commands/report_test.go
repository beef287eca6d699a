package commands

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
	"devicehub/devices/lights"
)

// TestProof: a set is sent a second after the light said how it is, and what it
// says after that, without a name, confirms it or does not.
func TestProof(t *testing.T) {
	const sent, confirmed = "pending sent", "pending sent acked done confirmed"
	for _, tt := range []struct{ name, before, params, report, want string }{
		{"shown", `{"on":false}`, `{"on":true}`, `{"on":true}`, confirmed},
		{"another state", `{"on":false}`, `{"on":true}`, `{"on":false}`, sent},
		{"under way", `{"on":false}`, `{"brightness":200}`, `{"on":true,"brightness":200,"transitioning":true}`, sent},
		{"by somebody's hand", `{"on":false}`, `{"on":true}`, `{"on":true,"cause":"local"}`, confirmed},
		{"said again", `{"on":true}`, `{"on":true}`, `{"on":true,"cause":"sync"}`, confirmed},
		{"was so, and nothing is said of it", `{"on":true}`, `{"on":true}`, `{"kelvin":3000}`, sent},
		{"was off, and nothing is said of it", `{"on":false}`, `{"on":false,"transition_ms":5}`, `{"brightness":7}`, sent},
		{"what changed alone", `{"on":true,"brightness":9}`, `{"on":true,"brightness":200}`, `{"brightness":200}`, confirmed},
		{"half of it", `{"on":false,"brightness":9}`, `{"on":true,"brightness":200}`, `{"on":true}`, sent},
		{"in percent", `{"on":true}`, `{"brightness":128}`, `{"brightness":127}`, confirmed},
		{"in mireds", `{"on":true}`, `{"kelvin":2700}`, `{"kelvin":2703}`, confirmed},
		{"beyond any scale", `{"on":true}`, `{"brightness":128}`, `{"brightness":120}`, sent},
		{"a colour in white LEDs", `{"on":true,"kelvin":2700}`, `{"rgb":[255,255,255]}`, `{"kelvin":2700}`, confirmed},
		{"named for another", `{"on":false}`, `{"on":true}`, `{"on":true,"cmd":"somebodys"}`, confirmed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				l := w.connect("lamp", 7, "websocket", 0)
				l.state(tt.before)
				time.Sleep(time.Second)
				rc := w.must("lamp", fmt.Sprintf(`{"op":"set","params":%s}`, tt.params))
				w.wantStatuses(rc.CmdID, sent)
				l.state(tt.report)
				w.wantStatuses(rc.CmdID, tt.want)
			})
		})
	}
}

// TestProofOfToggleAndStep: they are shown by what they came to.
func TestProofOfToggleAndStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":false,"brightness":100}`)
		a := w.must("lamp", `{"op":"toggle"}`)
		l.state(`{"on":true,"brightness":100}`)
		w.wantStatuses(a.CmdID, "pending sent acked done confirmed")
		b := w.must("lamp", `{"op":"step","params":{"brightness_delta":50}}`)
		l.state(`{"on":true,"brightness":100}`)
		w.wantStatuses(b.CmdID, "pending sent")
		l.state(`{"brightness":150}`)
		w.wantStatuses(b.CmdID, "pending sent acked done confirmed")
	})
}

// TestNearlyTheSame: what the hub cannot tell from what was asked for shows it,
// unless it was asked for since.
func TestNearlyTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		set := func(params string) string {
			time.Sleep(time.Second)
			return w.must("lamp", fmt.Sprintf(`{"op":"set","params":%s,"expires_in_ms":60000}`, params)).CmdID
		}
		a := set(`{"brightness":181}`)
		l.ack(a, "done")
		b := set(`{"brightness":180}`)
		l.state(`{"on":true,"brightness":180}`)
		w.wantStatuses(a, "pending sent acked done")
		w.wantStatuses(b, "pending sent acked done confirmed")
		l.state(`{"on":true,"brightness":181}`) // it was on its way
		w.wantStatuses(a, "pending sent acked done confirmed")

		a = set(`{"brightness":91}`)
		l.ack(a, "done")
		b = set(`{"brightness":90}`)
		l.ack(b, "done")
		l.state(`{"on":true,"brightness":90}`)
		w.wantStatuses(a, "pending sent acked done")
		w.wantStatuses(b, "pending sent acked done confirmed")
		l.state(`{"on":true,"brightness":91}`)
		w.wantStatuses(a, "pending sent acked done confirmed")
	})
}

// TestProofOfTwoAtOnce: of two commands for other groups each is shown by what is
// said of its own.
func TestProofOfTwoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":true,"kelvin":2000}`)
		power := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		colour := w.must("lamp", `{"op":"set","params":{"kelvin":3000}}`)
		l.state(fmt.Sprintf(`{"kelvin":3000,"cmd":%q}`, colour.CmdID))
		w.wantStatuses(power.CmdID, "pending sent")
		w.wantStatuses(colour.CmdID, "pending sent acked done confirmed")
		l.state(`{"on":true}`)
		w.wantStatuses(power.CmdID, "pending sent acked done confirmed")

		time.Sleep(time.Second)
		power = w.must("lamp", `{"op":"set","params":{"on":false}}`)
		colour = w.must("lamp", `{"op":"set","params":{"kelvin":2500}}`)
		l.state(`{"on":false,"kelvin":2500}`) // one report shows both
		w.wantStatuses(power.CmdID, "pending sent acked done confirmed")
		w.wantStatuses(colour.CmdID, "pending sent acked done confirmed")
	})
}

// TestWhenAReportCame: what the hub had before it last sent the command proves
// nothing, whenever it comes to look at it.
func TestWhenAReportCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		early := time.Now()
		time.Sleep(time.Millisecond)
		a := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		l.stateAt(early, `{"on":true}`)
		w.wantStatuses(a.CmdID, "pending sent")
		between := time.Now().Add(time.Second)
		time.Sleep(2100 * time.Millisecond)
		l.stateAt(between, `{"on":true}`) // between the attempts, and handled after the second
		w.wantStatuses(a.CmdID, "pending sent sent2")
		l.state(`{"on":true}`)
		w.wantStatuses(a.CmdID, "pending sent sent2 acked done confirmed")

		b := w.must("lamp", `{"op":"set","params":{"on":false}}`)
		time.Sleep(1900 * time.Millisecond)
		n := l.count()
		l.state(`{"on":false}`) // before the second attempt, which is not needed then
		time.Sleep(time.Minute)
		w.wantStatuses(b.CmdID, "pending sent acked done confirmed")
		if l.count() != n {
			t.Errorf("sent again: %+v", l.got[n:])
		}
	})
}

func TestProofOverAnOlderConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		old := w.connect("lamp", 7, "websocket", 0)
		l := w.connect("lamp", 8, "websocket", 0)
		rc := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		old.state(`{"on":true}`)
		w.wantStatuses(rc.CmdID, "pending sent")
		l.epoch = 9 // newer than the one by which it was sent
		l.state(`{"on":true}`)
		w.wantStatuses(rc.CmdID, "pending sent acked done confirmed")
	})
}

// joins is a device that says how it is while it joins, before it hears commands.
func (w *world) joins(epoch int64, reported string, args ...any) *lamp {
	w.t.Helper()
	(&lamp{w: w, id: "lamp", epoch: epoch}).state(fmt.Sprintf(reported, args...))
	return w.connect("lamp", epoch, "websocket", 0)
}

// TestJoinShows: the connection is cut before the answer, and the device says how
// it is when it joins again.
func TestJoinShows(t *testing.T) {
	for _, tt := range []struct {
		name, reported string
		at             time.Duration // since the command was sent, of reported_at
		ahead          time.Duration // of the device's clock, as the hub knows it
		confirmed      bool
	}{
		{name: "as it is now", reported: `{"on":true,"cause":"sync"}`, confirmed: true},
		{name: "as it was after the command", reported: `{"on":true,"cause":"sync","t":%d}`, at: 100 * time.Millisecond, confirmed: true},
		{name: "as it was before", reported: `{"on":true,"cause":"sync","t":%d}`, at: -100 * time.Millisecond},
		{name: "after, by a slow clock", reported: `{"on":true,"cause":"sync","t":%d}`, at: -time.Hour + time.Second, ahead: -time.Hour, confirmed: true},
		{name: "before, by a fast clock", reported: `{"on":true,"cause":"sync","t":%d}`, at: time.Minute - time.Second, ahead: time.Minute},
		{name: "another state", reported: `{"on":false,"cause":"sync"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))) // before 2015 no clock is set
				w := newWorld(t)
				w.ahead.Store(tt.ahead.Milliseconds())
				w.connect("lamp", 7, "websocket", 0)
				rc := w.must("lamp", `{"op":"set","params":{"on":true}}`)
				reported := tt.reported
				if strings.Contains(reported, "%d") {
					reported = fmt.Sprintf(reported, time.Now().Add(tt.at).UnixMilli())
				}
				w.Disconnected("lamp", 7)
				time.Sleep(time.Second)
				l := w.joins(8, "%s", reported)
				want, sent := "pending sent sent2", 1
				if tt.confirmed {
					want, sent = "pending sent acked done confirmed", 0
				}
				w.wantStatuses(rc.CmdID, want)
				if l.count() != sent {
					t.Errorf("sent %d times over the new connection, want %d", l.count(), sent)
				}
			})
		})
	}
}

// TestJoinShowsAfterARestart: what the device did is shown when it comes back to a
// hub that has been killed meanwhile.
func TestJoinShowsAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
		w := newWorld(t)
		w.connect("lamp", 7, "websocket", 0)
		rc := w.must("lamp", `{"op":"set","params":{"on":true},"expires_in_ms":60000}`)
		time.Sleep(50 * time.Millisecond)
		at := time.Now()
		time.Sleep(time.Second)
		w.kill()
		time.Sleep(time.Second)
		if l := w.joins(8, `{"on":true,"cause":"sync","t":%d}`, at.UnixMilli()); l.count() != 0 {
			t.Errorf("sent again: %+v", l.got)
		}
		w.wantStatuses(rc.CmdID, "acked done confirmed")
	})
}

// TestABlipHoldsNothingUp: the light has done the command, and the connection is
// cut before it can say so. Back, it knows the command and says done, and has no
// reason to tell its state again. The next command reaches it at once.
func TestABlipHoldsNothingUp(t *testing.T) {
	for _, reported := range []string{"", `{"on":true,"cause":"sync"}`} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.connect("lamp", 7, "websocket", 0)
			a := w.must("lamp", `{"op":"set","params":{"on":true}}`)
			time.Sleep(500 * time.Millisecond)
			w.Disconnected("lamp", 7)
			time.Sleep(500 * time.Millisecond)
			if reported != "" {
				(&lamp{w: w, id: "lamp", epoch: 8}).state(reported)
			}
			l := w.connect("lamp", 8, "websocket", 0)
			for _, e := range l.got { // the same id again
				l.ack(e.CmdID, "done")
			}
			start := time.Now()
			b := w.must("lamp", `{"op":"set","params":{"brightness":9}}`)
			for l.count() == 0 || l.last().CmdID != b.CmdID {
				time.Sleep(10 * time.Millisecond)
			}
			if took := time.Since(start); took > 0 {
				t.Errorf("the next command took %v", took)
			}
			l.state(`{"on":true,"brightness":9}`)
			for _, id := range []string{a.CmdID, b.CmdID} {
				if r, err := w.Get(t.Context(), ana, "lamp", id); err != nil || r.Status != Confirmed {
					t.Errorf("got %+v %v, want confirmed", r, err)
				}
			}
		})
	}
}

// TestAnswerWithinTheSend: a lamp behind a broker answers before the hub has noted
// that it passed the command on, or even that it sent it.
func TestAnswerWithinTheSend(t *testing.T) {
	for _, tt := range []struct {
		name         string
		state, taken time.Duration // after the hand-over; 0: within it
	}{
		{"state within the send", 0, 5 * time.Millisecond},
		{"both within the send", 0, 0},
		{"passed on within the send", 5 * time.Millisecond, 0},
		{"state first", time.Millisecond, 5 * time.Millisecond},
		{"state last", 5 * time.Millisecond, time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				later := func(d time.Duration, f func()) {
					if d == 0 {
						f()
					} else {
						time.AfterFunc(d, f)
					}
				}
				got := 0
				w.Connected("lamp", 0, "bridge:house", 1, func(e Envelope) bool {
					got++
					time.Sleep(time.Millisecond)
					later(tt.state, func() {
						state := fmt.Sprintf(`{"on":true,"brightness":%v}`, e.Params["brightness"])
						if _, err := w.Report("lamp", 0, time.Now(), []byte(state)); err != nil {
							t.Error(err)
						}
					})
					later(tt.taken, func() { w.Forwarded("lamp", 0, e.CmdID) })
					return true
				})
				for i := range 150 {
					rc := w.must("lamp", fmt.Sprintf(`{"op":"set","params":{"brightness":%d}}`, 1+i))
					time.Sleep(120 * time.Millisecond) // ten a second
					w.wantStatuses(rc.CmdID, "pending sent acked done confirmed")
					r, err := w.Get(t.Context(), ana, "lamp", rc.CmdID)
					h := r.Hops
					if err != nil || h.Wire == nil || h.Device == nil || h.Confirm == nil || *h.Wire > 10 || *h.Device > 10 || *h.Confirm < 0 || *h.Confirm > 10 {
						t.Fatalf("hops: got %+v %v", r, err)
					}
				}
				if got != 150 {
					t.Errorf("sent %d times, want 150", got)
				}
			})
		})
	}
}

// TestShownButNotSent: what the device says while the link refuses the command
// proves nothing of it.
func TestShownButNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var free atomic.Bool
		w.Connected("lamp", 7, "websocket", 0, func(Envelope) bool {
			if _, err := w.Report("lamp", 7, time.Now(), []byte(`{"on":true}`)); err != nil {
				t.Error(err)
			}
			return free.Load()
		})
		rc := w.must("lamp", `{"op":"set","params":{"on":true}}`)
		w.wantStatuses(rc.CmdID, "pending")
		free.Store(true)
		time.Sleep(300 * time.Millisecond)
		w.wantStatuses(rc.CmdID, "pending sent acked done confirmed")
	})
}

// TestProofAfterTheTimeout: a light that is shown to have done it after all was
// late, unless it may have been another command's doing.
func TestProofAfterTheTimeout(t *testing.T) {
	for _, overtaken := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			l := w.connect("lamp", 7, "websocket", 0)
			a := w.must("lamp", `{"op":"set","params":{"on":true}}`)
			time.Sleep(20 * time.Second)
			want := "pending sent sent2 sent3 timed_out late_done"
			if overtaken {
				w.must("lamp", `{"op":"set","params":{"on":true}}`)
				want = "pending sent sent2 sent3 timed_out"
			}
			l.state(`{"on":true}`)
			w.wantStatuses(a.CmdID, want)
		})
	}
}

// TestGroupIsFreeWhenDone: what is done holds nothing up, and what it was for is
// what a toggle counts from.
func TestGroupIsFreeWhenDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		l.state(`{"on":false}`)
		a := w.must("lamp", `{"op":"toggle"}`)
		b := w.must("lamp", `{"op":"set","params":{"brightness":9}}`)
		l.ack(a.CmdID, "acked")
		w.wantStatuses(b.CmdID, "pending")
		l.ack(a.CmdID, "done")
		w.wantStatuses(b.CmdID, "pending sent")
		l.ack(b.CmdID, "done")
		l.state(`{"on":false}`) // as it was before all that
		c := w.must("lamp", `{"op":"toggle"}`)
		if e := l.last(); e.CmdID != c.CmdID || e.Params["on"] != false {
			t.Errorf("toggle of what is done: got %+v", e)
		}
		l.state(fmt.Sprintf(`{"on":false,"cmd":%q}`, c.CmdID))
		time.Sleep(300 * time.Millisecond)
		d := w.must("lamp", `{"op":"toggle"}`) // the first is long undone
		if e := l.last(); e.CmdID != d.CmdID || e.Params["on"] != true {
			t.Errorf("toggle of what is confirmed: got %+v", e)
		}
		time.Sleep(time.Second)
		off := w.must("lamp", `{"op":"set","params":{"on":false}}`)
		l.ack(off.CmdID, "done")
		colour := w.must("lamp", `{"op":"set","params":{"kelvin":3000}}`) // which switches it on
		l.state(fmt.Sprintf(`{"on":true,"kelvin":3000,"cmd":%q}`, colour.CmdID))
		time.Sleep(time.Second)
		e := w.must("lamp", `{"op":"toggle"}`)
		if got := l.last(); got.CmdID != e.CmdID || got.Params["on"] != false {
			t.Errorf("toggle of a light that a colour has switched on: got %+v", got)
		}
	})
}

// TestUnprovenIsBounded: a light that does everything and shows nothing does not
// fill the hub, however long its commands may wait.
func TestUnprovenIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		for i := range 400 {
			rc := w.must("lamp", fmt.Sprintf(`{"op":"set","params":{"brightness":%d},"policy":"latest"}`, 1+i%250))
			time.Sleep(110 * time.Millisecond)
			l.ack(rc.CmdID, "done")
		}
		st := w.Stats()
		if st.Open != maxUnproven || st.Ended[Done] != 400-maxUnproven {
			t.Errorf("got %+v, want %d open and the rest done", st, maxUnproven)
		}
		rs, _, err := w.History(t.Context(), ana, "lamp", 200, "")
		if err != nil || rs[0].Code != "" || rs[199].Status != Done || rs[199].Code != CodeUnconfirmed {
			t.Errorf("the last: %+v, an early one: %+v, %v", rs[0], rs[199], err)
		}
		if got := w.Delta("lamp"); got["brightness"] != 1.0+399%250 {
			t.Errorf("delta: got %v, want the last", got)
		}
	})
}

// TestUnresponsive: an answer without a name is one.
func TestUnresponsive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		want := func(answered, unanswered int) {
			t.Helper()
			synctest.Wait()
			w.live.mu.Lock()
			defer w.live.mu.Unlock()
			if a, u := w.live.answered["lamp"], w.live.unanswered["lamp"]; a != answered || u != unanswered {
				t.Errorf("told %d times that it answered and %d that it did not, want %d and %d", a, u, answered, unanswered)
			}
		}
		w.must("lamp", `{"op":"set","params":{"on":true}}`)
		l.state(`{"on":false}`) // of something else
		want(0, 0)
		l.state(`{"on":true}`)
		want(1, 0)
		time.Sleep(time.Minute)
		want(1, 0)
		w.must("lamp", `{"op":"set","params":{"brightness":9}}`)
		time.Sleep(time.Minute)
		want(1, 1)
	})
}

// TestHopsAfterARestart: the times of a command that lived through a restart are
// times, too.
func TestHopsAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		rc := w.must("lamp", `{"op":"set","params":{"on":true},"expires_in_ms":60000}`)
		time.Sleep(20 * time.Millisecond)
		l.ack(rc.CmdID, "acked")
		time.Sleep(30 * time.Millisecond)
		l.ack(rc.CmdID, "done")
		time.Sleep(time.Second)
		w.kill()
		w.joins(8, `{"on":true}`)
		r, err := w.Get(t.Context(), ana, "lamp", rc.CmdID)
		if err != nil || r.Status != Confirmed || *r.Hops.Wire != 20 || *r.Hops.Device != 30 || *r.Hops.Confirm != 1000 {
			t.Errorf("got %+v %v, want 20, 30 and 1000 ms", r, err)
		}
	})
}

// TestWhatIsDoneIsNotDoneAgain: after a restart a command that was done is not
// sent again, least of all behind a newer one.
func TestWhatIsDoneIsNotDoneAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		a := w.must("lamp", `{"op":"set","params":{"on":true},"expires_in_ms":60000}`)
		l.ack(a.CmdID, "done")
		b := w.must("lamp", `{"op":"set","params":{"on":false},"expires_in_ms":60000}`)
		l.state(fmt.Sprintf(`{"on":false,"cmd":%q}`, b.CmdID))
		time.Sleep(time.Second)
		w.kill()
		l = w.connect("lamp", 8, "websocket", 0)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for _, e := range l.got {
			if lights.Op(e.Op) == lights.Set {
				t.Errorf("sent again: %+v", e)
			}
		}
		w.wantStatuses(a.CmdID, "done(unconfirmed)")
	})
}

// TestOvertakenIsNotAskedAgain: the hub is killed before it has written down that
// one command was done and the next one sent. The device answers the next one,
// before it is asked for the first again or while that waits.
func TestOvertakenIsNotAskedAgain(t *testing.T) {
	for _, early := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			l := w.connect("lamp", 7, "websocket", 0)
			colour := w.must("lamp", `{"op":"set","params":{"kelvin":3000},"expires_in_ms":60000}`)
			a := w.must("lamp", `{"op":"set","params":{"on":true},"expires_in_ms":60000}`)
			time.Sleep(time.Second)
			b := w.must("lamp", `{"op":"set","params":{"on":false},"policy":"all","expires_in_ms":60000}`)
			l.ack(a.CmdID, "done")
			w.wantStatuses(b.CmdID, "pending sent")
			w.kill()
			l.epoch = 8
			if early {
				l.ack(b.CmdID, "done")
			}
			l2 := w.connect("lamp", 8, "mqtt", 1)
			if e := l2.last(); l2.count() != 1 || e.CmdID != colour.CmdID {
				t.Errorf("got %+v, want the colour again", l2.got)
			}
			if !early {
				l.ack(b.CmdID, "done")
			}
			l.ack(colour.CmdID, "done")
			time.Sleep(time.Minute)
			synctest.Wait()
			for _, e := range l2.got[1:] {
				if e.Op == "set" {
					t.Errorf("sent again: %+v", e)
				}
			}
		})
	}
}

// TestDesiredStateWaitsForTheProof: what is done is not asked for again because
// it is not shown yet.
func TestDesiredStateWaitsForTheProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("sign", 7, "websocket", 0)
		rc := w.must("sign", `{"op":"set","params":{"on":true}}`)
		l.ack(rc.CmdID, "done")
		w.Disconnected("sign", 7)
		l = w.connect("sign", 8, "websocket", 0)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for _, e := range l.got {
			if e.Op == "set" {
				t.Errorf("asked for again: %+v", e)
			}
		}
		if got := devices.ID("sign"); w.Delta(got)["on"] != true {
			t.Errorf("delta: got %v, want it to stand", w.Delta(got))
		}
	})
}
