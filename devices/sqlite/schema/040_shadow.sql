-- Shadows (shadow.Row); the body is JSON.
CREATE TABLE shadow_starts (
	id     INTEGER PRIMARY KEY CHECK (id = 1),
	starts INTEGER NOT NULL -- of the hub
);
INSERT INTO shadow_starts (id, starts) VALUES (1, 0);

CREATE TABLE shadows (
	device    TEXT PRIMARY KEY,
	ver_limit INTEGER NOT NULL, -- versions below it may have been given out
	start     INTEGER NOT NULL, -- by this start of the hub
	body      BLOB NOT NULL
) WITHOUT ROWID;

CREATE TRIGGER shadows_device_deleted AFTER DELETE ON devices BEGIN
	DELETE FROM shadows WHERE device = old.id;
END;
