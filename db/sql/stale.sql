-- Pending tasks without a sign of life, of types that declare how long theirs may be (003).

-- name: is_any
-- Whether any type lets its tasks be pending for so long and no longer: without one, no task is looked at.
SELECT EXISTS (SELECT FROM queue.task_types WHERE pending_limit IS NOT NULL);

-- name: cancel
-- The next %(most)s live tasks after %(after)s: the last of them, how many there are, and how many end. One ends that was due, and that
-- nothing happened to, for longer than its type lets it; held and paused ones too, and none that waits for other tasks.
WITH page AS MATERIALIZED (
    SELECT id, task_type, run_after, updated_at FROM queue.tasks_live WHERE id > %(after)s ORDER BY id LIMIT %(most)s
), stale AS MATERIALIZED (
    SELECT live.id, limited.pending_limit FROM queue.tasks_live live JOIN queue.task_types limited ON limited.name = live.task_type
    WHERE live.id = ANY (ARRAY(
            SELECT page.id FROM page JOIN queue.task_types t ON t.name = page.task_type
            WHERE GREATEST(page.run_after, page.updated_at) < now() - t.pending_limit))
        -- asked again of the row that is locked: a relay may have claimed it meanwhile, and what runs is claimed
        AND num_nonnulls(live.claimed_until) = 0 AND NOT live.is_waiting
        AND GREATEST(live.run_after, live.updated_at) < now() - limited.pending_limit
    FOR UPDATE OF live SKIP LOCKED
), ended AS (
    DELETE FROM queue.tasks_live live USING stale WHERE live.id = ANY (ARRAY[stale.id]) RETURNING live.*, stale.pending_limit
), kept AS (
    INSERT INTO queue.tasks_history (id, task_type, payload, status, attempts, last_error, run_after, completed_at, created_at, updated_at,
        tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, limit_key, max_attempts,
        left_open, snoozes, claim_number, started_at, progress, progress_message)
    SELECT id, task_type, payload, 'cancelled', attempts,
        concat_ws('; ', format('pending for longer than %%s without a sign of life', pending_limit), 'held: ' || hold_reason), run_after,
        clock_timestamp(), created_at, now(), tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank,
        unique_key, limit_key, max_attempts, left_open, snoozes, claim_number, started_at, progress, progress_message
    FROM ended RETURNING id
)
SELECT (SELECT id FROM page ORDER BY id DESC LIMIT 1), (SELECT count(*) FROM page), (SELECT count(*) FROM kept);
