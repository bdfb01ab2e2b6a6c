-- What a worker does with the attempts that it holds. Each statement is guarded by the claim number and by the owner of the lease
-- in its WHERE; whoever comes late touches no row. Locks: see queue.sql.

-- name: take
-- Start the attempts of a message: compare and set on the claim number. Late, doubled and old messages touch no row. Nothing
-- that an index holds is changed, so that the row's new version is found by the old one's entries (HOT).
UPDATE queue.tasks_live live
SET status = 'in_progress', attempts = live.attempts + 1, worker_id = %(worker_id)s,
    started_at = now(), updated_at = now(), lease_until = now() + make_interval(secs => %(lease_seconds)s),
    deadline_at = now() + make_interval(secs => %(time_limit)s), progress = NULL, progress_message = NULL
FROM unnest(%(ids)s::uuid[], %(claims)s::integer[]) AS given (id, claim_number)
WHERE live.id = ANY (ARRAY[given.id]) AND live.claim_number = given.claim_number AND live.status = 'pending' AND num_nonnulls(live.claimed_until) = 1
-- as text: what Python's JSON refuses (a number of 5,000 digits) is one task's failure, not its message's
RETURNING live.id, live.claim_number, live.attempts, live.max_attempts, live.snoozes, live.tenant_id, live.payload::text,
    live.payload_version, live.trace_context, extract(epoch FROM now() - GREATEST(live.run_after, live.created_at))::float8, live.limit_key;

-- name: untake
-- A worker gives back what it took and has not begun; the attempt is not counted.
UPDATE queue.tasks_live live
SET status = 'pending', attempts = live.attempts - 1, claimed_until = NULL, lease_until = NULL, deadline_at = NULL, worker_id = NULL, updated_at = now(),
    run_after = CASE WHEN %(delay)s::float8 > 0 THEN now() + make_interval(secs => %(delay)s) ELSE live.run_after END,
    is_due = %(delay)s::float8 <= 0
FROM unnest(%(ids)s::uuid[], %(claims)s::integer[]) AS given (id, claim_number)
WHERE live.id = ANY (ARRAY[given.id]) AND live.claim_number = given.claim_number
    AND live.status = 'in_progress' AND live.worker_id = %(worker_id)s;

-- name: wait_for_disk
-- For the transaction: its commit is not to be forgotten, though a relay's are (db/roles.py). Who forgot that an attempt was given
-- back would find it running, and its worker knows nothing of it.
SELECT set_config('synchronous_commit', 'on', true);

-- name: running
-- The attempts that a worker holds, whose leases are not over.
SELECT id, claim_number FROM queue.tasks_live
WHERE claimed_until IS NOT NULL AND status = 'in_progress' AND worker_id = %(worker_id)s AND lease_until > now();

-- name: end_leases
-- Attempts that their own worker has given up: their leases are over now, and rescue counts them as lost.
UPDATE queue.tasks_live live SET lease_until = '-infinity', deadline_at = now()
FROM unnest(%(ids)s::uuid[], %(claims)s::integer[]) AS given (id, claim_number)
WHERE live.id = ANY (ARRAY[given.id]) AND live.claim_number = given.claim_number
    AND live.status = 'in_progress' AND live.worker_id = %(worker_id)s;

-- name: finish
-- End tasks: each leaves the live leaf and enters history. Guarded by the claim number and the owner of the lease.
WITH ended AS (
    DELETE FROM queue.tasks_live live
    USING unnest(%(ids)s::uuid[], %(claims)s::integer[], %(statuses)s::text[], %(results)s::jsonb[], %(errors)s::text[])
        AS given (id, claim_number, status, result, error)
    WHERE live.id = ANY (ARRAY[given.id]) AND live.claim_number = given.claim_number
        AND live.status = 'in_progress' AND live.worker_id = %(worker_id)s
    RETURNING live.*, given.status AS ended_as, given.result AS given_result, given.error AS given_error
)
INSERT INTO queue.tasks_history (id, task_type, payload, status, attempts, last_error, run_after, completed_at, created_at, updated_at,
    tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, limit_key, max_attempts, snoozes,
    claim_number, worker_id, started_at, failed_at, progress, progress_message, result)
