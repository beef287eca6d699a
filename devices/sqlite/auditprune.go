package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"devicehub/devices"
)

// pruneBatch is how many rows go in one transaction: others write between two.
const pruneBatch = 2000

// cut is from when on entries stay. It stands in the entry of the pruning, where the
// table's trigger reads it.
type cut struct {
	Refusals int64 `json:"refusals_before,omitempty"` // ms since epoch
	Changes  int64 `json:"changes_before,omitempty"`
}

// pruning is what an entry says of a pruning.
type pruning struct {
	cut
	devices.Pruned
	Why string `json:"why"`
}

// AuditSize is how much there is of one half of the audit.
type AuditSize struct{ Entries, Bytes int64 }

// auditRowSize is about what a row takes, with its places in the indexes.
const auditRowSize = `120 + 2 * octet_length(actor) + 2 * octet_length(target) + octet_length(ip_hash)
	+ octet_length(via) + octet_length(action) + octet_length(cmd_id) + coalesce(octet_length(before), 0) + coalesce(octet_length(after), 0) + octet_length(code)`

// grow counts an entry as auditRowSize does, with its facts as text.
func (s *AuditSize) grow(e *devices.AuditEntry, before, after any) {
	s.Entries++
	s.Bytes += 120 + 2*int64(len(e.Actor)+len(e.Target))
	s.Bytes += int64(len(e.IPHash) + len(e.Via) + len(e.Action) + len(e.CmdID) + len(e.Code))
	for _, facts := range []any{before, after} {
		if text, some := facts.(string); some {
			s.Bytes += int64(len(text))
		}
	}
}

// resize adds to what the audit takes.
func resize(ctx context.Context, tx *sql.Tx, changes, refusals AuditSize) error {
	for of, by := range []AuditSize{changes, refusals} {
		if by == (AuditSize{}) {
			continue
		}
		_, err := tx.ExecContext(ctx, `UPDATE audit_size SET entries = entries + ?, bytes = bytes + ? WHERE refusals = ?`,
			by.Entries, by.Bytes, of)
		if err != nil {
			return fmt.Errorf("size of the audit: %w", err)
		}
	}
	return nil
}

// Size is how much there is of what changed something and of what did not. The bytes
// are about what the rows take, with what finds them.
func (a *Audit) Size(ctx context.Context) (changes, refusals AuditSize, err error) {
	err = query(ctx, a.db.r, `SELECT refusals, entries, bytes FROM audit_size`, func(scan func(...any) error) error {
		var of int
		var s AuditSize
		if err := scan(&of, &s.Entries, &s.Bytes); err != nil {
			return err
		}
		if of == 1 {
			refusals = s
		} else {
			changes = s
		}
		return nil
	})
	if err != nil {
		return changes, refusals, fmt.Errorf("size of the audit: %w", err)
	}
	return changes, refusals, nil
}

// Prune takes out what is older than before (ms since epoch), or without it what the
// bounds ask for. An entry says what went and by whom.
func (a *Audit) Prune(ctx context.Context, o devices.Origin, actor string, before int64) (devices.Pruned, error) {
	if before == 0 {
		return a.keepBounds(ctx, o, actor)
	}
	a.pruning.Lock()
	defer a.pruning.Unlock()
	before = min(before, a.now().UnixMilli())
	return a.prune(ctx, o, actor, cut{before, before}, "asked")
}

