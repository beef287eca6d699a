package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"devicehub/devices"
)

func open(t *testing.T) *DB {
	t.Helper()
	return openAt(t, filepath.Join(t.TempDir(), "hub.db"))
}

func openAt(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(t.Context(), path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestOpenIsDurableAndPrivate(t *testing.T) {
	db := open(t)
	for q, want := range map[string]string{"PRAGMA journal_mode": "wal", "PRAGMA synchronous": "2", "PRAGMA foreign_keys": "1"} {
		var got string
		if err := db.w.QueryRow(q).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %q %v, want %q", q, got, err, want)
		}
	}
	if _, err := db.r.Exec(`DELETE FROM devices`); err == nil {
		t.Error("a reader wrote")
	}
	info, err := os.Stat(db.Path())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: got %v %v, want 0600", info.Mode(), err)
	}
	if err := db.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOpenTwiceAppliesOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b%c?.db")
	db := openAt(t, path)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openAt(t, path)
	known, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := db.r.QueryRow(`SELECT count(*) FROM migrations`).Scan(&n); err != nil || n != len(known) {
		t.Errorf("migrations: got %d %v, want %d", n, err, len(known))
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, path string)
		want string
	}{
		{"newer format", func(t *testing.T, path string) {
			db := openAt(t, path)
			if _, err := db.w.Exec(`INSERT INTO migrations VALUES (900, '900_future', 0)`); err != nil {
				t.Fatal(err)
			}
			db.Close()
		}, "900_future"},
		{"another program's database", func(t *testing.T, path string) {
			os.WriteFile(path, nil, 0o600)
			db, err := sql.Open("sqlite", dsn(path, false))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.Exec(`CREATE TABLE theirs (x)`); err != nil {
				t.Fatal(err)
			}
		}, "another program"},
		{"not a database", func(t *testing.T, path string) {
			os.WriteFile(path, []byte(strings.Repeat("text ", 1000)), 0o600)
		}, ""},
		{"readable by others", func(t *testing.T, path string) {
			os.WriteFile(path, nil, 0o600)
			os.Chmod(path, 0o644)
		}, "chmod 600"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hub.db")
			tt.make(t, path)
			db, err := Open(t.Context(), path, slog.New(slog.DiscardHandler))
			if err == nil {
				db.Close()
				t.Fatal("opened")
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %q, want %q and the path in it", err, tt.want)
			}
		})
	}
}

func TestWriteRollsBack(t *testing.T) {
	db := open(t)
	boom := errors.New("boom")
	err := db.write(context.Background(), func(tx *sql.Tx) error {
		if _, err := tx.Exec(`INSERT INTO tombstones VALUES ('a', 1)`); err != nil {
			t.Fatal(err)
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("got %v, want boom", err)
	}
	if tombs, err := db.LoadTombstones(t.Context()); err != nil || len(tombs) != 0 {
		t.Errorf("got %v %v, want none", tombs, err)
	}
}

// A file from before there were versions is taken over: everything in it is at
// the first, and goes on from there.
func TestVersionsComeToOlderFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hub.db")
	older(t, path, 56, `INSERT INTO devices (id, record) VALUES ('lamp', '{"id":"lamp","kinds":["light"],"labels":{},"enabled":true}');
		INSERT INTO users (name, role, scope, hash, created_at, disabled) VALUES ('ana', 'viewer', '', 'h', 1, 0), ('bob', 'viewer', '', 'h', 1, 0);
		INSERT INTO accounts (name, rights, scope, topics, jti, last4, created_at, expires_at) VALUES ('ha', '["read"]', '', '[]', 'j', '1234', 1, 0);`)
	ctx := t.Context()
	db := openAt(t, path)
	st, err := db.LoadIdentity(ctx)
	if err != nil || len(st.Users) != 2 || st.Users[0].Ver != 1 || len(st.Accounts) != 1 || st.Accounts[0].Ver != 1 || st.UserFloor != 0 {
		t.Fatalf("got %+v, %v", st, err)
	}
	reg, err := devices.OpenRegistry(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := reg.Get("lamp"); !ok || d.Ver != 1 {
		t.Fatalf("got %+v, want version 1", d)
	}
	if _, err := reg.Update(ctx, "lamp", func(d *devices.Device) error { d.Name = "Lamp"; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := db.DeleteUser(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openAt(t, path)
	if reg, err = devices.OpenRegistry(ctx, db); err != nil {
		t.Fatal(err)
	}
	if d, _ := reg.Get("lamp"); d.Ver != 2 {
		t.Errorf("after a change and a restart: got version %d, want 2", d.Ver)
	}
	if st, err = db.LoadIdentity(ctx); err != nil || st.UserFloor != 1 {
		t.Errorf("got floor %d, %v, want 1", st.UserFloor, err)
	}
}

// older makes the file that a binary with the migrations below the given number
// would have left, with the given rows.
func older(t *testing.T, path string, below int, rows string) {
	t.Helper()
	known, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	w, err := sql.Open("sqlite", dsn(path, false))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	db := &DB{path: path, w: w}
	db.group.Transact = db.transact
	err = db.write(t.Context(), func(tx *sql.Tx) error {
		if err := db.claim(t.Context(), tx); err != nil {
			return err
		}
		for _, m := range known {
			if m.number >= below {
				continue
			}
			if _, err := tx.Exec(m.text); err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO migrations (number, name, applied_at) VALUES (?, ?, 0)`, m.number, m.name); err != nil {
				return err
			}
		}
		_, err := tx.Exec(rows)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
