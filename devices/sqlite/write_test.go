package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"devicehub/devices"
)

// entomb writes one row; held writes wait in hold for the rest to queue up behind them.
func entomb(db *DB, id string) error {
	return db.change(context.Background(), func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO tombstones VALUES (?, 1)`, id)
		return err
	})
}

// together runs fs so that all but the first share a transaction, and returns how many
// transactions it took and what became of each.
func together(t *testing.T, db *DB, fs ...func() error) (transactions int64, errs []error) {
	t.Helper()
	var n atomic.Int64
	db.OnWrite = func(time.Duration, error) { n.Add(1) }
	hold, begun := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		err := db.write(context.Background(), func(*sql.Tx) error { close(begun); <-hold; return nil })
		if err != nil {
			t.Error(err)
		}
	})
	<-begun
	errs = make([]error, len(fs))
	for i, f := range fs {
		wg.Go(func() { errs[i] = f() })
	}
	time.Sleep(50 * time.Millisecond) // until all of them wait
	close(hold)
	wg.Wait()
	return n.Load() - 1, errs
}

func wantTombs(t *testing.T, db *DB, want int) {
	t.Helper()
	if tombs, err := db.LoadTombstones(t.Context()); err != nil || len(tombs) != want {
		t.Errorf("got %v %v, want %d rows", tombs, err, want)
	}
}

// Those who write at the same time share a transaction; one that fails is undone alone.
func TestWritesShareATransaction(t *testing.T) {
	db := open(t)
	var fs []func() error
	for i := range 10 {
		fs = append(fs, func() error { return entomb(db, fmt.Sprint(i%9)) }) // the last two are one too many
	}
	n, errs := together(t, db, fs...)
	failed := 0
	for _, err := range errs {
		if err != nil {
			failed++
		}
	}
	if n > 2 || failed != 1 {
		t.Errorf("got %d transactions, %d failed, want 1 and 1: %v", n, failed, errs)
	}
	wantTombs(t, db, 9)
}

// A part that ends the transaction, as an interrupted or a full disk's does, fails alone too.
func TestAPartThatBreaksTheTransaction(t *testing.T) {
	db := open(t)
	disk := errors.New("disk on fire")
	_, errs := together(t, db,
		func() error { return entomb(db, "a") },
		func() error {
			return db.write(context.Background(), func(tx *sql.Tx) error {
				if _, err := tx.Exec(`INSERT INTO tombstones VALUES ('gone', 1); ROLLBACK`); err != nil {
					t.Error(err)
				}
				return disk
			})
		},
		func() error { return entomb(db, "b") },
		func() error { return entomb(db, "c") })
	if errs[0] != nil || !errors.Is(errs[1], disk) || errs[2] != nil || errs[3] != nil {
		t.Errorf("got %v, want the second to fail alone", errs)
	}
	wantTombs(t, db, 3)
}

// Who leaves while others still wait undoes nothing of theirs.
func TestLeavingEarly(t *testing.T) {
	db := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	n, errs := together(t, db,
		func() error {
			return db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
				cancel()
				_, err := tx.ExecContext(ctx, `INSERT INTO tombstones VALUES ('begun', 1)`)
				return err
			})
		},
		func() error { return entomb(db, "other") })
	if errs[0] != nil || errs[1] != nil || n != 1 {
		t.Errorf("got %v in %d transactions, want both kept in one", errs, n)
	}
	wantTombs(t, db, 2)
}

// Many who change different devices at the same time share the commits.
func TestUpdatesShareCommits(t *testing.T) {
	db := open(t)
	reg, err := devices.OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	var ds []*devices.Device
	for i := range 200 {
		ds = append(ds, &devices.Device{ID: devices.ID(fmt.Sprint("d", i)), Kinds: []devices.Kind{devices.KindSensor}})
	}
	if err := reg.Create(t.Context(), time.Now(), ds...); err != nil {
		t.Fatal(err)
	}
	var commits atomic.Int64
	db.OnWrite = func(time.Duration, error) { commits.Add(1) }
	var wg sync.WaitGroup
	for _, d := range ds {
		wg.Go(func() {
			if _, err := reg.Report(t.Context(), d.ID, func(d *devices.Device) error { d.Firmware = "2.0"; return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := commits.Load(); n > 50 {
		t.Errorf("200 reports of a firmware took %d commits, want them to share", n)
	}
	again, err := devices.OpenRegistry(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	for d := range again.All() {
		if d.Firmware != "2.0" {
			t.Errorf("%s: got firmware %q on disk", d.ID, d.Firmware)
		}
	}
}
