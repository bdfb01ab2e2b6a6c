-- The life of a task. Each query guards the state it starts from in its WHERE; whoever comes late touches no row.
-- Batches join the table by its index of ids: the roles that run them switch sequential scans off (db/roles.py), since
-- without fresh statistics the planner would read all of a table that grows and shrinks by the second.
-- Locks: what several processes may want at once skips rows that another transaction holds. Statements of an attempt's own
-- worker, guarded by its claim number, wait; a circle, should one come about, is broken by Postgres and tried again.

-- name: promote
-- Deferred tasks whose time has come enter the claim's index.
UPDATE queue.tasks_live SET is_due = true, updated_at = now()
WHERE id IN (
    SELECT id FROM queue.tasks_live
    WHERE NOT is_due AND run_after <= now()
    ORDER BY run_after LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
);

-- name: next_due
-- Seconds until the next deferred task is due; no row when none is deferred.
SELECT GREATEST(extract(epoch FROM run_after - clock_timestamp()), 0)::float8
FROM queue.tasks_live WHERE NOT is_due ORDER BY run_after LIMIT 1;

-- name: capacity
-- Free slots of each queue that live workers serve and nobody paused, with the task types they know and the newest payload
-- version of each. A task takes 1 / batch_size of a slot, since that many travel in one message; `depth` messages a slot
-- keep workers busy.
WITH alive AS MATERIALIZED (
    SELECT q.name AS queue, p.slots, p.task_types
    FROM queue.processes p CROSS JOIN LATERAL unnest(p.queues) AS q (name)
    WHERE p.kind = 'worker' AND p.beat_at > now() - make_interval(secs => %(process_timeout)s)
        AND NOT EXISTS (SELECT FROM queue.queues z WHERE z.name = q.name AND z.paused_at IS NOT NULL)
), serving AS (
    SELECT queue, sum(slots)::float8 AS slots FROM alive GROUP BY queue
), known AS (
    SELECT queue, array_agg(name) AS task_types, array_agg(version) AS versions
    FROM (
        SELECT alive.queue, t.key AS name, max(t.value::integer) AS version
        FROM alive CROSS JOIN LATERAL jsonb_each_text(alive.task_types) AS t GROUP BY alive.queue, t.key
    ) AS newest
    GROUP BY queue
), occupied AS (
    SELECT live.queue, sum(1.0 / COALESCE(t.batch_size, 1))::float8 AS slots
    FROM queue.tasks_live live LEFT JOIN queue.task_types t ON t.name = live.task_type
    WHERE live.deadline_at IS NOT NULL OR live.claimed_until IS NOT NULL
    GROUP BY live.queue
)
SELECT queue, serving.slots * %(depth)s - COALESCE(occupied.slots, 0) AS free, known.task_types, known.versions
FROM serving JOIN known USING (queue) LEFT JOIN occupied USING (queue);

-- name: claim
-- Claim the first due tasks of a queue by rank, at most %(limit)s and as many as fit into %(free)s slots.
WITH due AS MATERIALIZED (
    -- fenced, so that LIMIT and SKIP LOCKED are done before anything is joined
    SELECT id, task_type, rank FROM queue.tasks_live
    WHERE queue = %(queue)s AND status = 'pending' AND is_due AND hold_reason IS NULL AND claimed_until IS NULL
        -- NULL for a type that no worker knows
        AND payload_version <= (%(versions)b::integer[])[array_position(%(task_types)b::text[], task_type)]
        -- a tenant's waiting tasks are held when it is suspended; this is for one that came back from a worker since
        AND NOT COALESCE(tenant_id = ANY (ARRAY(SELECT id FROM identity.tenants WHERE status <> 'active')), false)
    ORDER BY rank LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), fitting AS MATERIALIZED (
    SELECT due.id, t.batch_size,
        sum(1.0 / t.batch_size) OVER (ORDER BY due.rank, due.id) - 1.0 / t.batch_size AS before
    FROM due JOIN queue.task_types t ON t.name = due.task_type
)
UPDATE queue.tasks_live live
SET claim_number = live.claim_number + 1, updated_at = now(),
    claimed_until = now() + make_interval(secs => %(claim_seconds)s)
