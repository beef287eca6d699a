package device

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeLink keeps what a device sends; the test answers.
type fakeLink struct {
	mu     sync.Mutex
	pushes []arrival
	states []string
	acks   []string
	raws   []string
	said   []string // states and acks, in their order
	drops  int
}

type arrival struct {
	payload string
	form    Form
	answer  func(verdict)
}

func (l *fakeLink) run(ctx context.Context) error { <-ctx.Done(); return nil }
func (l *fakeLink) readings(p push, answer func(verdict)) bool {
	l.mu.Lock()
	l.pushes = append(l.pushes, arrival{string(p.payload), p.form, answer})
	l.mu.Unlock()
	if p.form.Delivery == AtMostOnce {
		answer(verdict{decided: true, unheard: true})
	}
	return true
}
func (l *fakeLink) state(p []byte, _ func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.states, l.said = append(l.states, string(p)), append(l.said, string(p))
}
func (l *fakeLink) ack(p []byte, _ answerTo, _ func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acks, l.said = append(l.acks, string(p)), append(l.said, string(p))
}
func (l *fakeLink) raw(event string, p []byte) { l.raws = append(l.raws, event+" "+string(p)) }
func (l *fakeLink) drop(time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, "break")
	l.drops++
}
func (l *fakeLink) abandon(time.Duration) {}
func (l *fakeLink) cork()                 {}
func (l *fakeLink) leave(time.Duration)   {}
func (l *fakeLink) reconnect()            {}
func (l *fakeLink) stall(time.Duration)   {}
func (l *fakeLink) garbage()              {}
func (l *fakeLink) stage() Stage          { return Joined }

// take returns the pushes since the last take.
func (l *fakeLink) take() []arrival {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.pushes
	l.pushes = nil
	return out
}

// newTest returns a running device on a fake link, in a bubble.
func newTest(t *testing.T, cfg Config) (*Device, *fakeLink) {
	t.Helper()
	cfg.ID, cfg.Hub = "d", &url.URL{Scheme: "http", Host: "hub"}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l := new(fakeLink)
	d.link = l
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return d, l
}

// seqs are the numbers in a push.
func seqs(t *testing.T, p arrival) string {
	t.Helper()
	var in struct {
		S, S0 uint64
		R     []any
	}
	if err := json.Unmarshal([]byte(p.payload), &in); err != nil {
		t.Fatalf("push %s: %v", p.payload, err)
	}
	switch {
	case in.R == nil:
		return fmt.Sprint(in.S)
	case len(in.R) == 1:
		return fmt.Sprint(in.S0)
	}
	return fmt.Sprintf("%d-%d", in.S0, in.S0+uint64(len(in.R))-1)
}

func all(t *testing.T, ps []arrival) string {
	var out []string
	for _, p := range ps {
		out = append(out, seqs(t, p))
	}
	return strings.Join(out, " ")
}

func bubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

func TestStoreAndForward(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var acked []string
		d, l := newTest(t, Config{Sensor: true, Batch: 2, InFlight: 2, Hooks: Hooks{Acked: func(a Ack) {
			for _, r := range a.Readings {
				acked = append(acked, fmt.Sprintf("%d/%v", r.Seq, a.Replayed))
			}
		}}})
		for i := range 3 {
			d.Measure("temperature", float64(i), "", time.Now())
		}
		if len(l.take()) != 0 || d.Backlog() != 3 {
			t.Fatal("offline: something was sent, or forgotten")
		}
		time.Sleep(time.Second)
		d.isUp(nil)
		first := l.take()
		if got := all(t, first); got != "1-2" {
			t.Fatalf("on connecting: sent %s, want 1-2", got)
		}
		for i := range 5 {
			d.Measure("temperature", float64(i), "", time.Now())
		}
		second := l.take()
		if got := all(t, second); got != "3-4" {
			t.Fatalf("two may be in flight: sent %s, want 3-4", got)
		}
		first[0].answer(verdict{decided: true})
		third := l.take()
		if got := all(t, third); got != "5-6" {
			t.Fatalf("after an answer: sent %s, want 5-6", got)
		}
		// The connection breaks. The hub has had 3 (of 3-4) and knows of nothing else.
		d.isDown(nil)
		second[0].answer(verdict{decided: true}) // comes too late: void
		d.isUp(map[string]uint64{d.Boot(): 3, "another boot": 9})
		again := l.take()
		if got := all(t, again); got != "4 5-6" {
			t.Fatalf("after the reconnect: sent %s, want 4 5-6", got)
		}
		for _, p := range again {
			p.answer(verdict{decided: true})
		}
		for _, p := range l.take() {
			p.answer(verdict{decided: true})
		}
		d.Flush(time.Now())
		for _, p := range l.take() {
			p.answer(verdict{decided: true})
		}
		slices.Sort(acked)
		if got := strings.Join(acked, " "); got != "1/true 2/true 3/true 4/true 5/true 6/true 7/false 8/false" || d.Backlog() != 0 {
			t.Errorf("acknowledged %s, backlog %d", got, d.Backlog())
		}
	})
}

func TestRetryAndRefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var refused, codes []string
		d, l := newTest(t, Config{Sensor: true, Batch: 2, Hooks: Hooks{
			Refused: func(r Reading, code string) { refused = append(refused, fmt.Sprint(r.Seq, " ", code)) },
			Error:   func(code string) { codes = append(codes, code) },
		}})
		d.isUp(nil)
		d.Measure("temperature", 1.0, "", time.Now())
		d.Measure("temperature", "warm", "", time.Now())
		l.take()[0].answer(verdict{code: "overloaded", retry: 2 * time.Second})
		if len(l.take()) != 0 {
			t.Fatal("sent again at once")
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		again := l.take()
		if got := all(t, again); got != "1-2" {
			t.Fatalf("after the wait: sent %s, want 1-2", got)
		}
		again[0].answer(verdict{decided: true, refused: map[int]string{1: "type_conflict"}})
		if fmt.Sprint(refused, codes) != "[2 type_conflict] [overloaded]" || d.Backlog() != 0 {
			t.Errorf("refused %v, codes %v, backlog %d", refused, codes, d.Backlog())
		}
	})
}

func TestStoreIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d, l := newTest(t, Config{Sensor: true, Store: 3})
		for i := range 3 {
			if _, ok := d.Measure("temperature", float64(i), "", time.Now()); !ok {
				t.Fatal("refused too early")
			}
		}
		if _, ok := d.Measure("temperature", 9.0, "", time.Now()); ok {
			t.Fatal("recorded beyond the bound")
		}
		d.isUp(nil)
		for _, p := range l.take() {
			p.answer(verdict{decided: true})
		}
		r, ok := d.Measure("temperature", 9.0, "", time.Now())
		if !ok || r.Seq != 4 {
			t.Errorf("got number %d, %v; want 4: what is not recorded gets none", r.Seq, ok)
		}
	})
}

// A new boot numbers from 1; what the old one left is sent under its own boot.
func TestRestartKeepsBootsApart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d, l := newTest(t, Config{Sensor: true, Batch: 10})
		d.Measure("temperature", 1.0, "", time.Now())
		d.Measure("temperature", 2.0, "", time.Now())
		old := d.Boot()
		d.Restart()
		d.Measure("temperature", 3.0, "", time.Now())
		d.isUp(nil)
		d.Flush(time.Now())
		ps := l.take()
		if got := all(t, ps); got != "1-2 1" || !strings.Contains(ps[0].payload, old) || !strings.Contains(ps[1].payload, d.Boot()) || old == d.Boot() {
			t.Errorf("sent %v", ps)
		}
	})
}

func TestTimesOfADeviceRise(t *testing.T) {
	bubble(t, func(t *testing.T) {
		at := time.UnixMilli(1000)
		d, _ := newTest(t, Config{Sensor: true, Clock: func() time.Time { return at }})
		a, _ := d.Measure("temperature", 1.0, "", at)
		at = at.Add(-time.Hour)
		b, _ := d.Measure("temperature", 1.0, "", at)
		if b.T <= a.T {
			t.Errorf("got %d after %d", b.T, a.T)
		}
	})
}

func TestCommandRunsOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var mu sync.Mutex
		ran := map[string]int{}
		d, l := newTest(t, Config{Light: &LightConfig{Ack: constant(20), Exec: constant(30)}, Hooks: Hooks{Ran: func(c Command) {
			mu.Lock()
			defer mu.Unlock()
			ran[c.ID]++
		}}})
		send := func(id string) {
			d.command([]byte(`{"cmd_id":"`+id+`","op":"set","params":{"brightness":7},"ttl_ms":5000}`), request{})
		}
		send("a")
		send("a") // while it is on its way: answered, not run
		time.Sleep(time.Second)
		synctest.Wait()
		send("a") // after it is done
		want := `{"cmd_id":"a","status":"acked"} {"cmd_id":"a","status":"acked"} {"cmd_id":"a","status":"done","exec_ms":30} {"cmd_id":"a","status":"done","exec_ms":30}`
		if got := strings.Join(l.acks, " "); got != want || ran["a"] != 1 {
			t.Errorf("ran %d times; acks\n got %s\nwant %s", ran["a"], got, want)
		}
		if len(l.states) != 1 || !strings.Contains(l.states[0], `"on":true,"brightness":7`) || !strings.Contains(l.states[0], `"cause":"command","cmd":"a"`) {
			t.Errorf("states %v", l.states)
		}
		// 31 later ones push nothing out of the ring; the 32nd does.
		for i := range 31 {
			send(fmt.Sprint("b", i))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		send("a")
		if ran["a"] != 1 {
			t.Errorf("ran %d times with 31 in between, want 1", ran["a"])
		}
	})
}

func constant(ms float64) Dist { return func(*rand.Rand) float64 { return ms } }

func TestCommandEnds(t *testing.T) {
	tests := []struct{ name, op, params, want string }{
		{"refresh", "refresh", `{}`, "done"},
		{"identify", "identify", `{"ms":1000}`, "done"},
		{"restart", "restart", `{}`, "done"},
		{"unknown", "dance", `{}`, "rejected"},
		{"malformed", "set", `[]`, "rejected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				d, l := newTest(t, Config{Light: &LightConfig{}})
				boot := d.Boot()
				d.command([]byte(`{"cmd_id":"a","op":"`+tt.op+`","params":`+tt.params+`}`), request{})
				time.Sleep(time.Second)
				synctest.Wait()
				if got := l.acks[len(l.acks)-1]; !strings.Contains(got, `"status":"`+tt.want+`"`) {
					t.Errorf("got %s, want %s", got, tt.want)
				}
				if restarted := d.Boot() != boot && l.drops == 1; restarted != (tt.op == "restart") {
					t.Errorf("restarted: %v", restarted)
				}
			})
		})
	}
}

func TestExpiredOnArrival(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d, l := newTest(t, Config{Light: &LightConfig{Ack: constant(500)}})
		d.command([]byte(`{"cmd_id":"a","op":"set","params":{"on":true},"ttl_ms":100}`), request{})
		time.Sleep(time.Second)
		synctest.Wait()
		if got := strings.Join(l.acks, " "); !strings.Contains(got, `"rejected","code":"expired"`) || len(l.states) != 0 {
			t.Errorf("acks %s, states %v", got, l.states)
		}
	})
}

func TestTransition(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d, l := newTest(t, Config{Light: &LightConfig{Transition: true}})
		d.command([]byte(`{"cmd_id":"a","op":"set","params":{"brightness":100,"transition_ms":1000}}`), request{})
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if len(l.states) != 1 || !strings.Contains(l.states[0], `"transitioning":true,"target":{"brightness":100}`) {
			t.Fatalf("half way: %v", l.states)
		}
		d.Press() // somebody is quicker
		time.Sleep(time.Second)
		synctest.Wait()
		if got := l.acks[len(l.acks)-1]; !strings.Contains(got, `"failed","code":"interrupted"`) {
			t.Errorf("an interrupted transition: %s", got)
		}
		if s, _ := d.State(); s.Brightness == 100 {
			t.Error("an interrupted transition went on")
		}
	})
}

