-- Tasks that wait for tasks, and batches. One relay at a time settles (`lock`), in one short transaction; whoever ends a watched
-- task leaves a row in queue.settlements by a trigger, and nobody waits for the settling. Each statement is bounded. Why rows
-- are found by `id = ANY (ARRAY[…])`: see queue.sql.

-- name: lock
-- Whether this transaction is the one that settles now. A relay that freezes in it is cut off by the server.
SELECT pg_try_advisory_xact_lock(7216335408822), set_config('idle_in_transaction_session_timeout', '10s', true),
    set_config('lock_timeout', '2s', true);

-- name: pending
-- What there is to settle, oldest first, but for some batches.
SELECT id, task_id, batch_id FROM queue.settlements
WHERE batch_id IS NULL OR batch_id <> ALL (%(but)b::uuid[]) ORDER BY id LIMIT %(limit)s;

-- name: watch
-- Of these tasks, those that live: marked, so that their end leaves a row. One that another transaction holds may be about to
-- end and is not among them: it is looked at again.
WITH free AS MATERIALIZED (
    SELECT id FROM queue.tasks_live WHERE id = ANY (%(ids)b::uuid[]) AND NOT is_watched FOR NO KEY UPDATE SKIP LOCKED
), marked AS (
    UPDATE queue.tasks_live live SET is_watched = true FROM free WHERE live.id = ANY (ARRAY[free.id]) RETURNING live.id
)
SELECT id FROM marked UNION ALL
SELECT id FROM queue.tasks_live WHERE id = ANY (%(ids)b::uuid[]) AND is_watched;

-- name: resolve
-- Dependencies on those of these tasks that have ended learn how, %(limit)s at a time; what history has lost is unknown.
WITH due AS MATERIALIZED (
    SELECT d.child_id, d.parent_id FROM unnest(%(ids)b::uuid[]) AS given (id)
    JOIN queue.task_dependencies d ON d.parent_id = ANY (ARRAY[given.id]) AND d.parent_status IS NULL
    -- of more than the index holds: one that answers alone may be read whole
    WHERE NOT EXISTS (SELECT FROM queue.tasks_live live WHERE live.id = ANY (ARRAY[given.id]) AND live.claim_number >= 0)
    LIMIT %(limit)s
), ended AS MATERIALIZED (
    SELECT parent_id, (
        SELECT status FROM (
            -- fenced: for the order, the planner would walk the index of when tasks ended
            SELECT h.status, h.completed_at FROM queue.tasks_history h WHERE h.id = parent_id OFFSET 0
        ) AS ends ORDER BY completed_at DESC LIMIT 1
    ) AS status
    FROM due GROUP BY parent_id
)
UPDATE queue.task_dependencies d SET parent_status = COALESCE(ended.status, 'unknown')
FROM due JOIN ended USING (parent_id)
WHERE d.child_id = ANY (ARRAY[due.child_id]) AND d.parent_id = ANY (ARRAY[due.parent_id])
RETURNING d.child_id;

-- name: settle
-- Forget what is settled: of tasks that live and are watched, and of ended ones whose dependencies are all resolved. What they
-- mean for their batches is counted in the same statement, so that it is counted once. A batch that is being closed waits.
WITH free AS MATERIALIZED (
    SELECT id FROM queue.batches WHERE id = ANY (%(batches)b::uuid[]) FOR NO KEY UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM queue.settlements s
    WHERE s.id = ANY (%(settlements)b::bigint[])
        AND (s.batch_id IS NULL OR s.batch_id IN (SELECT id FROM free))
        AND (s.task_id IS NULL OR s.task_id = ANY (%(watched)b::uuid[])
            OR (NOT EXISTS (SELECT FROM queue.tasks_live live WHERE live.id = ANY (ARRAY[s.task_id]))
                AND NOT EXISTS (SELECT FROM queue.task_dependencies d WHERE d.parent_id = ANY (ARRAY[s.task_id]) AND d.parent_status IS NULL)))
    RETURNING s.batch_id, s.task_id, s.added
), counted AS (
    SELECT batch_id, sum(added) AS added, count(*) FILTER (WHERE status = 'done') AS done,
        count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
        -- one that lives again, or that history has lost, was not done
        count(*) FILTER (WHERE task_id IS NOT NULL AND COALESCE(status, 'failed') = 'failed') AS failed
    FROM gone LEFT JOIN LATERAL (
        SELECT status FROM (
            SELECT h.status, h.completed_at FROM queue.tasks_history h WHERE h.id = gone.task_id OFFSET 0
        ) AS ends ORDER BY completed_at DESC LIMIT 1
    ) AS h ON true
    WHERE batch_id IS NOT NULL GROUP BY batch_id
), updated AS (
    UPDATE queue.batches b SET added = b.added + c.added, done = b.done + c.done, failed = b.failed + c.failed,
        cancelled = b.cancelled + c.cancelled
    FROM counted c WHERE b.id = ANY (ARRAY[c.batch_id]) RETURNING b.id
)
SELECT (SELECT count(*) FROM gone), COALESCE((SELECT array_agg(id) FROM updated), '{}');