FROM fitting
WHERE live.id = fitting.id AND fitting.before < %(free)s
-- a task that was tried before travels alone: should it kill its worker again, it kills no neighbour's attempt
RETURNING live.id, live.claim_number, live.queue, live.task_type, live.tenant_id,
    CASE WHEN live.attempts > 0 THEN 1 ELSE fitting.batch_size END;

-- name: give_back
-- Claims whose message the broker refused, or that a worker may not run, wait again; no attempt is counted.
UPDATE queue.tasks_live live SET claimed_until = NULL, updated_at = now(),
    run_after = CASE WHEN %(delay)s::float8 > 0 THEN now() + make_interval(secs => %(delay)s) ELSE live.run_after END,
    is_due = %(delay)s::float8 <= 0
FROM unnest(%(ids)b::uuid[], %(claims)b::integer[]) AS given (id, claim_number)
WHERE live.id = given.id AND live.claim_number = given.claim_number AND live.claimed_until IS NOT NULL;

-- name: take
-- Start the attempts of a message: compare and set on the claim number. Late, doubled and old messages touch no row.
UPDATE queue.tasks_live live
SET status = 'in_progress', attempts = live.attempts + 1, claimed_until = NULL, worker_id = %(worker_id)s,
    started_at = now(), updated_at = now(), lease_until = now() + make_interval(secs => %(lease_seconds)s),
    deadline_at = now() + make_interval(secs => %(time_limit)s), progress = NULL, progress_message = NULL
FROM (
    -- A row that another transaction holds is being taken, given back or cancelled: not ours. Without SKIP LOCKED two
    -- takes of a doubled message, or one and the other's finish, wait for each other in a circle.
    SELECT free.id FROM queue.tasks_live free
    JOIN unnest(%(ids)b::uuid[], %(claims)b::integer[]) AS given (id, claim_number)
        ON free.id = given.id AND free.claim_number = given.claim_number
    WHERE free.status = 'pending' AND free.claimed_until IS NOT NULL
    FOR UPDATE OF free SKIP LOCKED
) AS mine
WHERE live.id = mine.id
-- as text: what Python's JSON refuses (a number of 5,000 digits) is one task's failure, not its message's
RETURNING live.id, live.claim_number, live.attempts, live.max_attempts, live.snoozes, live.tenant_id, live.payload::text,
    live.payload_version, live.trace_context, extract(epoch FROM now() - GREATEST(live.run_after, live.created_at))::float8;

-- name: untake
-- A worker gives back what it took and has not begun; the attempt is not counted.
UPDATE queue.tasks_live live
SET status = 'pending', attempts = live.attempts - 1, lease_until = NULL, deadline_at = NULL, worker_id = NULL, updated_at = now(),
    run_after = CASE WHEN %(delay)s::float8 > 0 THEN now() + make_interval(secs => %(delay)s) ELSE live.run_after END,
    is_due = %(delay)s::float8 <= 0
FROM unnest(%(ids)b::uuid[], %(claims)b::integer[]) AS given (id, claim_number)
WHERE live.id = given.id AND live.claim_number = given.claim_number
    AND live.status = 'in_progress' AND live.worker_id = %(worker_id)s;

-- name: end_leases
-- Attempts that their own worker has given up: their leases are over now, and rescue counts them as lost.
UPDATE queue.tasks_live live SET lease_until = '-infinity', deadline_at = now()
FROM unnest(%(ids)b::uuid[], %(claims)b::integer[]) AS given (id, claim_number)
WHERE live.id = given.id AND live.claim_number = given.claim_number
    AND live.status = 'in_progress' AND live.worker_id = %(worker_id)s;

-- name: hold_attempts
-- Lock the attempts that are still ours, before their effects are written. The lock outlives the lease: rescue skips it.
SELECT live.id FROM queue.tasks_live live
JOIN unnest(%(ids)b::uuid[], %(claims)b::integer[]) AS given (id, claim_number)
    ON live.id = given.id AND live.claim_number = given.claim_number
WHERE live.status = 'in_progress' AND live.worker_id = %(worker_id)s
FOR UPDATE OF live;

