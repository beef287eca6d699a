package sqlite

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"devicehub/devices"
)

// clock is a clock that stands still unless it is told.
type clock struct{ at time.Time }

func (c *clock) now() time.Time       { return c.at }
func (c *clock) pass(d time.Duration) { c.at = c.at.Add(d) }

func auditAt(t *testing.T, db *DB) (*Audit, *clock) {
	t.Helper()
	c := &clock{time.UnixMilli(1_700_000_000_000)}
	a, err := db.Audit(t.Context(), c.now)
	if err != nil {
		t.Fatal(err)
	}
	return a, c
}

// list is the audit, the oldest first.
func list(t *testing.T, a *Audit) []devices.AuditEntry {
	t.Helper()
	var all []devices.AuditEntry
	for at := ""; ; {
		page, next, err := a.Audit(t.Context(), devices.AuditQuery{Limit: 500, Cursor: at})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			all = append([]devices.AuditEntry{e}, all...)
		}
		if at = next; at == "" {
			return all
		}
	}
}

func refused(actor, target string) devices.AuditEntry {
	return devices.AuditEntry{Actor: actor, Action: "command.issue", Target: target, Outcome: "refused", Code: devices.CodeForbidden}
}

func ok(actor, target string) devices.AuditEntry {
	return devices.AuditEntry{Actor: actor, Action: "device.update", Target: target, Outcome: "ok"}
}

func TestIdenticalRefusalsFold(t *testing.T) {
	a, c := auditAt(t, open(t))
	o := devices.Origin{Via: "ws", Addr: "192.0.2.7"}
	first := c.now().UnixMilli()
	for i := range 12_431 {
		a.Record(o, refused("user:vi", "device:lamp"))
		if i%1000 == 0 {
			if err := a.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.pass(time.Second)
		}
	}
	last := c.now().UnixMilli()
	for range 3 {
		a.Record(o, ok("user:ana", "device:lamp"))
	}
	a.Record(o, refused("user:vi", "device:other"))
	a.Record(devices.Origin{Via: "http", Addr: "192.0.2.8"}, refused("user:vi", "device:lamp"))
	got := list(t, a)
	if len(got) != 6 {
		t.Fatalf("got %d entries: %+v", len(got), got)
	}
	if e := got[0]; e.Count != 12_431 || e.At != first || e.LastAt != last || e.IPHash == "" || e.Target != "device:lamp" {
		t.Errorf("the folded entry: got %+v", e)
	}
	for _, e := range got[1:] {
		if e.Count != 0 || e.LastAt != 0 {
			t.Errorf("got %+v, want one that stands for itself", e)
		}
	}
	if page, _, err := a.Audit(t.Context(), devices.AuditQuery{From: last, Outcome: "refused", Action: "command.issue", Limit: 9}); err != nil || len(page) != 3 {
		t.Errorf("from the last refusal: got %d %v, want the entry that it is in, and two", len(page), err)
	}
	c.pass(time.Hour)
	a.Record(o, refused("user:vi", "device:lamp"))
	a.Record(o, refused("user:vi", "device:lamp"))
	if got := list(t, a); len(got) != 7 || got[6].Count != 2 || got[0].Count != 12_431 {
		t.Errorf("an hour later: got %+v", got)
	}
	if got := a.Refusals(); got != 12_431+4 {
		t.Errorf("got %d refusals", got)
	}
}