func TestLightColours(t *testing.T) {
	tests := []struct{ params, want string }{
		{`{"rgb":[1,2,3]}`, `{"on":true,"brightness":255,"mode":"rgb","rgb":[1,2,3],"effect":"none"}`},
		{`{"rgb":[1,2,3,4]}`, `{"on":true,"brightness":255,"mode":"rgbw","rgb":[1,2,3,4],"effect":"none"}`},
		{`{"hs":[10,20.5]}`, `{"on":true,"brightness":255,"mode":"hs","hs":[10,20.5],"effect":"none"}`},
		{`{"xy":[0.1,0.2]}`, `{"on":true,"brightness":255,"mode":"xy","xy":[0.1,0.2],"effect":"none"}`},
		{`{"kelvin":3000,"brightness":9}`, `{"on":true,"brightness":9,"mode":"color_temp","kelvin":3000,"effect":"none"}`},
		{`{"white":50}`, `{"on":true,"brightness":255,"mode":"white","white":50,"effect":"none"}`},
		{`{"effect":"rainbow","on":false}`, `{"on":false,"brightness":255,"mode":"color_temp","kelvin":2700,"effect":"rainbow"}`},
		{`{"on":true}`, `{"on":true,"brightness":255,"mode":"color_temp","kelvin":2700,"effect":"none"}`},
	}
	for _, tt := range tests {
		l := newLight(LightConfig{Modes: []string{"color_temp", "rgb"}})
		var p setParams
		if err := json.Unmarshal([]byte(tt.params), &p); err != nil {
			t.Fatal(err)
		}
		l.apply(p)
		if got, _ := json.Marshal(l.state); string(got) != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.params, got, tt.want)
		}
	}
}

func TestWelcomeRunsWhatWaited(t *testing.T) {
	bubble(t, func(t *testing.T) {
		d, l := newTest(t, Config{Light: &LightConfig{}})
		d.welcomed(welcome{Pending: []json.RawMessage{[]byte(`{"cmd_id":"p","op":"set","params":{"brightness":5}}`)}, Delta: []byte(`{"brightness":99}`)}, "boot")
		synctest.Wait()
		if s, _ := d.State(); s.Brightness != 5 {
			t.Errorf("brightness %d, want that of the pending command", s.Brightness)
		}
		d.welcomed(welcome{Delta: []byte(`{"brightness":99}`)}, "sync")
		if s, _ := d.State(); s.Brightness != 99 {
			t.Errorf("brightness %d, want what people want", s.Brightness)
		}
		if !strings.Contains(l.states[0], `"cause":"boot"`) {
			t.Errorf("first report %s", l.states[0])
		}
	})
}

func TestNewRefuses(t *testing.T) {
	for _, cfg := range []Config{{ID: "d"}, {ID: "d", Transport: MQTT}, {ID: "d", Transport: "pigeon"}, {ID: "d", Hub: &url.URL{Scheme: "tcp", Host: "x"}}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v: no error", cfg.Transport)
		}
	}
}

func FuzzCommand(f *testing.F) {
	f.Add([]byte(`{"cmd_id":"a","op":"set","params":{"rgb":[1,2,3,4,5,6],"transition_ms":-5}}`))
	f.Add([]byte(`{"cmd_id":"a","op":"set","params":{"rgb":[]}}`))
	f.Add([]byte(`{"cmd_id":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		bubble(t, func(t *testing.T) {
			d, l := newTest(t, Config{Light: &LightConfig{Transition: true, Modes: []string{"rgb"}}})
			d.command(b, request{})
			time.Sleep(time.Second)
			synctest.Wait()
			for _, s := range append(l.states, l.acks...) {
				if !json.Valid([]byte(s)) {
					t.Errorf("sent %s", s)
				}
			}
		})
	})
}

// Through a loss of power a device keeps which commands it has executed; what was under way begins
// anew.
func TestRingThroughARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ran := map[string]int{}
		d, _ := newTest(t, Config{Light: &LightConfig{Exec: constant(20)}, Hooks: Hooks{Ran: func(c Command) { ran[c.ID]++ }}})
		send := func(id string) { d.command([]byte(`{"cmd_id":"`+id+`","op":"identify"}`), request{}) }
		send("done")
		time.Sleep(time.Second)
		synctest.Wait()
		d.Restart()
		send("done")
		time.Sleep(time.Second)
		synctest.Wait()
		if ran["done"] != 1 {
			t.Errorf("ran %d times, want once", ran["done"])
		}
	})
}