SELECT id, task_type, payload, ended_as, attempts, COALESCE(given_error, last_error), run_after, clock_timestamp(), created_at, now(),
    tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, limit_key, max_attempts, snoozes,
    claim_number, worker_id, started_at, CASE WHEN ended_as = 'failed' THEN now() END,
    CASE WHEN ended_as = 'done' THEN 1 ELSE progress END, progress_message, given_result
FROM ended
RETURNING id;

-- name: reschedule
-- Attempts that end without ending their task: it waits again, `delay` seconds.
UPDATE queue.tasks_live live
SET status = 'pending', claimed_until = NULL, lease_until = NULL, deadline_at = NULL, worker_id = NULL, updated_at = now(),
    run_after = now() + make_interval(secs => given.delay), is_due = given.delay <= 0,
    -- a snooze waits its turn: it keeps its place
    rank = CASE WHEN given.snooze = 1 THEN live.rank
        ELSE queue.rank_of(now() + make_interval(secs => given.delay), live.priority) END,
    attempts = live.attempts - given.snooze, snoozes = live.snoozes + given.snooze,
    last_error = COALESCE(given.error, live.last_error)
FROM unnest(%(ids)s::uuid[], %(claims)s::integer[], %(delays)b::float8[], %(errors)b::text[], %(snoozes)b::integer[])
    AS given (id, claim_number, delay, error, snooze)
WHERE live.id = ANY (ARRAY[given.id]) AND live.claim_number = given.claim_number
    AND live.status = 'in_progress' AND live.worker_id = %(worker_id)s
RETURNING live.id;

-- name: hold
-- The attempt is still this worker's, and stays so until the transaction ends: whoever rescues, or lets it wait, finds its row locked.
-- By the clock and not by the transaction's time: the lock may have been waited for.
SELECT id FROM queue.tasks_live
WHERE id = ANY (ARRAY[%(id)s::uuid]) AND claim_number = %(claim)s AND status = 'in_progress' AND worker_id = %(worker_id)s
    AND lease_until > clock_timestamp()
FOR UPDATE;

-- name: record_attempts
-- Keep what came of attempts that did not end as done, and what the others logged.
INSERT INTO queue.attempts (task_id, tenant_id, claim_number, number, outcome, error, traceback, log, worker_id, started_at)
SELECT id, tenant_id, claim_number, number, outcome, error, traceback, log, worker_id,
    clock_timestamp() - make_interval(secs => seconds)
FROM unnest(%(ids)s::uuid[], %(tenants)s::uuid[], %(claims)s::integer[], %(numbers)b::integer[], %(outcomes)b::text[],
    %(errors)b::text[], %(tracebacks)b::text[], %(logs)b::text[], %(workers)b::uuid[], %(seconds)b::float8[])
    AS given (id, tenant_id, claim_number, number, outcome, error, traceback, log, worker_id, seconds);

-- name: renew
-- One statement renews the leases of all that a process runs, never past an attempt's time limit.
UPDATE queue.tasks_live
SET lease_until = LEAST(now() + make_interval(secs => %(lease_seconds)s), deadline_at)
WHERE id = ANY (ARRAY(
    -- a row that its own finish holds needs no renewal
    SELECT id FROM queue.tasks_live
    -- and a lease that ran out is the rescuer's: after an outage its worker may have given the attempt up
    WHERE claimed_until IS NOT NULL AND worker_id = %(worker_id)s AND lease_until < deadline_at AND lease_until > now()
    FOR UPDATE SKIP LOCKED
));

