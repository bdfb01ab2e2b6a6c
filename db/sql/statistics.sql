-- What happened by minute, written by relays. Minutes are those of Postgres' clock in UTC; a minute is closed when the next
-- one has begun. Everything is read by an index and nothing of a task's life waits for it.

-- name: begin
-- Where the counting stands, for whoever gets the row: the end of the last minute that was counted, at most
-- %(catch_up)s minutes ago, and the end of the last closed one. No row while another relay is at it.
SELECT CASE WHEN reached_at > now_minute THEN now_minute - interval '1 minute' -- the clock was set back
            ELSE GREATEST(reached_at, now_minute - make_interval(mins => %(catch_up)s)) END, now_minute
FROM queue.chores CROSS JOIN LATERAL date_trunc('minute', clock_timestamp(), 'UTC') AS now_minute
WHERE name = 'statistics'
FOR UPDATE OF chores SKIP LOCKED;

-- name: reach
UPDATE queue.chores SET reached_at = %(until)s WHERE name = 'statistics';

-- name: count
-- Count what ended in the minute that begins at %(minute)s. One that was counted before is counted again, for what committed
-- late; a number never falls, as a task that was replayed since has failed all the same. A million tasks take a second.
WITH ended AS (
    -- by status, and intervals until the end: half the time of sums of seconds with filters
    SELECT queue, task_type, status, count(*) AS tasks, count(started_at) AS runs,
        sum(completed_at - started_at) AS run, max(completed_at - started_at) AS longest_run,
        sum(started_at - GREATEST(run_after, created_at)) AS wait, max(started_at - GREATEST(run_after, created_at)) AS longest_wait
    FROM queue.tasks_history WHERE completed_at >= %(minute)s AND completed_at < %(minute)s + interval '1 minute'
    GROUP BY queue, task_type, status
), tasks AS (
    SELECT queue, task_type, sum(tasks) FILTER (WHERE status = 'done') AS done, sum(tasks) FILTER (WHERE status = 'failed') AS failed,
        sum(tasks) FILTER (WHERE status = 'cancelled') AS cancelled, sum(runs) AS runs,
        -- a clock that was set back makes a time less than none
        GREATEST(extract(epoch FROM sum(run)), 0) AS run_seconds, GREATEST(extract(epoch FROM max(longest_run)), 0) AS run_seconds_max,
        GREATEST(extract(epoch FROM sum(wait)), 0) AS wait_seconds, GREATEST(extract(epoch FROM max(longest_wait)), 0) AS wait_seconds_max
    FROM ended GROUP BY queue, task_type
), attempts AS (
    -- A task is live, or has ended since; one that was purged is not counted any more.
    SELECT task.queue, task.task_type,
        count(*) FILTER (WHERE a.outcome = 'retry') AS retried,
        count(*) FILTER (WHERE a.outcome = 'snooze') AS snoozed,
        count(*) FILTER (WHERE a.outcome = 'lost') AS lost,
        count(*) FILTER (WHERE a.outcome = 'handed_back') AS handed_back
    FROM queue.attempts a CROSS JOIN LATERAL (
        SELECT queue, task_type FROM queue.tasks_live WHERE id = a.task_id
        UNION ALL
        SELECT queue, task_type FROM queue.tasks_history WHERE id = a.task_id
        LIMIT 1
    ) AS task
    WHERE a.ended_at >= %(minute)s AND a.ended_at < %(minute)s + interval '1 minute' AND a.outcome IN ('retry', 'snooze', 'lost', 'handed_back')
    GROUP BY task.queue, task.task_type
)
INSERT INTO queue.statistics AS kept (minute, queue, task_type, done, failed, cancelled, runs, run_seconds, run_seconds_max,
    wait_seconds, wait_seconds_max, retried, snoozed, lost, handed_back)
SELECT %(minute)s, queue, task_type, COALESCE(done, 0), COALESCE(failed, 0), COALESCE(cancelled, 0), COALESCE(runs, 0),
    COALESCE(run_seconds, 0), COALESCE(run_seconds_max, 0), COALESCE(wait_seconds, 0), COALESCE(wait_seconds_max, 0),
    COALESCE(retried, 0), COALESCE(snoozed, 0), COALESCE(lost, 0), COALESCE(handed_back, 0)
FROM tasks FULL JOIN attempts USING (queue, task_type)
ON CONFLICT (minute, queue, task_type) DO UPDATE SET
    done = GREATEST(kept.done, EXCLUDED.done), failed = GREATEST(kept.failed, EXCLUDED.failed),
    cancelled = GREATEST(kept.cancelled, EXCLUDED.cancelled), runs = GREATEST(kept.runs, EXCLUDED.runs),
    run_seconds = GREATEST(kept.run_seconds, EXCLUDED.run_seconds),
    run_seconds_max = GREATEST(kept.run_seconds_max, EXCLUDED.run_seconds_max),
    wait_seconds = GREATEST(kept.wait_seconds, EXCLUDED.wait_seconds),
    wait_seconds_max = GREATEST(kept.wait_seconds_max, EXCLUDED.wait_seconds_max),
    retried = GREATEST(kept.retried, EXCLUDED.retried), snoozed = GREATEST(kept.snoozed, EXCLUDED.snoozed),
    lost = GREATEST(kept.lost, EXCLUDED.lost), handed_back = GREATEST(kept.handed_back, EXCLUDED.handed_back)