-- name: finish
-- End tasks: each leaves the live leaf and enters history. Guarded by the claim number and the owner of the lease.
WITH ended AS (
    DELETE FROM queue.tasks_live live
    USING unnest(%(ids)b::uuid[], %(claims)b::integer[], %(statuses)b::text[], %(results)s::jsonb[], %(errors)b::text[])
        AS given (id, claim_number, status, result, error)
    WHERE live.id = given.id AND live.claim_number = given.claim_number
        AND live.status = 'in_progress' AND live.worker_id = %(worker_id)s
    RETURNING live.*, given.status AS ended_as, given.result AS given_result, given.error AS given_error
)
INSERT INTO queue.tasks_history (id, task_type, payload, status, attempts, last_error, run_after, completed_at, created_at, updated_at,
    tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, max_attempts, snoozes,
    claim_number, worker_id, started_at, failed_at, progress, progress_message, result)
SELECT id, task_type, payload, ended_as, attempts, COALESCE(given_error, last_error), run_after, clock_timestamp(), created_at, now(),
    tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, max_attempts, snoozes,
    claim_number, worker_id, started_at, CASE WHEN ended_as = 'failed' THEN now() END,
    CASE WHEN ended_as = 'done' THEN 1 ELSE progress END, progress_message, given_result
FROM ended
RETURNING id;

-- name: reschedule
-- Attempts that end without ending their task: it waits again, `delay` seconds.
UPDATE queue.tasks_live live
SET status = 'pending', lease_until = NULL, deadline_at = NULL, worker_id = NULL, updated_at = now(),
    run_after = now() + make_interval(secs => given.delay), is_due = given.delay <= 0,
    -- a snooze waits its turn: it keeps its place
    rank = CASE WHEN given.snooze = 1 THEN live.rank
        ELSE queue.rank_of(now() + make_interval(secs => given.delay), live.priority) END,
    attempts = live.attempts - given.snooze, snoozes = live.snoozes + given.snooze,
    last_error = COALESCE(given.error, live.last_error)
FROM unnest(%(ids)b::uuid[], %(claims)b::integer[], %(delays)b::float8[], %(errors)b::text[], %(snoozes)b::integer[])
    AS given (id, claim_number, delay, error, snooze)
WHERE live.id = given.id AND live.claim_number = given.claim_number
    AND live.status = 'in_progress' AND live.worker_id = %(worker_id)s
RETURNING live.id;

-- name: ring
-- As the trigger of an INSERT does: only when a relay sleeps.
SELECT pg_notify('greenroom_wake', '') WHERE EXISTS (SELECT FROM queue.processes WHERE is_sleeping);

-- name: record_attempts
-- Keep what came of attempts that did not end as done.
INSERT INTO queue.attempts (task_id, tenant_id, claim_number, number, outcome, error, traceback, worker_id, started_at)
SELECT id, tenant_id, claim_number, number, outcome, error, traceback, worker_id, clock_timestamp() - make_interval(secs => seconds)
FROM unnest(%(ids)b::uuid[], %(tenants)s::uuid[], %(claims)b::integer[], %(numbers)b::integer[], %(outcomes)b::text[],
    %(errors)b::text[], %(tracebacks)b::text[], %(workers)b::uuid[], %(seconds)b::float8[])
    AS given (id, tenant_id, claim_number, number, outcome, error, traceback, worker_id, seconds);

-- name: renew
-- One statement renews the leases of all that a process runs, never past an attempt's time limit.
UPDATE queue.tasks_live
SET lease_until = LEAST(now() + make_interval(secs => %(lease_seconds)s), deadline_at)
WHERE id IN (
    -- a row that its own finish holds needs no renewal
    SELECT id FROM queue.tasks_live
    -- and a lease that ran out is the rescuer's: after an outage its worker may have given the attempt up
    WHERE deadline_at IS NOT NULL AND worker_id = %(worker_id)s AND lease_until < deadline_at AND lease_until > now()
    FOR UPDATE SKIP LOCKED
);

