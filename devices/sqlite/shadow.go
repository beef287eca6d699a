package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"devicehub/devices/shadow"
)

var _ shadow.Store = (*DB)(nil)

// ShadowStart counts the starts of the hub.
func (db *DB) ShadowStart(ctx context.Context) (starts int64, err error) {
	err = db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `UPDATE shadow_starts SET starts = starts + 1 RETURNING starts`).Scan(&starts)
	})
	if err != nil {
		return 0, fmt.Errorf("count the start: %w", err)
	}
	return starts, nil
}

// LoadShadows returns every shadow.
func (db *DB) LoadShadows(ctx context.Context) ([]shadow.Row, error) {
	rows, err := db.r.QueryContext(ctx, `SELECT device, ver_limit, start, body FROM shadows`)
	if err != nil {
		return nil, fmt.Errorf("load shadows: %w", err)
	}
	defer rows.Close()
	var list []shadow.Row
	for rows.Next() {
		var r shadow.Row
		if err := rows.Scan(&r.Device, &r.Limit, &r.Start, &r.Body); err != nil {
			return nil, fmt.Errorf("load shadows: %w", err)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// SaveShadows writes rows in one transaction.
func (db *DB) SaveShadows(ctx context.Context, rows []shadow.Row) error {
	err := db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		put, err := tx.PrepareContext(ctx, `INSERT INTO shadows (device, ver_limit, start, body)
			SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM devices WHERE id = ?1)
			ON CONFLICT (device) DO UPDATE SET ver_limit = excluded.ver_limit, start = excluded.start, body = excluded.body`)
		if err != nil {
			return err
		}
		defer put.Close()
		for _, r := range rows {
			if _, err := put.ExecContext(ctx, string(r.Device), r.Limit, r.Start, r.Body); err != nil {
				return fmt.Errorf("%s: %w", r.Device, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save shadows: %w", err)
	}
	return nil
}
