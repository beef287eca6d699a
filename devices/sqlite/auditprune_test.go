package sqlite

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"devicehub/devices"
)

// fill records what happened once a minute, each a thing of its own.
func fill(t *testing.T, a *Audit, c *clock, n int, e func(actor, target string) devices.AuditEntry) {
	t.Helper()
	for i := range n {
		a.Record(devices.Origin{Via: "http"}, e(fmt.Sprint("user:u", i), fmt.Sprint("device:", i)))
		c.pass(time.Minute)
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func count(list []devices.AuditEntry) (changes, refusals int) {
	for _, e := range list {
		if e.Changed() {
			changes++
		} else {
			refusals++
		}
	}
	return changes, refusals
}

func TestPruneByHand(t *testing.T) {
	db := open(t)
	a, c := auditAt(t, db)
	fill(t, a, c, 10, ok)
	before := c.now().UnixMilli()
	fill(t, a, c, 5, refused)
	fill(t, a, c, 5, ok)
	p, err := a.Prune(t.Context(), devices.Origin{Via: "cli"}, "cli:root", before+3*60_000)
	if err != nil || p != (devices.Pruned{Refusals: 3, Changes: 10}) {
		t.Fatalf("got %+v %v", p, err)
	}
	got := list(t, a)
	if changes, refusals := count(got); changes != 5+1 || refusals != 2 {
		t.Errorf("%d changes and %d refusals are left: %+v", changes, refusals, got)
	}
	e := got[len(got)-1]
	want := fmt.Sprintf(`{"refusals_before":%d,"changes_before":%[1]d,"refusals":3,"changes":10,"why":"asked"}`, before+3*60_000)
	if e.Action != "audit.prune" || e.Actor != "cli:root" || e.Via != "cli" || e.Outcome != "ok" || string(e.After.(json.RawMessage)) != want {
		t.Errorf("the entry of it: got %+v %s", e, e.After)
	}
	changes, refusals, err := a.Size(t.Context())
	if err != nil || changes.Entries != 6 || refusals.Entries != 2 || refusals.Bytes <= 0 {
		t.Errorf("got %+v %+v %v", changes, refusals, err)
	}
	if p, err := a.Prune(t.Context(), devices.Origin{}, "cli:root", before); err != nil || p != (devices.Pruned{}) || len(list(t, a)) != len(got) {
		t.Errorf("again: got %+v %v, want nothing done and nothing recorded", p, err)
	}
	for _, q := range []string{`DELETE FROM audit WHERE action = 'audit.prune'`, `DELETE FROM audit WHERE outcome = 'refused'`, `DELETE FROM audit WHERE outcome = 'ok'`,
		`UPDATE audit SET after = '{}' WHERE action = 'audit.prune'`, `UPDATE audit SET at = 0`, `UPDATE audit SET count = 0 WHERE outcome = 'refused'`} {
		if _, err := db.w.Exec(q); err == nil {
			t.Errorf("%s: done, want refused", q)
		}
	}
}

// A refusal that goes on after its entry was pruned has a new one.
func TestRefusalsGoOnAfterPruning(t *testing.T) {
	a, c := auditAt(t, open(t))
	for range 5 {
		a.Record(devices.Origin{}, refused("user:vi", "device:lamp"))
	}
	c.pass(time.Minute)
	if p, err := a.Prune(t.Context(), devices.Origin{}, "cli:root", c.now().UnixMilli()); err != nil || p.Refusals != 1 {
		t.Fatalf("got %+v %v", p, err)
	}
	for range 7 {
		a.Record(devices.Origin{}, refused("user:vi", "device:lamp"))
	}
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := list(t, a)
	if len(got) != 2 || got[1].Count != 7 || got[1].At < c.now().UnixMilli() {
		t.Errorf("got %+v, want the pruning and the seven", got)
	}
}

// What is kept of the size is what the rows come to.
func TestSizeOfTheAudit(t *testing.T) {
	a, c := auditAt(t, open(t))
	fill(t, a, c, 300, ok)
	fill(t, a, c, 300, refused)
	e := ok("user:ana", "device:ärger")
	e.Before, e.After, e.CmdID = map[string]string{"name": "Küche"}, map[string]any{"n": 1}, "c-1"
	a.Record(devices.Origin{Addr: "192.0.2.1"}, e)
	if _, err := a.Prune(t.Context(), devices.Origin{}, "cli:root", c.now().Add(-400*time.Minute).UnixMilli()); err != nil {
		t.Fatal(err)
	}
	changes, refusals, err := a.Size(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for which, got := range map[string]AuditSize{"outcome = 'ok'": changes, "outcome <> 'ok'": refusals} {
		var want AuditSize
		if err := a.db.r.QueryRow(`SELECT count(*), sum(`+auditRowSize+`) FROM audit WHERE `+which).Scan(&want.Entries, &want.Bytes); err != nil || got != want {
			t.Errorf("%s: got %+v, want %+v %v", which, got, want, err)
		}
	}
}

func TestMaxAge(t *testing.T) {
	a, c := auditAt(t, open(t))
	const day = 24 * time.Hour
	a.SetBounds(AuditBounds{MaxAge: 30 * day})
	suspect := false
	a.ClockSuspect = func() bool { return suspect }
	for range 60 {
		a.Record(devices.Origin{}, ok("user:ana", "device:lamp"))
		a.Record(devices.Origin{}, refused("user:vi", "device:lamp"))
		for range 24 {
			c.pass(time.Hour)
			if _, err := a.keepBounds(t.Context(), devices.Origin{}, "hub"); err != nil {
				t.Fatal(err)
			}
		}
	}
	prunings := 0
	got := list(t, a)
	for _, e := range got {
		if e.At < c.now().Add(-31*day).UnixMilli() {
			t.Errorf("an entry of %d days is left", c.now().Sub(time.UnixMilli(e.At))/day)
		}
		if e.Action == "audit.prune" {
			prunings++
		}
	}
	if n := len(got) - prunings; n < 58 || n > 62 || prunings > 31 {
		t.Errorf("%d entries and %d of prunings, want those of 30 days, and one pruning a day at most", n, prunings)
	}
	suspect = true
	c.pass(365 * day)
	if p, err := a.keepBounds(t.Context(), devices.Origin{}, "hub"); err != nil || p != (devices.Pruned{}) {
		t.Errorf("with a clock that is suspect: pruned %+v %v", p, err)
	}
}

// The oldest refusals go first. A flood of them takes no change away, and not all of the room.
func TestMaxBytes(t *testing.T) {
	a, c := auditAt(t, open(t))
	fill(t, a, c, 500, ok)
	const most = 400_000
	a.SetBounds(AuditBounds{MaxBytes: most})
	for range 10 {
		fill(t, a, c, 400, refused)
		if _, err := a.keepBounds(t.Context(), devices.Origin{}, "hub"); err != nil {
			t.Fatal(err)
		}
		changes, refusals, err := a.Size(t.Context())
		if err != nil || refusals.Bytes > most/2 || changes.Bytes+refusals.Bytes > most+2000 {
			t.Fatalf("got %+v %+v %v, want at most %d", changes, refusals, err, most)
		}
	}
	var kept []devices.AuditEntry
	for _, e := range list(t, a) {
		if e.Action == "device.update" {
			kept = append(kept, e)
		}
	}
	if len(kept) != 500 {
		t.Errorf("%d of 500 changes are left", len(kept))
	}
	if _, refusals, _ := a.Size(t.Context()); refusals.Entries < 400 {
		t.Errorf("%d refusals are left, want the newest", refusals.Entries)
	}
	fill(t, a, c, 4000, ok)
	if _, err := a.keepBounds(t.Context(), devices.Origin{}, "hub"); err != nil {
		t.Fatal(err)
	}
	changes, refusals, err := a.Size(t.Context())
	if err != nil || refusals.Entries != 0 || changes.Bytes > most || changes.Bytes < most*8/10 {
		t.Errorf("got %+v %+v %v, want no refusal and the newest changes", changes, refusals, err)
	}
	if got := list(t, a); got[0].At < c.now().Add(-4000*time.Minute).UnixMilli() {
		t.Error("an older change is left")
	}
}
