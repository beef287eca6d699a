package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"devicehub/devices"
	"devicehub/devices/liveness"
)

var _ liveness.Store = (*DB)(nil)

// ReserveEpochs moves the mark by n and returns where it was.
func (db *DB) ReserveEpochs(ctx context.Context, n int64) (first int64, err error) {
	err = db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `UPDATE epochs SET next = next + ? RETURNING next - ?`, n, n).Scan(&first)
	})
	if err != nil {
		return 0, fmt.Errorf("reserve epochs: %w", err)
	}
	return first, nil
}

// LoadPresence returns what is known of every device.
func (db *DB) LoadPresence(ctx context.Context) ([]liveness.Known, error) {
	rows, err := db.r.QueryContext(ctx, `SELECT device, state, control, reason, since, epoch, transport, offline_after_ms, awake_at, last_seen, linked FROM presence`)
	if err != nil {
		return nil, fmt.Errorf("load presence: %w", err)
	}
	defer rows.Close()
	var known []liveness.Known
	for rows.Next() {
		var k liveness.Known
		var after int64
		if err := rows.Scan(&k.Device, &k.State, &k.Control, &k.Reason, &k.Since, &k.Epoch, &k.Transport, &after, &k.AwakeAt, &k.LastSeen, &k.Linked); err != nil {
			return nil, fmt.Errorf("load presence: %w", err)
		}
		k.OfflineAfter = time.Duration(after) * time.Millisecond
		known = append(known, k)
	}
	return known, rows.Err()
}

// SavePresence writes a batch in one transaction.
func (db *DB) SavePresence(ctx context.Context, known []liveness.Known, trs []liveness.Transition) error {
	err := db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		put, err := tx.PrepareContext(ctx, `INSERT INTO presence (device, state, control, reason, since, epoch, transport, offline_after_ms, awake_at, last_seen, linked)
			SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 WHERE EXISTS (SELECT 1 FROM devices WHERE id = ?1)
			ON CONFLICT (device) DO UPDATE SET state = excluded.state, control = excluded.control, reason = excluded.reason, since = excluded.since,
			epoch = excluded.epoch, transport = excluded.transport, offline_after_ms = excluded.offline_after_ms, awake_at = excluded.awake_at,
			last_seen = excluded.last_seen, linked = excluded.linked`)
		if err != nil {
			return err
		}
		defer put.Close()
		for _, k := range known {
			if _, err := put.ExecContext(ctx, string(k.Device), string(k.State), k.Control, k.Reason, k.Since, k.Epoch, string(k.Transport),
				k.OfflineAfter.Milliseconds(), k.AwakeAt, k.LastSeen, k.Linked); err != nil {
				return fmt.Errorf("%s: %w", k.Device, err)
			}
		}
		add, err := tx.PrepareContext(ctx, `INSERT INTO presence_history (device, at, from_state, to_state, reason, epoch, transport, node)
			SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE EXISTS (SELECT 1 FROM devices WHERE id = ?1)`)
		if err != nil {
			return err
		}
		defer add.Close()
		for _, tr := range trs {
			if _, err := add.ExecContext(ctx, string(tr.Device), tr.At, string(tr.From), string(tr.To), tr.Reason, tr.Epoch, string(tr.Transport), tr.Node); err != nil {
				return fmt.Errorf("%s: %w", tr.Device, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save presence: %w", err)
	}
	return nil
}

// SaveSeen writes when devices were last heard, as one row set.
func (db *DB) SaveSeen(ctx context.Context, seen map[devices.ID]int64) error {
	err := db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		set, err := tx.PrepareContext(ctx, `UPDATE presence SET last_seen = ? WHERE device = ?`)
		if err != nil {
			return err
		}
		defer set.Close()
		for id, at := range seen {
			if _, err := set.ExecContext(ctx, at, string(id)); err != nil {
				return fmt.Errorf("%s: %w", id, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save last seen: %w", err)
	}
	return nil
}

// PresenceHistory returns transitions of a device, the newest first.
func (db *DB) PresenceHistory(ctx context.Context, id devices.ID, before int64, limit int) ([]liveness.Transition, error) {
	rows, err := db.r.QueryContext(ctx, `SELECT n, device, at, from_state, to_state, reason, epoch, transport, node FROM presence_history
		WHERE device = ?1 AND (?2 = 0 OR n < ?2) ORDER BY n DESC LIMIT ?3`, string(id), before, limit)
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", id, err)
	}
	defer rows.Close()
	var trs []liveness.Transition
	for rows.Next() {
		var tr liveness.Transition
		if err := rows.Scan(&tr.N, &tr.Device, &tr.At, &tr.From, &tr.To, &tr.Reason, &tr.Epoch, &tr.Transport, &tr.Node); err != nil {
			return nil, fmt.Errorf("history of %s: %w", id, err)
		}
		trs = append(trs, tr)
	}
	return trs, rows.Err()
}

// PrunePresence removes old transitions, in steps that leave room for others.
func (db *DB) PrunePresence(ctx context.Context, at int64, keep int) error {
	err := db.prune(ctx, `DELETE FROM presence_history WHERE n IN (SELECT n FROM presence_history WHERE at < ? LIMIT 10000)`, at)
	if err != nil {
		return fmt.Errorf("prune history: %w", err)
	}
	long, err := db.crowded(ctx, `SELECT device FROM presence_history GROUP BY device HAVING count(*) > ?`, keep)
	if err != nil {
		return fmt.Errorf("prune history: %w", err)
	}
	for _, id := range long {
		err := db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM presence_history WHERE device = ?1 AND n <=
				(SELECT n FROM presence_history WHERE device = ?1 ORDER BY n DESC LIMIT 1 OFFSET ?2)`, id, keep)
			return err
		})
		if err != nil {
			return fmt.Errorf("prune history of %s: %w", id, err)
		}
	}
	return nil
}

// prune runs a delete that takes a bounded bite until nothing is left for it.
func (db *DB) prune(ctx context.Context, bite string, args ...any) error {
	for {
		var n int64
		err := db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
			r, err := tx.ExecContext(ctx, bite, args...)
			if err != nil {
				return err
			}
			n, err = r.RowsAffected()
			return err
		})
		if err != nil || n == 0 {
			return err
		}
	}
}

// crowded lists the devices that a query finds too much of.
func (db *DB) crowded(ctx context.Context, query string, keep int) ([]string, error) {
	rows, err := db.r.QueryContext(ctx, query, keep)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
