-- What is due, who may have it, and what comes back lost. Each query guards the state it starts from in its WHERE; whoever comes late touches no row.
-- The planner knows nothing of a table that grows and shrinks by the second, and takes a burst that came after a vacuum for one row,
-- which any index finds. So each query leaves it one index to go by. The roles that run them switch sequential scans off
-- (db/roles.py). Rows are found by `id = ANY (ARRAY[…])`: `=` or IN would let the index of ids be read whole, for the order of a
-- merge. And num_nonnulls stands where IS NOT NULL would let a partial index be read whole.
-- Locks: what several processes may want at once skips rows that another transaction holds. Statements of an attempt's own
-- worker, guarded by its claim number, wait; a circle, should one come about, is broken by Postgres and tried again.

-- name: promote
-- Deferred tasks whose time has come enter the claim's index.
UPDATE queue.tasks_live SET is_due = true, updated_at = now()
WHERE id = ANY (ARRAY(
    SELECT id FROM queue.tasks_live
    WHERE NOT is_due AND NOT is_waiting AND run_after <= now()
    ORDER BY run_after LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
));

-- name: look
-- Which queues have due tasks that nobody has claimed, and in how many seconds the next deferred one is due or a pause ends.
WITH RECURSIVE due AS (
    (SELECT queue FROM queue.tasks_live WHERE is_due AND hold_reason IS NULL AND claimed_until IS NULL ORDER BY queue LIMIT 1)
    UNION ALL
    -- the next one by a step down the index, however many tasks each has
    SELECT next.queue FROM due CROSS JOIN LATERAL (
        SELECT queue FROM queue.tasks_live
        WHERE is_due AND hold_reason IS NULL AND claimed_until IS NULL AND queue > due.queue ORDER BY queue LIMIT 1
    ) AS next
)
SELECT ARRAY(SELECT queue::text FROM due), extract(epoch FROM LEAST(
    (SELECT run_after FROM queue.tasks_live WHERE NOT is_due AND NOT is_waiting ORDER BY run_after LIMIT 1),
    (SELECT min(resume_at) FROM queue.queues WHERE resume_at > clock_timestamp())) - clock_timestamp())::float8;

-- name: capacity
-- Free slots of each queue that live workers serve, with the task types they know, the newest payload version of each and
-- how many tasks of it may travel in one message: what its type allows, and no more than the slowest worker has measured.
-- A task takes 1 / batch_size of a slot; `depth` messages a slot keep workers busy.
WITH alive AS MATERIALIZED (
    SELECT q.name AS queue, p.slots, p.task_types, p.batch_sizes
    FROM queue.processes p CROSS JOIN LATERAL unnest(p.queues) AS q (name)
    WHERE p.kind = 'worker' AND p.beat_at > now() - make_interval(secs => %(process_timeout)s)
), serving AS (
    SELECT queue, sum(slots)::float8 AS slots FROM alive GROUP BY queue
), known AS (
    SELECT type.queue, array_agg(type.name) AS task_types, array_agg(type.version) AS versions,
        array_agg(LEAST(type.measured, COALESCE(published.batch_size, 1))) AS batch_sizes
    FROM (
        SELECT alive.queue, t.key AS name, max(t.value::integer) AS version,
            min(COALESCE((alive.batch_sizes->>t.key)::integer, 1)) AS measured
        FROM alive CROSS JOIN LATERAL jsonb_each_text(alive.task_types) AS t GROUP BY alive.queue, t.key
    ) AS type LEFT JOIN queue.task_types published ON published.name = type.name
    GROUP BY type.queue
), occupied AS (
    SELECT queue, sum(1.0 / batch_size)::float8 AS slots FROM queue.tasks_live WHERE claimed_until IS NOT NULL GROUP BY queue
)
SELECT queue, serving.slots * %(depth)s - COALESCE(occupied.slots, 0) AS free, known.task_types, known.versions, known.batch_sizes
FROM serving JOIN known USING (queue) LEFT JOIN occupied USING (queue);

