package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// auditKey names the secret with which addresses in the audit are hashed. Who has it finds every
// IPv4 address behind its hash by trying them all.
const auditKey = "audit.ip_key"

// DropAuditKey forgets that secret. Another is made when the audit is opened next: addresses
// that are written from then on have other hashes than before.
func (db *DB) DropAuditKey(ctx context.Context) error {
	err := db.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM installation WHERE key = ?`, auditKey)
		return err
	})
	if err != nil {
		return fmt.Errorf("drop the audit's key: %w", err)
	}
	return nil
}