-- name: hand_back
-- At the end of the grace time, what still runs waits again at once and the attempt is not counted.
WITH given AS (
    UPDATE queue.tasks_live SET status = 'pending', attempts = attempts - 1, lease_until = NULL, deadline_at = NULL,
        worker_id = NULL, updated_at = now(), is_due = true
    WHERE id IN (
        -- a row that its own finish holds is about to end by itself, and waiting for it could be a circle
        SELECT id FROM queue.tasks_live WHERE deadline_at IS NOT NULL AND worker_id = %(worker_id)s FOR UPDATE SKIP LOCKED
    )
    RETURNING id, tenant_id, claim_number, attempts + 1 AS number, started_at
)
INSERT INTO queue.attempts (task_id, tenant_id, claim_number, number, outcome, error, worker_id, started_at)
SELECT id, tenant_id, claim_number, number, 'handed_back', 'the worker stopped', %(worker_id)s, started_at FROM given;

-- name: expire_leases
-- A process that is gone for certain renews nothing any more: its attempts may be rescued now.
UPDATE queue.tasks_live SET lease_until = now()
WHERE id IN (
    SELECT id FROM queue.tasks_live WHERE deadline_at IS NOT NULL AND worker_id = %(worker_id)s FOR UPDATE SKIP LOCKED
);

-- name: rescue
-- Leases that ran out: the attempt stays counted and is recorded as lost; out of attempts, the task fails.
WITH expired AS MATERIALIZED (
    SELECT id, attempts >= max_attempts AS is_last, worker_id,
        -- one that kills its worker time and again drags fewer neighbours along if they do not all come back together
        CASE WHEN attempts > 1 THEN random() * LEAST(power(2, attempts), 60) ELSE 0 END AS delay,
        CASE WHEN lease_until = '-infinity' THEN 'the worker gave the attempt up'
             WHEN deadline_at <= now() THEN 'the attempt ran for longer than its time limit'
             ELSE 'the lease ran out: the worker was killed, cut off or frozen' END AS reason
    FROM queue.tasks_live
    -- deadline_at names the index of occupied slots, which no lease's renewal has to touch
    WHERE deadline_at IS NOT NULL AND lease_until <= now()
    ORDER BY lease_until LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), retried AS (
    UPDATE queue.tasks_live live
    SET status = 'pending', lease_until = NULL, deadline_at = NULL, worker_id = NULL, updated_at = now(),
        run_after = now() + make_interval(secs => expired.delay), is_due = expired.delay = 0, last_error = expired.reason
    FROM expired WHERE live.id = expired.id AND NOT expired.is_last
    RETURNING live.id, live.tenant_id, live.claim_number, live.attempts, live.started_at, expired.worker_id, expired.reason
), ended AS (
    DELETE FROM queue.tasks_live live USING expired
    WHERE live.id = expired.id AND expired.is_last
    RETURNING live.*, expired.reason
), failed AS (
    INSERT INTO queue.tasks_history (id, task_type, payload, status, attempts, last_error, run_after, completed_at, created_at,
        updated_at, tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key,
        max_attempts, snoozes, claim_number, worker_id, started_at, failed_at, progress, progress_message)
    SELECT id, task_type, payload, 'failed', attempts, reason, run_after, clock_timestamp(), created_at,
        now(), tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key,
        max_attempts, snoozes, claim_number, worker_id, started_at, now(), progress, progress_message
    FROM ended
), recorded AS (
    INSERT INTO queue.attempts (task_id, tenant_id, claim_number, number, outcome, error, worker_id, started_at)
    SELECT id, tenant_id, claim_number, attempts, 'lost', reason, worker_id, started_at FROM retried
    UNION ALL
    SELECT id, tenant_id, claim_number, attempts, 'lost', reason, worker_id, started_at FROM ended
)
SELECT (SELECT count(*) FROM retried), (SELECT count(*) FROM ended);

-- name: reclaim
-- Claims that no worker took in time wait again; no attempt was counted.
UPDATE queue.tasks_live SET claimed_until = NULL, updated_at = now()
WHERE id IN (
    SELECT id FROM queue.tasks_live
    WHERE COALESCE(deadline_at, claimed_until) <= now() AND claimed_until IS NOT NULL
    ORDER BY claimed_until LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
);