// What somebody was refused before a change of theirs, and after it, are two entries.
func TestRefusalsBeforeAndAfterAChange(t *testing.T) {
	a, _ := auditAt(t, open(t))
	var want []string
	for i := range 3 {
		for range i + 2 {
			a.Record(devices.Origin{}, refused("user:ana", "device:lamp"))
		}
		a.Record(devices.Origin{}, ok("user:bob", "device:lamp")) // is another's
		a.Record(devices.Origin{}, refused("user:ana", "device:lamp"))
		a.Record(devices.Origin{}, ok("user:ana", "device:lamp"))
		want = append(want, fmt.Sprint("refused ", i+3), "ok 0", "ok 0")
		if i == 1 {
			if err := a.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	for _, e := range list(t, a) {
		got = append(got, fmt.Sprint(e.Outcome, " ", e.Count))
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("got %v, want %v", got, want)
	}
	if a.folds.n != 0 || len(a.folds.of) != 0 {
		t.Errorf("%d are remembered", len(a.folds.of))
	}
}

// Whatever a flood varies, it leaves a bounded number of entries, in memory and on the disk, and each
// refusal is counted in one.
func TestFloodsOfRefusals(t *testing.T) {
	for name, row := range map[string]struct {
		of   func(i int) devices.AuditEntry
		addr func(i int) string
		most int
	}{
		"one target":              {of: func(int) devices.AuditEntry { return refused("user:vi", "device:lamp") }, most: 1},
		"many targets":            {of: func(i int) devices.AuditEntry { return refused("user:vi", fmt.Sprint("device:", i)) }, most: foldsOfIt + 1},
		"many addresses":          {of: func(int) devices.AuditEntry { return refused("user:vi", "device:lamp") }, addr: func(i int) string { return fmt.Sprint("2001:db8::", i) }, most: foldsOfIt + 1},
		"many actors and targets": {of: func(i int) devices.AuditEntry { return refused(fmt.Sprint("user:", i), fmt.Sprint("device:", i)) }, most: maxFolds + 1},
		"strangers": {of: func(int) devices.AuditEntry {
			e := refused("user:ana", "user:ana")
			e.Action, e.Stranger = "login", true
			return e
		}, addr: func(i int) string { return fmt.Sprint("2001:db8::", i) }, most: 1},
		"long facts": {of: func(i int) devices.AuditEntry {
			e := refused("user:vi", fmt.Sprint("device:", i, strings.Repeat("x", 60_000)))
			e.CmdID = strings.Repeat("é", 30_000)
			e.After = map[string]string{"config": strings.Repeat("x", 60_000)}
			return e
		}, most: foldsOfIt + 1},
	} {
		t.Run(name, func(t *testing.T) {
			a, c := auditAt(t, open(t))
			const flood = 20_000
			for i := range flood {
				o := devices.Origin{Via: "ws", Addr: "192.0.2.7"}
				if row.addr != nil {
					o.Addr = row.addr(i)
				}
				if e := row.of(i); name != "long facts" || i < 1000 {
					a.Record(o, e)
				}
				if i%5000 == 0 {
					c.pass(time.Minute)
					if err := a.Flush(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			got, sum := list(t, a), int64(0)
			for _, e := range got {
				sum += max(1, e.Count)
			}
			if len(got) > row.most || sum != a.Refusals() {
				t.Errorf("got %d entries for %d refusals, want at most %d for %d", len(got), sum, row.most, a.Refusals())
			}
			if n := a.folds.n; n > row.most {
				t.Errorf("%d are remembered, want at most %d", n, row.most)
			}
			_, size, err := a.Size(t.Context())
			if err != nil || size.Entries != int64(len(got)) || size.Bytes > int64(row.most)*1200 {
				t.Errorf("got %+v %v for %d entries", size, err, len(got))
			}
			c.pass(2 * time.Hour)
			a.Record(devices.Origin{}, ok("user:ana", "x"))
			if err := a.Flush(t.Context()); err != nil || len(a.folds.of) != 0 || a.folds.n != 0 {
				t.Errorf("%d are remembered after the hour %v", len(a.folds.of), err)
			}
		})
	}
}

// When space is short refusals are not written, and what changes something is.
func TestAuditGivesWayWhenSpaceIsShort(t *testing.T) {
	a, _ := auditAt(t, open(t))
	a.Record(devices.Origin{}, refused("user:vi", "device:lamp"))
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.SpaceIsShort(true)
	for i := range 50 {
		a.Record(devices.Origin{}, refused("user:vi", fmt.Sprint("device:", i)))
	}
	a.Record(devices.Origin{}, ok("user:ana", "device:lamp"))
	if got := list(t, a); len(got) != 2 || !got[1].Changed() {
		t.Errorf("got %+v, want the change alone", got)
	}
	if _, lost := a.Waiting(); lost != (AuditLost{Refusals: 50}) {
		t.Errorf("lost: got %+v", lost)
	}
	a.SpaceIsShort(false)
	got := list(t, a)
	if len(got) != 3 || got[2].Action != "audit.lost" || string(got[2].After.(json.RawMessage)) != `{"refusals":50}` {
		t.Errorf("with room again: got %+v", got)
	}
}

// A writer that does not get on never holds up who records, and costs a bounded amount of memory.
func TestRefusalsOutrunTheWriter(t *testing.T) {
	db := open(t)
	a, _ := auditAt(t, db)
	tx, err := db.w.BeginTx(t.Context(), nil) // the one writer is taken
	if err != nil {
		t.Fatal(err)
	}
	a.Record(devices.Origin{}, refused("user:0", "device:lamp"))
	flushed := make(chan error, 1)
	go func() { flushed <- a.Flush(t.Context()) }()
	for i := range 200_000 {
		a.Record(devices.Origin{}, refused(fmt.Sprint("user:", i%100_000), "device:lamp"))
	}
	if n, lost := a.Waiting(); n > maxFolds+2 || lost != (AuditLost{}) {
		t.Errorf("%d wait, %+v are lost", n, lost)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	for _, e := range list(t, a) {
		sum += max(1, e.Count)
	}
	if sum != 200_001 {
		t.Errorf("%d are counted, want all of 200,001", sum)
	}
}

// A database of the schema before has its audit, and goes on with it.
func TestAuditOfAnOlderSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old, err := sql.Open("sqlite", dsn(path, false))
	if err != nil {
		t.Fatal(err)
	}
	exec := func(q string, args ...any) {
		t.Helper()
		if _, err := old.Exec(q, args...); err != nil {
			t.Fatal(err)
		}
	}
	known, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	exec(fmt.Sprintf(`PRAGMA application_id = %d`, applicationID))
	exec(`CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL)`)
	for _, m := range known {
		if m.number < 60 {
			exec(m.text)
			exec(`INSERT INTO migrations VALUES (?, ?, 0)`, m.number, m.name)
		}
	}
	for i, outcome := range []string{"ok", "refused", "refused", "failed"} {
		exec(`INSERT INTO audit (at, actor, ip_hash, via, action, target, cmd_id, before, after, outcome, code) VALUES (?, 'user:ana', 'h', 'http', 'device.update', 'device:a', '', NULL, '{"a":1}', ?, '')`, 1000+i, outcome)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}

	db := openAt(t, path)
	a, c := auditAt(t, db)
	changes, refusals, err := a.Size(t.Context())
	if err != nil || changes.Entries != 1 || refusals.Entries != 3 || refusals.Bytes != 3*changes.Bytes {
		t.Errorf("got %+v %+v %v", changes, refusals, err)
	}
	if got := list(t, a); len(got) != 4 || got[1].Count != 0 || got[1].At != 1001 || got[3].Outcome != "failed" {
		t.Errorf("got %+v", got)
	}
	if _, err := db.w.Exec(`DELETE FROM audit`); err == nil {
		t.Error("an old entry was deleted")
	}
	a.Record(devices.Origin{}, refused("user:vi", "device:lamp"))
	a.Record(devices.Origin{}, refused("user:vi", "device:lamp"))
	if got := list(t, a); len(got) != 5 || got[4].Count != 2 {
		t.Errorf("got %+v", got)
	}
	c.pass(time.Minute)
	if p, err := a.Prune(t.Context(), devices.Origin{Via: "cli"}, "cli:root", 1002); err != nil || p != (devices.Pruned{Refusals: 1, Changes: 1}) {
		t.Errorf("pruned: got %+v %v", p, err)
	}
}
