-- Who takes part: relays, workers, and how they are.

-- name: beat
-- A process says that it lives; one that is not known, or not any more, becomes so.
INSERT INTO queue.processes (id, kind, host, pid, queues, task_types, slots, loops_late)
VALUES (%(id)s, %(kind)s, %(host)s, %(pid)s, %(queues)s, %(task_types)s, %(slots)s, %(loops_late)s)
ON CONFLICT (id) DO UPDATE SET beat_at = now(), loops_late = EXCLUDED.loops_late;

-- name: offer
-- A worker says how many tasks of each type it takes in one message.
UPDATE queue.processes SET batch_sizes = %(batch_sizes)s WHERE id = %(id)s;

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
