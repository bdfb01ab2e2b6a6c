-- What operators read and do. Reads are bounded and page by key; deeds guard the state that they start from.

-- name: list
-- Newest first, at most %(limit)s; a page goes on below the id of the last row of the page before (ids are UUID v7).
SELECT id, task_type, status, queue, priority, attempts, max_attempts, run_after, created_at, started_at, completed_at,
    progress, progress_message, hold_reason, last_error, tenant_id, owner_kind, owner_id
FROM queue.outbox_tasks
WHERE (%(statuses)s::text[] IS NULL OR status = ANY (%(statuses)s))
    AND (%(task_type)s::text IS NULL OR task_type = %(task_type)s)
    AND (%(queue)s::text IS NULL OR queue = %(queue)s)
    AND (NOT %(held)s OR hold_reason IS NOT NULL)
    AND (%(tenant_id)s::uuid IS NULL OR tenant_id = %(tenant_id)s)
    AND (%(owner_id)s::uuid IS NULL OR owner_id = %(owner_id)s)
    AND (%(error)s::text IS NULL OR position(lower(%(error)s) IN lower(last_error)) > 0)
    AND (%(since)s::timestamptz IS NULL OR completed_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR completed_at <= %(until)s)
    AND (%(before)s::uuid IS NULL OR id < %(before)s)
ORDER BY id DESC LIMIT %(limit)s;

-- name: show
-- Everything of one task, with the names of its payload's secret fields.
SELECT o.id, o.task_type, o.status, o.queue, o.priority, o.attempts, o.max_attempts, o.run_after, o.created_at, o.started_at,
    o.completed_at, o.progress, o.progress_message, o.hold_reason, o.last_error, o.tenant_id, o.owner_kind, o.owner_id,
    o.payload, o.payload_version, o.result, o.metadata, o.unique_key, o.snoozes, o.claim_number, o.claimed_until, o.lease_until,
    o.deadline_at, o.worker_id, o.trace_context, o.cancel_requested_at, o.cancel_reason, o.is_waiting, o.limit_key,
    (queue.task_type(o.task_type)).secret_fields
FROM queue.outbox_tasks o WHERE o.id = %(id)s;

-- name: attempts_of
-- The last hundred, oldest first: a task that snoozes has many.
SELECT * FROM (
    SELECT number, outcome, error, traceback, log, claim_number, worker_id, started_at, ended_at
    FROM queue.attempts WHERE task_id = %(id)s ORDER BY ended_at DESC, number DESC LIMIT 100
) AS newest ORDER BY ended_at, number;

-- name: queues
-- Each queue with what waits, runs, is held or deferred in it, who serves it, and the age of the oldest due task.
WITH live AS (
    SELECT queue,
        count(*) FILTER (WHERE status = 'pending' AND is_due AND hold_reason IS NULL) AS waiting,
        count(*) FILTER (WHERE NOT is_due AND NOT is_waiting AND hold_reason IS NULL) AS deferred,
        count(*) FILTER (WHERE hold_reason IS NOT NULL) AS held,
        count(*) FILTER (WHERE status = 'in_progress') AS running,
        max(extract(epoch FROM now() - run_after)) FILTER (WHERE status = 'pending' AND is_due AND hold_reason IS NULL) AS oldest
    FROM queue.tasks_live GROUP BY queue
), served AS (
    SELECT name AS queue, count(*) AS workers, sum(slots) AS slots
    FROM queue.processes, unnest(queues) AS name
    WHERE kind = 'worker' AND beat_at > now() - make_interval(secs => %(process_timeout)s) GROUP BY name
), named AS (
    SELECT queue FROM live UNION SELECT queue FROM served UNION SELECT name FROM queue.queues UNION SELECT queue FROM queue.task_types
)
SELECT queue AS name, CASE WHEN COALESCE(q.resume_at > now(), true) THEN q.paused_at END AS paused_at,
    CASE WHEN q.resume_at > now() THEN q.resume_at END AS resume_at, COALESCE(live.waiting, 0) AS waiting, COALESCE(live.running, 0) AS running,
    COALESCE(live.deferred, 0) AS deferred, COALESCE(live.held, 0) AS held, COALESCE(served.workers, 0) AS workers,
    COALESCE(served.slots, 0) AS slots, COALESCE(live.oldest, 0)::float8 AS oldest_seconds
FROM named LEFT JOIN live USING (queue) LEFT JOIN served USING (queue) LEFT JOIN queue.queues q ON q.name = queue
ORDER BY queue;

-- name: pause_queue
-- A pause that has ended by itself does not make the next one older than it is.
INSERT INTO queue.queues AS known (name, paused_at, resume_at) VALUES (%(name)s, now(), %(until)s)
ON CONFLICT (name) DO UPDATE SET resume_at = EXCLUDED.resume_at,
    paused_at = CASE WHEN known.resume_at <= now() THEN now() ELSE COALESCE(known.paused_at, now()) END;

-- name: resume_queue
INSERT INTO queue.queues (name) VALUES (%(name)s) ON CONFLICT (name) DO UPDATE SET paused_at = NULL, resume_at = NULL;

