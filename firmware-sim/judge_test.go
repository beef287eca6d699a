package sim

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"devicehub/firmware-sim/device"
	"devicehub/firmware-sim/profile"
)

// sensed is a device that has measured x without times, as text says: a value each, with what
// became of it. "!" is acknowledged, "?" unanswered, "q" sent at QoS 0 and left in order. A value
// that stands again was sent again.
func sensed(t *testing.T, once bool, text string) (*unit, *measured) {
	t.Helper()
	u := &unit{id: "d", group: new(profile.Group)}
	form := device.Form{Kind: device.Bare, Untimed: true, Plain: true}
	if once {
		form = device.Form{Kind: device.Object, Untimed: true}
	}
	sent := map[string]device.Reading{}
	for i, word := range strings.Fields(text) {
		r, again := sent[word]
		if !again {
			var v float64
			var state string
			fmt.Sscanf(word, "%f%s", &v, &state)
			r = device.Reading{
				Metric: "x",
				Value:  v,
				T:      int64(i) + 5e12,
				At:     time.UnixMilli(int64(i) * 1000),
				Form:   form,
			}
			if once {
				r.Seq = uint64(i + 1)
			}
			sent[word] = r
			u.ledger.measured(r, unanswered)
			e := u.ledger.of("x").at(r)
			switch state {
			case "!":
				e.state, e.took = acknowledged, 100
			case "q":
				e.state = delivered
			}
		}
		u.ledger.sent([]device.Reading{r}, true)
	}
	return u, u.ledger.of("x")
}

func rowsOfText(text string) (out []row) {
	for _, word := range strings.Fields(text) {
		var r row
		fmt.Sscanf(word, "%f@%d", &r.v, &r.t)
		out = append(out, r)
	}
	return out
}

// What the hub has stamped is judged by value, order and time.
func TestJudgeStamped(t *testing.T) {
	tests := []struct {
		name       string
		once       bool
		sent, rows string
		want       string
	}{
		{"all there", false, "1! 2! 3! 3.5! 2.5!", "1@10 2@1010 3@2010 3.5@3010 2.5@4010", ""},
		{"one is lost", false, "1! 2! 3!", "1@10 3@2010", "lost_acked"},
		{"one of equal values is lost", false, "1! 2! 1.0! 2.0! 1.00!", "1@10 2@1010 2@3010 1@4010", "lost_acked"},
		{"unanswered, and gone", false, "1! 2? 3!", "1@10 3@2010", ""},
		{"unanswered, and there", false, "1! 2? 3!", "1@10 2@1010 3@2010", ""},
		{"at QoS 0, and gone", false, "1! 2q 3!", "1@10 3@2010", "lost_sent"},
		{"sent again, and stored twice, as it may", false, "1! 2! 2! 3!", "1@10 2@1010 2@2010 3@3010", ""},
		{
			"sent again with its number, and stored twice",
			true,
			"1! 2! 2! 3!",
			"1@10 2@1010 2@2010 3@3010",
			"dup_stored",
		},
		{"sent again with its number, and stored once", true, "1! 2! 2! 3!", "1@10 2@2010 3@3010", ""},
		{"stored twice, and sent once", false, "1! 2! 3!", "1@10 2@1010 2@1011 3@2010", "dup_stored"},
		{"a value that was never sent", false, "1! 2!", "1@10 2@1010 7@1500", "value_wrong"},
		{"changed places", false, "1! 2! 3!", "2@10 1@1010 3@2010", "order_wrong"},
		{"long after it was acknowledged", false, "1! 2! 3!", "2@1010 3@2010 1@90000", "lost_acked order_wrong"},
		{"converted, with other last digits", false, "21.2222222222222! 2!", "21.22222222222223@10 2@1010", ""},
	}
	for _, tt := range tests {
		u, m := sensed(t, tt.once, tt.sent)
		var got []string
		for _, f := range u.judgeStamped("x", m, rowsOfText(tt.rows), 0, 0) {
			got = append(got, f.verdict)
			if len(f.Line) == 0 {
				t.Errorf("%s: no time line: %+v", tt.name, f)
			}
		}
		if text := strings.Join(got, " "); text != tt.want {
			t.Errorf("%s: found %q, want %q", tt.name, text, tt.want)
		}
	}
}

// Of equal values that one is missed which did not come about its time.
func TestWhichOfEqualsIsMissing(t *testing.T) {
	tests := []struct{ sent, rows, missing string }{
		{"1q 2! 1.0q", "2@1010 1@2010", "5000000000000"},
		{"1q 2! 1.0q", "1@10 2@1010", "5000000000002"},
		{"1q 2! 1.0q", "2@1010 1@1900", "5000000000000"},
	}
	for _, tt := range tests {
		u, m := sensed(t, false, tt.sent)
		all := u.judgeStamped("x", m, rowsOfText(tt.rows), 0, 0)
		if len(all) != 1 || all[0].verdict != "lost_sent" || !strings.Contains(all[0].Text, tt.missing) {
			t.Errorf("%s, stored %s: found %+v, want %s missing", tt.sent, tt.rows, all, tt.missing)
		}
	}
}

