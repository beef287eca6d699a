-- Who did what. Rows are only ever added.
CREATE TABLE audit (
	seq     INTEGER PRIMARY KEY,
	at      INTEGER NOT NULL, -- ms since epoch
	actor   TEXT NOT NULL,
	ip_hash TEXT NOT NULL,
	via     TEXT NOT NULL,
	action  TEXT NOT NULL,
	target  TEXT NOT NULL,
	cmd_id  TEXT NOT NULL,
	before  TEXT, -- JSON
	after   TEXT, -- JSON
	outcome TEXT NOT NULL,
	code    TEXT NOT NULL
);
CREATE INDEX audit_target ON audit (target, seq);
CREATE INDEX audit_actor ON audit (actor, seq);
CREATE INDEX audit_at ON audit (at);

CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit entries are only ever added'); END;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit entries are only ever added'); END;

-- Secrets and names of this installation.
CREATE TABLE installation (
	key   TEXT PRIMARY KEY,
	value BLOB NOT NULL
) WITHOUT ROWID;
