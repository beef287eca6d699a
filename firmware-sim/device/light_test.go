package device

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inFewWords is what a light says: acked, done; report, or report(c) for command c; break where it
// broke its connection.
func (l *fakeLink) inFewWords(t *testing.T) string {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, s := range l.said {
		var said struct {
			ID, Status, Mode, Cmd string
		}
		if s == "break" {
			out = append(out, s)
			continue
		}
		if err := json.Unmarshal([]byte(s), &said); err != nil {
			t.Fatal(err)
		}
		switch {
		case said.Status != "":
			out = append(out, said.Status)
		case said.Cmd != "":
			out = append(out, "report("+said.Cmd+")")
		default:
			out = append(out, "report")
		}
	}
	return strings.Join(out, " ")
}

// A light shows what a command has made of it in the way that was drawn.
func TestWaysToReport(t *testing.T) {
	tests := []struct {
		name   string
		way    Reporting
		want   string // after a set
		asked  string // after a refresh, too
		joined string // and after a reconnect
	}{
		{"after", ReportAfter, "acked done report(c1)", "acked done report(c2)", "report"},
		{"before", ReportBefore, "acked report(c1) done", "acked done report(c2)", "report"},
		{"early", ReportEarly, "report acked done", "acked done report(c2)", "report"},
		{"plain", ReportPlain, "acked done report", "acked done report(c2)", "report"},
		{"asked", ReportAsked, "acked done", "acked done report(c2)", "report"},
		{"never", ReportNever, "acked done", "acked done", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shown := 0
				d, l := newTest(
					t,
					Config{
						Light: &LightConfig{Exec: constant(20), Reports: func(*rand.Rand) Reporting { return tt.way }},
						Hooks: Hooks{Reported: func(s LightState) func() { shown++; return nil }},
					},
				)
				words := func(do func()) string {
					l.said = nil
					do()
					time.Sleep(time.Second)
					synctest.Wait()
					return l.inFewWords(t)
				}
				if got := words(func() { d.command([]byte(`{"cmd_id":"c1","op":"set","params":{"brightness":5}}`), request{}) }); got != tt.want {
					t.Errorf("after a set: %s, want %s", got, tt.want)
				}
				if s, _ := d.State(); s.Brightness != 5 {
					t.Errorf("brightness %d, want 5", s.Brightness)
				}
				if got := words(func() { d.command([]byte(`{"cmd_id":"c2","op":"refresh"}`), request{}) }); got != tt.asked {
					t.Errorf("after a refresh: %s, want %s", got, tt.asked)
				}
				if got := words(func() { d.welcomed(welcome{}, "sync") }); got != tt.joined {
					t.Errorf("after a reconnect: %s, want %s", got, tt.joined)
				}
				if want := strings.Count(tt.want+tt.asked+tt.joined, "report"); shown != want {
					t.Errorf("%d reports were told of, want %d", shown, want)
				}
				words(d.Press)
				if got := words(func() { d.welcomed(welcome{}, "sync") }); got != "report" {
					t.Errorf("after a hand at the switch: %q, want a report", got)
				}
			})
		})
	}
}

// A light that hangs acknowledges, and does nothing.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ran := 0
		d, l := newTest(t, Config{Light: &LightConfig{HangPct: 100}, Hooks: Hooks{Ran: func(Command) { ran++ }}})
		d.command([]byte(`{"cmd_id":"c","op":"set","params":{"brightness":5}}`), request{})
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := l.inFewWords(t); got != "acked" || ran > 0 {
			t.Errorf("said %q, ran %d times", got, ran)
		}
	})
}

// The connection breaks at the moment that was asked for, once, and the command is executed all the
// same.
func TestBlip(t *testing.T) {
	for n, want := range []string{"break acked done report(c)", "acked break done report(c)", "acked break done report(c)"} {
		synctest.Test(t, func(t *testing.T) {
			var order []string
			d, l := newTest(
				t,
				Config{
					Light: &LightConfig{Exec: constant(20)},
					Hooks: Hooks{Ran: func(Command) { order = append(order, "ran") }},
				},
			)
			d.Blip(n)
			d.command([]byte(`{"cmd_id":"c","op":"set","params":{"brightness":5}}`), request{})
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			l.mu.Lock()
			drops := l.drops
			l.mu.Unlock()
			if drops > 0 != (n < 2) {
				t.Errorf("%d: before it was executed the connection broke %d times", n, drops)
			}
			time.Sleep(time.Second)
			d.command([]byte(`{"cmd_id":"d","op":"identify"}`), request{})
			time.Sleep(time.Second)
			synctest.Wait()
			if got := l.inFewWords(t); !strings.HasPrefix(got, want) || l.drops != 1 ||
				!slices.Equal(order, []string{"ran", "ran"}) {
				t.Errorf("%d: %s, want it to begin with %s; %d breaks, %v", n, got, want, l.drops, order)
			}
		})
	}
}

// A command is executed once, whenever the power goes; what was not executed by then begins anew.
func TestPowerCycleDuringACommand(t *testing.T) {
	tests := []struct {
		name string
		ms   int    // when the power goes
		want string // what is said when the command comes again, as it does at 70 ms
	}{
		{"while it thinks", 5, "acked done report(c)"},
		{"before it is executed", 20, "acked done report(c)"},
		{"while it is executed", 40, "done"},
		{"after its end", 50, "done"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ran := 0
				var d *Device
				d, l := newTest(t, Config{
					Light: &LightConfig{Ack: constant(10), Exec: constant(30)},
					Hooks: Hooks{Ran: func(Command) {
						if ran++; tt.ms == 40 {
							d.Restart()
						}
					}},
				})
				again := func() {
					d.command([]byte(`{"cmd_id":"c","op":"set","params":{"brightness":5}}`), request{})
				}
				again()
				time.Sleep(time.Duration(tt.ms) * time.Millisecond)
				if tt.ms != 40 {
					d.Restart()
				}
				time.Sleep(time.Duration(70-tt.ms) * time.Millisecond)
				synctest.Wait()
				l.said = nil
				again()
				time.Sleep(time.Second)
				synctest.Wait()
				if got := l.inFewWords(t); got != tt.want || ran != 1 {
					t.Errorf("ran %d times, and says %q; want once, and %q", ran, got, tt.want)
				}
			})
		})
	}
}
