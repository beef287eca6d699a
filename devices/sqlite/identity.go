package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"devicehub/devices"
	"devicehub/devices/identity"
)

var _ identity.Store = (*DB)(nil)

// LoadIdentity returns everything but issued tokens.
func (db *DB) LoadIdentity(ctx context.Context) (*identity.State, error) {
	st := &identity.State{}
	err := errors.Join(
		query(ctx, db.r, `SELECT device, gen_issued, min_gen, graces, new_boot, used_at, prev_used_at FROM credentials`, func(scan func(...any) error) error {
			var c identity.Credential
			var graces string
			if err := scan(&c.Device, &c.GenIssued, &c.MinGen, &graces, &c.NewBoot, &c.UsedAt, &c.PrevUsedAt); err != nil {
				return err
			}
			if graces != "" {
				if err := json.Unmarshal([]byte(graces), &c.Graces); err != nil {
					return fmt.Errorf("credential of %s: %w", c.Device, err)
				}
			}
			st.Credentials = append(st.Credentials, c)
			return nil
		}),
		query(ctx, db.r, `SELECT kid, created_at, retired_at, revoked_at, last_exp, public, seed FROM signing_keys`, func(scan func(...any) error) error {
			var k identity.Key
			var public []byte
			err := scan(&k.KID, &k.CreatedAt, &k.RetiredAt, &k.RevokedAt, &k.LastExpS, &public, &k.Seed)
			k.Public = public
			st.Keys = append(st.Keys, k)
			return err
		}),
		query(ctx, db.r, `SELECT name, ver, role, scope, hash, created_at, disabled FROM users`, func(scan func(...any) error) error {
			var u identity.User
			var scope string
			if err := scan(&u.Name, &u.Ver, &u.Role, &scope, &u.Hash, &u.CreatedAt, &u.Disabled); err != nil {
				return err
			}
			var err error
			u.Scope, err = devices.ParseScope(scope)
			st.Users = append(st.Users, u)
			return err
		}),
		query(ctx, db.r, `SELECT sid, user, created_at, last_used_at, expires_at, user_agent FROM sessions`, func(scan func(...any) error) error {
			var s identity.Session
			err := scan(&s.SID, &s.User, &s.CreatedAt, &s.LastUsedAt, &s.ExpiresAt, &s.UserAgent)
			st.Sessions = append(st.Sessions, s)
			return err
		}),
		query(ctx, db.r, `SELECT name, ver, rights, scope, topics, jti, last4, created_at, expires_at FROM accounts`, func(scan func(...any) error) error {
			a, err := scanAccount(scan)
			st.Accounts = append(st.Accounts, a)
			return err
		}),
		db.r.QueryRowContext(ctx, `SELECT users, accounts FROM version_floors`).Scan(&st.UserFloor, &st.AccountFloor),
	)
	return st, err
}

func scanAccount(scan func(...any) error) (a identity.Account, err error) {
	var scope string
	var rights, topics []byte
	if err := scan(&a.Name, &a.Ver, &rights, &scope, &topics, &a.JTI, &a.Last4, &a.CreatedAt, &a.ExpiresAt); err != nil {
		return a, err
	}
	var names []string
	if err := errors.Join(json.Unmarshal(rights, &names), json.Unmarshal(topics, &a.Topics)); err != nil {
		return a, fmt.Errorf("service account %s: %w", a.Name, err)
	}
	if a.Rights, err = devices.ParseRights(names); err != nil {
		return a, err
	}
	a.Scope, err = devices.ParseScope(scope)
	return a, err
}

// query runs each on every row. It belongs to whoever reads more than one row.
func query(ctx context.Context, q *sql.DB, text string, each func(scan func(...any) error) error, args ...any) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// PutCredentials implements identity.Store. A credential that is older than what is
// there changes nothing: its device was deleted meanwhile.
func (db *DB) PutCredentials(ctx context.Context, cs []identity.Credential, issued []identity.IssuedToken, keys []identity.Key) error {
	return db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		return errors.Join(putCredentials(ctx, tx, cs), putTokens(ctx, tx, issued), putKeys(ctx, tx, keys))
	})
}

