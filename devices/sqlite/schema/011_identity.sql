-- Generations of device tokens. Rows outlive their device: the token of a
-- deleted device must be none of its successor's.
CREATE TABLE credentials (
	device     TEXT PRIMARY KEY,
	gen_issued INTEGER NOT NULL,
	min_gen    INTEGER NOT NULL,
	graces     TEXT NOT NULL DEFAULT '', -- JSON list of {below, until}
	new_boot   TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

-- What is kept of each token: never the token.
CREATE TABLE device_tokens (
	jti       TEXT PRIMARY KEY,
	device    TEXT NOT NULL,
	gen       INTEGER NOT NULL,
	kid       TEXT NOT NULL,
	form      TEXT NOT NULL,
	issued_at INTEGER NOT NULL, -- ms since epoch
	exp       INTEGER NOT NULL, -- seconds since epoch, 0: never
	last4     TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX device_tokens_device ON device_tokens (device, issued_at);
CREATE INDEX device_tokens_exp ON device_tokens (exp);

CREATE TRIGGER identity_forgets_device AFTER DELETE ON devices BEGIN
	UPDATE credentials SET gen_issued = gen_issued + 1, min_gen = gen_issued + 1, graces = '', new_boot = '' WHERE device = OLD.id;
	DELETE FROM device_tokens WHERE device = OLD.id;
END;

CREATE TABLE signing_keys (
	kid        TEXT PRIMARY KEY,
	created_at INTEGER NOT NULL,
	retired_at INTEGER NOT NULL, -- 0: it signs
	revoked_at INTEGER NOT NULL,
	last_exp   INTEGER NOT NULL, -- seconds since epoch
	public     BLOB NOT NULL,
	seed       BLOB              -- NULL once revoked
) WITHOUT ROWID;

CREATE TABLE users (
	name       TEXT PRIMARY KEY,
	role       TEXT NOT NULL,
	scope      TEXT NOT NULL,
	hash       TEXT NOT NULL, -- argon2id, PHC string form
	created_at INTEGER NOT NULL,
	disabled   INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE sessions (
	sid          TEXT PRIMARY KEY,
	user         TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
	created_at   INTEGER NOT NULL,
	last_used_at INTEGER NOT NULL,
	expires_at   INTEGER NOT NULL,
	user_agent   TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user);

CREATE TABLE accounts (
	name       TEXT PRIMARY KEY,
	rights     TEXT NOT NULL, -- JSON list of names
	scope      TEXT NOT NULL,
	topics     TEXT NOT NULL, -- JSON list of MQTT topic filters
	jti        TEXT NOT NULL,
	last4      TEXT NOT NULL,
	created_at INTEGER NOT NULL,
	expires_at INTEGER NOT NULL -- 0: never
) WITHOUT ROWID;