-- name: hand_back
-- At the end of the grace time, what still runs waits again at once and the attempt is not counted. What has used its time
-- up is left to the rescuer, who counts it.
WITH given AS (
    UPDATE queue.tasks_live SET status = 'pending', claimed_until = NULL, lease_until = NULL, deadline_at = NULL,
        worker_id = NULL, updated_at = now(), is_due = true,
        attempts = attempts - CASE WHEN cancel_requested_at IS NULL THEN 1 ELSE 0 END
    WHERE id = ANY (ARRAY(
        -- a row that its own finish holds is about to end by itself, and waiting for it could be a circle
        SELECT id FROM queue.tasks_live
        WHERE claimed_until IS NOT NULL AND worker_id = %(worker_id)s AND deadline_at > now() FOR UPDATE SKIP LOCKED
    ))
    RETURNING id, tenant_id, claim_number, attempts, started_at, cancel_reason
)
INSERT INTO queue.attempts (task_id, tenant_id, claim_number, number, outcome, error, worker_id, started_at)
SELECT id, tenant_id, claim_number, attempts + CASE WHEN cancel_reason IS NULL THEN 1 ELSE 0 END,
    CASE WHEN cancel_reason IS NULL THEN 'handed_back' ELSE 'cancel' END, COALESCE(cancel_reason, 'the worker stopped'),
    %(worker_id)s, started_at
FROM given;

-- name: end_cancelled
-- Tasks that were asked to end while they ran and whose attempt is over: they do not wait again. Runs in the transaction
-- that would let them, so that nobody sees one that does.
WITH ended AS (
    DELETE FROM queue.tasks_live WHERE cancel_requested_at IS NOT NULL AND status = 'pending' RETURNING *
)
INSERT INTO queue.tasks_history (id, task_type, payload, status, attempts, last_error, run_after, completed_at, created_at, updated_at,
    tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, limit_key, max_attempts, snoozes,
    claim_number, started_at, progress, progress_message)
SELECT id, task_type, payload, 'cancelled', attempts, cancel_reason, run_after, clock_timestamp(), created_at, now(),
    tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, limit_key, max_attempts, snoozes,
    claim_number, started_at, progress, progress_message
FROM ended;

-- name: orders
-- What a worker has to know of its attempts: which were asked to end (with the reason), and which of those that it named are
-- not its own any more (without one).
SELECT id, claim_number, cancel_reason FROM queue.tasks_live
WHERE cancel_requested_at IS NOT NULL AND status = 'in_progress' AND worker_id = %(worker_id)s
UNION ALL
SELECT given.id, given.claim_number, NULL
FROM unnest(%(ids)s::uuid[], %(claims)s::integer[]) AS given (id, claim_number)
WHERE NOT EXISTS (
    SELECT FROM queue.tasks_live live
    WHERE live.id = ANY (ARRAY[given.id]) AND live.claim_number = given.claim_number AND live.status = 'in_progress'
        AND live.worker_id = %(worker_id)s
);

-- name: next_deadline
-- Seconds until the first of a worker's attempts has used its time up; no row when it runs none.
SELECT extract(epoch FROM deadline_at - now())::float8 FROM queue.tasks_live
WHERE claimed_until IS NOT NULL AND worker_id = %(worker_id)s ORDER BY deadline_at LIMIT 1;

-- name: expire_leases
-- A process that is gone for certain renews nothing any more: its attempts may be rescued now.
UPDATE queue.tasks_live SET lease_until = now()
WHERE id = ANY (ARRAY(
    SELECT id FROM queue.tasks_live WHERE claimed_until IS NOT NULL AND worker_id = %(worker_id)s FOR UPDATE SKIP LOCKED
));

-- name: ring_rescuers
-- Leases were ended that their worker will not renew: whoever rescues need not wait for its next look.
SELECT pg_notify('greenroom_wake', 'rescue');

-- name: report_progress
-- Progress of a running attempt, over a connection of its own; says whether the attempt is still ours.
UPDATE queue.tasks_live SET progress = %(progress)s, progress_message = %(message)s
WHERE id = ANY (ARRAY(
    -- a row that its own finish holds is about to end: waiting for that could be waiting for oneself
    SELECT id FROM queue.tasks_live WHERE id = %(id)s AND claim_number = %(claim)s AND status = 'in_progress'
    FOR UPDATE SKIP LOCKED
))
RETURNING id;
