-- Layout C: one plain table, completion in place.

-- name: schema
CREATE TABLE outbox_tasks (
    LIKE task_columns INCLUDING DEFAULTS,
    CHECK (status IN ('pending', 'in_progress', 'done', 'failed', 'cancelled'))
);

-- name: history_indexes
-- completed_at serves retention, which deletes.
CREATE UNIQUE INDEX ON outbox_tasks (id);
CREATE INDEX ON outbox_tasks (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX ON outbox_tasks (completed_at) WHERE status = 'failed';

-- name: finish_in_place
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