// What goes through a broker has the broker's order, and may come twice.
func TestJudgeStampedBehindABroker(t *testing.T) {
	u, m := sensed(t, false, "1! 2! 3!")
	u.group.Via = new(profile.Via)
	if got := u.judgeStamped("x", m, rowsOfText("1@90000 2@90001 1@90002 2@90003 3@90004"), 0, 0); len(got) > 0 {
		t.Errorf("found %+v", got)
	}
	if got := u.judgeStamped("x", m, rowsOfText("1@90000 3@90004"), 0, 0); len(got) != 1 ||
		got[0].verdict != "lost_acked" {
		t.Errorf("found %+v", got)
	}
}

// A sequence that is stored as it was sent is never found wrong, whatever was lost on the way
// before it was acknowledged.
func TestJudgeStampedProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 300 {
		var sent, rows []string
		for i := range 50 {
			v := fmt.Sprintf("%d.%0*d", r.IntN(3), 1+i, 0) // equal values, told apart by how they are written
			stored := fmt.Sprintf("%s@%d", v, 1000*len(sent)+10)
			switch r.IntN(4) {
			case 0: // lost, and sent again
				sent = append(sent, v+"!")
				stored = fmt.Sprintf("%s@%d", v, 1000*len(sent)+10)
			case 1: // stored, its acknowledgement lost, and sent again
				sent, rows = append(sent, v+"!"), append(rows, stored)
				stored = fmt.Sprintf("%s@%d", v, 1000*len(sent)+10)
			case 2: // never answered
				sent = append(sent, v+"?")
				if r.IntN(2) == 0 {
					rows = append(rows, stored)
				}
				continue
			}
			sent, rows = append(sent, v+"!"), append(rows, stored)
		}
		u, m := sensed(t, false, strings.Join(sent, " "))
		for i := range m.entries { // answered when it was sent last
			if e := &m.entries[i]; e.state == acknowledged {
				e.took = 1100
			}
		}
		if got := u.judgeStamped("x", m, rowsOfText(strings.Join(rows, " ")), 0, 0); len(got) > 0 {
			t.Fatalf("sent %s\nstored %s\nfound %+v", strings.Join(sent, " "), strings.Join(rows, " "), got)
		}
	}
}

// What was sent at most once must be there when the connection did not break.
func TestLedgerOfQoS0(t *testing.T) {
	reading := func(n int64) []device.Reading {
		return []device.Reading{
			{
				Metric: "x",
				Value:  float64(n),
				T:      1e13 + n,
				At:     time.UnixMilli(n),
				Form:   device.Form{Delivery: device.AtMostOnce},
			},
		}
	}
	var l ledger
	for n := range int64(4) {
		l.measured(reading(n)[0], unanswered)
	}
	l.sent(reading(0), true)
	l.closed(true)
	l.sent(reading(1), true)
	l.closed(false)
	l.sent(reading(2), false)
	l.sent(reading(3), true)
	var got []entryState
	for _, e := range l.of("x").entries {
		got = append(got, e.state)
	}
	if want := []entryState{delivered, doubtful, doubtful, underWay}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := l.sent(reading(0), true); n != 0 {
		t.Errorf("a second time, %d are new", n)
	}
	// The list of those under way is bounded.
	for n := int64(10); n < 10_000; n++ {
		l.measured(reading(n)[0], unanswered)
		l.sent(reading(n), true)
	}
	if len(l.open) > 2*mostOpen {
		t.Errorf("%d are under way", len(l.open))
	}
}

