-- Months of parted tables: made ahead, and let go by policy. Each statement is a transaction of its own, so that a lock that others wait
-- for ends with it, whatever becomes of who asked for it. docs/decisions/0010-partitions.md.

-- name: missing
-- This month and the next two, where a table lacks them.
SELECT relation::text, since FROM ops.missing_months();

-- name: make
SELECT ops.make_month(%(relation)s, %(since)s);

-- name: policies
-- The policies that take whole months, and may.
SELECT name FROM ops.retention_policies WHERE action = 'drop_partition' AND is_enabled AND NOT is_held ORDER BY name;

-- name: begin
SELECT ops.begin_months(%(policy)s, %(task_id)s);

-- name: to_go
SELECT leaf::text FROM ops.months_to_go(%(run_id)s);

-- name: clear
SELECT ops.clear_month(%(run_id)s, %(leaf)s, %(most)s);

-- name: drop
SELECT outcome, rows_held FROM ops.drop_month(%(run_id)s, %(leaf)s);

-- name: end
SELECT ops.end_months(%(run_id)s, %(held)s);

-- name: came_to
-- What the runs of a task let go so far, what holds kept, and for how many seconds the oldest that has not ended is under way.
SELECT COALESCE((SELECT array_agg(leaf ORDER BY r.id, place) FROM ops.retention_runs r,
        unnest(r.partitions_dropped) WITH ORDINALITY AS dropped (leaf, place) WHERE r.task_id = %(task_id)s), '{}'),
    COALESCE(sum(rows_held), 0)::bigint,
    COALESCE(extract(epoch FROM now() - min(started_at) FILTER (WHERE status = 'running')), 0)::float8
FROM ops.retention_runs WHERE task_id = %(task_id)s;
