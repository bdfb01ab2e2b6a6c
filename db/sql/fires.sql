-- Fires: when a scheduler has to look, and what came of each time.

-- name: due
-- Schedules that a scheduler has to look at: those whose time has come, the longest due first, and those that are settled up to a time
-- that has not come yet, because the clock was set back.
SELECT id FROM queue.schedules
WHERE paused_at IS NULL AND removed_at IS NULL AND (next_fire_at <= clock_timestamp() OR settled_at > clock_timestamp())
    AND id <> ALL (%(besides)s::uuid[])
ORDER BY next_fire_at LIMIT %(limit)s;

-- name: due_in
-- Seconds until the next schedule is due, by Postgres' clock; NULL where none is to come.
SELECT extract(epoch FROM (
    SELECT next_fire_at FROM queue.schedules
    WHERE paused_at IS NULL AND removed_at IS NULL AND id <> ALL (%(besides)s::uuid[]) ORDER BY next_fire_at LIMIT 1
) - clock_timestamp())::float8;

-- name: lock
-- Nobody else fires a schedule, nor changes it, to the end of the transaction; no row where somebody does just now. A scheduler that
-- freezes in it is cut off by the server.
SELECT id, set_config('idle_in_transaction_session_timeout', '10s', true) FROM queue.schedules
WHERE id = %(id)s AND paused_at IS NULL AND removed_at IS NULL FOR UPDATE SKIP LOCKED;

-- name: look_again
-- Schedules that follow a zone's clock are due for a look, in which nothing fires before its time; those that somebody has are passed by.
UPDATE queue.schedules SET next_fire_at = clock_timestamp() WHERE id IN (
    SELECT id FROM queue.schedules WHERE cron IS NOT NULL AND zone <> 'UTC' AND paused_at IS NULL AND removed_at IS NULL
        AND next_fire_at > clock_timestamp() ORDER BY id FOR UPDATE SKIP LOCKED);

-- name: fires_at
-- Which of some times have been settled, and whether a task came of them.
SELECT fire_at, task_id IS NOT NULL FROM queue.fires WHERE schedule_id = %(id)s AND fire_at = ANY (%(times)s);

-- name: times_between
-- The times between two that are settled, but for those by hand.
SELECT fire_at FROM queue.fires
WHERE schedule_id = %(id)s AND fire_at > %(after)s AND fire_at < %(before)s AND NOT is_manual
ORDER BY fire_at LIMIT %(limit)s;

-- name: note_missed
-- What was missed before a time that is settled already.
UPDATE queue.fires SET missed_count = %(missed_count)s WHERE schedule_id = %(id)s AND fire_at = %(fire_at)s;

-- name: live_tasks
-- A schedule's tasks that have not ended, whether they run, and why they are held; a few are enough.
SELECT id, status = 'in_progress', hold_reason FROM queue.tasks_live
WHERE owner_kind = 'schedule' AND owner_id = %(id)s ORDER BY id LIMIT 10;

-- name: enqueue_held
-- A task that cannot run as things are: it is judged where it is inserted, and held with its reason.
INSERT INTO queue.outbox_tasks (task_type, payload, tenant_id, owner_kind, owner_id, metadata, queue, priority, run_after)
VALUES (%(task_type)s, %(payload)s, %(tenant_id)s, 'schedule', %(id)s, %(metadata)s, %(queue)s, %(priority)s, %(run_after)s)
RETURNING id;

-- name: fire
-- A time is settled, once: a task is never followed by another, what came without one (in a future that was none) may be.
INSERT INTO queue.fires AS known (schedule_id, fire_at, fired_at, outcome, task_id, is_manual, missed_count, error)
VALUES (%(id)s, %(fire_at)s, COALESCE(%(now)s::timestamptz, clock_timestamp()), %(outcome)s, %(task_id)s, %(is_manual)s, %(missed_count)s, %(error)s)
ON CONFLICT (schedule_id, fire_at) DO UPDATE SET fired_at = EXCLUDED.fired_at, outcome = EXCLUDED.outcome, task_id = EXCLUDED.task_id,
    missed_count = EXCLUDED.missed_count, error = EXCLUDED.error