// Of what was sent at most once just before a kill nothing is known, however its connection ended.
func TestQoS0BeforeAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &unit{id: "d", group: new(profile.Group), up: true}
		s := &Sim{stats: newStats(), units: []*unit{u}}
		hooks := u.hooks(s)
		send := func(n int64) {
			r := device.Reading{Metric: "x", T: 1e13 + n, At: time.Now()}
			r.Form.Delivery = device.AtMostOnce
			u.ledger.measured(r, unanswered)
			hooks.Sent([]device.Reading{r})
		}
		send(1)
		hooks.Down(device.ErrLeft)
		time.Sleep(10 * time.Second)
		hooks.Up(device.Up{})
		send(2)
		hooks.Down(device.ErrLeft)
		hooks.Up(device.Up{})
		send(3)
		s.hubAway(true)
		hooks.Down(nil)
		send(4) // was handed to the connection before that was known to have ended
		s.hubAway(false)
		hooks.Up(device.Up{})
		send(5)
		hooks.Down(device.ErrLeft)
		var got []entryState
		for _, e := range u.ledger.of("x").entries {
			got = append(got, e.state)
		}
		if want := []entryState{delivered, doubtful, doubtful, doubtful, delivered}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestRises(t *testing.T) {
	tests := []struct {
		name, rows string
		want       float64
		resets     int
	}{
		{"rises", "1000@1 1001@2 1003@3", 3, 0},
		{"a dip is none", "215.6@1 215.7@2 215.6@3 215.6@4 215.7@5 216@6", 0.4, 0},
		{"a reset", "1000@1 1001@2 0@3 2@4", 3, 1},
		{"a reset to what it has counted since", "1000@1 1001@2 2@3 3@4", 4, 1},
	}
	for _, tt := range tests {
		rises, resets := risesOf(rowsOfText(tt.rows))
		sum := 0.0
		for _, r := range rises {
			sum += r
		}
		if math.Abs(sum-tt.want) > 1e-9 || resets != tt.resets {
			t.Errorf("%s: rose by %v with %d resets, want %v and %d", tt.name, sum, resets, tt.want, tt.resets)
		}
	}
}

func TestCircularMean(t *testing.T) {
	for _, tt := range []struct {
		vs   []float64
		want float64
		sure bool
	}{{[]float64{359, 1, 358, 2}, 0, true}, {[]float64{90, 90}, 90, true}, {[]float64{350, 20}, 5, true}, {[]float64{0, 180}, 0, false}} {
		got, sure := circularMean(tt.vs)
		if sure != tt.sure || sure && angleBetween(got, tt.want) > 1e-9 {
			t.Errorf("%v: got %v %v, want %v %v", tt.vs, got, sure, tt.want, tt.sure)
		}
	}
}

// A value goes out in a unit and comes back the same.
func TestUnits(t *testing.T) {
	for metric, others := range otherUnits {
		for _, u := range others {
			sent := in(metric, u.name, 21.3)
			if back := canonical(metric, u.name, sent).(float64); math.Abs(back-21.3) > 1e-3*math.Max(1, u.scale) {
				t.Errorf("%s in %s: 21.3 is sent as %v and is %v again", metric, u.name, sent, back)
			}
		}
	}
	if in("mode", "°F", "heat") != "heat" || in("temperature", "furlong", 1.0) != 1.0 {
		t.Error("what has no other unit is changed")
	}
}

// The traits of devices are shared out as the profile says, each for itself.
func TestShares(t *testing.T) {
	for trait := range 3 {
		n := 0
		for i := range 1000 {
			if share(i, trait) < 0.3 {
				n++
			}
		}
		if n < 290 || n > 310 {
			t.Errorf("trait %d: %d of 1000, want 300", trait, n)
		}
	}
	both := 0
	for i := range 1000 {
		if share(i, 0) < 0.3 && share(i, 1) < 0.3 {
			both++
		}
	}
	if both < 60 || both > 120 {
		t.Errorf("%d of 1000 have two traits, want about 90", both)
	}
}

// A hub may confirm by a level that a light of a hundred cannot tell from the one that was asked
// for, and by the light being off; it must by the very level alone.
func TestWhatShowsATarget(t *testing.T) {
	const set = `{"brightness":181}`
	const off = `{"on":false,"brightness":40}`
	tests := []struct {
		params    string
		r         report
		may, must bool
	}{
		{set, report{on: true, brightness: 181}, true, true},
		{set, report{on: true, brightness: 180}, true, false},
		{set, report{on: true, brightness: 179}, false, false},
		{set, report{on: true, brightness: 181, moving: true}, false, false},
		{off, report{brightness: 40}, true, true},
		{off, report{brightness: 90}, true, false},
		{off, report{on: true, brightness: 40}, false, false},
		{`{"brightness":1}`, report{on: true}, false, false},
		{`{"brightness":1}`, report{on: true, brightness: 3}, true, false},
	}
	for _, tt := range tests {
		w, _ := want("set", json.RawMessage(tt.params))
		if may, must := tt.r.mayShow(w), tt.r.shows(w); may != tt.may || must != tt.must {
			t.Errorf("%s, %+v: may %v, must %v; want %v, %v", tt.params, tt.r, may, must, tt.may, tt.must)
		}
	}
}

// A hub whose disk is full is not blamed for what it reads from nobody, nor a while after.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f faultLog
		check := func(well bool) {
			t.Helper()
			if f.takes() != well || f.calmAt(time.Now()) != well {
				t.Errorf("takes %v, calm %v, want %v", f.takes(), f.calmAt(time.Now()), well)
			}
		}
		f.setFull(false)
		check(true)
		f.setFull(true)
		time.Sleep(time.Minute)
		check(false)
		f.setFull(false)
		time.Sleep(stalled - time.Second)
		check(false)
		time.Sleep(2 * time.Second)
		check(true)
	})
}