WHERE (kept.done, kept.failed, kept.cancelled, kept.retried, kept.snoozed, kept.lost, kept.handed_back)
    IS DISTINCT FROM (EXCLUDED.done, EXCLUDED.failed, EXCLUDED.cancelled, EXCLUDED.retried, EXCLUDED.snoozed, EXCLUDED.lost,
        EXCLUDED.handed_back);

-- name: gauge
-- How each queue stands now. Of a queue at most %(most)s claimable tasks are looked at: what a deep backlog costs
-- here is bounded. Queues are found by hopping from one to the next in the claim's index.
WITH RECURSIVE hop AS (
    (SELECT queue FROM queue.tasks_live
     WHERE status = 'pending' AND is_due AND hold_reason IS NULL AND claimed_until IS NULL ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT next.queue FROM hop CROSS JOIN LATERAL (
        SELECT queue FROM queue.tasks_live
        WHERE status = 'pending' AND is_due AND hold_reason IS NULL AND claimed_until IS NULL AND queue > hop.queue
        ORDER BY queue LIMIT 1
    ) AS next
), claimable AS (
    SELECT queue, first.waiting, first.oldest FROM (SELECT queue FROM hop LIMIT 1000) AS found CROSS JOIN LATERAL (
        SELECT count(*) AS waiting, min(since) AS oldest FROM (
            SELECT GREATEST(run_after, created_at) AS since FROM queue.tasks_live
            WHERE queue = found.queue AND status = 'pending' AND is_due AND hold_reason IS NULL AND claimed_until IS NULL
            LIMIT %(most)s
        ) AS rows
    ) AS first
), occupied AS (
    SELECT queue, count(*) FILTER (WHERE status = 'pending') AS waiting, count(*) FILTER (WHERE status = 'in_progress') AS running,
        min(GREATEST(run_after, created_at)) FILTER (WHERE status = 'pending') AS oldest
    FROM queue.tasks_live WHERE claimed_until IS NOT NULL GROUP BY queue
), named AS (
    SELECT queue FROM claimable UNION SELECT queue FROM occupied UNION SELECT name FROM queue.queues UNION SELECT queue FROM queue.task_types
)
INSERT INTO queue.gauges (minute, queue, waiting, running, oldest_seconds)
SELECT %(minute)s, queue, COALESCE(claimable.waiting, 0) + COALESCE(occupied.waiting, 0), COALESCE(occupied.running, 0),
    COALESCE(GREATEST(extract(epoch FROM clock_timestamp() - LEAST(claimable.oldest, occupied.oldest)), 0), 0)
FROM named LEFT JOIN claimable USING (queue) LEFT JOIN occupied USING (queue)
ON CONFLICT DO NOTHING;

-- name: prune
-- Forget minutes that are older than %(days)s days, at most %(limit)s rows of each table.
WITH old AS (SELECT date_trunc('minute', now(), 'UTC') - make_interval(days => %(days)s) AS minute), counts AS (
    DELETE FROM queue.statistics WHERE (minute, queue, task_type) IN (
        SELECT minute, queue, task_type FROM queue.statistics WHERE minute < (SELECT minute FROM old) ORDER BY minute LIMIT %(limit)s)
    RETURNING 1
), stands AS (
    DELETE FROM queue.gauges WHERE (minute, queue) IN (
        SELECT minute, queue FROM queue.gauges WHERE minute < (SELECT minute FROM old) ORDER BY minute LIMIT %(limit)s)
    RETURNING 1
)
SELECT (SELECT count(*) FROM counts) + (SELECT count(*) FROM stands);

-- name: standing
-- How queues stood when they were last looked at, if that is no more than %(minutes)s minutes ago.
SELECT queue, waiting, running, oldest_seconds FROM queue.gauges
WHERE minute = (SELECT max(minute) FROM queue.gauges) AND minute > now() - make_interval(mins => %(minutes)s)
ORDER BY queue;

-- name: minutes
-- The counts of the last %(minutes)s closed minutes, oldest first.
SELECT minute, queue, task_type, done, failed, cancelled, runs, run_seconds, run_seconds_max, wait_seconds, wait_seconds_max,
    retried, snoozed, lost, handed_back
FROM queue.statistics
WHERE minute >= date_trunc('minute', now(), 'UTC') - make_interval(mins => %(minutes)s)
    AND (%(queue)s::text IS NULL OR queue = %(queue)s) AND (%(task_type)s::text IS NULL OR task_type = %(task_type)s)
ORDER BY minute, queue, task_type;

-- name: gauges
-- How queues stood at the beginning of each of the last %(minutes)s minutes, oldest first.
SELECT queue, waiting, running, oldest_seconds, minute FROM queue.gauges
WHERE minute > date_trunc('minute', now(), 'UTC') - make_interval(mins => %(minutes)s)
    AND (%(queue)s::text IS NULL OR queue = %(queue)s)
ORDER BY minute, queue;

-- name: to_next_minute
-- The seconds until the running minute closes.
SELECT extract(epoch FROM date_trunc('minute', moment, 'UTC') + interval '1 minute' - moment)::float8
FROM clock_timestamp() AS moment;
