-- Identical refusals are one row: how many there were, and when the last one was
-- (0: at the same time as the first).
ALTER TABLE audit ADD COLUMN count INTEGER NOT NULL DEFAULT 1;
ALTER TABLE audit ADD COLUMN last_at INTEGER NOT NULL DEFAULT 0; -- ms since epoch

-- For pruning: what did not change anything goes first.
CREATE INDEX audit_refusals ON audit (at) WHERE outcome <> 'ok';
CREATE INDEX audit_prunes ON audit (seq) WHERE action = 'audit.prune' AND outcome = 'ok';

-- About what the rows and their places in the indexes take, kept by who writes and prunes.
CREATE TABLE audit_size (
	refusals INTEGER PRIMARY KEY, -- 1: of what did not change anything
	entries  INTEGER NOT NULL,
	bytes    INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO audit_size (refusals, entries, bytes) VALUES (0, 0, 0), (1, 0, 0);
UPDATE audit_size SET (entries, bytes) = (
	SELECT count(*), coalesce(sum(120 + 2 * octet_length(actor) + 2 * octet_length(target) + octet_length(ip_hash) + octet_length(via) + octet_length(action)
		+ octet_length(cmd_id) + coalesce(octet_length(before), 0) + coalesce(octet_length(after), 0) + octet_length(code)), 0)
	FROM audit WHERE (outcome <> 'ok') = audit_size.refusals);

-- A row says what it said first. Of a refusal the count may rise.
DROP TRIGGER audit_is_not_changed;
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
WHEN OLD.outcome = 'ok' OR NEW.count <= OLD.count OR NEW.last_at < max(OLD.at, OLD.last_at)
	OR NEW.seq IS NOT OLD.seq OR NEW.at IS NOT OLD.at OR NEW.actor IS NOT OLD.actor OR NEW.ip_hash IS NOT OLD.ip_hash OR NEW.via IS NOT OLD.via
	OR NEW.action IS NOT OLD.action OR NEW.target IS NOT OLD.target OR NEW.cmd_id IS NOT OLD.cmd_id OR NEW.before IS NOT OLD.before
	OR NEW.after IS NOT OLD.after OR NEW.outcome IS NOT OLD.outcome OR NEW.code IS NOT OLD.code
BEGIN SELECT RAISE(ABORT, 'audit entries are only ever added'); END;

-- A row goes only when the newest entry about a pruning says so. That one stays.
DROP TRIGGER audit_is_not_deleted;
CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
WHEN NOT EXISTS (
	SELECT 1 FROM audit p
	WHERE p.seq = (SELECT max(seq) FROM audit WHERE action = 'audit.prune' AND outcome = 'ok') AND OLD.seq < p.seq
		AND OLD.at < json_extract(p.after, iif(OLD.outcome = 'ok', '$.changes_before', '$.refusals_before')))
BEGIN SELECT RAISE(ABORT, 'audit entries are only ever added'); END;