-- name: retry_now
-- A waiting task need not wait any longer.
UPDATE queue.tasks_live SET run_after = now(), is_due = true, is_waiting = false, rank = queue.rank_of(now(), priority), updated_at = now()
WHERE id = %(id)s AND status = 'pending' AND hold_reason IS NULL
RETURNING id, tenant_id;

-- name: replay
-- Failed or cancelled tasks live again, under their old ids and with all their attempts before them. The claim number
-- goes on from where it was, so that a message of the former life is an old one.
WITH revived AS (
    DELETE FROM queue.tasks_history ended WHERE id = ANY (%(ids)s) AND status IN ('failed', 'cancelled')
        AND (%(until)s::timestamptz IS NULL OR completed_at <= %(until)s)
        -- of several with one unique key, one: they would be live together
        AND (unique_key IS NULL OR id IN (
            SELECT DISTINCT ON (h.tenant_id, h.unique_key) h.id FROM queue.tasks_history h
            WHERE h.id = ANY (%(ids)s) AND h.unique_key IS NOT NULL ORDER BY h.tenant_id, h.unique_key, h.completed_at DESC))
        -- a younger task that took the unique key over does the work already
        AND NOT EXISTS (SELECT FROM queue.tasks_live live
                        WHERE live.unique_key = ended.unique_key AND live.tenant_id IS NOT DISTINCT FROM ended.tenant_id)
    RETURNING *
)
INSERT INTO queue.tasks_live (id, task_type, payload, status, attempts, last_error, run_after, created_at, tenant_id, owner_kind, owner_id,
    payload_version, metadata, trace_context, queue, priority, rank, unique_key, limit_key, max_attempts, left_open, claim_number)
SELECT id, task_type, payload, 'pending', 0, last_error, now(), created_at, tenant_id, owner_kind, owner_id,
    payload_version, metadata, trace_context, queue, priority, queue.rank_of(now(), priority), unique_key, limit_key, max_attempts, left_open,
    claim_number
FROM revived
RETURNING id, tenant_id;

-- name: replayable
-- Those of some tasks that a replay would revive, oldest first.
SELECT id, task_type, last_error FROM queue.tasks_history
WHERE id = ANY (%(ids)s) AND status IN ('failed', 'cancelled') ORDER BY completed_at;

-- name: lock_live
-- The status of a task that lives, held until the end of the transaction: it is neither taken nor ended meanwhile.
SELECT status FROM queue.tasks_live WHERE id = %(id)s FOR UPDATE;

-- name: cancel
-- A task that waits, or is on its way to a worker, ends now: a message that names it is of no use any more.
WITH ended AS (
    DELETE FROM queue.tasks_live WHERE id = %(id)s AND status = 'pending' RETURNING *
)
INSERT INTO queue.tasks_history (id, task_type, payload, status, attempts, last_error, run_after, completed_at, created_at, updated_at,
    tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, limit_key, max_attempts, left_open,
    snoozes, claim_number, worker_id, started_at, progress, progress_message)
SELECT id, task_type, payload, 'cancelled', attempts, %(reason)s, run_after, clock_timestamp(), created_at, now(),
    tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, limit_key, max_attempts, left_open,
    snoozes, claim_number, worker_id, started_at, progress, progress_message
FROM ended
RETURNING id, tenant_id;

-- name: request_cancel
-- A task that runs is ended by its worker, which looks for requests; the first one's reason stands.
UPDATE queue.tasks_live SET cancel_requested_at = COALESCE(cancel_requested_at, now()),
    cancel_reason = COALESCE(cancel_reason, %(reason)s)
WHERE id = %(id)s AND status = 'in_progress'
RETURNING id, tenant_id;

-- name: release
-- A held task is judged anew, by the function that judged its INSERT: fitting now, it waits; else it is held with the
-- reason of today.
UPDATE queue.tasks_live live
SET task_type = judged.task_type, tenant_id = judged.tenant_id, payload_version = judged.payload_version,
    queue = judged.queue, priority = judged.priority, max_attempts = judged.max_attempts, left_open = judged.left_open,
    limit_key = judged.limit_key,
    rank = judged.rank, is_due = judged.is_due, hold_reason = judged.hold_reason, updated_at = now()
FROM queue.tasks_live held CROSS JOIN LATERAL queue.completed(held) AS judged
WHERE held.id = %(id)s AND num_nonnulls(held.hold_reason) = 1 AND live.id = held.id
RETURNING live.id, live.tenant_id, live.hold_reason;

-- name: processes
SELECT id, kind, host, pid, queues, task_types, slots, is_sleeping, hears_notify, loops_late, started_at, beat_at,
    extract(epoch FROM now() - beat_at)::float8 AS silent_seconds
FROM queue.processes ORDER BY kind, started_at;

-- name: known_types
SELECT name, scope FROM queue.task_types ORDER BY name;

-- name: scope_of
SELECT (queue.task_type(%(task_type)s)).scope;
