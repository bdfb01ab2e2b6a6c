-- What is wrong, found by relays and told by a webhook. One raised row a key, whoever sees it: the unique index says so.

-- name: begin
-- Whether it is time to look, for whoever gets the row. No row while another relay looks, or has just looked.
UPDATE queue.chores SET reached_at = clock_timestamp()
WHERE name IN (
    SELECT name FROM queue.chores WHERE name = 'alerts' AND reached_at <= clock_timestamp() - make_interval(secs => %(pause)s)
    FOR UPDATE SKIP LOCKED
)
RETURNING name;

-- part: raise
-- What was found is raised, once, or seen again.
INSERT INTO queue.alerts AS kept (kind, key, facts)
SELECT kind, kind || ':' || subject, facts FROM found ORDER BY 2
ON CONFLICT (key) WHERE state = 'raised' DO UPDATE SET seen_at = now(), facts = EXCLUDED.facts
RETURNING kind, key, kept.xmax = 0 AS is_new

-- name: sight
-- Look at everything once. What is wrong and not raised yet is raised; what is raised has been seen again. Each kind is
-- bounded: 10,000 failed tasks, 1,000 processes, 100 keys. Returns the keys that are new.
WITH RECURSIVE failures AS (
    SELECT 'final_failures' AS kind, task_type AS subject, jsonb_build_object(
            'task_type', task_type, 'failed', count(*), 'within_seconds', %(window)s::float8,
            'last_task_id', (array_agg(id ORDER BY completed_at DESC))[1], 'queues', (array_agg(DISTINCT queue))[:5]) AS facts
    FROM (
        SELECT id, task_type, queue, completed_at FROM queue.tasks_history
        WHERE status = 'failed' AND completed_at > now() - make_interval(secs => %(window)s)
        ORDER BY completed_at DESC LIMIT 10000
    ) AS recent
    GROUP BY task_type HAVING count(*) >= %(failures)s
), hop AS (
    (SELECT queue FROM queue.tasks_live
     WHERE status = 'pending' AND is_due AND hold_reason IS NULL AND claimed_until IS NULL ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT next.queue FROM hop CROSS JOIN LATERAL (
        SELECT queue FROM queue.tasks_live
        WHERE status = 'pending' AND is_due AND hold_reason IS NULL AND claimed_until IS NULL AND queue > hop.queue
        ORDER BY queue LIMIT 1
    ) AS next
), served AS (
    SELECT name AS queue, count(*) AS workers FROM queue.processes, unnest(queues) AS name
    WHERE kind = 'worker' AND beat_at > now() - make_interval(secs => %(process_timeout)s) GROUP BY name
), stalled AS (
    -- Something has been due for long, and in all that time nothing of the queue was started or ended. A thousand tasks tell:
    -- where nothing moves, those that are young become old.
    SELECT 'stalled_queue', hop.queue, jsonb_build_object(
        'queue', hop.queue, 'oldest_seconds', round(extract(epoch FROM now() - first.oldest)), 'workers', COALESCE(served.workers, 0))
    FROM (SELECT queue FROM hop LIMIT 1000) AS hop CROSS JOIN LATERAL (
        SELECT min(since) AS oldest FROM (
            SELECT GREATEST(run_after, created_at) AS since FROM queue.tasks_live
            WHERE queue = hop.queue AND status = 'pending' AND is_due AND hold_reason IS NULL AND claimed_until IS NULL
            LIMIT 1000
        ) AS rows
    ) AS first
    LEFT JOIN served ON served.queue = hop.queue
    WHERE first.oldest <= now() - make_interval(secs => %(stalled)s)
        AND NOT EXISTS (SELECT FROM queue.queues q WHERE q.name = hop.queue
            AND (q.paused_at IS NOT NULL AND COALESCE(q.resume_at > now(), true) OR GREATEST(q.updated_at, q.resume_at) > now() - make_interval(secs => %(stalled)s)))
        AND NOT EXISTS (SELECT FROM queue.tasks_live live
            WHERE live.claimed_until IS NOT NULL AND live.queue = hop.queue
                AND live.started_at > now() - make_interval(secs => %(stalled)s))
        AND NOT EXISTS (SELECT FROM queue.statistics s WHERE s.queue = hop.queue AND s.done + s.failed + s.cancelled > 0
            AND s.minute > now() - make_interval(secs => %(stalled)s))
), known AS (
    SELECT id, kind, left(host, 200) AS host, pid, loops_late, extract(epoch FROM now() - beat_at) AS silent
    FROM queue.processes ORDER BY beat_at DESC LIMIT 1000
), dead AS (
    SELECT 'dead_loop', id::text || ':' || left(loop.key, 100), jsonb_build_object('process_id', id, 'process_kind', kind, 'host', host,
        'pid', pid, 'loop', left(loop.key, 100), 'late_seconds', loop.value::float8)
    FROM known CROSS JOIN LATERAL jsonb_each(loops_late) AS loop
    WHERE silent <= %(process_timeout)s AND jsonb_typeof(loop.value) = 'number' AND loop.value::float8 > %(late)s
), silent AS (
    SELECT 'silent_process', id::text, jsonb_build_object('process_id', id, 'process_kind', kind, 'host', host, 'pid', pid,
        'silent_seconds', round(silent))
    FROM known WHERE silent > %(process_timeout)s
), found AS (
    (SELECT * FROM failures LIMIT 100) UNION ALL (SELECT * FROM stalled LIMIT 100)
    UNION ALL (SELECT * FROM dead LIMIT 100) UNION ALL (SELECT * FROM silent LIMIT 100)
)
-- include: raise

-- name: sight_months
-- Months are made two ahead: one that lacks a fortnight before it begins is not in the making.
WITH found AS (
    SELECT 'missing_month' AS kind, relation::text || ':' || month AS subject, jsonb_build_object(
        'table', relation::text, 'month', month, 'begins_in_seconds', round(extract(epoch FROM since - now()))) AS facts
    FROM ops.missing_months(), to_char(since AT TIME ZONE 'UTC', 'YYYY-MM') AS month
    WHERE since <= now() + interval '14 days' ORDER BY since LIMIT 100
)
-- include: raise

-- name: resolve
-- What was not seen for a while is over; what has been over for %(days)s days is forgotten.
WITH forgotten AS (
    DELETE FROM queue.alerts WHERE state = 'resolved' AND resolved_at < now() - make_interval(days => %(days)s)
)
UPDATE queue.alerts SET state = 'resolved', resolved_at = now(),
    -- that it was raised is told first, if it has not been, at its time
    next_try_at = COALESCE(next_try_at, now())
WHERE state = 'raised' AND seen_at <= now() - make_interval(secs => %(calm)s)
RETURNING kind, key;

-- name: lend
-- Take the next alert that is to be told, for %(seconds)s seconds: after them whoever is next tries again. What was over
-- for a day is told to nobody any more.
UPDATE queue.alerts SET next_try_at = now() + make_interval(secs => %(seconds)s), tries = tries + 1
WHERE id = ANY (ARRAY(
    SELECT id FROM queue.alerts
    WHERE next_try_at <= now() AND (state = 'raised' OR resolved_at > now() - interval '1 day')
    ORDER BY next_try_at LIMIT 1
    FOR UPDATE SKIP LOCKED
))
RETURNING id, kind, key, CASE WHEN notified_state IS NULL THEN 'raised' ELSE 'resolved' END, facts, raised_at, resolved_at, tries;

-- name: told
-- The webhook took a state; another that came meanwhile is to be told at once.
UPDATE queue.alerts SET notified_state = %(state)s, notified_at = now(), tries = 0,
    next_try_at = CASE WHEN state <> %(state)s THEN now() END
WHERE id = %(id)s AND notified_state IS DISTINCT FROM %(state)s;

-- name: put_off
-- The webhook did not take it: again after %(delay)s seconds.
UPDATE queue.alerts SET next_try_at = now() + make_interval(secs => %(delay)s) WHERE id = %(id)s AND next_try_at IS NOT NULL;

-- name: raised
-- What is wrong now, the oldest first.
SELECT kind, key, facts, raised_at, extract(epoch FROM now() - raised_at)::float8, notified_state IS NOT NULL
FROM queue.alerts WHERE state = 'raised' ORDER BY raised_at, key LIMIT 1000;
