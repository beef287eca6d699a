package sqlite

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"devicehub/devices"
)

func audit(t *testing.T, db *DB) *Audit {
	t.Helper()
	now := int64(0)
	a, err := db.Audit(t.Context(), func() time.Time { now++; return time.UnixMilli(now) })
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAuditIsAskedByDeviceActorAndTime(t *testing.T) {
	db := open(t)
	a := audit(t, db)
	o := devices.Origin{Via: "http", Addr: "192.0.2.7"}
	a.Record(o, devices.AuditEntry{Actor: "user:ana", Action: "device.update", Target: "device:a", Before: map[string]any{"area": "x"}, After: map[string]any{"area": "y"}, Outcome: "ok"})
	a.Record(o, devices.AuditEntry{Actor: "user:bob", Action: "command.issue", Target: "device:a", CmdID: "c", Outcome: "refused", Code: devices.CodeForbidden})
	a.Record(o, devices.AuditEntry{Actor: "user:ana", Action: "user.create", Target: "user:bob", Outcome: "ok"})
	tests := []struct {
		name string
		q    devices.AuditQuery
		want string
	}{
		{"all, newest first", devices.AuditQuery{Limit: 9}, "user.create command.issue device.update"},
		{"of a device", devices.AuditQuery{Device: "a", Limit: 9}, "command.issue device.update"},
		{"of an actor", devices.AuditQuery{Actor: "user:ana", Limit: 9}, "user.create device.update"},
		{"from", devices.AuditQuery{From: 2, Limit: 9}, "user.create command.issue"},
		{"to, exclusive", devices.AuditQuery{To: 2, Limit: 9}, "device.update"},
		{"first page", devices.AuditQuery{Limit: 2}, "user.create command.issue"},
	}
	for _, tt := range tests {
		list, next, err := a.Audit(t.Context(), tt.q)
		var got []string
		for _, e := range list {
			got = append(got, e.Action)
		}
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("%s: got %v %v, want %s", tt.name, got, err, tt.want)
		}
		if (next != "") != (tt.q.Limit == 2) {
			t.Errorf("%s: next %q", tt.name, next)
		}
		if next != "" {
			tt.q.Cursor = next
			if rest, next, err := a.Audit(t.Context(), tt.q); err != nil || next != "" || len(rest) != 1 || rest[0].Action != "device.update" {
				t.Errorf("second page: got %v %q %v", rest, next, err)
			}
		}
	}
	list, _, _ := a.Audit(t.Context(), devices.AuditQuery{Device: "a", Actor: "user:ana", Limit: 1})
	b, err := json.Marshal(list)
	if err != nil || !bytes.Contains(b, []byte(`"before":{"area":"x"},"after":{"area":"y"}`)) {
		t.Errorf("got %s %v", b, err)
	}
	if h := list[0].IPHash; len(h) != 32 || bytes.Contains(b, []byte("192.0.2")) {
		t.Errorf("address: got %q in %s, want a hash", h, b)
	}
	if _, _, err := a.Audit(t.Context(), devices.AuditQuery{Cursor: "x"}); devices.CodeOf(err) != devices.CodeInvalid {
		t.Errorf("a bad cursor: got %v, want invalid", err)
	}
}

func TestAuditIsOnlyAddedTo(t *testing.T) {
	db := open(t)
	a := audit(t, db)
	a.Record(devices.Origin{}, devices.AuditEntry{Action: "x", Outcome: "ok"})
	if err := a.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{`DELETE FROM audit`, `UPDATE audit SET actor = 'me'`, `UPDATE audit SET count = 7`} {
		if _, err := db.w.Exec(q); err == nil {
			t.Errorf("%s: done, want refused", q)
		}
	}
}

func TestAuditSurvivesAndKeepsItsKey(t *testing.T) {
	db := open(t)
	a := audit(t, db)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Run(ctx) }()
	o := devices.Origin{Addr: "192.0.2.7"}
	for range 100 {
		a.Record(o, devices.AuditEntry{Action: "x", Outcome: "ok"})
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	db.Close()
	b := audit(t, openAt(t, db.Path()))
	b.Record(o, devices.AuditEntry{Action: "y", Outcome: "ok"})
	list, _, err := b.Audit(t.Context(), devices.AuditQuery{Limit: 1000})
	if err != nil || len(list) != 101 || list[0].IPHash != list[1].IPHash {
		t.Errorf("got %d entries %v, want 101 with one hash for one address", len(list), err)
	}
}

func TestAuditQueueIsBounded(t *testing.T) {
	a := audit(t, open(t))
	a.bound = 100
	for range a.bound + 7 {
		a.Record(devices.Origin{}, devices.AuditEntry{Action: "x", Outcome: "ok"})
	}
	list, _, err := a.Audit(t.Context(), devices.AuditQuery{Limit: 1})
	if err != nil || len(list) != 1 || list[0].Action != "audit.lost" || string(list[0].After.(json.RawMessage)) != `{"entries":7}` {
		t.Errorf("got %+v %v, want audit.lost with 7", list, err)
	}
}
