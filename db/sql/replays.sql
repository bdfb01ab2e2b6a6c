-- Replays of failed tasks by filter, a slice at a time. Both looks at history take the same filter; what none of them asks for
-- folds away where the plan is made for the values (`plan_for_values`), and the index of failed tasks serves what is left.
-- A replay is no failed work: it is replayed by its id only.

-- name: plan_for_values
-- For the transaction: the roles of workers plan for any values (db/roles.py), which for a filter is the walk of all history.
-- A plain walk of the index comes in the order that is asked for and may stop; a bitmap of it is read whole.
SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_bitmapscan', 'off', true);

-- part: wanted
status = ANY (%(statuses)s::text[]) AND task_type <> 'tasks.replay'
    AND (%(task_type)s::text IS NULL OR task_type = %(task_type)s)
    AND (%(queue)s::text IS NULL OR queue = %(queue)s)
    AND (%(tenant_id)s::uuid IS NULL OR tenant_id = %(tenant_id)s)
    AND (%(owner_id)s::uuid IS NULL OR owner_id = %(owner_id)s)
    AND (%(error)s::text IS NULL OR position(lower(%(error)s) IN lower(last_error)) > 0)
    AND (%(since)s::timestamptz IS NULL OR completed_at >= %(since)s)
    AND (%(until)s::timestamptz IS NULL OR completed_at <= %(until)s)

-- name: preview
-- How many tasks a replay would look at, by task type and queue: the oldest %(limit)s at most.
SELECT task_type, queue, count(*) FROM (
    SELECT task_type, queue FROM queue.tasks_history
    WHERE
    -- include: wanted
    ORDER BY completed_at LIMIT %(limit)s
) AS found GROUP BY task_type, queue ORDER BY count(*) DESC, task_type, queue;

-- name: following
-- The next %(limit)s tasks of a replay, oldest first, from where it stands on.
SELECT id, task_type, left(last_error, 500), completed_at FROM queue.tasks_history
WHERE
    -- include: wanted
    AND (%(after_at)s::timestamptz IS NULL OR (completed_at, id) > (%(after_at)s, %(after_id)s::uuid))
ORDER BY completed_at, id LIMIT %(limit)s;

-- name: standing
-- When a replay was asked for, what it has done so far, and the task that it came to last.
SELECT created_at, COALESCE((metadata #>> '{replay,replayed}')::integer, 0), COALESCE((metadata #>> '{replay,skipped}')::integer, 0),
    (metadata #>> '{replay,after_at}')::timestamptz, (metadata #>> '{replay,after_id}')::uuid
FROM queue.tasks_live WHERE id = %(id)s;

-- name: note
-- Keep where a replay stands, with the slice that brought it there.
UPDATE queue.tasks_live SET metadata = metadata || jsonb_build_object('replay', jsonb_build_object('replayed', %(replayed)s::integer,
    'skipped', %(skipped)s::integer, 'after_at', %(after_at)s::timestamptz, 'after_id', %(after_id)s::uuid))
WHERE id = %(id)s;