WHERE known.task_id IS NULL
RETURNING fire_at;

-- name: fire_by_hand
-- A fire at the moment of its asking, whose task there is.
INSERT INTO queue.fires (schedule_id, fire_at, outcome, task_id, is_manual) VALUES (%(id)s, clock_timestamp(), 'enqueued', %(task_id)s, true)
ON CONFLICT DO NOTHING RETURNING fire_at;

-- name: settle
-- A schedule's times are settled up to a moment, and it is looked at again at another.
UPDATE queue.schedules SET next_fire_at = %(next_fire_at)s, settled_at = %(settled_at)s,
    last_fire_at = COALESCE(%(last_fire_at)s, last_fire_at)
WHERE id = %(id)s;

-- name: prune
-- Fires that are old, a few at a time; of each schedule the last stays.
DELETE FROM queue.fires WHERE (schedule_id, fire_at) IN (
    SELECT f.schedule_id, f.fire_at FROM queue.fires f JOIN queue.schedules s ON s.id = f.schedule_id
    WHERE f.fire_at < clock_timestamp() - make_interval(days => %(days)s) AND f.fire_at IS DISTINCT FROM s.last_fire_at
    ORDER BY f.fire_at LIMIT %(limit)s FOR UPDATE OF f SKIP LOCKED);

-- part: told
-- A fire and how its task stands, in the order of db.fires.FireRow.
    f.fire_at, f.fired_at, f.outcome, f.task_id, f.is_manual, f.missed_count, f.error, t.status, t.hold_reason, t.started_at, t.completed_at,
    t.last_error

-- part: task_of_it
LEFT JOIN LATERAL (
    SELECT o.status, o.hold_reason, o.started_at, o.completed_at, o.last_error FROM queue.outbox_tasks o WHERE o.id = f.task_id LIMIT 1
) AS t ON true

-- name: history
-- A schedule's fires, newest first, each with how its task stands; a page goes on below the last time of the page before.
SELECT
-- include: told
FROM (
    SELECT * FROM queue.fires
    WHERE schedule_id = %(id)s AND (%(before)s::timestamptz IS NULL OR fire_at < %(before)s)
    ORDER BY fire_at DESC LIMIT %(limit)s
) AS f
-- include: task_of_it
ORDER BY f.fire_at DESC;

-- name: last_of_each
-- The last fire of each of some schedules.
SELECT s.id,
-- include: told
FROM unnest(%(ids)s::uuid[]) AS s (id)
CROSS JOIN LATERAL (SELECT * FROM queue.fires WHERE schedule_id = s.id ORDER BY fire_at DESC LIMIT 1) AS f
-- include: task_of_it
;

-- name: is_any
-- Whether there is a schedule that is to be fired.
SELECT EXISTS (SELECT FROM queue.schedules WHERE paused_at IS NULL AND removed_at IS NULL AND next_fire_at IS NOT NULL);

-- name: troubled
-- Schedules that are overdue by so many seconds, and those whose last fire was refused, at most twenty.
SELECT s.name, greatest(extract(epoch FROM clock_timestamp() - s.next_fire_at), 0)::float8, last.error
FROM queue.schedules s LEFT JOIN LATERAL (
    SELECT f.outcome, f.error FROM queue.fires f WHERE f.schedule_id = s.id ORDER BY f.fire_at DESC LIMIT 1) last ON last.outcome = 'refused'
WHERE s.paused_at IS NULL AND s.removed_at IS NULL
    AND (s.next_fire_at < clock_timestamp() - make_interval(secs => %(seconds)s) OR last.outcome = 'refused')
ORDER BY s.name LIMIT 20;