-- name: due_lanes
-- The lanes that have due tasks in a queue, from (%(first_tenant)s, %(first_key)s) on, at most %(limit)s: tenants (the nil UUID
-- stands for none) with the keys of their tasks ('' for none), and what stands in the way of a lane: a limit on all of its
-- tasks, a limit on some of their types. Nothing while the queue is paused.
WITH RECURSIVE due AS (
    SELECT first.* FROM (
        SELECT CASE WHEN tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000' ELSE tenant_id END AS tenant,
            CASE WHEN limit_key IS NULL THEN '' ELSE limit_key END COLLATE "C" AS key FROM queue.tasks_live
        WHERE queue = %(queue)s AND is_due AND hold_reason IS NULL AND claimed_until IS NULL
            AND (CASE WHEN tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000' ELSE tenant_id END,
                CASE WHEN limit_key IS NULL THEN '' ELSE limit_key END COLLATE "C") >= (%(first_tenant)s::uuid, %(first_key)s::text)
        ORDER BY CASE WHEN tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000' ELSE tenant_id END,
            CASE WHEN limit_key IS NULL THEN '' ELSE limit_key END COLLATE "C" LIMIT 1
    ) AS first
    WHERE NOT EXISTS (SELECT FROM queue.queues q
                      WHERE q.name = %(queue)s AND q.paused_at IS NOT NULL AND COALESCE(q.resume_at > now(), true))
    UNION ALL
    -- the next one by a step down the index, however many tasks each has
    SELECT next.* FROM due CROSS JOIN LATERAL (
        SELECT CASE WHEN tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000' ELSE tenant_id END AS tenant,
            CASE WHEN limit_key IS NULL THEN '' ELSE limit_key END COLLATE "C" AS key FROM queue.tasks_live
        WHERE queue = %(queue)s AND is_due AND hold_reason IS NULL AND claimed_until IS NULL
            AND (CASE WHEN tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000' ELSE tenant_id END,
                CASE WHEN limit_key IS NULL THEN '' ELSE limit_key END COLLATE "C") > (due.tenant, due.key)
        ORDER BY CASE WHEN tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000' ELSE tenant_id END,
            CASE WHEN limit_key IS NULL THEN '' ELSE limit_key END COLLATE "C" LIMIT 1
    ) AS next
), lanes AS MATERIALIZED (
    SELECT tenant, key FROM due LIMIT %(limit)s
), standing AS MATERIALIZED (
    SELECT kind, name FROM queue.limits WHERE concurrency IS NOT NULL OR rate IS NOT NULL OR paused_until > now()
)
SELECT tenant, key,
    EXISTS (SELECT FROM standing WHERE kind = 'queue' AND name IN (%(queue)s, '*') OR kind = 'tenant' AND name IN (tenant::text, '*')
        OR kind = 'key' AND key <> '' AND name IN (key, '*')),
    EXISTS (SELECT FROM standing WHERE kind = 'task_type' AND (name = '*' OR name = ANY (%(task_types)s::text[])))
FROM lanes;

-- part: fitting
-- What claims have in common: at most %(each)s of each lane of `given`, and as many as fit into %(free)s slots; first those that
-- are first by rank within their tenant, and of those first who was served longest ago. Of a lane, ranks below its from_rank are not looked at. No limit is asked.
due AS MATERIALIZED (
    SELECT first.* FROM given CROSS JOIN LATERAL (
        -- LIMIT and SKIP LOCKED are done before anything is joined
        SELECT live.ctid AS place, live.task_type, live.rank, given.tenant, given.key, given.served,
            -- a task that was tried before travels alone: should it kill its worker again, it kills no neighbour's attempt
            CASE WHEN live.attempts > 0 THEN 1
                ELSE (%(batch_sizes)s::integer[])[array_position(%(task_types)s::text[], live.task_type)] END AS batch_size
        FROM queue.tasks_live live
        WHERE live.queue = %(queue)s AND live.is_due AND live.hold_reason IS NULL AND live.claimed_until IS NULL
            AND CASE WHEN live.tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000' ELSE live.tenant_id END = given.tenant
            AND CASE WHEN live.limit_key IS NULL THEN '' ELSE live.limit_key END COLLATE "C" = given.key AND live.rank >= given.from_rank
            -- NULL for a type that no worker knows
            AND live.payload_version <= (%(versions)s::integer[])[array_position(%(task_types)s::text[], live.task_type)]
        ORDER BY live.rank LIMIT %(each)s
        FOR UPDATE SKIP LOCKED
    ) AS first
    -- a tenant's waiting tasks are held when it is suspended; this is for one that came back from a worker since
    WHERE given.tenant <> ALL (ARRAY(SELECT id FROM identity.tenants WHERE status <> 'active'))
        AND NOT EXISTS (SELECT FROM queue.queues q
                        WHERE q.name = %(queue)s AND q.paused_at IS NOT NULL AND COALESCE(q.resume_at > now(), true))
        -- a provider has refused since the lanes were looked at
        AND (given.key = '' OR NOT EXISTS (SELECT FROM queue.limits l
                                           WHERE l.kind = 'key' AND l.name = given.key AND l.paused_until > now()))
), turns AS MATERIALIZED (
    SELECT due.*, row_number() OVER (PARTITION BY tenant ORDER BY rank) AS turn FROM due
), fitting AS MATERIALIZED (
    SELECT turns.*,
        sum(1.0::float8 / batch_size) OVER (ORDER BY turn, served, rank ROWS UNBOUNDED PRECEDING) - 1.0::float8 / batch_size AS before
    FROM turns
)

