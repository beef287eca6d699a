package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"

	"devicehub/devices/internal/groupcommit"
)

// DB is the open file. It is safe for concurrent use.
type DB struct {
	path string
	log  *slog.Logger
	w    *sql.DB // one connection; every change goes through it
	r    *sql.DB // readers

	group groupcommit.Writer
	took  atomic.Int64 // what the last transaction took, ns

	// OnWrite, if set, is told how long a transaction took and how it ended. It is
	// set before the first use.
	OnWrite func(took time.Duration, err error)
}

// Open opens or creates the file at path, 0600, and brings its schema up to
// what this binary knows. It returns a *FormatError when the file is of a newer
// format or is not a file of this program.
func Open(ctx context.Context, path string, logger *slog.Logger) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := private(path); err != nil {
		return nil, err
	}
	db := &DB{path: path, log: logger}
	db.group.Transact, db.group.Linger = db.transact, db.linger
	if db.w, err = sql.Open("sqlite", dsn(path, false)); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.w.SetMaxOpenConns(1)
	if err := db.migrate(ctx); err != nil {
		return nil, errors.Join(named(path, err), db.w.Close())
	}
	if db.r, err = sql.Open("sqlite", dsn(path, true)); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.w.Close())
	}
	readers := max(4, runtime.GOMAXPROCS(0))
	db.r.SetMaxOpenConns(readers)
	db.r.SetMaxIdleConns(readers)
	return db, nil
}

// private creates the file if it is missing, and refuses one that others may
// read: it holds signing keys. SQLite gives the files beside it the same mode.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open the database: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s may be read by others (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
	}
	return nil
}

// named says which file err is about, unless it says so itself.
func named(path string, err error) error {
	var fe *FormatError
	if errors.As(err, &fe) {
		return err
	}
	return fmt.Errorf("open %s: %w", path, err)
}

func dsn(path string, readOnly bool) string {
	q := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "journal_size_limit(67108864)"}}
	if readOnly {
		q.Add("_pragma", "query_only(1)")
	} else {
		q.Set("_txlock", "immediate")
	}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// Close ends every connection; the write-ahead log is folded into the file.
func (db *DB) Close() error { return errors.Join(db.r.Close(), db.w.Close()) }

// Path is the file.
func (db *DB) Path() string { return db.path }

// Ping asks the writer and a reader for a sign of life.
func (db *DB) Ping(ctx context.Context) error {
	return errors.Join(db.w.PingContext(ctx), db.r.PingContext(ctx))
}