func putCredentials(ctx context.Context, tx *sql.Tx, cs []identity.Credential) error {
	put, err := tx.PrepareContext(ctx, `INSERT INTO credentials (device, gen_issued, min_gen, graces, new_boot, used_at, prev_used_at) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (device) DO UPDATE SET gen_issued = excluded.gen_issued, min_gen = excluded.min_gen, graces = excluded.graces, new_boot = excluded.new_boot,
			used_at = excluded.used_at, prev_used_at = excluded.prev_used_at
		WHERE excluded.gen_issued >= credentials.gen_issued`)
	if err != nil {
		return err
	}
	defer put.Close()
	forget, err := tx.PrepareContext(ctx, `DELETE FROM device_tokens WHERE device = ? AND gen < ?`)
	if err != nil {
		return err
	}
	defer forget.Close()
	for _, c := range cs {
		var graces []byte
		if len(c.Graces) > 0 {
			if graces, err = json.Marshal(c.Graces); err != nil {
				return err
			}
		}
		if _, err := put.ExecContext(ctx, string(c.Device), c.GenIssued, c.MinGen, string(graces), c.NewBoot, c.UsedAt, c.PrevUsedAt); err != nil {
			return err
		}
		if _, err := forget.ExecContext(ctx, string(c.Device), c.MinGen); err != nil {
			return err
		}
	}
	return nil
}

