-- Versions, by which two who edit one record are told apart. Those of devices stand
-- in their records.
ALTER TABLE users ADD COLUMN ver INTEGER NOT NULL DEFAULT 1;
ALTER TABLE accounts ADD COLUMN ver INTEGER NOT NULL DEFAULT 1;

-- The greatest versions of those that were deleted: a name that comes back goes
-- on above them.
CREATE TABLE version_floors (
	id       INTEGER PRIMARY KEY CHECK (id = 1),
	users    INTEGER NOT NULL,
	accounts INTEGER NOT NULL
);
INSERT INTO version_floors (id, users, accounts) VALUES (1, 0, 0);

CREATE TRIGGER users_version_floor AFTER DELETE ON users BEGIN
	UPDATE version_floors SET users = max(users, OLD.ver);
END;
CREATE TRIGGER accounts_version_floor AFTER DELETE ON accounts BEGIN
	UPDATE version_floors SET accounts = max(accounts, OLD.ver);
END;
