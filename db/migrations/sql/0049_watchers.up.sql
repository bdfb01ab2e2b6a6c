-- A watcher works across tenants: the system role is its login, and it says that it lives as the others do.

ALTER TABLE queue.processes DROP CONSTRAINT processes_kind_check;
ALTER TABLE queue.processes ADD CONSTRAINT processes_kind_check CHECK (kind IN ('relay', 'worker', 'scheduler', 'watcher', 'console'));
GRANT INSERT, UPDATE, DELETE ON queue.processes TO greenroom_system;
