-- When a connection was last made with the present and with the previous
-- generation of a device's tokens: ms since epoch, 0: never.
ALTER TABLE credentials ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE credentials ADD COLUMN prev_used_at INTEGER NOT NULL DEFAULT 0;

DROP TRIGGER identity_forgets_device;
CREATE TRIGGER identity_forgets_device AFTER DELETE ON devices BEGIN
	UPDATE credentials SET gen_issued = gen_issued + 1, min_gen = gen_issued + 1, graces = '', new_boot = '', used_at = 0, prev_used_at = 0 WHERE device = OLD.id;
	DELETE FROM device_tokens WHERE device = OLD.id;
END;
