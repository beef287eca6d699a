package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// applicationID stands in the file's header (PRAGMA application_id): "dhub".
const applicationID = 0x64687562

// FormatError says that a file cannot be opened by this binary, and why.
type FormatError struct {
	Path   string
	Reason string
}

func (e *FormatError) Error() string { return e.Path + ": " + e.Reason }

type migration struct {
	number int
	name   string // "010_registry"
	text   string
}

func migrations() ([]migration, error) {
	entries, err := schemaFiles.ReadDir("schema")
	if err != nil {
		return nil, err
	}
	var ms []migration
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".sql")
		num, _, _ := strings.Cut(name, "_")
		n, err := strconv.Atoi(num)
		if err != nil {
			return nil, fmt.Errorf("schema file %s has no number", e.Name())
		}
		text, err := schemaFiles.ReadFile("schema/" + e.Name())
		if err != nil {
			return nil, err
		}
		ms = append(ms, migration{n, name, string(text)})
	}
	slices.SortFunc(ms, func(a, b migration) int { return a.number - b.number })
	for i := 1; i < len(ms); i++ {
		if ms[i].number == ms[i-1].number {
			return nil, fmt.Errorf("schema files %s and %s have the same number", ms[i-1].name, ms[i].name)
		}
	}
	return ms, nil
}

// migrate applies what the file lacks, in one transaction for all: an upgrade
// that fails leaves the file as it was.
func (db *DB) migrate(ctx context.Context) error {
	known, err := migrations()
	if err != nil {
		return err
	}
	return db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := db.claim(ctx, tx); err != nil {
			return err
		}
		applied, err := appliedMigrations(ctx, tx)
		if err != nil {
			return err
		}
		for n, name := range applied {
			if !slices.ContainsFunc(known, func(m migration) bool { return m.number == n }) {
				return &FormatError{db.path, fmt.Sprintf("its format has %q, which this devicehub does not know: it was written by a newer one; use that or a newer devicehub", name)}
			}
		}
		for _, m := range known {
			if _, ok := applied[m.number]; ok {
				continue
			}
			if _, err := tx.ExecContext(ctx, m.text); err != nil {
				return fmt.Errorf("schema %s: %w", m.name, err)
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO migrations (number, name, applied_at) VALUES (?, ?, unixepoch('subsec') * 1000)`, m.number, m.name); err != nil {
				return fmt.Errorf("record schema %s: %w", m.name, err)
			}
		}
		return nil
	})
}

// claim marks an empty file as ours and refuses one that is someone else's.
func (db *DB) claim(ctx context.Context, tx *sql.Tx) error {
	var id, tables int64
	if err := tx.QueryRowContext(ctx, `PRAGMA application_id`).Scan(&id); err != nil {
		return &FormatError{db.path, "not a SQLite file, or damaged: " + err.Error()}
	}
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema`).Scan(&tables); err != nil {
		return &FormatError{db.path, "not a SQLite file, or damaged: " + err.Error()}
	}
	if id != applicationID && (id != 0 || tables != 0) {
		return &FormatError{db.path, "a database of another program"}
	}
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA application_id = %d`, applicationID)); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL)`)
	return err
}

func appliedMigrations(ctx context.Context, tx *sql.Tx) (map[int]string, error) {
	rows, err := tx.QueryContext(ctx, `SELECT number, name FROM migrations`)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	defer rows.Close()
	applied := map[int]string{}
	for rows.Next() {
		var n int
		var name string
		if err := rows.Scan(&n, &name); err != nil {
			return nil, fmt.Errorf("read migrations: %w", err)
		}
		applied[n] = name
	}
	return applied, rows.Err()
}