-- name: call_back
-- Enqueue the callbacks that have become due; how many.
SELECT sum(queue.call_back(id)) FROM unnest(%(batches)b::uuid[]) AS given (id);

-- name: end_children
-- Waiting tasks that shall not run, since a parent was not done: they end as their policy says, at once.
WITH refused AS MATERIALIZED (
    -- fenced: DISTINCT would have the planner walk all dependencies in the order of their children
    SELECT d.child_id, d.parent_id, d.parent_status, d.on_parent_failed
    FROM unnest(%(ids)b::uuid[]) AS given (id)
    JOIN queue.task_dependencies d ON d.child_id = ANY (ARRAY[given.id])
    WHERE d.parent_status IN ('failed', 'cancelled', 'unknown') AND d.on_parent_failed <> 'run'
), doomed AS MATERIALIZED (
    SELECT DISTINCT ON (child_id) child_id, parent_id, parent_status,
        CASE on_parent_failed WHEN 'fail' THEN 'failed' ELSE 'cancelled' END AS ends_as
    FROM refused ORDER BY child_id, parent_id
), free AS MATERIALIZED (
    SELECT live.id FROM queue.tasks_live live WHERE live.id = ANY (ARRAY(SELECT child_id FROM doomed)) AND live.is_waiting
    FOR UPDATE SKIP LOCKED
), ended AS (
    DELETE FROM queue.tasks_live live USING free, doomed
    WHERE live.id = ANY (ARRAY[free.id]) AND doomed.child_id = free.id
    RETURNING live.*, doomed.ends_as, doomed.parent_id, doomed.parent_status
)
INSERT INTO queue.tasks_history (id, task_type, payload, status, attempts, last_error, run_after, completed_at, created_at, updated_at,
    tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, limit_key,
    max_attempts, snoozes, claim_number, failed_at)
SELECT id, task_type, payload, ends_as, attempts,
    CASE parent_status WHEN 'unknown' THEN format('the task %%s that it waited for has left history', parent_id)
        ELSE format('the task %%s that it waited for %%s', parent_id, CASE parent_status WHEN 'failed' THEN 'failed' ELSE 'was cancelled' END) END,
    run_after, clock_timestamp(), created_at, now(), tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue,
    priority, rank, unique_key, limit_key, max_attempts, snoozes, claim_number, CASE ends_as WHEN 'failed' THEN now() END
FROM ended
RETURNING status;

-- name: start_children
-- Waiting tasks whose parents have all ended are due now, or when their run_after has come.
UPDATE queue.tasks_live live
SET is_waiting = false, is_due = live.run_after <= now(), run_after = GREATEST(live.run_after, now()),
    rank = queue.rank_of(GREATEST(live.run_after, now()), live.priority), updated_at = now()
WHERE live.id = ANY (ARRAY(
    SELECT w.id FROM queue.tasks_live w WHERE w.id = ANY (%(ids)b::uuid[]) AND w.is_waiting
        AND NOT EXISTS (SELECT FROM queue.task_dependencies d WHERE d.child_id = ANY (ARRAY[w.id])
                        AND (d.parent_status IS NULL OR (d.parent_status <> 'done' AND d.on_parent_failed <> 'run')))
    FOR UPDATE SKIP LOCKED
))
RETURNING live.id;

-- name: recheck
-- The next waiting tasks after %(after)s, to be looked at whatever the rows say: a lock may have kept one from its turn.
SELECT id FROM queue.tasks_live WHERE is_waiting AND id > %(after)s ORDER BY id LIMIT %(limit)s;

