package sim

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"time"

	"devicehub/firmware-sim/device"
	"devicehub/firmware-sim/profile"
)

// What a journal says of one device: what waits, what is decided, and where nothing is known.
func TestReadJournal(t *testing.T) {
	lines := []string{
		`H	{"run":"abc","seed":3}`,
		"m	1	temperature	10000	2000	1	boot		21.5	0", // its clock is 8 s ahead
		"a	1	temperature	10100	false",               // quicker than its own line
		"m	1	temperature	10100	2100	2	boot		true	0",
		"m	1	humidity	10200	2200	3	boot	%	\"a\"	0",
		"r	1	humidity	10200",
		"m	1	temperature	10300	2300	4	boot		4e-7	0",
		"a	1	temperature	99999	true", // of a reading whose line is lost
		"c	2	cmd-1	set",
		"c	2	cmd-2	toggle",
		"x	2	cmd-1	2400",
		"e	cmd-1	confirmed",
		`s	{"elapsed_s":2.5}`,
		"m	1	temperature	10400	24",
	}
	p, good, err := readJournal(strings.NewReader(strings.Join(lines, "\n")))
	if err != nil || good != int64(len(strings.Join(lines[:13], "\n"))+1) || p.elapsed() != 2500*time.Millisecond || p.ended {
		t.Fatalf("got %v, %d bytes, %v", err, good, p)
	}
	p.lost(time.UnixMilli(5300)) // 3 s after the last reading
	u := p.units[1]
	if u.measured != 4 || u.acked != 1 || u.refused != 1 || len(u.waiting) != 2 || u.waiting[0].Seq != 1 || u.waiting[1].Value != 4e-7 {
		t.Errorf("got %+v", u)
	}
	if cs := p.commands; len(cs) != 2 || cs[0].status != "confirmed" || cs[1].status != "" || len(p.units[2].ran) != 1 {
		t.Errorf("commands: %+v, ran %v", cs, p.units[2].ran)
	}
	// The clock is right now, so that the next reading follows at once; what was lost stands after it.
	u.ledger.measured(device.Reading{Metric: "temperature", T: 10301, At: time.UnixMilli(5400), Value: 1.0}, unanswered)
	for at, want := range map[int64]bool{10300: false, 10302: true, 13300: true, 14301: false} {
		if u.ledger.inGap(at) != want {
			t.Errorf("t=%d is unknown: %v", at, !want)
		}
	}
	if _, ok := find(u.ledger.of("temperature").entries, 99999); ok {
		t.Error("an answer to a lost reading stands in the ledger")
	}
}

func FuzzReadJournal(f *testing.F) {
	f.Add("H\t{\"run\":\"abc\"}\nm\t1\ttemperature\t1\t2\t1\tboot\t\t21.5\t0\na\t1\ttemperature\t1\ttrue\nR\t5\nw\t1\tc\t7\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, good, err := readJournal(strings.NewReader(text))
		if err == nil && (good <= 0 || good > int64(len(text)) || p.head.Run == "") {
			t.Errorf("%d of %d bytes, %+v", good, len(text), p.head)
		}
	})
}

// A command of an earlier process that never ran may have been confirmed by what its light showed
// before that process was killed, and by nothing else.
func TestOldCommandThatNeverRan(t *testing.T) {
	for reported, want := range map[string]string{
		"p	1	5000	true	7	false":  "",
		"p	1	5000	true	80	false": "cmd_false_done",
		"p	1	3000	true	7	false":  "cmd_false_done", // before it was given
	} {
		text := "H	{\"run\":\"abc\",\"seed\":3}\nc	1	cmd	set	4000\n" + reported + "\ne	cmd	confirmed\n"
		p, good, err := readJournal(strings.NewReader(text))
		if err != nil || good != int64(len(text)) {
			t.Fatalf("%v, %d bytes of %d", err, good, len(text))
		}
		u := &unit{id: "d", n: 1, group: new(profile.Group)}
		j := &Journal{past: p, w: bufio.NewWriter(io.Discard)}
		s := &Sim{stats: newStats(), units: []*unit{u}, cfg: Config{Journal: j}}
		if err := s.takeUp(); err != nil {
			t.Fatal(err)
		}
		rec := CommandRecord{ID: "cmd", Op: "set", Params: []byte(`{"brightness":7}`), Status: statusConfirmed}
		got := ""
		for _, f := range u.judgeCommand(s.judge.commands.all[0], rec, time.Now()) {
			got += f.verdict
		}
		if got != want {
			t.Errorf("%s: found %q, want %q", reported, got, want)
		}
	}
}
