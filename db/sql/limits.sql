-- Limits: what may be claimed at once, and how often. Concurrency is counted from the tasks that are claimed or in progress
-- and decremented nowhere, so that it cannot leak; rates are token buckets on the database's clock.
-- Locks: a claim locks the rows of its limits first, always in the order of their keys, and then rows of tasks, of which it
-- skips those that are locked. So it waits for nobody who could wait for it. Why rows are found by `= ANY (ARRAY[…])`: see queue.sql.

-- name: hold
-- Lock the limits that a claim may meet, so that no other relay counts before this one has claimed. A relay that freezes
-- here is cut off, or it would hold up all others.
SELECT l.kind, l.name, set_config('idle_in_transaction_session_timeout', '2s', true) FROM (
    SELECT 'queue' AS kind, name FROM unnest(ARRAY[%(queue)s::text, '*']) AS name
    UNION SELECT 'task_type', name FROM unnest(%(task_types)s::text[] || '*'::text) AS name
    UNION SELECT 'tenant', name FROM unnest(%(tenants)s::text[] || '*'::text) AS name
    UNION SELECT 'key', name FROM unnest(%(keys)s::text[] || '*'::text) AS name
) AS wanted JOIN queue.limits l ON l.kind = ANY (ARRAY[wanted.kind]) AND l.name = ANY (ARRAY[wanted.name])
-- byte by byte, as whoever pauses several keys sorts them too
ORDER BY l.kind COLLATE "C", l.name COLLATE "C"
FOR NO KEY UPDATE OF l;