// keepPruned holds the audit to its bounds until ctx ends.
func (a *Audit) keepPruned(ctx context.Context) {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		if _, err := a.keepBounds(ctx, devices.Origin{Via: "hub"}, string(devices.ActorHub)); err != nil && ctx.Err() == nil {
			a.log.Error("audit not pruned", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *Audit) keepBounds(ctx context.Context, o devices.Origin, actor string) (sum devices.Pruned, err error) {
	a.pruning.Lock()
	defer a.pruning.Unlock()
	if err := a.Flush(ctx); err != nil {
		return sum, fmt.Errorf("prune audit: %w", err)
	}
	b := a.bounds.Load()
	if sum, err = a.tooOld(ctx, o, actor, b.MaxAge); err != nil {
		return sum, err
	}
	if b.MaxBytes > 0 {
		c, err := a.over(ctx, b.MaxBytes)
		if err != nil || c == (cut{}) {
			return sum, err
		}
		p, err := a.prune(ctx, o, actor, c, "max_bytes")
		sum.Refusals += p.Refusals
		sum.Changes += p.Changes
		return sum, err
	}
	return sum, nil
}

// tooOld prunes what is older than age. It does so once a day at most: each time leaves an
// entry.
func (a *Audit) tooOld(
	ctx context.Context, o devices.Origin, actor string, age time.Duration,
) (p devices.Pruned, err error) {
	if age <= 0 || a.ClockSuspect != nil && a.ClockSuspect() {
		return p, nil
	}
	var first sql.Null[int64]
	if err := a.db.r.QueryRowContext(ctx, `SELECT min(at) FROM audit`).Scan(&first); err != nil {
		return p, fmt.Errorf("prune audit: %w", err)
	}
	oldest := a.now().Add(-age)
	if !first.Valid || first.V >= oldest.Add(-min(age/10, 24*time.Hour)).UnixMilli() {
		return p, nil
	}
	return a.prune(ctx, o, actor, cut{oldest.UnixMilli(), oldest.UnixMilli()}, "max_age")
}

// over is what has to go so that the audit is not larger than most: the oldest refusals
// first, of which there is never more than half of most, and what changed something only
// when no refusal is left. A tenth more goes, so that it need not go on at once.
func (a *Audit) over(ctx context.Context, most int64) (c cut, err error) {
	changes, refusals, err := a.Size(ctx)
	if err != nil {
		return c, err
	}
	spare := most / 10
	if excess := max(refusals.Bytes-most/2, refusals.Bytes+changes.Bytes-most); excess > 0 && refusals.Bytes > 0 {
		if c.Refusals, err = a.oldest(ctx, "outcome <> 'ok'", excess+spare); err != nil {
			return c, err
		}
	}
	if excess := changes.Bytes - most; excess > 0 {
		c.Changes, err = a.oldest(ctx, "outcome = 'ok'", excess+spare)
	}
	return c, err
}

// oldest is the time before which so many bytes of entries lie.
func (a *Audit) oldest(ctx context.Context, which string, bytes int64) (before int64, err error) {
	rows, err := a.db.r.QueryContext(ctx, `SELECT at, `+auditRowSize+` FROM audit WHERE `+which+` ORDER BY at`)
	if err != nil {
		return 0, fmt.Errorf("prune audit: %w", err)
	}
	defer rows.Close()
	for bytes > 0 && rows.Next() { // those of one time go together
		var at, size int64
		if err := rows.Scan(&at, &size); err != nil {
			return 0, fmt.Errorf("prune audit: %w", err)
		}
		before, bytes = at+1, bytes-size
	}
	return before, rows.Err()
}

// prune takes out what is before c. The caller holds pruning.
func (a *Audit) prune(ctx context.Context, o devices.Origin, actor string, c cut, why string) (devices.Pruned, error) {
	p := pruning{cut: c, Why: why}
	if err := a.Flush(ctx); err != nil {
		return p.Pruned, fmt.Errorf("prune audit: %w", err)
	}
	err := a.db.r.QueryRowContext(ctx, `SELECT count(*) FILTER (WHERE outcome <> 'ok' AND at < ?),
			count(*) FILTER (WHERE outcome = 'ok' AND at < ?)
		FROM audit WHERE at < ?`, c.Refusals, c.Changes, max(c.Refusals, c.Changes),
	).Scan(&p.Pruned.Refusals, &p.Pruned.Changes)
	if err != nil || p.Pruned == (devices.Pruned{}) {
		return p.Pruned, err
	}
	a.Record(o, devices.AuditEntry{Actor: actor, Action: "audit.prune", Target: "audit", After: p, Outcome: "ok"})
	if err := a.Flush(ctx); err != nil {
		return devices.Pruned{}, fmt.Errorf("prune audit: %w", err)
	}
	a.log.Info("the audit is pruned", "actor", actor, "why", why, "refusals", p.Pruned.Refusals,
		"changes", p.Pruned.Changes)
	for _, half := range []struct {
		which  string
		before int64
	}{{"outcome <> 'ok'", c.Refusals}, {"outcome = 'ok'", c.Changes}} {
		if err := a.db.deleteAudit(ctx, half.which, half.before); err != nil {
			return p.Pruned, err
		}
	}
	return p.Pruned, nil
}

// deleteAudit deletes rows that the newest entry of a pruning names; the table lets go of
// no others.
func (db *DB) deleteAudit(ctx context.Context, which string, before int64) error {
	for {
		var n int64
		err := db.change(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
			n, err = deleteBatch(ctx, tx, which, before)
			return err
		})
		if err != nil {
			return fmt.Errorf("prune audit: %w", err)
		}
		if n < pruneBatch {
			return nil
		}
	}
}

func deleteBatch(ctx context.Context, tx *sql.Tx, which string, before int64) (n int64, err error) {
	rows, err := tx.QueryContext(ctx, `DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE `+which+` AND at < ?
		AND seq < (SELECT max(seq) FROM audit WHERE action = 'audit.prune' AND outcome = 'ok') ORDER BY at LIMIT ?)
		RETURNING outcome, `+auditRowSize, before, pruneBatch)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var changed, refused AuditSize
	for rows.Next() {
		var outcome string
		var size int64
		if err := rows.Scan(&outcome, &size); err != nil {
			return 0, err
		}
		of := &refused
		if outcome == "ok" {
			of = &changed
		}
		of.Entries--
		of.Bytes -= size
		n++
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	return n, resize(ctx, tx, changed, refused)
}
