-- Commands (commands.Row); the body is JSON.
CREATE TABLE commands (
	device    TEXT NOT NULL,
	cmd_id    TEXT NOT NULL,
	issued_at INTEGER NOT NULL, -- ms since epoch
	final     INTEGER NOT NULL, -- 1: nothing happens to it any more
	body      BLOB NOT NULL,
	PRIMARY KEY (device, cmd_id)
) WITHOUT ROWID;
CREATE INDEX commands_issued ON commands (device, issued_at, cmd_id);
CREATE INDEX commands_open ON commands (issued_at, cmd_id) WHERE final = 0;
CREATE INDEX commands_ended ON commands (issued_at) WHERE final = 1;

CREATE TRIGGER commands_device_deleted AFTER DELETE ON devices BEGIN
	DELETE FROM commands WHERE device = old.id;
END;