-- part: claimed
UPDATE queue.tasks_live live
SET claim_number = live.claim_number + 1, updated_at = now(),
    claimed_until = now() + make_interval(secs => %(claim_seconds)s), batch_size = fitting.batch_size
FROM fitting
-- the rows are locked: their places are certain
WHERE live.ctid = fitting.place AND fitting.before < %(free)s
RETURNING live.id, live.claim_number, live.queue, live.task_type, live.tenant_id, live.batch_size, live.rank, fitting.before, live.limit_key;

-- name: claim
-- Claim due tasks of lanes that no limit holds up.
WITH given AS (
    SELECT * FROM unnest(%(tenants)s::uuid[], %(keys)s::text[], %(from_ranks)s::bigint[], %(served)s::integer[]) AS given (tenant, key, from_rank, served)
),
-- include: fitting
-- include: claimed

-- name: claim_first
-- Claim the first due tasks of whatever lanes have any, in one step; none while any limit stands, whomever it may concern.
WITH given AS (
    SELECT tenant, key, %(first_rank)s::bigint AS from_rank, 0 AS served FROM (
    -- include: due_lanes
    ) AS lane WHERE NOT EXISTS (SELECT FROM queue.limits WHERE concurrency IS NOT NULL OR rate IS NOT NULL)
),
-- include: fitting
-- include: claimed

-- part: started
-- What `claimed` does and what a take does, for a worker in the claimer's own process, of as many messages as it has idle threads:
-- tasks of a type, tenant and batch size fill up one after the other. It waits for the disk, as a take's commit does.
, parts AS (
    SELECT fitting.*, (row_number() OVER (PARTITION BY tenant, task_type, batch_size ORDER BY before) - 1) / batch_size AS part
    FROM fitting
), beginnings AS (
    SELECT parts.*, min(before) OVER (PARTITION BY tenant, task_type, batch_size, part) AS beginning FROM parts
), messages AS (
    SELECT beginnings.*, dense_rank() OVER (ORDER BY beginning) AS message FROM beginnings
), going AS MATERIALIZED (
    -- the next claim of a lane goes on behind the first that stays
    SELECT place, batch_size, before, message,
        LEAST(rank, min(rank) FILTER (WHERE message > %(free)s) OVER (PARTITION BY tenant, key)) AS reached
    FROM messages
)
UPDATE queue.tasks_live live
SET claim_number = live.claim_number + 1, updated_at = now(),
    claimed_until = now() + make_interval(secs => %(claim_seconds)s), batch_size = going.batch_size,
    status = 'in_progress', attempts = live.attempts + 1, worker_id = %(worker_id)s,
    started_at = now(), lease_until = now() + make_interval(secs => %(lease_seconds)s),
    deadline_at = now() + make_interval(secs => (%(time_limits)s::float8[])[array_position(%(task_types)s::text[], live.task_type)]),
    progress = NULL, progress_message = NULL
FROM going
WHERE live.ctid = going.place AND going.message <= %(free)s
RETURNING live.id, live.claim_number, live.queue, live.task_type, live.tenant_id, live.batch_size, going.reached, going.before, live.limit_key,
    live.attempts, live.max_attempts, live.snoozes, live.payload::text, live.payload_version, live.trace_context,
    extract(epoch FROM now() - GREATEST(live.run_after, live.created_at))::float8,
    (SELECT set_config('synchronous_commit', 'on', true))