-- name: claim
-- Claim due tasks as queue.claim does, in a transaction that holds the limits named here, and no more of each queue, type,
-- tenant and key than its limits let in. The first row says how many seconds it is until a rate or a pause lets more in, and
-- whether tasks have to end first; where nothing was claimed it has no task.
WITH held AS MATERIALIZED (
    SELECT l.* FROM unnest(%(held_kinds)s::text[], %(held_names)s::text[]) AS given (kind, name)
    JOIN queue.limits l ON l.kind = ANY (ARRAY[given.kind]) AND l.name = ANY (ARRAY[given.name])
), met AS MATERIALIZED (
    SELECT 'queue' AS kind, %(queue)s::text AS name
    UNION ALL SELECT 'task_type', name FROM unnest(%(task_types)s::text[]) AS name
    UNION SELECT 'tenant', tenant::text FROM unnest(%(tenants)s::uuid[]) AS tenant WHERE tenant <> '00000000-0000-0000-0000-000000000000'
    UNION SELECT 'key', key FROM unnest(%(keys)s::text[]) AS key WHERE key <> ''
), said AS MATERIALIZED (
    SELECT met.kind, met.name, COALESCE(own.concurrency, every.concurrency) AS concurrency,
        CASE WHEN own.rate IS NULL THEN every.rate / every.rate_seconds ELSE own.rate / own.rate_seconds END AS per_second,
        CASE WHEN own.rate IS NULL THEN every.burst ELSE own.burst END AS burst,
        COALESCE(extract(epoch FROM own.paused_until - statement_timestamp())::float8, 0) AS pause
    FROM met LEFT JOIN held own ON own.kind = met.kind AND own.name = met.name
        LEFT JOIN held every ON every.kind = met.kind AND every.name = '*'
    WHERE own.name IS NOT NULL OR every.name IS NOT NULL
), occupied AS MATERIALIZED (
    SELECT each.kind, each.name, count(*) AS tasks FROM queue.tasks_live live CROSS JOIN LATERAL (VALUES
        ('queue', live.queue::text), ('task_type', live.task_type::text), ('tenant', live.tenant_id::text), ('key', live.limit_key::text)
    ) AS each (kind, name)
    WHERE live.claimed_until IS NOT NULL AND EXISTS (SELECT FROM said WHERE concurrency IS NOT NULL)
    GROUP BY each.kind, each.name
), filled AS MATERIALIZED (
    SELECT said.*, said.concurrency - COALESCE(occupied.tasks, 0) AS slots,
        -- a bucket that was filled in the future is one of a clock that has been put back since
        CASE WHEN bucket.refilled_at > statement_timestamp() + interval '1 s' THEN said.burst
            ELSE LEAST(said.burst, COALESCE(bucket.tokens, said.burst)
                + GREATEST(extract(epoch FROM statement_timestamp() - bucket.refilled_at)::float8, 0) * said.per_second)
            END AS tokens
    FROM said LEFT JOIN occupied ON occupied.kind = said.kind AND occupied.name = said.name
        LEFT JOIN queue.limit_tokens bucket ON bucket.kind = ANY (ARRAY[said.kind]) AND bucket.name = ANY (ARRAY[said.name])
), rooms AS MATERIALIZED (
    SELECT filled.*, CASE WHEN pause > 0 THEN 0 ELSE GREATEST(LEAST(slots, floor(tokens), 1000000), 0) END::integer AS room,
        -- for high rates not token by token, but never so long that a bucket runs over
        CASE WHEN pause > 0 THEN pause
             WHEN tokens < 1 THEN GREATEST((1 - tokens) / per_second, LEAST(0.01, 0.5 * burst / per_second)) END AS wait
    FROM filled
), lanes AS MATERIALIZED (
    SELECT given.*, whole.room AS queue_room, COALESCE(tenant.room, 1000000) AS tenant_room, tenant.concurrency AS tenant_concurrency,
        COALESCE(key.room, 1000000) AS key_room, key.concurrency AS key_concurrency
    FROM unnest(%(tenants)s::uuid[], %(keys)s::text[], %(from_ranks)s::bigint[], %(served)s::integer[]) AS given (tenant, key, from_rank, served)
    LEFT JOIN rooms tenant ON tenant.kind = 'tenant' AND tenant.name = given.tenant::text
    LEFT JOIN rooms key ON key.kind = 'key' AND key.name = given.key
    CROSS JOIN (SELECT COALESCE(min(room), 1000000) AS room FROM rooms WHERE kind = 'queue') AS whole
    -- a tenant's waiting tasks are held when it is suspended; this is for one that came back from a worker since
    WHERE given.tenant <> ALL (ARRAY(SELECT id FROM identity.tenants WHERE status <> 'active'))
        AND LEAST(whole.room, tenant.room, key.room) >= 1
), due AS MATERIALIZED (
    SELECT first.*, lane.tenant, lane.key, lane.served, lane.tenant_room, lane.tenant_concurrency, lane.key_room, lane.key_concurrency, lane.queue_room
    FROM lanes lane CROSS JOIN LATERAL (
        SELECT live.ctid AS place, live.task_type, live.rank FROM queue.tasks_live live
        WHERE live.queue = %(queue)s AND live.is_due AND live.hold_reason IS NULL AND live.claimed_until IS NULL
            AND CASE WHEN live.tenant_id IS NULL THEN '00000000-0000-0000-0000-000000000000' ELSE live.tenant_id END = lane.tenant
            AND CASE WHEN live.limit_key IS NULL THEN '' ELSE live.limit_key END COLLATE "C" = lane.key AND live.rank >= lane.from_rank
            AND live.payload_version <= (%(versions)s::integer[])[array_position(%(task_types)s::text[], live.task_type::text)]
            AND live.task_type <> ALL (ARRAY(SELECT name FROM rooms WHERE kind = 'task_type' AND room < 1))
        -- no more than could be let in, so that few rows are locked in vain
        ORDER BY live.rank LIMIT LEAST((%(limit)s + (SELECT count(*) FROM lanes) - 1) / (SELECT count(*) FROM lanes), lane.queue_room, lane.tenant_room, lane.key_room)
        FOR UPDATE SKIP LOCKED
    ) AS first
    WHERE NOT EXISTS (SELECT FROM queue.queues q
                      WHERE q.name = %(queue)s AND q.paused_at IS NOT NULL AND COALESCE(q.resume_at > now(), true))
), turns AS MATERIALIZED (
    SELECT due.*, row_number() OVER (PARTITION BY due.tenant ORDER BY due.rank) AS turn, COALESCE(type.room, 1000000) AS type_room,
        -- Tasks that travel together run one after the other: a limit's slots are to be used at the same time.
        LEAST((%(batch_sizes)s::integer[])[array_position(%(task_types)s::text[], due.task_type::text)], GREATEST(LEAST(
            due.key_concurrency, due.tenant_concurrency, type.concurrency, (SELECT concurrency FROM rooms WHERE kind = 'queue')) / 64, 1)
        ) AS batch_size
    FROM due LEFT JOIN rooms type ON type.kind = 'task_type' AND type.name = due.task_type
), of_keys AS (
    SELECT turns.*, row_number() OVER (PARTITION BY key ORDER BY turn, served, rank) AS key_place FROM turns
), of_tenants AS (
    SELECT of_keys.*, row_number() OVER (PARTITION BY tenant ORDER BY turn, served, rank) AS tenant_place FROM of_keys
    WHERE key = '' OR key_place <= key_room
), of_types AS (
    SELECT of_tenants.*, row_number() OVER (PARTITION BY task_type ORDER BY turn, served, rank) AS type_place FROM of_tenants
    WHERE tenant_place <= tenant_room
), of_queue AS (
    SELECT of_types.*, row_number() OVER (ORDER BY turn, served, rank) AS queue_place FROM of_types WHERE type_place <= type_room
), fitting AS MATERIALIZED (
    SELECT place, batch_size,
        sum(1.0::float8 / batch_size) OVER (ORDER BY turn, served, rank ROWS UNBOUNDED PRECEDING) - 1.0::float8 / batch_size AS before
    FROM of_queue WHERE queue_place <= queue_room
), claimed AS (
    UPDATE queue.tasks_live live
    SET claim_number = live.claim_number + 1, updated_at = now(),
        claimed_until = statement_timestamp() + make_interval(secs => %(claim_seconds)s),
        batch_size = CASE WHEN live.attempts > 0 THEN 1 ELSE fitting.batch_size END
    FROM fitting
    WHERE live.ctid = fitting.place AND fitting.before < %(free)s
    RETURNING live.id, live.claim_number, live.queue, live.task_type, live.tenant_id, live.batch_size, live.rank, fitting.before, live.limit_key
), spent AS (
    INSERT INTO queue.limit_tokens AS bucket (kind, name, tokens, refilled_at)
    SELECT rooms.kind, rooms.name, rooms.tokens - count(*), statement_timestamp()
    FROM rooms JOIN claimed ON rooms.name = CASE rooms.kind WHEN 'queue' THEN claimed.queue::text
        WHEN 'task_type' THEN claimed.task_type::text WHEN 'tenant' THEN claimed.tenant_id::text ELSE claimed.limit_key::text END
    WHERE rooms.per_second IS NOT NULL
    GROUP BY rooms.kind, rooms.name, rooms.tokens
    ON CONFLICT (kind, name) DO UPDATE SET tokens = EXCLUDED.tokens, refilled_at = EXCLUDED.refilled_at
)
SELECT rest.wait, rest.is_full, claimed.*
FROM (SELECT min(wait) AS wait, COALESCE(bool_or(slots < 1), false) AS is_full FROM rooms) AS rest LEFT JOIN claimed ON true;