func putTokens(ctx context.Context, tx *sql.Tx, issued []identity.IssuedToken) error {
	add, err := tx.PrepareContext(ctx, `INSERT INTO device_tokens (jti, device, gen, kid, form, issued_at, exp, last4) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	if err != nil {
		return err
	}
	defer add.Close()
	for _, t := range issued {
		if _, err := add.ExecContext(ctx, t.JTI, string(t.Device), t.Gen, t.KID, t.Form, t.At, t.ExpS, t.Last4); err != nil {
			return err
		}
	}
	return nil
}

// Tokens implements identity.Store.
func (db *DB) Tokens(ctx context.Context, id devices.ID, limit int) ([]identity.IssuedToken, error) {
	var ts []identity.IssuedToken
	err := query(ctx, db.r, `SELECT jti, device, gen, kid, form, issued_at, exp, last4 FROM device_tokens WHERE device = ? ORDER BY issued_at DESC, jti DESC LIMIT ?`, func(scan func(...any) error) error {
		var t identity.IssuedToken
		err := scan(&t.JTI, &t.Device, &t.Gen, &t.KID, &t.Form, &t.At, &t.ExpS, &t.Last4)
		ts = append(ts, t)
		return err
	}, string(id), limit)
	return ts, err
}

// Stranded implements identity.Store.
func (db *DB) Stranded(ctx context.Context, kid string, nowS int64) (n int, err error) {
	err = db.r.QueryRowContext(ctx, `SELECT count(*) FROM (
		SELECT t.device FROM device_tokens t JOIN credentials c ON c.device = t.device LEFT JOIN signing_keys k ON k.kid = t.kid
		WHERE t.gen >= c.min_gen AND (t.exp = 0 OR t.exp > ?1) AND (t.kid = ?2 OR coalesce(k.revoked_at, 1) = 0)
		GROUP BY t.device HAVING sum(t.kid = ?2) > 0 AND sum(t.kid <> ?2) = 0)`, nowS, kid).Scan(&n)
	return n, err
}

// SweepTokens implements identity.Store.
func (db *DB) SweepTokens(ctx context.Context, beforeS int64) error {
	return db.exec(ctx, `DELETE FROM device_tokens WHERE exp > 0 AND exp < ?`, beforeS)
}

// exec runs one statement in a transaction of its own.
func (db *DB) exec(ctx context.Context, text string, args ...any) error {
	return db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, text, args...)
		return err
	})
}

// PutKeys implements identity.Store.
func (db *DB) PutKeys(ctx context.Context, ks []identity.Key) error {
	return db.change(ctx, func(ctx context.Context, tx *sql.Tx) error { return putKeys(ctx, tx, ks) })
}

func putKeys(ctx context.Context, tx *sql.Tx, ks []identity.Key) error {
	for _, k := range ks {
		if _, err := tx.ExecContext(ctx, `INSERT INTO signing_keys (kid, created_at, retired_at, revoked_at, last_exp, public, seed) VALUES (?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (kid) DO UPDATE SET retired_at = excluded.retired_at, revoked_at = excluded.revoked_at, last_exp = excluded.last_exp, seed = excluded.seed`,
			k.KID, k.CreatedAt, k.RetiredAt, k.RevokedAt, k.LastExpS, []byte(k.Public), k.Seed); err != nil {
			return err
		}
	}
	return nil
}

// DeleteKey implements identity.Store.
func (db *DB) DeleteKey(ctx context.Context, kid string) error {
	return db.exec(ctx, `DELETE FROM signing_keys WHERE kid = ?`, kid)
}

// PutUser implements identity.Store.
func (db *DB) PutUser(ctx context.Context, u identity.User) error {
	return db.exec(ctx, `INSERT INTO users (name, ver, role, scope, hash, created_at, disabled) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET ver = excluded.ver, role = excluded.role, scope = excluded.scope, hash = excluded.hash, disabled = excluded.disabled`,
		u.Name, u.Ver, string(u.Role), u.Scope.String(), u.Hash, u.CreatedAt, u.Disabled)
}

// DeleteUser implements identity.Store; the sessions go with the user.
func (db *DB) DeleteUser(ctx context.Context, name string) error {
	return db.exec(ctx, `DELETE FROM users WHERE name = ?`, name)
}

// PutSession implements identity.Store.
func (db *DB) PutSession(ctx context.Context, s identity.Session) error {
	return db.exec(ctx, `INSERT INTO sessions (sid, user, created_at, last_used_at, expires_at, user_agent) VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (sid) DO UPDATE SET last_used_at = excluded.last_used_at, expires_at = excluded.expires_at`,
		s.SID, s.User, s.CreatedAt, s.LastUsedAt, s.ExpiresAt, s.UserAgent)
}

// TouchSessions implements identity.Store.
func (db *DB) TouchSessions(ctx context.Context, last map[string]int64) error {
	return db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for sid, at := range last {
			if _, err := tx.ExecContext(ctx, `UPDATE sessions SET last_used_at = ? WHERE sid = ?`, at, sid); err != nil {
				return err
			}
		}
		return nil
	})
}

// DeleteSessions implements identity.Store.
func (db *DB) DeleteSessions(ctx context.Context, sids []string) error {
	return db.change(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, sid := range sids {
			if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE sid = ?`, sid); err != nil {
				return err
			}
		}
		return nil
	})
}

// PutAccount implements identity.Store.
func (db *DB) PutAccount(ctx context.Context, a identity.Account) error {
	rights, err1 := json.Marshal(a.Rights.Names())
	topics, err2 := json.Marshal(append([]string{}, a.Topics...))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return db.exec(ctx, `INSERT INTO accounts (name, ver, rights, scope, topics, jti, last4, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET ver = excluded.ver, rights = excluded.rights, scope = excluded.scope, topics = excluded.topics, jti = excluded.jti, last4 = excluded.last4, expires_at = excluded.expires_at`,
		a.Name, a.Ver, string(rights), a.Scope.String(), string(topics), a.JTI, a.Last4, a.CreatedAt, a.ExpiresAt)
}

// DeleteAccount implements identity.Store.
func (db *DB) DeleteAccount(ctx context.Context, name string) error {
	return db.exec(ctx, `DELETE FROM accounts WHERE name = ?`, name)
}
