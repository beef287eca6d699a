-- Presence: reserved epochs, what is known of each device, and its history.
CREATE TABLE epochs (
	id   INTEGER PRIMARY KEY CHECK (id = 1),
	next INTEGER NOT NULL -- the first that is not reserved
);
INSERT INTO epochs (id, next) VALUES (1, 1);

CREATE TABLE presence (
	device           TEXT PRIMARY KEY,
	state            TEXT NOT NULL,
	control          TEXT NOT NULL,
	reason           TEXT NOT NULL,
	since            INTEGER NOT NULL, -- ms since epoch
	epoch            INTEGER NOT NULL,
	transport        TEXT NOT NULL,
	offline_after_ms INTEGER NOT NULL,
	awake_at         INTEGER NOT NULL, -- ms since epoch, 0: awake
	last_seen        INTEGER NOT NULL, -- ms since epoch
	linked           INTEGER NOT NULL  -- 1: it ever had a link
) WITHOUT ROWID;

CREATE TABLE presence_history (
	n          INTEGER PRIMARY KEY AUTOINCREMENT,
	device     TEXT NOT NULL,
	at         INTEGER NOT NULL, -- ms since epoch
	from_state TEXT NOT NULL,
	to_state   TEXT NOT NULL,
	reason     TEXT NOT NULL,
	epoch      INTEGER NOT NULL,
	transport  TEXT NOT NULL,
	node       TEXT NOT NULL
);
CREATE INDEX presence_history_device ON presence_history (device, n);
CREATE INDEX presence_history_at ON presence_history (at);

CREATE TRIGGER presence_device_deleted AFTER DELETE ON devices BEGIN
	DELETE FROM presence WHERE device = old.id;
	DELETE FROM presence_history WHERE device = old.id;
END;
