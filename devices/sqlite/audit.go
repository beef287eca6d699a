package sqlite

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"devicehub/devices"
)

// Audit is the audit log. Entries wait in memory for a moment and are written
// in groups by Run.
//
// The queue is bounded. When the disk does not take entries for so long that it
// is full, further ones are lost, counted, and one entry says how many.
type Audit struct {
	db  *DB
	key []byte // of the installation, for hashes of addresses
	now func() time.Time
	log *slog.Logger

	flushing sync.Mutex // held across a write, so that nothing is written twice

	mu    sync.Mutex
	bound int // entries that may wait
	queue []devices.AuditEntry
	lost  int64 // not yet written down as lost
	total int64 // lost since the start
	wake  chan struct{}
}

var _ devices.AuditLog = (*Audit)(nil)

const (
	auditQueue = 1 << 15
	auditGroup = 50 * time.Millisecond
)

// Audit opens the audit log; on the first call for a file it makes the key that
// addresses are hashed with.
func (db *DB) Audit(ctx context.Context, now func() time.Time) (*Audit, error) {
	key, err := db.Secret(ctx, "audit.ip_key", 32)
	if err != nil {
		return nil, err
	}
	return &Audit{db: db, key: key, now: now, log: db.log, bound: auditQueue, wake: make(chan struct{}, 1)}, nil
}

// Secret returns the named random secret of this installation, which it makes,
// of size bytes, when there is none yet.
func (db *DB) Secret(ctx context.Context, name string, size int) ([]byte, error) {
	var b []byte
	err := db.write(ctx, func(tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, `SELECT value FROM installation WHERE key = ?`, name).Scan(&b)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		b = make([]byte, size)
		rand.Read(b) // never fails
		_, err = tx.ExecContext(ctx, `INSERT INTO installation (key, value) VALUES (?, ?)`, name, b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	return b, nil
}

// Record takes an entry; it is on disk within moments. It never blocks.
func (a *Audit) Record(o devices.Origin, e devices.AuditEntry) {
	if e.At == 0 {
		e.At = a.now().UnixMilli()
	}
	if e.Via == "" {
		e.Via = o.Via
	}
	if e.IPHash == "" && o.Addr != "" {
		h := hmac.New(sha256.New, a.key)
		h.Write([]byte(o.Addr))
		e.IPHash = hex.EncodeToString(h.Sum(nil)[:16])
	}
	a.mu.Lock()
	if len(a.queue) < a.bound {
		a.queue = append(a.queue, e)
	} else {
		a.lost++
		a.total++
	}
	a.mu.Unlock()
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// Waiting is how many entries are not yet on the disk, and how many were lost
// since the start.
func (a *Audit) Waiting() (entries int, lost int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.queue), a.total
}

// Run writes entries until ctx ends, and then what is left.
func (a *Audit) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return a.Flush(last)
		case <-a.wake:
		}
		if err := a.Flush(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("audit entries wait: they cannot be written", "err", err)
		}
		select { // what comes meanwhile goes into the next group
		case <-ctx.Done():
		case <-time.After(auditGroup):
		}
	}
}

// Flush writes what waits.
func (a *Audit) Flush(ctx context.Context) error {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	a.mu.Lock()
	entries, lost := a.queue, a.lost
	a.mu.Unlock()
	if len(entries) == 0 && lost == 0 {
		return nil
	}
	if lost > 0 {
		a.log.Error("audit entries lost: the queue was full", "lost", lost)
		entries = append(entries[:len(entries):len(entries)], devices.AuditEntry{At: a.now().UnixMilli(), Actor: string(devices.ActorHub), Via: "hub",
			Action: "audit.lost", Target: "audit", After: map[string]int64{"entries": lost}, Outcome: "failed"})
	}
	if err := a.db.addAudit(ctx, entries); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	written := len(entries)
	if lost > 0 {
		written--
	}
	a.queue = append([]devices.AuditEntry(nil), a.queue[written:]...)
	a.lost -= lost
	return nil
}

func (db *DB) addAudit(ctx context.Context, entries []devices.AuditEntry) error {
	return db.write(ctx, func(tx *sql.Tx) error {
		add, err := tx.PrepareContext(ctx, `INSERT INTO audit (at, actor, ip_hash, via, action, target, cmd_id, before, after, outcome, code) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer add.Close()
		for _, e := range entries {
			if _, err := add.ExecContext(ctx, e.At, e.Actor, e.IPHash, e.Via, e.Action, e.Target, e.CmdID, jsonOrNull(e.Before), jsonOrNull(e.After), e.Outcome, string(e.Code)); err != nil {
				return fmt.Errorf("write audit: %w", err)
			}
		}
		return nil
	})
}

func jsonOrNull(v any) any {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return nil
	}
	return string(b)
}

// Audit returns entries, newest first. It sees what was recorded before.
func (a *Audit) Audit(ctx context.Context, q devices.AuditQuery) (list []devices.AuditEntry, next string, err error) {
	if err := a.Flush(ctx); err != nil {
		return nil, "", fmt.Errorf("read audit: %w", err)
	}
	where, args := []string{"1"}, []any{}
	and := func(cond string, arg any) {
		where, args = append(where, cond), append(args, arg)
	}
	if q.Device != "" {
		and("target = ?", "device:"+string(q.Device))
	}
	if q.Actor != "" {
		and("actor = ?", q.Actor)
	}
	if q.From != 0 {
		and("at >= ?", q.From)
	}
	if q.To != 0 {
		and("at < ?", q.To)
	}
	if q.Cursor != "" {
		seq, err := strconv.ParseInt(q.Cursor, 10, 64)
		if err != nil {
			return nil, "", devices.Invalid("cursor", "one from an earlier answer")
		}
		and("seq < ?", seq)
	}
	limit := q.Limit
	if limit <= 0 {
		limit = 100
	}
	list = []devices.AuditEntry{}
	var last, seq int64
	err = query(ctx, a.db.r, `SELECT seq, at, actor, ip_hash, via, action, target, cmd_id, before, after, outcome, code FROM audit WHERE `+
		strings.Join(where, " AND ")+` ORDER BY seq DESC LIMIT ?`, func(scan func(...any) error) error {
		var e devices.AuditEntry
		var before, after sql.Null[string]
		if err := scan(&seq, &e.At, &e.Actor, &e.IPHash, &e.Via, &e.Action, &e.Target, &e.CmdID, &before, &after, &e.Outcome, &e.Code); err != nil {
			return err
		}
		if before.Valid {
			e.Before = json.RawMessage(before.V)
		}
		if after.Valid {
			e.After = json.RawMessage(after.V)
		}
		if len(list) == limit {
			next = strconv.FormatInt(last, 10)
			return nil
		}
		list, last = append(list, e), seq
		return nil
	}, append(args, limit+1)...)
	if err != nil {
		return nil, "", fmt.Errorf("read audit: %w", err)
	}
	return list, next, nil
}
