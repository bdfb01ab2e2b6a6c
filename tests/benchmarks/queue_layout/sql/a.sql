-- Layout A: one table partitioned by status; a leaf of live tasks, a branch of history by time.

-- name: schema
CREATE TABLE outbox_tasks (LIKE task_columns INCLUDING DEFAULTS) PARTITION BY LIST (status);
CREATE TABLE tasks_live PARTITION OF outbox_tasks (
    PRIMARY KEY (id)
) FOR VALUES IN ('pending', 'in_progress');
CREATE TABLE tasks_history PARTITION OF outbox_tasks (
    CHECK (completed_at IS NOT NULL)
) FOR VALUES IN ('done', 'failed', 'cancelled') PARTITION BY RANGE (completed_at);

-- name: history_indexes
CREATE INDEX ON tasks_history (id);
CREATE INDEX ON tasks_history (completed_at) WHERE status = 'failed';

-- name: finish_by_update
-- Candidate A2: the same through the parent, by row movement.
UPDATE outbox_tasks AS task
SET status = 'done', completed_at = now(), lease_until = NULL, worker_id = NULL,
    updated_at = now()
FROM unnest(%(ids)s::uuid[], %(claims)s::integer[]) AS claimed (id, claim_number)
WHERE task.id = claimed.id AND task.claim_number = claimed.claim_number
      AND task.status = 'in_progress'
RETURNING task.id;

-- name: policies
ALTER TABLE outbox_tasks ENABLE ROW LEVEL SECURITY;
ALTER TABLE outbox_tasks FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone ON outbox_tasks USING (true);
CREATE POLICY tenant ON outbox_tasks AS RESTRICTIVE
    USING (tenant_id = nullif(current_setting('app.current_tenant_id', true), '')::uuid);

-- name: policies_on_live
ALTER TABLE tasks_live ENABLE ROW LEVEL SECURITY;
ALTER TABLE tasks_live FORCE ROW LEVEL SECURITY;
CREATE POLICY everyone ON tasks_live USING (true);
CREATE POLICY tenant ON tasks_live AS RESTRICTIVE
    USING (tenant_id = nullif(current_setting('app.current_tenant_id', true), '')::uuid);
