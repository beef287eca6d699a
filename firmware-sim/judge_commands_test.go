package sim

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/firmware-sim/device"
	"devicehub/firmware-sim/profile"
)

// A command that has its end by another's report, and was on its way when the connection ended, is
// not lost; one that a connection which stood did not bring is.
func TestCommandThatNeverCame(t *testing.T) {
	tests := []struct {
		name string
		ends time.Duration // after the command was given; 0: it does not
		want string
	}{
		{"the connection stands", 0, "cmd_lost"},
		{"it ends soon after", time.Second, ""},
		{"it ends long after", time.Minute, "cmd_lost"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &unit{id: "d", group: new(profile.Group), up: true, since: time.Now()}
				var log commandLog
				c := &issued{unit: u, id: "c", op: "set", given: time.Now()}
				log.add(c)
				u.ledger.reporting(device.LightState{On: true, Brightness: 7})
				since := u.standing()
				time.Sleep(100 * time.Millisecond)
				log.stood(c, since, true)
				log.ended(c, statusConfirmed, "", true)
				if tt.ends > 0 {
					time.Sleep(tt.ends)
					u.hooks(&Sim{stats: newStats()}).Down(nil)
				}
				rec := CommandRecord{ID: "c", Op: "set", Params: []byte(`{"brightness":7}`), Status: statusConfirmed}
				got := ""
				for _, f := range u.judgeCommand(c, rec, time.Now()) {
					got += f.verdict
				}
				if got != tt.want {
					t.Errorf("found %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// What a hub was killed over it may have told and not written down; what it told long before, or
// shows after it, it has to know.
func TestToldBeforeAKill(t *testing.T) {
	tests := []struct {
		name   string
		before time.Duration // from the end that was told to the kill
		shown  string        // after it
		want   string
	}{
		{"at once", time.Second, "", ""},
		{"at once, and another end after it", time.Second, statusConfirmed, ""},
		{"at once, and a third end after it", time.Second, statusFailed, "cmd_differs"},
		{"long before", time.Minute, "", "cmd_differs"},
		{"long before, and another end after it", time.Minute, statusConfirmed, "cmd_differs"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rec := CommandRecord{ID: "c", Op: "set", Params: []byte(`{"on":true}`), Status: statusConfirmed}
				hub := hubOfOne(t, rec)
				u := &unit{id: "d", group: new(profile.Group)}
				s := &Sim{stats: newStats(), units: []*unit{u}, api: hub}
				c := &issued{unit: u, id: "c", op: "set", given: time.Now()}
				s.judge.commands.add(c)
				u.ledger.command("c", ran)
				u.ledger.reporting(device.LightState{On: true})
				s.judge.commands.ended(c, statusSuperseded, "", true)
				time.Sleep(tt.before)
				s.faults.set(true)
				time.Sleep(time.Second)
				s.faults.set(false)
				time.Sleep(10 * time.Second)
				if tt.shown != "" {
					s.judge.commands.shown(CommandRecord{ID: "c", Status: tt.shown})
				}
				time.Sleep(10 * time.Second)
				s.judgeCommands(t.Context(), u, []*issued{c})
				got := ""
				for name, v := range s.judge.verdicts {
					if v.Count > 0 {
						got += name
					}
				}
				if got != tt.want || len(s.judge.failures) > 0 {
					t.Errorf("found %q, want %q; failures %v", got, tt.want, s.judge.failures)
				}
			})
		})
	}
}

// hubOfOne is a client of a hub that has one command, over no network.
func hubOfOne(t *testing.T, rec CommandRecord) *API {
	t.Helper()
	u, err := url.Parse("http://hub")
	if err != nil {
		t.Fatal(err)
	}
	a := NewAPI(u, "", "", "token")
	a.http.Transport = answering(func() any { return map[string]any{"commands": []CommandRecord{rec}} })
	return a
}

// answering is a hub with one answer.
type answering func() any

func (f answering) RoundTrip(*http.Request) (*http.Response, error) {
	b, err := json.Marshal(f())
	return &http.Response{StatusCode: 200, Body: io.NopCloser(bytes.NewReader(b))}, err
}
