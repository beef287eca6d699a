package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
)

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