-- name: forget
-- Buckets that have long been full again, and pauses of keys without another limit that are long over.
WITH full_again AS (
    DELETE FROM queue.limit_tokens WHERE refilled_at < now() - interval '1 day'
        AND refilled_at < now() - (SELECT COALESCE(max(make_interval(secs => burst * rate_seconds / rate)), '0') FROM queue.limits)
)
DELETE FROM queue.limits WHERE concurrency IS NULL AND rate IS NULL AND paused_until < now() - interval '1 hour';

-- name: pause_key
-- A provider has refused: nothing of its key is claimed for %(seconds)s seconds.
SELECT queue.pause_key(%(key)s, %(seconds)s);

-- name: list
-- Each limit, how many tasks it counts now and what is in its bucket. Of one that holds for each by itself: of the fullest.
WITH occupied AS MATERIALIZED (
    SELECT each.kind, each.name, count(*) AS tasks FROM queue.tasks_live live CROSS JOIN LATERAL (VALUES
        ('queue', live.queue::text), ('task_type', live.task_type::text), ('tenant', live.tenant_id::text), ('key', live.limit_key::text)
    ) AS each (kind, name)
    WHERE live.claimed_until IS NOT NULL AND each.name IS NOT NULL GROUP BY each.kind, each.name
), counted AS (
    SELECT l.kind, l.name, o.name AS fullest, o.tasks, row_number() OVER (PARTITION BY l.kind, l.name ORDER BY o.tasks DESC, o.name) AS place
    FROM queue.limits l JOIN occupied o ON o.kind = l.kind AND (o.name = l.name OR l.name = '*' AND NOT EXISTS (
        SELECT FROM queue.limits own WHERE own.kind = o.kind AND own.name = o.name AND own.concurrency IS NOT NULL))
)
SELECT l.kind, l.name, l.concurrency, l.rate, l.rate_seconds, l.burst,
    CASE WHEN l.paused_until > now() THEN l.paused_until END AS paused_until, COALESCE(counted.tasks, 0)::integer AS occupied,
    counted.fullest, LEAST(l.burst, (
        SELECT min(bucket.tokens + GREATEST(extract(epoch FROM now() - bucket.refilled_at)::float8, 0) * l.rate / l.rate_seconds)
        FROM (
            -- in two: with OR all buckets would be read for each limit
            SELECT own.tokens, own.refilled_at FROM queue.limit_tokens own WHERE own.kind = l.kind AND own.name = l.name
            UNION ALL
            SELECT each.tokens, each.refilled_at FROM queue.limit_tokens each WHERE l.name = '*' AND each.kind = l.kind
        ) AS bucket))::float8 AS tokens
