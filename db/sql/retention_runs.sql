-- Runs of retention: what one works on, and what else waits for the database meanwhile.

-- name: waiting
-- For how many seconds the oldest of the due tasks waits that nobody has claimed; of a queue the first hundred tell. What waits in a
-- paused queue, or in the one that the asking task is of, waits for something else.
WITH RECURSIVE hop AS (
    (SELECT queue FROM queue.tasks_live WHERE is_due AND hold_reason IS NULL AND claimed_until IS NULL ORDER BY queue LIMIT 1)
    UNION ALL
    -- the next one by a step down the index, however many tasks each has
    SELECT next.queue FROM hop CROSS JOIN LATERAL (
        SELECT queue FROM queue.tasks_live
        WHERE is_due AND hold_reason IS NULL AND claimed_until IS NULL AND queue > hop.queue ORDER BY queue LIMIT 1
    ) AS next
)
SELECT COALESCE(GREATEST(extract(epoch FROM clock_timestamp() - min(first.oldest)), 0), 0)::float8
FROM (SELECT queue FROM hop LIMIT 100) AS hop CROSS JOIN LATERAL (
    SELECT min(since) AS oldest FROM (
        SELECT GREATEST(run_after, created_at) AS since FROM queue.tasks_live
        WHERE queue = hop.queue AND is_due AND hold_reason IS NULL AND claimed_until IS NULL LIMIT 100
    ) AS rows
) AS first
WHERE hop.queue <> %(own_queue)s AND NOT EXISTS (
    SELECT FROM queue.queues q WHERE q.name = hop.queue AND q.paused_at IS NOT NULL AND COALESCE(q.resume_at > now(), true));

-- name: policies
-- The policies that are neither off nor holds, but for those that the asking task has come to the end of, or to a question: of a cadence,
-- by their names, or all. Whose last run began the longest ago comes first: what has much to go keeps no other waiting for all of it.
SELECT p.name FROM ops.retention_policies p
WHERE p.is_enabled AND NOT p.is_held AND (%(cadence)s::text IS NULL OR p.cadence = %(cadence)s)
    AND (cardinality(%(names)s::text[]) = 0 OR p.name = ANY (%(names)s)) AND NOT EXISTS (
        SELECT FROM ops.retention_runs r WHERE r.policy_id = p.id AND r.task_id = %(task_id)s AND r.status <> 'running')
ORDER BY (SELECT max(r.started_at) FROM ops.retention_runs r WHERE r.policy_id = p.id) NULLS FIRST, p.name;

-- name: unknown
-- Of some names, those of no policy.
SELECT name FROM unnest(%(names)s::text[]) AS name WHERE NOT EXISTS (SELECT FROM ops.retention_policies p WHERE p.name = name.name)
ORDER BY 1;

-- name: cancel_stale
-- Give up runs whose policy is off, a hold or gone, but for those that another task which lives is at and will find that out; and those
-- that have asked for a week, if their policy was changed since.
UPDATE ops.retention_runs r SET status = 'cancelled', ended_at = clock_timestamp()
WHERE r.status IN ('running', 'asking') AND (
    NOT EXISTS (SELECT FROM ops.retention_policies p WHERE p.id = r.policy_id AND p.is_enabled AND NOT p.is_held)
        AND NOT EXISTS (SELECT FROM queue.tasks_live t WHERE t.id = r.task_id AND t.id <> %(task_id)s AND r.status = 'running')
    OR r.status = 'asking' AND r.started_at < now() - interval '7 days'
        AND EXISTS (SELECT FROM ops.retention_policies p WHERE p.id = r.policy_id AND p.updated_at > r.started_at));

-- name: begin
SELECT run, state FROM ops.begin_retention(%(policy)s, %(task_id)s, %(is_confirmed)s);

-- name: show
SELECT r.id, r.policy_id, r.policy_name, r.action, format('%%s.%%s', r.table_schema, r.table_name), p.age_column, r.cutoff, p.tenant_id,
    p.persona_id, COALESCE(r.rows_planned, 0), r.rows_deleted + r.rows_archived
FROM ops.retention_runs r JOIN ops.retention_policies p ON p.id = r.policy_id WHERE r.id = %(run_id)s;

-- name: weigh
SELECT ops.weigh_retention(%(run_id)s);

-- name: page
SELECT rows_gone, state FROM ops.retention_page(%(run_id)s, %(most)s);

-- name: months_over
-- The months of a run's table that are over before its cutoff, the oldest first.
SELECT m.leaf::text FROM ops.retention_runs r
JOIN ops.months() m ON m.relation = to_regclass(format('%%I.%%I', r.table_schema, r.table_name)) AND m.until <= r.cutoff
WHERE r.id = %(run_id)s ORDER BY m.until;

-- name: drop_emptied
SELECT ops.drop_emptied(%(run_id)s, %(leaf)s);

-- name: end
SELECT ops.end_retention(%(run_id)s);

-- name: fail
UPDATE ops.retention_runs SET status = 'failed', error_message = left(%(error)s, 20000), ended_at = clock_timestamp()
WHERE id = %(run_id)s AND status = 'running';

-- name: runs_of
-- What a task's runs came to.
SELECT r.policy_name, r.table_schema || '.' || r.table_name, r.action, r.status, r.rows_planned, r.rows_total, r.rows_deleted,
    r.rows_archived, r.rows_held, r.byte_count, r.partitions_dropped, r.dependents, r.error_message,
    extract(epoch FROM COALESCE(r.ended_at, clock_timestamp()) - r.started_at)::float8
FROM ops.retention_runs r WHERE r.task_id = %(task_id)s ORDER BY r.policy_name, r.id;

-- name: asking
-- Runs that wait for an operator, the oldest first.
SELECT r.policy_name, r.table_schema || '.' || r.table_name, r.rows_planned, r.rows_total,
    extract(epoch FROM clock_timestamp() - r.started_at)::float8
FROM ops.retention_runs r WHERE r.status = 'asking' ORDER BY r.id;

-- name: planned_policies
-- The policies that a plan is of: of that name, of that table, or all that are neither off nor holds.
SELECT p.name, p.table_schema || '.' || p.table_name, p.action, p.cadence, p.most_share::float8, p.is_enabled, now() - p.age
FROM ops.retention_policies p
WHERE NOT p.is_held AND CASE WHEN %(wanted)s::text IS NULL THEN p.is_enabled
    ELSE %(wanted)s IN (p.name, p.table_schema || '.' || p.table_name) END
ORDER BY 2, 1;

-- name: plan
SELECT p.tenant_id, t.slug, p.month, p.row_count, p.byte_count, p.held_count
FROM ops.plan_retention(%(policy)s, %(tenant_id)s) p LEFT JOIN identity.tenants t ON t.id = p.tenant_id;

-- name: plan_dependents
SELECT dependent, kind, row_count FROM ops.plan_dependents(%(policy)s, %(tenant_id)s);

-- name: plan_total
SELECT ops.plan_total(%(policy)s);

-- name: plan_bound
SELECT set_config('statement_timeout', %(milliseconds)s, true);
