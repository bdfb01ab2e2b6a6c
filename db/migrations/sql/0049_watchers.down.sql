-- Forgets watchers.

REVOKE INSERT, UPDATE, DELETE ON queue.processes FROM greenroom_system;
DELETE FROM queue.processes WHERE kind = 'watcher';
ALTER TABLE queue.processes DROP CONSTRAINT processes_kind_check;
ALTER TABLE queue.processes ADD CONSTRAINT processes_kind_check CHECK (kind IN ('relay', 'worker', 'scheduler', 'console'));
