package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"devicehub/devices"
	"devicehub/devices/commands"
)

var _ commands.Store = (*DB)(nil)

// SaveCommands writes rows in one transaction.
func (db *DB) SaveCommands(ctx context.Context, rows []commands.Row) error {
	err := db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		put, err := tx.PrepareContext(ctx, `INSERT INTO commands (device, cmd_id, issued_at, final, body)
			SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM devices WHERE id = ?1)
			ON CONFLICT (device, cmd_id) DO UPDATE SET issued_at = excluded.issued_at, final = excluded.final, body = excluded.body`)
		if err != nil {
			return err
		}
		defer put.Close()
		for _, r := range rows {
			if _, err := put.ExecContext(ctx, string(r.Device), r.CmdID, r.IssuedAt, r.Final, r.Body); err != nil {
				return fmt.Errorf("%s of %s: %w", r.CmdID, r.Device, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save commands: %w", err)
	}
	return nil
}

const commandColumns = `SELECT device, cmd_id, issued_at, final, body FROM commands `

// OpenCommands returns what is not final, the oldest first.
func (db *DB) OpenCommands(ctx context.Context) ([]commands.Row, error) {
	return db.commands(ctx, `WHERE final = 0 ORDER BY issued_at, cmd_id`)
}

func (db *DB) commands(ctx context.Context, where string, args ...any) ([]commands.Row, error) {
	rows, err := db.r.QueryContext(ctx, commandColumns+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read commands: %w", err)
	}
	defer rows.Close()
	var list []commands.Row
	for rows.Next() {
		var r commands.Row
		if err := rows.Scan(&r.Device, &r.CmdID, &r.IssuedAt, &r.Final, &r.Body); err != nil {
			return nil, fmt.Errorf("read commands: %w", err)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// Command returns one row.
func (db *DB) Command(ctx context.Context, id devices.ID, cmdID string) (r commands.Row, ok bool, err error) {
	err = db.r.QueryRowContext(ctx, commandColumns+`WHERE device = ? AND cmd_id = ?`, string(id), cmdID).
		Scan(&r.Device, &r.CmdID, &r.IssuedAt, &r.Final, &r.Body)
	if errors.Is(err, sql.ErrNoRows) {
		return r, false, nil
	}
	if err != nil {
		return r, false, fmt.Errorf("read command %s of %s: %w", cmdID, id, err)
	}
	return r, true, nil
}

// CommandHistory returns rows of a device, the newest first.
func (db *DB) CommandHistory(ctx context.Context, id devices.ID, issuedAt int64, cmdID string, limit int) ([]commands.Row, error) {
	if issuedAt == 0 {
		return db.commands(ctx, `WHERE device = ? ORDER BY issued_at DESC, cmd_id DESC LIMIT ?`, string(id), limit)
	}
	return db.commands(ctx, `WHERE device = ? AND (issued_at, cmd_id) < (?, ?) ORDER BY issued_at DESC, cmd_id DESC LIMIT ?`, string(id), issuedAt, cmdID, limit)
}

// AllCommands returns rows of all devices, the newest first.
func (db *DB) AllCommands(ctx context.Context, below commands.Row, limit int) ([]commands.Row, error) {
	const order = `ORDER BY issued_at DESC, cmd_id DESC, device DESC LIMIT ?`
	if below.IssuedAt == 0 {
		return db.commands(ctx, order, limit)
	}
	return db.commands(ctx, `WHERE (issued_at, cmd_id, device) < (?, ?, ?) `+order, below.IssuedAt, below.CmdID, string(below.Device), limit)
}

// PruneCommands removes old final rows, in steps that leave room for others.
func (db *DB) PruneCommands(ctx context.Context, at int64, keep int) error {
	err := db.prune(ctx, `DELETE FROM commands WHERE (device, cmd_id) IN
		(SELECT device, cmd_id FROM commands WHERE final = 1 AND issued_at < ? LIMIT 10000)`, at)
	if err != nil {
		return fmt.Errorf("prune commands: %w", err)
	}
	long, err := db.crowded(ctx, `SELECT device FROM commands GROUP BY device HAVING count(*) > ?`, keep)
	if err != nil {
		return fmt.Errorf("prune commands: %w", err)
	}
	for _, id := range long {
		err := db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM commands WHERE device = ?1 AND cmd_id IN
				(SELECT cmd_id FROM commands WHERE device = ?1 AND final = 1 ORDER BY issued_at DESC, cmd_id DESC LIMIT -1 OFFSET ?2)`, id, keep)
			return err
		})
		if err != nil {
			return fmt.Errorf("prune commands of %s: %w", id, err)
		}
	}
	return nil
}