-- name: start
-- Claim due tasks of lanes that no limit holds up, and start their attempts.
WITH given AS (
    SELECT * FROM unnest(%(tenants)s::uuid[], %(keys)s::text[], %(from_ranks)s::bigint[], %(served)s::integer[]) AS given (tenant, key, from_rank, served)
),
-- include: fitting
-- include: started

-- name: start_first
-- Claim the first due tasks as `claim_first` does, and start their attempts.
WITH given AS (
    SELECT tenant, key, %(first_rank)s::bigint AS from_rank, 0 AS served FROM (
    -- include: due_lanes
    ) AS lane WHERE NOT EXISTS (SELECT FROM queue.limits WHERE concurrency IS NOT NULL OR rate IS NOT NULL)
),
-- include: fitting
-- include: started

-- name: give_back
-- Claims whose message the broker refused, or that a worker may not run, wait again; no attempt is counted.
UPDATE queue.tasks_live live SET claimed_until = NULL, updated_at = now(),
    run_after = CASE WHEN %(delay)s::float8 > 0 THEN now() + make_interval(secs => %(delay)s) ELSE live.run_after END,
    is_due = %(delay)s::float8 <= 0
FROM unnest(%(ids)s::uuid[], %(claims)s::integer[]) AS given (id, claim_number)
WHERE live.id = ANY (ARRAY[given.id]) AND live.claim_number = given.claim_number AND live.status = 'pending' AND num_nonnulls(live.claimed_until) = 1;

-- name: ring
-- As the trigger of an INSERT does: only when a relay sleeps.
SELECT pg_notify('greenroom_wake', '') WHERE EXISTS (SELECT FROM queue.processes WHERE is_sleeping);

-- name: is_occupied
-- Whether any task is claimed or runs: only those can be overdue.
SELECT EXISTS (SELECT FROM queue.tasks_live WHERE claimed_until IS NOT NULL);

-- name: rescue
-- Leases that ran out: the attempt stays counted and is recorded as lost; out of attempts, the task fails. One that was asked
-- to end does.
WITH expired AS MATERIALIZED (
    SELECT id, attempts >= max_attempts OR cancel_requested_at IS NOT NULL AS is_last, worker_id,
        -- one that kills its worker time and again drags fewer neighbours along if they do not all come back together
        CASE WHEN attempts > 1 THEN random() * LEAST(power(2, attempts), 60) ELSE 0 END AS delay,
        CASE WHEN lease_until = '-infinity' THEN 'the worker gave the attempt up'
             WHEN deadline_at <= now() THEN 'the attempt ran for longer than its time limit'
             ELSE 'the lease ran out: the worker was killed, cut off or frozen' END AS reason
    FROM queue.tasks_live
    -- claimed_until names the index of occupied slots, which no lease's renewal has to touch
    WHERE claimed_until IS NOT NULL AND lease_until <= now()
    ORDER BY lease_until LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), retried AS (
    UPDATE queue.tasks_live live
    SET status = 'pending', claimed_until = NULL, lease_until = NULL, deadline_at = NULL, worker_id = NULL, updated_at = now(),
        run_after = now() + make_interval(secs => expired.delay), is_due = expired.delay = 0, last_error = expired.reason
    FROM expired WHERE live.id = ANY (ARRAY[expired.id]) AND NOT expired.is_last
    RETURNING live.id, live.tenant_id, live.claim_number, live.attempts, live.started_at, expired.worker_id, expired.reason
), ended AS (
    DELETE FROM queue.tasks_live live USING expired
    WHERE live.id = ANY (ARRAY[expired.id]) AND expired.is_last
    RETURNING live.*, expired.reason
), failed AS (
    INSERT INTO queue.tasks_history (id, task_type, payload, status, attempts, last_error, run_after, completed_at, created_at,
        updated_at, tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, limit_key,
        max_attempts, snoozes, claim_number, worker_id, started_at, failed_at, progress, progress_message)
    SELECT id, task_type, payload, CASE WHEN cancel_reason IS NULL THEN 'failed' ELSE 'cancelled' END, attempts,
        COALESCE(cancel_reason, reason), run_after, clock_timestamp(), created_at,
        now(), tenant_id, owner_kind, owner_id, payload_version, metadata, trace_context, queue, priority, rank, unique_key, limit_key,
        max_attempts, snoozes, claim_number, worker_id, started_at, CASE WHEN cancel_reason IS NULL THEN now() END, progress, progress_message
    FROM ended
), recorded AS (
    INSERT INTO queue.attempts (task_id, tenant_id, claim_number, number, outcome, error, worker_id, started_at)
    SELECT id, tenant_id, claim_number, attempts, 'lost', reason, worker_id, started_at FROM retried
    UNION ALL
    SELECT id, tenant_id, claim_number, attempts, 'lost', reason, worker_id, started_at FROM ended
)
SELECT (SELECT count(*) FROM retried), count(*) FILTER (WHERE cancel_reason IS NULL), count(*) FILTER (WHERE cancel_reason IS NOT NULL)
FROM ended;

