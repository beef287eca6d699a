-- Device records (devices.Device as JSON) and the ids of deleted devices.
CREATE TABLE devices (
	id     TEXT PRIMARY KEY,
	record BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE tombstones (
	id         TEXT PRIMARY KEY,
	deleted_at INTEGER NOT NULL -- ms since epoch
) WITHOUT ROWID;