FROM queue.limits l LEFT JOIN counted ON counted.kind = l.kind AND counted.name = l.name AND counted.place = 1
ORDER BY array_position(ARRAY['queue', 'task_type', 'tenant', 'key'], l.kind), l.name LIMIT 1000;

-- name: set
-- Set a limit; what is not given stays as it was.
INSERT INTO queue.limits AS known (kind, name, concurrency, rate, rate_seconds, burst)
VALUES (%(kind)s, %(name)s, %(concurrency)s::integer, %(rate)s::float8, %(rate_seconds)s::float8, %(burst)s::integer)
ON CONFLICT (kind, name) DO UPDATE SET concurrency = COALESCE(EXCLUDED.concurrency, known.concurrency),
    rate = COALESCE(EXCLUDED.rate, known.rate), rate_seconds = COALESCE(EXCLUDED.rate_seconds, known.rate_seconds),
    burst = COALESCE(EXCLUDED.burst, known.burst)
RETURNING concurrency, rate, rate_seconds, burst;

-- name: remove
-- Remove a limit, with its pause and its buckets.
WITH emptied AS (
    DELETE FROM queue.limit_tokens WHERE kind = %(kind)s AND name = %(name)s
), all_emptied AS (
    DELETE FROM queue.limit_tokens WHERE kind = %(kind)s AND %(name)s = '*'
)
DELETE FROM queue.limits WHERE kind = %(kind)s AND name = %(name)s RETURNING kind, name;

-- name: has_tenant
SELECT EXISTS (SELECT FROM identity.tenants WHERE id = %(id)s);
