package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"devicehub/devices"
)

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
	if q.Action != "" {
		and("action = ?", q.Action)
	}
	if q.Outcome != "" {
		and("outcome = ?", q.Outcome)
	}
	if q.From != 0 {
		and("at >= ?", q.From-foldFor.Milliseconds()) // no entry stands for more
		and("max(at, last_at) >= ?", q.From)
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
	err = query(ctx, a.db.r, `SELECT seq, at, actor, ip_hash, via, action, target, cmd_id, before, after, outcome, code, count, last_at FROM audit WHERE `+
		strings.Join(where, " AND ")+` ORDER BY seq DESC LIMIT ?`, func(scan func(...any) error) error {
		var e devices.AuditEntry
		var before, after sql.Null[string]
		if err := scan(&seq, &e.At, &e.Actor, &e.IPHash, &e.Via, &e.Action, &e.Target, &e.CmdID, &before, &after, &e.Outcome, &e.Code, &e.Count, &e.LastAt); err != nil {
			return err
		}
		if e.Count <= 1 {
			e.Count, e.LastAt = 0, 0
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
