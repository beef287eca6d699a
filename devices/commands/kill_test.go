package commands

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/devices"
)

// TestKillAtEachTransition: the hub dies after each step; what it did is told
// rightly by the next one.
func TestKillAtEachTransition(t *testing.T) {
	for _, tt := range []struct {
		name, op, before, after, want string
		sent                          int // by the second hub
	}{
		{"queued", "set", "", "connect acked done shown", "sent acked done confirmed", 1},
		{"sent", "set", "connect", "connect acked done shown", "sent2 acked done confirmed", 1},
		{"acked", "set", "connect acked", "connect done shown", "done confirmed", 1},
		{"done", "set", "connect done", "connect shown", "confirmed", 0},
		{"done, and not shown", "set", "connect done", "connect soon wait", "done(unconfirmed)", 1}, // asked for its state
		{"confirmed", "set", "connect done shown", "connect", "", 0},
		{"sent, and never back", "set", "connect", "wait", "timed_out timed_out(outcome_unknown)", 0},
		{"queued, and never back", "set", "", "wait", "expired", 0},
		{"identify sent", "identify", "connect", "connect wait", "timed_out timed_out(outcome_unknown)", 0},
		{"identify done", "identify", "connect done", "connect wait", "", 0},
		{"restart acked", "restart", "connect acked", "connect wait", "timed_out timed_out(outcome_unknown)", 0},
		{"identify queued", "identify", "", "connect done", "sent acked done", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.live.set("lamp", devices.Offline)
				params := `{"on":true}`
				if tt.op != "set" {
					params = `{}`
				}
				rc := w.must("lamp", fmt.Sprintf(`{"op":%q,"params":%s,"policy":"latest","expires_in_ms":60000}`, tt.op, params))
				w.live.set("lamp", devices.Online)
				var l *lamp
				epoch := int64(7)
				step := func(steps string) {
					for s := range strings.FieldsSeq(steps) {
						switch s {
						case "connect":
							epoch++
							l = w.connect("lamp", epoch, "websocket", 0)
						case "shown":
							l.state(fmt.Sprintf(`{"on":true,"cmd":%q}`, rc.CmdID))
						case "soon":
							time.Sleep(2 * time.Second)
							if e := l.last(); e.Op != "refresh" || e.CmdID == rc.CmdID {
								t.Errorf("got %+v, want its state asked for", e)
							}
						case "wait":
							time.Sleep(5 * time.Minute)
						default:
							l.ack(rc.CmdID, s)
						}
					}
				}
				step(tt.before)
				time.Sleep(50 * time.Millisecond) // written behind by now
				w.kill()
				l = nil
				step(tt.after)
				w.wantStatuses(rc.CmdID, tt.want)
				if l != nil && l.count() != tt.sent {
					t.Errorf("sent %d times, want %d", l.count(), tt.sent)
				}
			})
		})
	}
}

func TestDurableBeforeItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l := w.connect("lamp", 7, "websocket", 0)
		w.store.delay = 100 * time.Millisecond
		start := time.Now()
		done := make(chan error, 1)
		go func() {
			_, err := w.Issue(t.Context(), ana, devices.Origin{}, "lamp", Request{Op: "toggle"})
			done <- err
		}()
		time.Sleep(50 * time.Millisecond)
		if l.count() != 0 {
			t.Error("it left before it was durable")
		}
		if err := <-done; err != nil || time.Since(start) != 100*time.Millisecond || l.count() != 1 {
			t.Errorf("got %v after %v, %d sent", err, time.Since(start), l.count())
		}
		w.store.mu.Lock()
		w.store.delay, w.store.fail = 0, errors.New("disk full")
		w.store.mu.Unlock()
		if _, err := w.issue("lamp", `{"op":"identify"}`); devices.CodeOf(err) != devices.CodePlatformUnavailable {
			t.Errorf("a failing disk: got %v, want platform_unavailable", err)
		}
		if l.count() != 1 {
			t.Error("a command left that is not durable")
		}
		id := l.last().CmdID
		l.ack(id, "done")
		w.store.mu.Lock()
		w.store.fail = nil
		w.store.mu.Unlock()
		time.Sleep(2 * time.Second)
		if row, ok, _ := w.store.Command(t.Context(), "lamp", id); !ok {
			t.Error("the transition was lost")
		} else if r, _ := row.record(); r.Status != Done {
			t.Errorf("stored: got %s, want done", r.Status)
		}
	})
}
