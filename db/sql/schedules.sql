-- Schedules: what operators and the code do with them.

-- part: kept
-- What a schedule is and how it stands, in the order of db.schedules.ScheduleRow.
    cron, make_interval(secs => every_seconds), at, zone, gap, fold, starts_at, ends_at, name, task_type, payload, tenant_id, queue,
    priority, make_interval(secs => jitter_seconds), missed, missed_limit, overlap, description, id, paused_at, next_fire_at,
    last_fire_at, settled_at, source, declared, is_edited, removed_at, created_at, updated_at

-- name: add
-- An operator's schedule; none where the name is taken.
INSERT INTO queue.schedules (name, tenant_id, task_type, payload, queue, priority, cron, every_seconds, at, zone, gap, fold, starts_at,
    ends_at, jitter_seconds, missed, missed_limit, overlap, description, source, declared, next_fire_at, settled_at)
VALUES (%(name)s, %(tenant_id)s, %(task_type)s, %(payload)s, %(queue)s, %(priority)s, %(cron)s, %(every_seconds)s, %(at)s, %(zone)s,
    %(gap)s, %(fold)s, %(starts_at)s, %(ends_at)s, %(jitter_seconds)s, %(missed)s, %(missed_limit)s, %(overlap)s, %(description)s,
    CASE WHEN %(declared)s::jsonb IS NULL THEN 'operator' ELSE 'code' END, %(declared)s, clock_timestamp(), clock_timestamp())
ON CONFLICT (name) DO NOTHING
RETURNING
-- include: kept
;

-- name: change
-- A schedule becomes what is given. Where that may move its times, it is settled up to now, and looked at anew.
UPDATE queue.schedules SET tenant_id = %(tenant_id)s, task_type = %(task_type)s, payload = %(payload)s, queue = %(queue)s,
    priority = %(priority)s, cron = %(cron)s, every_seconds = %(every_seconds)s, at = %(at)s, zone = %(zone)s, gap = %(gap)s,
    fold = %(fold)s, starts_at = %(starts_at)s, ends_at = %(ends_at)s, jitter_seconds = %(jitter_seconds)s, missed = %(missed)s,
    missed_limit = %(missed_limit)s, overlap = %(overlap)s, description = %(description)s, declared = %(declared)s,
    is_edited = %(is_edited)s,
    next_fire_at = CASE WHEN %(is_moved)s THEN clock_timestamp() ELSE next_fire_at END,
    settled_at = CASE WHEN %(is_moved)s THEN clock_timestamp() ELSE settled_at END
WHERE id = %(id)s
RETURNING
-- include: kept
;

-- name: hold
-- The schedule of a name as it is, and to the end of the transaction nobody else's to change or fire.
SELECT
-- include: kept
FROM queue.schedules WHERE name = %(name)s FOR UPDATE;

-- name: declare
-- What the code says of a schedule that goes its own way.
UPDATE queue.schedules SET declared = %(declared)s WHERE id = %(id)s;

-- name: pause
UPDATE queue.schedules SET paused_at = clock_timestamp() WHERE id = %(id)s AND paused_at IS NULL RETURNING id;

-- name: resume
-- It goes on from now: what it did not fire meanwhile was not missed.
UPDATE queue.schedules SET paused_at = NULL, next_fire_at = clock_timestamp(), settled_at = clock_timestamp()
WHERE id = %(id)s AND paused_at IS NOT NULL RETURNING id;

-- name: bury
-- A schedule that the code declares stays as one that is not wanted, or the next migration would bring it back.
UPDATE queue.schedules SET removed_at = clock_timestamp() WHERE id = %(id)s;

-- name: remove
DELETE FROM queue.schedules WHERE id = %(id)s;

-- name: unbury
-- A schedule of the code that is wanted again goes on from now, whether or not it was paused before.
UPDATE queue.schedules SET removed_at = NULL, paused_at = NULL, next_fire_at = clock_timestamp(), settled_at = clock_timestamp() WHERE id = %(id)s;

-- name: drop_undeclared
-- Schedules that a module declared go when it does so no more, unless an operator made something else of them. What a module declares
-- that is not loaded here stays: whoever migrates need not have all of them.
DELETE FROM queue.schedules
WHERE source = 'code' AND (NOT is_edited OR removed_at IS NOT NULL) AND name <> ALL (%(names)s)
    AND (declared ->> 'module' = ANY (%(modules)s) OR declared ->> 'module' ^@ 'pipelines.')
RETURNING name;

-- name: judge
-- A task type's name and scope, and why a payload is not one of it; no row where nobody published the type.
SELECT t.name, t.scope, queue.payload_error(t, %(payload)s) FROM queue.task_types t
WHERE t.name = %(task_type)s OR %(task_type)s = ANY (t.aliases);

-- name: list
-- By name, at most %(limit)s; a page goes on behind the last name of the page before.
SELECT
-- include: kept
FROM queue.schedules
WHERE name > %(after)s AND (%(with_removed)s OR removed_at IS NULL) AND (%(tenant_id)s::uuid IS NULL OR tenant_id = %(tenant_id)s)
ORDER BY name LIMIT %(limit)s;

-- name: show
SELECT
-- include: kept
FROM queue.schedules WHERE name = %(name)s;

-- name: read
-- Behind a lock, as a statement of its own: Postgres' clock, and the row as it is now.
SELECT clock_timestamp(),
-- include: kept
FROM queue.schedules WHERE id = %(id)s;

-- name: secret_fields
-- Of task types, which fields of a payload are not to be shown; NULL for a type that nobody published.
SELECT wanted, (queue.task_type(wanted)).secret_fields FROM unnest(%(types)s::text[]) AS wanted;