-- name: note_strays
-- Parents of these that neither live under watch nor are resolved are to be settled.
WITH unresolved AS MATERIALIZED (
    -- fenced: DISTINCT would have the planner walk all dependencies in the order of their parents
    SELECT d.parent_id FROM unnest(%(ids)b::uuid[]) AS given (id)
    JOIN queue.task_dependencies d ON d.child_id = ANY (ARRAY[given.id]) AND d.parent_status IS NULL
)
INSERT INTO queue.settlements (task_id)
SELECT DISTINCT u.parent_id FROM unresolved u
WHERE NOT EXISTS (SELECT FROM queue.tasks_live live WHERE live.id = ANY (ARRAY[u.parent_id]) AND live.is_watched)
LIMIT %(limit)s;

-- name: wait_again
-- Replayed tasks wait again for those parents that were not done, and that their policy does not run them without.
WITH reopened AS (
    UPDATE queue.task_dependencies d SET parent_status = NULL
    WHERE d.child_id = ANY (%(ids)b::uuid[]) AND d.parent_status <> 'done' AND d.on_parent_failed <> 'run'
    RETURNING d.child_id, d.parent_id
), noted AS (
    INSERT INTO queue.settlements (task_id) SELECT DISTINCT parent_id FROM reopened
)
UPDATE queue.tasks_live live SET is_waiting = true, is_due = false
WHERE live.id = ANY (ARRAY(SELECT child_id FROM reopened)) AND live.status = 'pending' AND live.claimed_until IS NULL
RETURNING live.id;

-- name: graph
-- The tasks around one, nearest first: at most %(limit)s above (what it waits for, and they) and as many below. `level` counts
-- from it, negative above.
WITH RECURSIVE above (level, id, near_id, parent_status, on_parent_failed) AS (
    SELECT -1, d.parent_id, d.child_id, d.parent_status, d.on_parent_failed FROM queue.task_dependencies d WHERE d.child_id = %(id)s
    UNION
    SELECT above.level - 1, d.parent_id, d.child_id, d.parent_status, d.on_parent_failed
    FROM above JOIN queue.task_dependencies d ON d.child_id = ANY (ARRAY[above.id]) WHERE above.level > -20
), below (level, id, near_id, parent_status, on_parent_failed) AS (
    SELECT 1, d.child_id, d.parent_id, d.parent_status, d.on_parent_failed FROM queue.task_dependencies d WHERE d.parent_id = %(id)s
    UNION
    SELECT below.level + 1, d.child_id, d.parent_id, d.parent_status, d.on_parent_failed
    FROM below JOIN queue.task_dependencies d ON d.parent_id = ANY (ARRAY[below.id]) WHERE below.level < 20
), around AS (
    -- LIMIT ends the recursion: a graph is read as far as it is shown
    (SELECT * FROM above LIMIT %(limit)s) UNION ALL (SELECT * FROM below LIMIT %(limit)s)
)
SELECT a.level, a.id, a.near_id, a.on_parent_failed, t.task_type, COALESCE(t.status, a.parent_status, 'unknown') AS status, t.is_waiting
FROM around a LEFT JOIN LATERAL (
    SELECT o.task_type, o.status, o.is_waiting FROM queue.outbox_tasks o WHERE o.id = a.id LIMIT 1) AS t ON true
ORDER BY abs(a.level), a.id;

-- name: neighbours
-- How many tasks a task waits for, and how many wait for it: counted up to %(limit)s.
SELECT (SELECT count(*) FROM (SELECT FROM queue.task_dependencies WHERE child_id = %(id)s LIMIT %(limit)s) AS p),
    (SELECT count(*) FROM (SELECT FROM queue.task_dependencies WHERE parent_id = %(id)s LIMIT %(limit)s) AS c);

-- name: batch
SELECT id, tenant_id, name, added, done, failed, cancelled, created_at, closed_at, ended_at, on_done_task_id, on_failed_task_id,
    on_ended_task_id
FROM queue.batches WHERE id = %(id)s;

-- name: batch_of
-- The batch that a live task belongs to.
SELECT batch_id FROM queue.tasks_live WHERE id = %(id)s AND batch_id IS NOT NULL;

-- name: forget
-- Dependencies of tasks that ended long ago, oldest first: a task's id says when it was enqueued.
DELETE FROM queue.task_dependencies d WHERE d.ctid = ANY (ARRAY(
    SELECT ctid FROM queue.task_dependencies
    WHERE child_id < (lpad(to_hex((extract(epoch FROM now()) * 1000 - %(seconds)s * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
        AND parent_status IS NOT NULL ORDER BY child_id LIMIT %(limit)s
));
