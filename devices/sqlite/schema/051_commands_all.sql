-- For the commands of all devices, the newest first.
CREATE INDEX commands_all ON commands (issued_at, cmd_id, device);
