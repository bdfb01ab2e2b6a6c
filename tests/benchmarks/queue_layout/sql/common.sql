-- Statements every layout shares; {live} is the relation that holds pending and in_progress tasks.

-- name: columns
-- The columns of a task, widest alignment first; layouts copy them with LIKE.
CREATE TABLE task_columns (
    id            uuid        NOT NULL DEFAULT uuidv7(),
    tenant_id     uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    worker_id     uuid,
    rank          bigint      NOT NULL DEFAULT (extract(epoch FROM now()) * 1000000)::bigint,
    run_after     timestamptz NOT NULL DEFAULT now(),
    claimed_until timestamptz,
    lease_until   timestamptz,
    started_at    timestamptz,
    completed_at  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    claim_number  integer     NOT NULL DEFAULT 0,
    priority      smallint    NOT NULL DEFAULT 0,
    attempts      smallint    NOT NULL DEFAULT 0,
    max_attempts  smallint    NOT NULL DEFAULT 5,
    is_due        boolean     NOT NULL DEFAULT true,
    status        text        NOT NULL DEFAULT 'pending',
    task_type     text        NOT NULL,
    queue         text        NOT NULL DEFAULT 'default',
    payload       jsonb       NOT NULL DEFAULT '{{}}',
    hold_reason   text,
    unique_key    text,
    last_error    text,
    result        jsonb,
    progress      jsonb
);

-- name: live_indexes
-- Literal predicates, so that generic plans can use them too.
CREATE INDEX ON {live} (queue, rank)
    WHERE status = 'pending' AND is_due AND hold_reason IS NULL AND claimed_until IS NULL;
CREATE INDEX ON {live} (run_after) WHERE status = 'pending' AND NOT is_due;
CREATE INDEX ON {live} (claimed_until) WHERE status = 'pending' AND claimed_until IS NOT NULL;
CREATE INDEX ON {live} (lease_until) WHERE status = 'in_progress';
CREATE UNIQUE INDEX ON {live} (tenant_id, unique_key)
    WHERE unique_key IS NOT NULL AND status IN ('pending', 'in_progress');

-- name: load
-- Due tasks in the order of their rank.
INSERT INTO {live} (task_type, payload, rank)
SELECT 'document.chunk', jsonb_build_object('document_id', uuidv7(), 'number', g), g
FROM generate_series(1, %(tasks)s) AS g;

-- name: defer
-- Tasks that are not due for a day and therefore stand in no claim index.
INSERT INTO {live} (task_type, payload, rank, is_due, run_after)
SELECT 'document.chunk', jsonb_build_object('number', g), g, false, now() + interval '1 day'
FROM generate_series(1, %(tasks)s) AS g;

-- name: empty
-- Every live task goes, between rounds.
DELETE FROM {live} WHERE status IN ('pending', 'in_progress');

-- name: fill
-- Finished tasks spread evenly over the days before now, 1 in 100 failed.
INSERT INTO {history} (id, task_type, payload, status, rank, run_after, claim_number, attempts,
                       started_at, completed_at, created_at, updated_at)
SELECT uuidv7(moment.at - now()), 'document.chunk', jsonb_build_object('number', g),
       CASE WHEN g %% 100 = 0 THEN 'failed' WHEN g %% 101 = 0 THEN 'cancelled' ELSE 'done' END,
       g, moment.at, 1, 1, moment.at, moment.at, moment.at, moment.at
FROM generate_series(1, %(rows)s) AS g,
     LATERAL (SELECT now() - make_interval(days => %(days)s)
                     * (1 - g::float8 / %(rows)s) AS at) AS moment;

-- name: claim
-- Due tasks in rank order; SKIP LOCKED lets relays pass each other.
WITH due AS (
    SELECT id FROM {live}
    WHERE queue = %(queue)s AND status = 'pending' AND is_due AND hold_reason IS NULL
          AND claimed_until IS NULL
    ORDER BY rank
    LIMIT %(batch)s
    FOR UPDATE SKIP LOCKED
)
UPDATE {live} AS task
SET claim_number = task.claim_number + 1, claimed_until = now() + interval '30 s',
    updated_at = now()
FROM due
WHERE task.id = due.id
RETURNING task.id, task.claim_number;

-- name: take
-- Compare and set on (id, claim number): starts the lease, counts the attempt.
UPDATE {live} AS task
SET status = 'in_progress', attempts = task.attempts + 1, claimed_until = NULL,
    lease_until = now() + interval '60 s', worker_id = %(worker)s, started_at = now(),
    updated_at = now()
FROM unnest(%(ids)s::uuid[], %(claims)s::integer[]) AS claimed (id, claim_number)
WHERE task.id = claimed.id AND task.claim_number = claimed.claim_number
      AND task.status = 'pending'
RETURNING task.id, task.claim_number;

-- name: finish_by_move
-- Moves finished tasks on the leaves: no row movement, so a race sees no row instead of 40001.
WITH gone AS (
    DELETE FROM tasks_live AS task
    USING unnest(%(ids)s::uuid[], %(claims)s::integer[]) AS claimed (id, claim_number)
    WHERE task.id = claimed.id AND task.claim_number = claimed.claim_number
          AND task.status = 'in_progress'
    RETURNING task.*
)
INSERT INTO tasks_history (id, tenant_id, rank, run_after, started_at, completed_at, created_at,
                           updated_at, claim_number, priority, attempts, max_attempts, status,
                           task_type, queue, payload, unique_key, last_error, result)
SELECT id, tenant_id, rank, run_after, started_at, now(), created_at,
       now(), claim_number, priority, attempts, max_attempts, 'done',
       task_type, queue, payload, unique_key, last_error, result
FROM gone
RETURNING id;

-- name: rescue
-- Expired leases back to pending; a row that a finish holds is waited for.
UPDATE {live} SET status = 'pending', lease_until = NULL, worker_id = NULL, updated_at = now()
WHERE status = 'in_progress' AND lease_until < %(now)s
RETURNING id;

-- name: rescue_skipping
-- The same, passing by rows that a finish holds.
UPDATE {live} SET status = 'pending', lease_until = NULL, worker_id = NULL, updated_at = now()
WHERE id IN (SELECT id FROM {live} WHERE status = 'in_progress' AND lease_until < %(now)s
             LIMIT 1000 FOR UPDATE SKIP LOCKED)
RETURNING id;

-- name: promote
-- Deferred tasks whose time has come.
UPDATE {live} SET is_due = true
WHERE id IN (SELECT id FROM {live}
             WHERE status = 'pending' AND NOT is_due AND run_after <= %(now)s
             ORDER BY run_after LIMIT %(batch)s FOR UPDATE SKIP LOCKED);

-- name: by_id
SELECT * FROM outbox_tasks WHERE id = %(id)s;

-- name: list_failed
SELECT id, task_type, status, completed_at FROM outbox_tasks
WHERE status = 'failed' ORDER BY completed_at DESC LIMIT 50;

-- name: list_newest
SELECT id, task_type, status, created_at FROM outbox_tasks ORDER BY id DESC LIMIT 50;

-- name: count_by_status
SELECT status, count(*) FROM outbox_tasks WHERE status IN ('pending', 'in_progress')
GROUP BY status;
