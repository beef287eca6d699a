package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"time"

	"devicehub/devices"
)

var _ devices.RegistryStore = (*DB)(nil)

// LoadDevices returns every record.
func (db *DB) LoadDevices(ctx context.Context) ([]*devices.Device, error) {
	raw, err := db.loadRecords(ctx)
	if err != nil {
		return nil, err
	}
	// Decoding costs more than reading: every core takes a share.
	ds := make([]*devices.Device, len(raw))
	workers := max(1, min(runtime.GOMAXPROCS(0), len(raw)/1000))
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := len(raw) * w / workers; i < len(raw)*(w+1)/workers; i++ {
				d := new(devices.Device)
				if err := json.Unmarshal(raw[i], d); err != nil {
					errs[w] = fmt.Errorf("%s: record %d of devices: %w", db.path, i, err)
					return
				}
				ds[i] = d
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return ds, nil
}

func (db *DB) loadRecords(ctx context.Context) ([][]byte, error) {
	rows, err := db.r.QueryContext(ctx, `SELECT record FROM devices`)
	if err != nil {
		return nil, fmt.Errorf("load devices: %w", err)
	}
	defer rows.Close()
	var raw [][]byte
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, fmt.Errorf("load devices: %w", err)
		}
		raw = append(raw, b)
	}
	return raw, rows.Err()
}

// LoadTombstones returns the ids that were deleted, and when.
func (db *DB) LoadTombstones(ctx context.Context) (map[devices.ID]time.Time, error) {
	rows, err := db.r.QueryContext(ctx, `SELECT id, deleted_at FROM tombstones`)
	if err != nil {
		return nil, fmt.Errorf("load tombstones: %w", err)
	}
	defer rows.Close()
	tombs := map[devices.ID]time.Time{}
	for rows.Next() {
		var id devices.ID
		var at int64
		if err := rows.Scan(&id, &at); err != nil {
			return nil, fmt.Errorf("load tombstones: %w", err)
		}
		tombs[id] = time.UnixMilli(at)
	}
	return tombs, rows.Err()
}

// PutDevices writes the records in one transaction; a record's tombstone goes.
func (db *DB) PutDevices(ctx context.Context, ds []*devices.Device) error {
	return db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		// Never INSERT OR REPLACE: it would delete the row, and the triggers with it.
		put, err := tx.PrepareContext(ctx, `INSERT INTO devices (id, record) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record`)
		if err != nil {
			return err
		}
		defer put.Close()
		raise, err := tx.PrepareContext(ctx, `DELETE FROM tombstones WHERE id = ?`)
		if err != nil {
			return err
		}
		defer raise.Close()
		for _, d := range ds {
			b, err := json.Marshal(d)
			if err != nil {
				return fmt.Errorf("device %s: %w", d.ID, err)
			}
			if _, err := put.ExecContext(ctx, string(d.ID), b); err != nil {
				return fmt.Errorf("put device %s: %w", d.ID, err)
			}
			if _, err := raise.ExecContext(ctx, string(d.ID)); err != nil {
				return fmt.Errorf("put device %s: %w", d.ID, err)
			}
		}
		return nil
	})
}

// DeleteDevice removes the record and leaves a tombstone; tombstones past their
// time go. What other nouns keep under the id goes by their triggers.
func (db *DB) DeleteDevice(ctx context.Context, id devices.ID, at time.Time) error {
	return db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM devices WHERE id = ?`, string(id)); err != nil {
			return fmt.Errorf("delete device %s: %w", id, err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO tombstones (id, deleted_at) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET deleted_at = excluded.deleted_at`,
			string(id), at.UnixMilli()); err != nil {
			return fmt.Errorf("delete device %s: %w", id, err)
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM tombstones WHERE deleted_at < ?`, at.Add(-devices.TombstoneFor).UnixMilli()); err != nil {
			return fmt.Errorf("sweep tombstones: %w", err)
		}
		return nil
	})
}
