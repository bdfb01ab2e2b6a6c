-- What the kit for tests asks (workers/testing/). No process runs these.

-- name: enqueued
-- The tasks that the transaction sees, of some types, in the order in which they were enqueued; live ones and ended ones.
SELECT id, task_type, payload, COALESCE(payload_version, 1), status, queue, priority, run_after, unique_key, max_attempts, tenant_id,
    owner_kind, owner_id, metadata, limit_key
FROM queue.outbox_tasks WHERE %(task_types)s::text[] IS NULL OR task_type = ANY (%(task_types)s) ORDER BY created_at, id;

-- name: pretend_attempts
-- Let a waiting task look as if it had had attempts before.
UPDATE queue.tasks_live
SET attempts = %(attempts)s::integer, max_attempts = GREATEST(max_attempts::integer, %(attempts)s::integer + 1)
WHERE id = %(id)s AND status = 'pending';

-- name: still_due
-- The types of what is due now, with how many there are.
SELECT task_type, count(*) FROM queue.tasks_live
WHERE status = 'pending' AND is_due AND hold_reason IS NULL AND claimed_until IS NULL GROUP BY task_type ORDER BY task_type;

-- name: came_to
SELECT status, result, last_error FROM queue.outbox_tasks WHERE id = %(id)s;
