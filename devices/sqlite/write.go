package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"devicehub/devices/internal/groupcommit"
)

// maxLinger is the longest that a transaction waits for company after another one: as long as
// readings wait at the least.
const maxLinger = 5 * time.Millisecond

// Writer groups the writes to the file.
func (db *DB) Writer() *groupcommit.Writer { return &db.group }

// linger is half of what the last transaction took. People wait for what is written here: longer,
// it would be fewer transactions, but one in a hundred commands would be confirmed 10 ms later.
func (db *DB) linger() time.Duration { return min(maxLinger, time.Duration(db.took.Load())/2) }

// inTx is the key of a file's transaction in a context.
type inTx struct{ db *DB }

// change runs f in the transaction that ctx is of, or in one that it shares with others, and
// returns when that is durable. What f did is undone if it returns an error. f uses the context
// that it gets, for the transaction is not ended by who waits for one part of it; it may run again.
func (db *DB) change(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	if tx, ok := ctx.Value(inTx{db}).(*sql.Tx); ok {
		return f(ctx, tx)
	}
	return db.group.Do(ctx, func(ctx context.Context) error { return f(ctx, ctx.Value(inTx{db}).(*sql.Tx)) })
}

// write is change for who has a context that does not end early.
func (db *DB) write(ctx context.Context, f func(tx *sql.Tx) error) error {
	return db.change(ctx, func(_ context.Context, tx *sql.Tx) error { return f(tx) })
}

// maxBreaks is how often the rest of a transaction that a part broke is tried without that part.
const maxBreaks = 3

// errBroke says that a part has ended the transaction for all, as a full disk does.
var errBroke = errors.New("the transaction broke")

// transact runs parts in one transaction and commits it, which makes it durable. A part that fails
// is undone alone.
func (db *DB) transact(ctx context.Context, parts []func(context.Context) error) []error {
	errs := make([]error, len(parts))
	var err error
	for range maxBreaks {
		began := time.Now()
		err = db.attempt(ctx, parts, errs)
		db.wrote(time.Since(began), cmp.Or(err, errors.Join(errs...)))
		if !errors.Is(err, errBroke) {
			break
		}
	}
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}

func (db *DB) wrote(took time.Duration, err error) {
	db.took.Store(int64(took))
	if db.OnWrite != nil {
		db.OnWrite(took, err)
	}
}

// attempt runs the parts that have not failed and commits.
func (db *DB) attempt(ctx context.Context, parts []func(context.Context) error, errs []error) error {
	tx, err := db.w.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() // does nothing after a commit
	in := context.WithValue(ctx, inTx{db}, tx)
	kept := 0
	for i, f := range parts {
		if errs[i] != nil {
			continue
		}
		if len(parts) == 1 {
			errs[i] = f(in)
		} else if errs[i], err = part(in, tx, f); err != nil {
			return err
		}
		if errs[i] == nil {
			kept++
		}
	}
	if kept == 0 {
		return nil
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// part runs f so that it can be undone by itself. broke is errBroke when that cannot be.
func part(ctx context.Context, tx *sql.Tx, f func(context.Context) error) (failed, broke error) {
	if _, err := tx.ExecContext(ctx, `SAVEPOINT part`); err != nil {
		return nil, fmt.Errorf("%w: %w", errBroke, err)
	}
	failed = f(ctx)
	end := `RELEASE part`
	if failed != nil {
		end = `ROLLBACK TO part; RELEASE part`
	}
	if _, err := tx.ExecContext(ctx, end); err != nil {
		return failed, fmt.Errorf("%w: %w", errBroke, err)
	}
	return failed, nil
}
