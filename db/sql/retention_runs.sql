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