-- name: reclaim
-- Claims that no worker took in time wait again; no attempt was counted.
UPDATE queue.tasks_live SET claimed_until = NULL, updated_at = now()
WHERE id = ANY (ARRAY(
    SELECT id FROM queue.tasks_live
    WHERE claimed_until <= now() AND status = 'pending'
    ORDER BY claimed_until LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
));

-- name: ended
-- How the named tasks ended; those that still live are not among the rows.
SELECT id, status, result, last_error FROM queue.tasks_history WHERE id = ANY (%(ids)s);

-- name: release_active
-- Tasks held for a tenant that is active: their transaction had not seen it become so, nor been seen by its trigger.
UPDATE queue.tasks_live live SET hold_reason = NULL, updated_at = now(),
    payload_version = COALESCE(payload_version, (queue.task_type(task_type)).payload_version)
WHERE live.hold_reason IN (queue.tenant_hold_reason('suspended'), queue.tenant_hold_reason('deleted'))
    -- not joined: all that is held would be read for each tenant
    AND (SELECT t.status FROM identity.tenants t WHERE t.id = live.tenant_id) = 'active';

-- name: publish_task_type
-- What a task type defaults to, for every producer in whatever language.
INSERT INTO queue.task_types (name, queue, scope, priority, max_attempts, batch_size, time_limit, payload_version, payload_schema,
    secret_fields, aliases, limit_key, pending_limit)
VALUES (%(name)s, %(queue)s, %(scope)s, %(priority)s, %(max_attempts)s, %(batch_size)s, make_interval(secs => %(time_limit)s),
    %(payload_version)s, %(payload_schema)s, %(secret_fields)s, %(aliases)s, %(limit_key)s, %(pending_limit)s)
ON CONFLICT (name) DO UPDATE SET queue = EXCLUDED.queue, scope = EXCLUDED.scope, priority = EXCLUDED.priority,
    max_attempts = EXCLUDED.max_attempts, batch_size = EXCLUDED.batch_size, time_limit = EXCLUDED.time_limit,
    payload_version = EXCLUDED.payload_version, payload_schema = EXCLUDED.payload_schema, secret_fields = EXCLUDED.secret_fields,
    aliases = EXCLUDED.aliases, limit_key = EXCLUDED.limit_key, pending_limit = EXCLUDED.pending_limit,
    updated_at = now()
-- an older program beside a newer one does not take the newer one's schema back
WHERE queue.task_types.payload_version <= EXCLUDED.payload_version
    AND (queue.task_types.queue, queue.task_types.scope, queue.task_types.priority, queue.task_types.max_attempts,
         queue.task_types.batch_size, queue.task_types.time_limit, queue.task_types.payload_version, queue.task_types.payload_schema,
         queue.task_types.secret_fields, queue.task_types.aliases, queue.task_types.limit_key, queue.task_types.pending_limit)
    IS DISTINCT FROM (EXCLUDED.queue, EXCLUDED.scope, EXCLUDED.priority, EXCLUDED.max_attempts, EXCLUDED.batch_size,
         EXCLUDED.time_limit, EXCLUDED.payload_version, EXCLUDED.payload_schema, EXCLUDED.secret_fields, EXCLUDED.aliases,
         EXCLUDED.limit_key, EXCLUDED.pending_limit);