-- name: report_progress
-- Progress of a running attempt, over a connection of its own; says whether the attempt is still ours.
UPDATE queue.tasks_live SET progress = %(progress)s, progress_message = %(message)s
WHERE id IN (
    -- a row that its own finish holds is about to end: waiting for that could be waiting for oneself
    SELECT id FROM queue.tasks_live WHERE id = %(id)s AND claim_number = %(claim)s AND status = 'in_progress'
    FOR UPDATE SKIP LOCKED
)
RETURNING id;

-- name: ended
-- How the named tasks ended; those that still live are not among the rows.
SELECT id, status, result, last_error FROM queue.tasks_history WHERE id = ANY (%(ids)s);

-- name: beat
-- A process says that it lives; one that is not known, or not any more, becomes so.
INSERT INTO queue.processes (id, kind, host, pid, queues, task_types, slots, loops_late)
VALUES (%(id)s, %(kind)s, %(host)s, %(pid)s, %(queues)s, %(task_types)s, %(slots)s, %(loops_late)s)
ON CONFLICT (id) DO UPDATE SET beat_at = now(), loops_late = EXCLUDED.loops_late;

-- name: stop_serving
-- A process that drains takes no more work.
UPDATE queue.processes SET slots = 0, queues = '{}', is_sleeping = false WHERE id = %(id)s;

-- name: unregister_process
DELETE FROM queue.processes WHERE id = %(id)s;

-- name: forget_processes
-- Processes that have been silent for long are gone.
DELETE FROM queue.processes WHERE beat_at < now() - make_interval(secs => %(seconds)s);

-- name: mark_sleeping
-- A relay that sleeps wants to be rung; one that is busy spares producers the NOTIFY.
UPDATE queue.processes SET is_sleeping = %(is_sleeping)s, hears_notify = %(hears_notify)s WHERE id = %(id)s;

-- name: release_active
-- Tasks held for a tenant that is active: their transaction had not seen it become so, nor been seen by its trigger.
UPDATE queue.tasks_live live SET hold_reason = NULL, updated_at = now(),
    payload_version = COALESCE(payload_version, (queue.task_type(task_type)).payload_version)
FROM identity.tenants t
WHERE t.id = live.tenant_id AND t.status = 'active'
    AND live.hold_reason IN (queue.tenant_hold_reason('suspended'), queue.tenant_hold_reason('deleted'));

-- name: create_months
SELECT queue.create_months();

-- name: publish_task_type
-- What a task type defaults to, for every producer in whatever language.
INSERT INTO queue.task_types (name, queue, scope, priority, max_attempts, batch_size, time_limit, payload_version, payload_schema,
    secret_fields, aliases)
VALUES (%(name)s, %(queue)s, %(scope)s, %(priority)s, %(max_attempts)s, %(batch_size)s, make_interval(secs => %(time_limit)s),
    %(payload_version)s, %(payload_schema)s, %(secret_fields)s, %(aliases)s)
ON CONFLICT (name) DO UPDATE SET queue = EXCLUDED.queue, scope = EXCLUDED.scope, priority = EXCLUDED.priority,
    max_attempts = EXCLUDED.max_attempts, batch_size = EXCLUDED.batch_size, time_limit = EXCLUDED.time_limit,
    payload_version = EXCLUDED.payload_version, payload_schema = EXCLUDED.payload_schema, secret_fields = EXCLUDED.secret_fields,
    aliases = EXCLUDED.aliases, updated_at = now()
-- an older program beside a newer one does not take the newer one's schema back
WHERE queue.task_types.payload_version <= EXCLUDED.payload_version
    AND (queue.task_types.queue, queue.task_types.scope, queue.task_types.priority, queue.task_types.max_attempts,
         queue.task_types.batch_size, queue.task_types.time_limit, queue.task_types.payload_version, queue.task_types.payload_schema,
         queue.task_types.secret_fields, queue.task_types.aliases)
    IS DISTINCT FROM (EXCLUDED.queue, EXCLUDED.scope, EXCLUDED.priority, EXCLUDED.max_attempts, EXCLUDED.batch_size,
         EXCLUDED.time_limit, EXCLUDED.payload_version, EXCLUDED.payload_schema, EXCLUDED.secret_fields, EXCLUDED.aliases);
